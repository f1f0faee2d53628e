"""Where a store is, and how one comes in: made of its URL and its options, without touching the servers."""

from __future__ import annotations

import importlib.util
from typing import Any

from kazoo.security import ACL, Id, Permissions

from headcount import native
from headcount.errors import ConfigError, MissingDependency
from headcount.model import Seconds
from headcount.stores.url import Url, password
from headcount.stores.zookeeper.link import Where

PORT = 2181


def root_of(url: Url, namespace: str) -> str:
    """The node below which all is; it and those above it are made if they are missing."""
    parts = [part for part in url.path.split("/") if part]
    if any(part in (".", "..") for part in parts):
        raise ConfigError(f"{url.safe}: a path of ZooKeeper has no parts . and ..")
    if parts[:1] == ["zookeeper"]:
        raise ConfigError(f"{url.safe}: /zookeeper is the server's own; use another prefix")
    root = "/" + "/".join(parts or ["headcount"])
    if namespace == "default":
        return root
    if "/" in namespace or not namespace.isprintable():
        raise ConfigError(f"the namespace {namespace!r} cannot be part of a node's name")
    return f"{root}-{namespace}"


def where(
    url: Url,
    *,
    timeout: Seconds,
    auth: str,
    password_file: str | None,
    tls: bool,
    tls_ca: str | None,
    tls_cert: str | None,
    tls_key: str | None,
) -> Where:
    if not 0.1 <= timeout <= 60:
        raise ConfigError(f"{url.safe}: the option 'timeout' goes from 0.1 to 60, not {timeout:g}")
    if auth not in ("digest", "sasl"):
        raise ConfigError(f"{url.safe}: the option 'auth' is digest or sasl, not {auth!r}")
    if not url.hosts:
        raise ConfigError(f"{url.safe}: there is no host, as in zookeeper://host1:2181,host2:2181/prefix")
    if (tls_ca or tls_cert or tls_key) and not tls:
        raise ConfigError(f"{url.safe}: tls_ca, tls_cert and tls_key go with tls=true")
    if bool(tls_cert) != bool(tls_key):
        raise ConfigError(f"{url.safe}: tls_cert and tls_key go together")
    words = password(url, password_file)
    acl = ACL(Permissions.ALL, Id("world", "anyone"))
    if url.user is not None:
        if words is None:
            raise ConfigError(
                f"{url.safe}: the user {url.user} has no password, neither here nor in a password_file"
            )
        acl = ACL(Permissions.ALL, Id("auth", ""))
        if auth == "sasl" and importlib.util.find_spec("puresasl") is None:
            raise MissingDependency(
                'auth=sasl needs pure-sasl, which is not installed: pip install "headcount[zookeeper]"'
            )
    digest = url.user is not None and auth == "digest"
    return Where(
        hosts=",".join(_spelt(host, port) for host, port in url.hosts),
        address=url.safe.partition("?")[0],
        timeout=timeout,
        acl=(acl,),
        auth=(("digest", f"{url.user}:{words}"),) if digest else (),
        sasl=(
            {"mechanism": "DIGEST-MD5", "username": url.user, "password": words}
            if url.user is not None and words is not None and not digest
            else None
        ),
        tls=(lambda: _context(tls_ca, tls_cert, tls_key)) if tls else None,
    )


def _spelt(host: str, port: int | None) -> str:
    return f"{f'[{host}]' if ':' in host else host}:{port or PORT}"


def _context(ca: str | None, cert: str | None, key: str | None) -> Any:
    ssl = native.ssl()
    try:
        context = ssl.create_default_context(cafile=ca)
        if cert:
            context.load_cert_chain(cert, key)
    except OSError as exc:
        raise ConfigError(f"the files of tls_ca, tls_cert and tls_key cannot be used: {exc}") from exc
    return context
