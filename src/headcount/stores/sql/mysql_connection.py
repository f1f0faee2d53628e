"""How a connection to MySQL or MariaDB is made, so that it behaves the same everywhere.

What a server's configuration, or its `init_connect`, says of sessions is set here, as far as it matters. The
sockets are unpatched ones: under eventlet, our threads are none of its own.
"""

from __future__ import annotations

import math
import select
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import pymysql
from pymysql.connections import Connection
from pymysql.constants import CLIENT, COMMAND, FIELD_TYPE
from pymysql.converters import conversions, escape_string
from pymysql.protocol import OKPacketWrapper

from headcount import native
from headcount.errors import AccessDenied, ConfigError, HeadcountError, ReadOnlyStore, StoreUnavailable
from headcount.stores.sql.mysql_errors import read_only, silent, translate
from headcount.stores.sql.speaking import Found
from headcount.stores.url import Url

PORT = 3306

MODES = ("disabled", "preferred", "required", "verify_ca", "verify_identity")

SETTINGS = """
SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', autocommit = 1, time_zone = '+00:00',
    completion_type = 0, sql_safe_updates = 0, sql_select_limit = DEFAULT, sql_big_selects = 1,
    innodb_lock_wait_timeout = {lock:d}, lock_wait_timeout = {lock:d};
SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE;
SHOW SESSION STATUS WHERE Variable_name IN ('Ssl_cipher', 'wsrep_cluster_state_uuid');
SHOW SESSION VARIABLES WHERE Variable_name IN
    ('version', 'server_uuid', 'server_uid', 'server_id', 'hostname', 'port', 'datadir', 'wsrep_on',
     'read_only', 'super_read_only', 'innodb_read_only',
     'max_statement_time', 'idle_transaction_timeout', 'innodb_snapshot_isolation')
"""

SHORTEST_IDLING = 30
"""Seconds after which MySQL may close a connection on which nothing is said."""


class Result(NamedTuple):
    rows: Found | None
    affected: int
    given: int
    """What LAST_INSERT_ID was told to be."""


class MySQLConnection(Connection):
    """One connection. `variables`: what the server said of itself when it was made."""

    variables: Mapping[str, str]
    fd: int
    tls_required = False
    _prepared: dict[str, int]

    def _get_server_information(self) -> None:
        """The library of before 1.2 goes on without TLS where the server has none, whatever it was told."""
        super()._get_server_information()  # type: ignore[misc]
        if self.ssl and not self.server_capabilities & CLIENT.SSL:  # type: ignore[attr-defined]
            if self.tls_required:
                raise pymysql.OperationalError(2026, "the server has no TLS, and ssl_mode asks for it")
            self.ssl = False
        if self.ssl:
            self.client_flag |= CLIENT.SSL

    def results(self, text: str) -> list[Result]:
        """Of one statement, or of several, which go out together. After an error, the later ones are not
        carried out."""
        with self.cursor() as cursor:
            cursor.execute(text)
            found = [_result(cursor)]
            while cursor.nextset():
                found.append(_result(cursor))
            return found

    def changed(self, text: str, number: float, key: str) -> Result:
        """By a prepared UPDATE, of which PyMySQL knows nothing, with these two values. Prepared on each
        connection when it first comes."""
        prepared = self._prepared.get(text)
        if prepared is None:
            prepared = self._prepared[text] = self._prepare(text)
        name = key.encode()
        values = struct.pack("<d", number) + struct.pack("<BH", 0xFC, len(name)) + name
        types = struct.pack("<4B", FIELD_TYPE.DOUBLE, 0, FIELD_TYPE.BLOB, 0)
        self._execute_command(  # type: ignore[attr-defined]
            COMMAND.COM_STMT_EXECUTE, struct.pack("<IBIBB", prepared, 0, 1, 0, 1) + types + values
        )
        answer = OKPacketWrapper(self._read_packet())  # type: ignore[no-untyped-call]
        return Result(None, answer.affected_rows, answer.insert_id)

    def _prepare(self, text: str) -> int:
        self._execute_command(COMMAND.COM_STMT_PREPARE, text)  # type: ignore[attr-defined]
        prepared, columns, values = struct.unpack_from(
            "<xIHH",
            self._read_packet().get_all_data(),  # type: ignore[no-untyped-call]
        )
        for described in (values, columns):
            for _ in range(described + 1 if described else 0):  # and where they end
                self._read_packet()  # type: ignore[no-untyped-call]
        return int(prepared)

    def wait_for(self, seconds: float) -> None:
        """How long an answer may take from now on."""
        self._read_timeout = seconds

    def cut(self) -> bool:
        """Whether it was closed, or the server has said goodbye while nothing was asked."""
        if not self.open:
            return True
        poll = native.poll()
        poll.register(self.fd, select.POLLIN)
        return bool(poll.poll(0))

    def drop(self) -> None:
        """Close it. Nobody waits for the server."""
        with suppress(pymysql.Error):
            self.close()


