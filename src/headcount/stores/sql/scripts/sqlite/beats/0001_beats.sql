-- What is volatile: the store's clock, and how long each session still has. In a file of its own, so
-- that a beat never waits for whoever writes the register, nor rings the register's doorbell.

-- One row, which is the life marker too: where it is missing, or names another history than the
-- register's, this file knows nothing of the sessions, and is filled anew.
CREATE TABLE clock (
    only_row       INTEGER PRIMARY KEY CHECK (only_row = 1),
    history        TEXT    NOT NULL,
    changes        INTEGER NOT NULL,            -- the register's count of changes, as last seen
    epoch          INTEGER NOT NULL,
    number         INTEGER NOT NULL,
    tick_interval  REAL    NOT NULL,
    ticker         TEXT    NOT NULL,
    standbys       TEXT    NOT NULL,            -- JSON
    ticked_at      REAL    NOT NULL,            -- wall clock, for people
    released_until INTEGER NOT NULL             -- the guard holds nobody back up to this tick
);

CREATE TABLE beats (
    session  TEXT    PRIMARY KEY,
    deadline INTEGER NOT NULL,                  -- overdue when the tick has reached it
    lasts    INTEGER NOT NULL,                  -- D: by how many ticks a beat moves the deadline on
    seen     REAL    NOT NULL                   -- wall clock, for people
) WITHOUT ROWID;
