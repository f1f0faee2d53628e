"""On what kind of filesystem a path lies: SQLite's locks and shared memory keep one host in step, and
are broken, silently, where several mount the same files."""

from __future__ import annotations

import os
import re

NETWORK = frozenset(
    """
    nfs nfs4 cifs smb smb2 smb3 smbfs ncpfs 9p afs coda ceph lustre gpfs beegfs panfs pvfs2 orangefs
    ocfs2 gfs2 glusterfs moosefs acfs fuse.sshfs fuse.ceph fuse.ceph-fuse fuse.glusterfs fuse.s3fs
    fuse.mfs fuse.curlftpfs fuse.rclone fuse.gcsfuse fuse.juicefs fuse.lustre davfs fuse.davfs2
    """.split()
)
_OCTAL = re.compile(r"\\([0-7]{3})")


def network_filesystem(path: str, mountinfo: str) -> tuple[str, str] | None:
    """`(kind, mount point)` if the absolute `path` lies on a filesystem of the network.

    `mountinfo` is the text of /proc/self/mountinfo. The longest mount point that leads to the path
    counts, and of several mounted over one another the last.
    """
    best = ("", "")
    for line in mountinfo.splitlines():
        mount, _, source = line.partition(" - ")
        fields, kind = mount.split(), source.split(" ", 1)[0]
        if len(fields) < 5 or not kind:
            continue
        point = _OCTAL.sub(lambda octal: chr(int(octal[1], 8)), fields[4])
        if _leads_to(point, path) and len(point) >= len(best[1]):
            best = (kind, point)
    return best if best[0] in NETWORK else None


def on_network(path: str) -> tuple[str, str] | None:
    """The same for this machine; None too where it cannot be told."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
            return network_filesystem(os.path.realpath(path), mounts.read())
    except OSError:
        return None


def _leads_to(point: str, path: str) -> bool:
    return point == "/" or path == point or path.startswith(point.rstrip("/") + "/")
