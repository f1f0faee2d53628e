"""Why a server cannot be reached at all.

gRPC says the same of a wrong port, of TLS that is not wanted, and of a certificate that is not trusted. So
whoever cannot open a store looks once, by hand, what speaks there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headcount import native
from headcount.errors import AccessDenied, ConfigError, HeadcountError, StoreUnavailable
from headcount.stores.etcd.client import Client

PATIENCE = 1.0


def trusted() -> bytes | None:
    """The authorities that the system trusts; None: those that come with gRPC."""
    where = native.ssl().get_default_verify_paths().cafile
    return Path(where).read_bytes() if where else None


@contextmanager
def explain(client: Client, *, tls: bool, files: Sequence[str | None]) -> Iterator[None]:
    """If the servers cannot be reached: what is wrong, where that can be found out. Of several servers it
    has to be wrong with all: while one may come back, waiting may help."""
    try:
        yield
    except StoreUnavailable as exc:
        found = [_looked(host, client.address, tls=tls, files=files) for host in client.hosts]
        if found and all(found):
            raise found[0] from exc  # type: ignore[misc]
        raise


def _looked(host: str, address: str, *, tls: bool, files: Sequence[str | None]) -> HeadcountError | None:
    ssl: Any = native.ssl()
    name, _, port = host.rpartition(":")
    name = name.strip("[]")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    if not tls:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    elif files[0] is not None:
        try:
            context.load_verify_locations(files[0])
        except ssl.SSLError as exc:
            return ConfigError(f"ca={files[0]} holds no certificates: {exc}")
    else:
        context.load_default_certs()
    try:
        with native.socket().create_connection((name, int(port)), PATIENCE) as plain:
            plain.settimeout(PATIENCE)
            with context.wrap_socket(plain, server_hostname=name):
                pass
    except ssl.SSLCertVerificationError as exc:
        return AccessDenied(
            f"{address} ({host}): its certificate is not trusted ({exc.verify_message}). Give the authority "
            "that has signed it: ?ca=FILE"
        )
    except ssl.SSLError:
        return (
            ConfigError(f"{address} ({host}) does not speak TLS: leave tls, ca, cert and key out")
            if tls
            else None
        )
    except OSError:
        return None
    return None if tls else ConfigError(f"{address} ({host}) speaks TLS: say ?tls=true, or ?ca=FILE")
