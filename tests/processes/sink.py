"""Something that is written to under a fencing token: it takes none older than the newest it has seen."""

from __future__ import annotations

import sqlite3


def make(path: str) -> None:
    con = sqlite3.connect(path)
    con.execute("CREATE TABLE sink (token INTEGER NOT NULL, writer TEXT NOT NULL)")
    con.execute("INSERT INTO sink VALUES (0, '')")
    con.commit()
    con.close()


def write(path: str, token: int, writer: str) -> bool:
    """Whether it was taken: the check and the write are one statement."""
    con = sqlite3.connect(path)
    done = con.execute("UPDATE sink SET token = :t, writer = :w WHERE token <= :t", {"t": token, "w": writer})
    con.commit()
    con.close()
    return done.rowcount == 1


def last(path: str) -> tuple[int, str]:
    con = sqlite3.connect(path)
    ((token, writer),) = con.execute("SELECT token, writer FROM sink")
    con.close()
    return token, writer
