-- The register: what is durable. Written under the file's write lock, with synchronous=FULL, except
-- for sessions, which are of no use after the machine has gone down.

-- One row. `history` names the file that this is, `epoch` its history: a file that finds itself to be
-- another than it says is a copy, and begins a new epoch.
CREATE TABLE meta (
    only_row      INTEGER PRIMARY KEY CHECK (only_row = 1),
    history       TEXT    NOT NULL,
    epoch         INTEGER NOT NULL,
    floor         INTEGER NOT NULL,             -- no group begins at or below it
    changes       INTEGER NOT NULL DEFAULT 0,   -- counts what the doorbell rings for
    tick_interval REAL    NOT NULL,             -- seconds; fixed for the life of the store
    pruned        INTEGER NOT NULL DEFAULT 0    -- the line of history up to which it was pruned
);

CREATE TABLE groups (
    id       INTEGER PRIMARY KEY,
    name     TEXT    NOT NULL UNIQUE,
    revision INTEGER NOT NULL,
    oldest   INTEGER NOT NULL,                  -- a delta after an older revision cannot be given
    changed  INTEGER NOT NULL                   -- meta.changes as it was written last
);
CREATE INDEX groups_changed ON groups (changed);

-- Groups that were deleted lately: their doorbell has to ring too.
CREATE TABLE departed (
    name    TEXT    PRIMARY KEY,
    changed INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX departed_changed ON departed (changed);

CREATE TABLE rows (
    group_id       INTEGER NOT NULL REFERENCES groups (id),
    key            TEXT    NOT NULL,
    member_id      TEXT    NOT NULL,
    incarnation    INTEGER NOT NULL,
    revision       INTEGER NOT NULL,
    state          TEXT    NOT NULL,
    session        TEXT    NOT NULL,
    instance       TEXT    NOT NULL,
    host           TEXT    NOT NULL,
    ttl            REAL    NOT NULL,
    ready          INTEGER NOT NULL,
    standing_since INTEGER NOT NULL,            -- the fencing token; 0: it does not stand
    capabilities   BLOB    NOT NULL,
    shards         BLOB    NOT NULL,            -- one bit a shard, the lowest first
    mode           TEXT    NOT NULL,
    since          REAL    NOT NULL,            -- wall clock, for people
    PRIMARY KEY (group_id, key)
);
CREATE INDEX rows_revision ON rows (group_id, revision);
CREATE INDEX rows_member   ON rows (group_id, member_id);
CREATE INDEX rows_session  ON rows (session)  WHERE state IN ('up', 'suspect') AND session <> '';
CREATE INDEX rows_shards   ON rows (group_id) WHERE shards <> x'';

CREATE TABLE marks (
    group_id    INTEGER NOT NULL REFERENCES groups (id),
    member_id   TEXT    NOT NULL,
    revision    INTEGER NOT NULL,
    disabled    TEXT,                           -- the reason
    forced_down INTEGER NOT NULL,
    expelled    INTEGER NOT NULL,
    since       REAL    NOT NULL,
    PRIMARY KEY (group_id, member_id)
) WITHOUT ROWID;

CREATE TABLE claims (
    group_id       INTEGER NOT NULL REFERENCES groups (id),
    key            TEXT    NOT NULL,
    row            TEXT    NOT NULL,
    member_id      TEXT    NOT NULL,
    incarnation    INTEGER NOT NULL,
    revision       INTEGER NOT NULL,
    session        TEXT    NOT NULL,
    ttl            REAL    NOT NULL,
    standing_since INTEGER NOT NULL,
    shards         BLOB    NOT NULL,
    mode           TEXT    NOT NULL,
    vacates_epoch  INTEGER NOT NULL DEFAULT 0,  -- the tick at which it goes, set by a commit later
    vacates_at     INTEGER NOT NULL DEFAULT 0,  -- than the one that made the claim
    PRIMARY KEY (group_id, key)
) WITHOUT ROWID;

-- What was removed, so that a delta shows it. A key that is here again is in its own table only.
CREATE TABLE tombstones (
    group_id INTEGER NOT NULL REFERENCES groups (id),
    kind     TEXT    NOT NULL,
    key      TEXT    NOT NULL,
    revision INTEGER NOT NULL,
    PRIMARY KEY (group_id, kind, key)
) WITHOUT ROWID;
CREATE INDEX tombstones_revision ON tombstones (group_id, revision);

-- A fenced session is kept for the guard's window, in which it counts as expired.
CREATE TABLE sessions (
    id           TEXT    PRIMARY KEY,
    instance     TEXT    NOT NULL,
    host         TEXT    NOT NULL,
    process      TEXT    NOT NULL,
    ttl          REAL    NOT NULL,
    opened       REAL    NOT NULL,              -- wall clock, for people
    notice       INTEGER NOT NULL DEFAULT 0,
    had_rows     INTEGER NOT NULL DEFAULT 0,
    fenced_epoch INTEGER,                       -- the tick at which it was fenced
    fenced_at    INTEGER
) WITHOUT ROWID;
CREATE INDEX sessions_fenced ON sessions (fenced_at, fenced_epoch, had_rows);

CREATE TABLE history (
    id         INTEGER PRIMARY KEY,
    at         REAL    NOT NULL,
    group_name TEXT    NOT NULL,
    member_id  TEXT    NOT NULL,
    what       TEXT    NOT NULL,
    who        TEXT    NOT NULL,
    revision   INTEGER NOT NULL,
    detail     TEXT    NOT NULL
);
CREATE INDEX history_group ON history (group_name);
