"""A certificate for 127.0.0.1 that signs itself: made where it is needed, so that none can expire."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.servers import programs
from tests.servers.base import HOST, run


def certificate(folder: Path, *, owner: str | None) -> tuple[Path, Path]:
    """The files of a new certificate and of its key; the key is its owner's alone."""
    public, key = folder / "server.crt", folder / "server.key"
    run(
        [str(programs.found("openssl")), "req", "-x509", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", f"/CN={HOST}",
         "-addext", f"subjectAltName=IP:{HOST},DNS:localhost", "-keyout", str(key), "-out", str(public)]
    )  # fmt: skip
    public.chmod(0o644)
    key.chmod(0o600)
    if owner is not None and os.geteuid() == 0:
        shutil.chown(key, owner, owner)
    return public, key