def _result(cursor: pymysql.cursors.Cursor) -> Result:
    rows = list(cursor.fetchall()) if cursor.description else None
    return Result(rows, cursor.rowcount, cursor.lastrowid or 0)


def literal(value: object) -> str:
    """The value as SQL. A list is one of texts, for IN."""
    match value:
        case None:
            return "NULL"
        case str():
            return f"'{escape_string(value)}'"
        case bool() | int():
            return str(int(value))
        case float() if math.isfinite(value):
            written = repr(value)
            return written if "e" in written else f"{written}e0"  # without it, it would be a DECIMAL
        case bytes():
            return f"x'{value.hex()}'"
        case list() | tuple():
            return f"({','.join(map(literal, value)) if value else _NOBODY})"
    raise ValueError(f"{value!r} cannot be stored")


_NOBODY = "x'ff'"


def _text(value: Any) -> Any:
    """Of VARBINARY, which holds UTF-8. What somebody else put there and is none stays bytes, which is wrong
    for a text, and is told as such."""
    if isinstance(value, bytes):
        with suppress(UnicodeDecodeError):
            return value.decode()
    return value


_CONVERSIONS: Any = {
    **conversions,
    FIELD_TYPE.VAR_STRING: _text,
    FIELD_TYPE.VARCHAR: _text,
    FIELD_TYPE.STRING: _text,
}


