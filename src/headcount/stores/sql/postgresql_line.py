"""One connection to PostgreSQL, on which statements follow each other without waiting for answers.

psycopg waits as long as the server takes. Here every call has a deadline, also for a server that was stopped
in the middle of an answer: the connection waits by `poll`, and is closed when the time is up. (`poll` of the
unpatched module: under eventlet, these threads are none of its own.)
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import waiting
from psycopg.abc import PQGen

from headcount import native
from headcount.errors import HeadcountError, StoreUnavailable
from headcount.model import Seconds
from headcount.stores.sql.postgresql_errors import translate
from headcount.stores.sql.server_line import ServerLine
from headcount.stores.sql.speaking import Found

MAKING = 0x48636E74
"""The advisory lock of who makes or migrates a schema."""

LOCKED = "55P03"
"""Waiting for a lock took too long."""

LONGEST_MAKING = 60.0
"""Seconds that making or migrating a schema may take."""


def limits(timeout: float) -> tuple[int, int, int]:
    """In milliseconds: for a lock, for a statement, and for a transaction that goes on with nothing."""
    limit = round(timeout * 1000)
    return round(limit * 0.8), max(limit, 60_000), limit


STOPPED = 5.0
"""Seconds after which a client in the middle of what it asks is taken to be stopped, and not only slow."""


class TimeIsUp(psycopg.OperationalError):
    """The server did not answer in time."""


class Timed(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose calls end at `until`, a time of `time.monotonic`."""

    until = float("inf")

    def wait(self, gen: PQGen[Any], interval: float = 0.1, timeout: float | None = None) -> Any:
        try:
            wanted = next(gen)
            poll = native.poll()
            poll.register(self.pgconn.socket, _mask(wanted))
            while True:
                found = poll.poll(max(0.0, min(3600.0, self.until - time.monotonic())) * 1000)
                if not found and time.monotonic() >= self.until:
                    raise TimeIsUp("the server did not answer in time")
                before, wanted = wanted, gen.send(_ready(found))
                if wanted != before:
                    poll.modify(self.pgconn.socket, _mask(wanted))
        except StopIteration as end:
            return end.value
        except psycopg.Error as exc:
            if not exc.sqlstate:  # it is the connection that failed, and not a statement
                self.pgconn.finish()
                with suppress(psycopg.Error):
                    gen.close()
            raise
        except BaseException:
            # Half of an answer may be on its way: nothing more can be asked here.
            self.pgconn.finish()
            with suppress(psycopg.Error):
                gen.close()
            raise

    def cut(self) -> bool:
        """Whether it was closed, or the server has said goodbye while nothing was asked. What else has come
        in is kept, for those who listen."""
        if self.closed:
            return True
        poll = native.poll()
        poll.register(self.pgconn.socket, select.POLLIN)
        try:
            while poll.poll(0):
                self.pgconn.consume_input()
        except psycopg.Error:
            return True
        return self.pgconn.status != psycopg.pq.ConnStatus.OK

    def drop(self) -> None:
        """Close it. Nobody waits for the server."""
        with suppress(psycopg.Error):
            self.close()


@contextmanager
def _pipeline(con: Timed) -> Iterator[psycopg.Pipeline]:
    """Statements that do not wait for each other. What goes wrong within is raised when the pipeline has been
    left: psycopg would log what goes wrong while it is left, too."""
    wrong: BaseException | None = None
    try:
        with con.pipeline() as pipeline:
            try:
                yield pipeline
            except BaseException as exc:  # noqa: BLE001 - raised below
                wrong = exc
    except psycopg.Error as exc:
        wrong = wrong or exc
    if wrong is not None:
        raise wrong


def _mask(wanted: waiting.Wait) -> int:
    return (select.POLLIN if wanted & waiting.Wait.R else 0) | (
        select.POLLOUT if wanted & waiting.Wait.W else 0
    )


def _ready(found: Sequence[tuple[int, int]]) -> waiting.Ready:
    if not found:
        return waiting.Ready.NONE
    ((_, event),) = found
    failed = event & (select.POLLERR | select.POLLHUP | select.POLLNVAL)
    readable, writable = event & select.POLLIN or failed, event & select.POLLOUT or failed
    if readable and writable:
        return waiting.Ready.RW
    return waiting.Ready.R if readable else waiting.Ready.W


class PostgreSQLSql:
    """One transaction, in pipeline mode: what is not asked back for goes along with what is.

    Whenever we wait for an answer, the server is told that more will come later (a sync). Else it would take
    itself to be at work, waiting for the rest of what it is asked; no timeout counts that, and a client that
    was stopped there would keep the locks of its transaction for as long as it likes."""

    __slots__ = ("_con", "_pipeline", "_statements")

    def __init__(
        self, con: Timed, statements: Mapping[str, str], pipeline: psycopg.Pipeline | None = None
    ) -> None:
        self._con = con
        self._statements = statements
        self._pipeline = pipeline

    def all(self, name: str, *values: Any) -> Found:
        return self.later(name, *values)()

    def later(self, name: str, *values: Any) -> Callable[[], Found]:
        cursor = self._con.execute(self._statements[name], _given(values))

        def fetch() -> Found:
            if self._pipeline is not None and cursor.pgresult is None:
                self._pipeline.sync()
            return cursor.fetchall()

        return fetch

    def run(self, name: str, *values: Any) -> None:
        self._con.execute(self._statements[name], _given(values))

    def each(self, name: str, values: Iterable[Sequence[Any]]) -> None:
        statement = self._statements[name]
        for some in values:
            self._con.execute(statement, some)

    def many(self, values: Iterable[str]) -> list[str]:
        return sorted(values)


