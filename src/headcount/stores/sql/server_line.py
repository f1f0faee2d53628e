"""A connection to a database server, as its store has it: made when it is first used, and anew when it has
broken. What is said on it differs by dialect (`postgresql_line`, `mysql_line`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from headcount.model import Seconds
from headcount.stores.sql.clock import Clock


class Connection(Protocol):
    def cut(self) -> bool:
        """Whether it is gone, as far as one can know without asking: better noticed before the next question
        than by it."""
        ...

    def drop(self) -> None:
        """Close it. Nobody waits for the server."""
        ...


C = TypeVar("C", bound=Connection)


class ServerLine(Generic[C]):
    def __init__(
        self,
        connect: Callable[[], C],
        statements: Mapping[str, str],
        address: str,
        settle: Callable[[Any], None],
        *,
        named: Callable[[str], str],
        timeout: Seconds,
    ) -> None:
        """`settle` is given the line whenever there is a new connection: what it has to go through. `named`
        puts the names of the tables into SQL."""
        self._connect = connect
        self._statements = statements
        self._address = address
        self._settle = settle
        self._named = named
        self._timeout = timeout
        self._con: C | None = None
        self.opened = 0
        """How often it has been opened. What was missed in between, nobody knows; and who listens on it has
        to say so again."""
        self.heard: Clock | None = None

    def connect(self) -> None:
        self.con()

    def con(self) -> C:
        """The connection; a new one, if need be."""
        con = self._con
        if con is None or con.cut():
            self.close()
            con = self._con = self._connect()
            self.opened += 1
            try:
                self._settle(self)
            except BaseException:
                self.close()
                raise
        return con

    def close(self) -> None:
        con, self._con = self._con, None
        if con is not None:
            con.drop()
        self.heard = None