class Connector:
    """Makes connections to the first host of a URL that takes writes."""

    def __init__(
        self, url: Url, *, timeout: float, password: Callable[[], str | None], tls: Mapping[str, str]
    ) -> None:
        self._hosts: Sequence[tuple[str, int | None]] = url.hosts or (("localhost", None),)
        self._user = url.user
        self._database = url.path.strip("/")
        self._address = url.bare
        self._timeout = timeout
        self._password = password
        self._mode = _mode(tls, url.bare)
        self._tls = tls

    def __call__(self) -> MySQLConnection:
        """All in the time of one call. Raises what stood in the way at the first host that was there."""
        errors: list[HeadcountError] = []
        until = time.monotonic() + self._timeout
        for n, (host, port) in enumerate(self._hosts):
            share = max(0.05, (until - time.monotonic()) / (len(self._hosts) - n))
            try:
                return self._connected(host, port or PORT, share)
            except (StoreUnavailable, ReadOnlyStore, AccessDenied) as error:
                errors.append(error)
        raise next((error for error in errors if not isinstance(error, StoreUnavailable)), errors[0])

    def _connected(self, host: str, port: int, share: float) -> MySQLConnection:
        con = self._made(host, port, share)
        try:
            sock = native.socket().create_connection((host, port), timeout=share)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            con._prepared = {}
            con.fd = sock.fileno()  # which stays the same below TLS
            con.connect(sock)
            self._set_up(con)
        except OSError as exc:
            raise StoreUnavailable(f"{self._address}: {host}:{port} cannot be reached: {exc}") from exc
        except pymysql.Error as exc:
            con.drop()
            if silent(exc):
                raise StoreUnavailable(f"{self._address}: {host}:{port} did not answer") from exc
            raise translate(exc, self._address) from exc
        except RuntimeError as exc:  # what it needs to encrypt a password is not there
            con.drop()
            raise ConfigError(f"{self._address}: {exc}. Or use TLS: ssl_mode=required") from exc
        except BaseException:
            con.drop()
            raise
        con.wait_for(self._timeout)
        return con

    def _made(self, host: str, port: int, share: float) -> MySQLConnection:
        con = MySQLConnection(
            host=host,
            port=port,
            user=self._user,
            password=(self._password() or "").encode(),
            database=self._database or None,
            charset="utf8mb4",
            autocommit=None,
            conv=_CONVERSIONS,
            client_flag=CLIENT.FOUND_ROWS | CLIENT.MULTI_STATEMENTS,
            connect_timeout=max(1, share),
            read_timeout=share,
            write_timeout=self._timeout,
            program_name="headcount",
            ssl_disabled=True,
            defer_connect=True,
        )
        if self._mode != "disabled":
            con.ssl, con.tls_required = True, self._mode != "preferred"
            con.ctx = self._context()  # type: ignore[attr-defined]
        return con

    def _context(self) -> Any:
        ssl = native.ssl()
        try:
            context = ssl.create_default_context(cafile=self._tls.get("ssl_ca"))
            if "ssl_cert" in self._tls:
                context.load_cert_chain(self._tls["ssl_cert"], self._tls.get("ssl_key"))
        except OSError as exc:
            raise ConfigError(f"{self._address}: ssl_ca, ssl_cert or ssl_key cannot be used: {exc}") from exc
        # The certificates that servers make for themselves are none by the letter of the law.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.check_hostname = self._mode == "verify_identity"
        if self._mode in ("preferred", "required"):
            context.verify_mode = ssl.CERT_NONE
        return context

    def _set_up(self, con: MySQLConnection) -> None:
        lock = max(1, int(self._timeout * 0.8))
        *_, status, variables = con.results(SETTINGS.format(lock=lock))
        con.variables = {**dict(status.rows or ()), **dict(variables.rows or ())}
        if con.tls_required and not con.variables.get("Ssl_cipher"):
            raise pymysql.OperationalError(2026, "the connection is not encrypted, and ssl_mode asks for it")
        if any(con.variables.get(f"{which}read_only", "OFF") != "OFF" for which in ("", "super_", "innodb_")):
            raise read_only(self._address)
        con.results(f"SET SESSION {limits(con.variables, self._timeout)}")


def limits(variables: Mapping[str, str], seconds: float) -> str:
    """So that whoever gave up does not go on waiting in the server, and whoever was stopped in the middle of
    a transaction does not keep its locks. MySQL only knows connections that are idle for too long, within a
    transaction or not; there, one that was long idle is made anew."""
    idle = max(1, math.ceil(2 * seconds))
    found = {
        "max_statement_time": f"{0.9 * seconds:.3f}",
        "idle_transaction_timeout": str(idle),
        # What was changed since a statement began is no error where every statement sees what is there now.
        "innodb_snapshot_isolation": "0",
    }
    known = {name: value for name, value in found.items() if name in variables}
    if "idle_transaction_timeout" not in known:
        known["wait_timeout"] = str(max(SHORTEST_IDLING, idle))
    return ", ".join(f"{name} = {value}" for name, value in known.items())


def _mode(tls: Mapping[str, str], address: str) -> str:
    mode = tls.get("ssl_mode", "verify_ca" if "ssl_ca" in tls else "preferred")
    if mode not in MODES:
        raise ConfigError(f"{address}: ssl_mode is one of {', '.join(MODES)}, not {mode!r}")
    return mode
