"""A place to meet for the tests of what the stores on database servers have in common: one database of its
own on a real server, and as many clients as a test wants."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

from headcount.model import Enter, Refused, Session
from headcount.stores import make
from headcount.stores.sql.mysql import MySQLStore
from headcount.stores.sql.postgresql import PostgreSQLStore
from headcount.stores.sql.speaking import Sql
from tests.servers.mariadb import MariaDB
from tests.servers.postgresql import PostgreSQL

T = TypeVar("T")

Kind = Literal["postgresql", "mysql"]
Client = PostgreSQLStore | MySQLStore


class Place:
    def __init__(self, server: PostgreSQL | MariaDB) -> None:
        self.server = server
        self.kind: Kind = "postgresql" if isinstance(server, PostgreSQL) else "mysql"
        self.database = server.fresh_database()
        self.url = server.url(self.database)
        self._made: list[Client] = []
        self.store, self.other = self.open(), self.open()
        self.store.create_group("web")

    def open(self, url: str | None = None, **options: Any) -> Client:
        store = make(url or self.url, options=options)
        assert isinstance(store, PostgreSQLStore | MySQLStore)
        self._made.append(store)
        store.open()
        return store

    def close(self) -> None:
        for store in self._made:
            store.close()
        self.server.drop_database(self.database)

    # ── what happens there ──

    def session(self, name: str, ttl: float = 10.0) -> str:
        self.store.open_session(Session(id=name, instance=name, host="h", process=name, ttl=ttl))
        return name

    def enter(self, name: str, group: str = "web", store: Client | None = None) -> None:
        assert not isinstance((store or self.store).commit(group, [self.entering(name)], by=name), Refused)

    def entering(self, name: str) -> Enter:
        return Enter(key=name, member_id=name, session=name, instance=name, host="h", ttl=10.0, seen=0)

    def pass_ticks(self, count: int, kept: Sequence[str]) -> None:
        """Those who are kept beat, and the first of them ticks."""
        for _ in range(count):
            self.store.beat(kept)
            self.store.advance(self.store.tick(), kept[0])

    def keys(self, group: str = "web") -> set[str]:
        """Whose rows are up."""
        return {row.key for row in self.store.read(group).rows if row.state.value == "up"}

    @contextmanager
    def holding(self, name: str, *values: object) -> Iterator[Sql]:
        """A transaction of somebody else, which has asked this, and goes on."""
        with self.other.lines.watcher() as line, line.writing() as sql:
            sql.run(name, *values)
            sql.all("clock")  # until here all has been carried out
            yield sql

    # ── as the administrator sees it ──

    def ask(self, query: str) -> Sequence[Sequence[Any]]:
        """The tables are `hc.` something, as in the stores' own statements."""
        server: Any = self.server
        found: Sequence[Sequence[Any]] = server.ask(self._named(query), database=self.database)
        return found

    def change(self, query: str) -> None:
        self._administer(self._named(query), self.database)

    def _named(self, query: str) -> str:
        return query.replace("hc.", "headcount." if self.kind == "postgresql" else "headcount_")

    def cut(self, store: Client) -> None:
        """The server ends the connection of its watcher, and it is known to be gone."""
        con: Any = store.lines._shared._con
        if isinstance(self.server, PostgreSQL):
            self.server.ask("SELECT pg_terminate_backend(%s, 5000)", con.info.backend_pid)
        else:
            self.server.kill_connection(con.thread_id())

    @contextmanager
    def letting_nobody_in(self) -> Iterator[None]:
        """Who is there may stay."""
        if self.kind == "postgresql":
            doors = f'ALTER DATABASE "{self.database}" ALLOW_CONNECTIONS '
            shut, open_ = doors + "false", doors + "true"
        else:
            shut, open_ = (f"ALTER USER headcount@'%' ACCOUNT {what}" for what in ("LOCK", "UNLOCK"))
        self._administer(shut)
        try:
            yield
        finally:
            self._administer(open_)

    @contextmanager
    def committing_no_tick(self) -> Iterator[None]:
        """Whoever changes the clock finds that it cannot be committed; on MySQL, not even changed."""
        if self.kind == "postgresql":
            self.change(
                "CREATE FUNCTION hc.refuse() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'refused'; END $$; "
                "CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON hc.clock DEFERRABLE INITIALLY DEFERRED "
                "FOR EACH ROW EXECUTE FUNCTION hc.refuse()"
            )
        else:
            self.change(
                "CREATE TRIGGER hc.refuse AFTER UPDATE ON hc.clock FOR EACH ROW SIGNAL SQLSTATE '45000'"
            )
        yield
        self.change(
            "DROP FUNCTION hc.refuse CASCADE" if self.kind == "postgresql" else "DROP TRIGGER hc.refuse"
        )

    def _administer(self, query: Any, database: str | None = None) -> None:
        if isinstance(self.server, PostgreSQL):
            with self.server.admin(database) as admin:
                admin.execute(query)
        else:
            self.server.ask(query, database=database)


def meanwhile(function: Callable[[], T]) -> Future[T]:
    """In another thread, and what comes of it."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as exc:  # noqa: BLE001 - for whoever asks
            future.set_exception(exc)

    threading.Thread(target=run, daemon=True).start()
    return future