def _given(values: tuple[Any, ...]) -> Any:
    return values[0] if len(values) == 1 and isinstance(values[0], dict) else values


class PostgreSQLLine(ServerLine[Timed]):
    def __init__(
        self,
        connect: Callable[[], Timed],
        statements: Mapping[str, str],
        address: str,
        settle: Callable[[PostgreSQLLine], None],
        *,
        named: Callable[[str], str],
        timeout: Seconds,
        pooled: bool,
    ) -> None:
        super().__init__(connect, statements, address, settle, named=named, timeout=timeout)
        self._limits = [str(limit) for limit in limits(timeout)] if pooled else []

    def con(self) -> Timed:
        """The connection, with all the time there is for one call."""
        con = super().con()
        con.until = time.monotonic() + self._timeout
        return con

    def listen(self, channel: str) -> None:
        con = self.con()
        try:
            con.execute(f'LISTEN "{channel}"')
        except psycopg.Error as exc:
            raise self._failed(con, exc) from exc

    def ring(self, channel: str, group: str) -> None:
        """What was written is there already: if this fails, the poll of those who listen finds it."""
        with suppress(HeadcountError), self.writing(durable=False) as sql:
            sql.run("ring", channel, group)

    def ask(self, name: str, *values: Any) -> Found:
        con = self.con()
        try:
            if self._limits:
                return self._ask_within_limits(con, name, values)
            return con.execute(self._statements[name], _given(values)).fetchall()
        except psycopg.Error as exc:
            raise self._failed(con, exc) from exc

    def _ask_within_limits(self, con: Timed, name: str, values: tuple[Any, ...]) -> Found:
        """The transaction that a single statement is anyway, but with limits; and still one round trip."""
        with _pipeline(con) as pipeline:
            sql = self._begun(con, pipeline, "begin_single")
            found = sql.later(name, *values)
            sql.run("commit")
        return found()

    def _begun(self, con: Timed, pipeline: psycopg.Pipeline, begin: str) -> PostgreSQLSql:
        """A transaction that has its limits, if the connection has none."""
        sql = PostgreSQLSql(con, self._statements, pipeline)
        sql.run(begin)
        if self._limits:
            sql.run("limit_transaction", *self._limits)
        return sql

    @contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[PostgreSQLSql]:
        con = self.con()
        committing = False
        try:
            with _pipeline(con) as pipeline:
                sql = self._begun(con, pipeline, "begin")
                sql.run("keep" if durable else "begin_volatile")
                yield sql
                committing = True
                sql.run("commit")
        except psycopg.Error as exc:
            raise self._failed(con, exc, committing=committing) from exc
        except BaseException:
            self._end(con)
            raise

    @contextmanager
    def reading(self) -> Iterator[PostgreSQLSql]:
        con = self.con()
        try:
            with _pipeline(con) as pipeline:
                sql = self._begun(con, pipeline, "begin_reading")
                yield sql
                sql.run("commit")
        except psycopg.Error as exc:
            raise self._failed(con, exc) from exc
        except BaseException:
            self._end(con)
            raise

    @contextmanager
    def making(self) -> Iterator[tuple[PostgreSQLSql, Callable[[str], None]]]:
        """In one transaction: others never meet half a schema."""
        con = self.con()
        con.until = time.monotonic() + max(LONGEST_MAKING, self._timeout)

        def run(script: str) -> None:
            con.execute(self._named(script))

        try:
            con.execute("BEGIN")
            con.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (MAKING, self._named("hc.")))
            yield PostgreSQLSql(con, self._statements), run
            con.execute("COMMIT")
        except psycopg.Error as exc:
            raise self._failed(con, exc) from exc
        except BaseException:
            self._end(con)
            raise

    def _failed(self, con: Timed, exc: psycopg.Error, *, committing: bool = False) -> HeadcountError:
        self._end(con)
        if exc.sqlstate == LOCKED:
            with suppress(HeadcountError):
                self.ask("end_stopped", max(STOPPED, self._timeout))
        if isinstance(exc, TimeIsUp) and not committing:
            return StoreUnavailable(f"{self._address} did not answer within {self._timeout:g} s")
        return translate(exc, self._address, committing=committing)

    def _end(self, con: Timed) -> None:
        """Leave the transaction, or, where that cannot be done, the connection."""
        if con.closed or con.broken:
            self.close()
            return
        try:
            con.until = time.monotonic() + self._timeout
            if con.pgconn.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                con.execute("ROLLBACK")
        except psycopg.Error:
            self.close()
