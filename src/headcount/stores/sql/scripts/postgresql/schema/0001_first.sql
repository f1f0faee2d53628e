-- hc stands for the schema of the namespace: headcount, or headcount_NAMESPACE.

CREATE SCHEMA IF NOT EXISTS hc;

-- One row. `history` names the server's history that this belongs to (system identifier and timeline),
-- `epoch` ours: where the two do not fit together any more, a new epoch begins. `version` is the newest
-- migration that was run, `needs` the oldest release, by its newest migration, that can still work here.
CREATE TABLE hc.meta (
    only_row integer PRIMARY KEY CHECK (only_row = 1),
    version  integer NOT NULL,
    needs    integer NOT NULL,
    history  text    NOT NULL,
    epoch    bigint  NOT NULL,
    floor    bigint  NOT NULL,                  -- no group begins at or below it
    pruned   bigint  NOT NULL DEFAULT 0         -- the line of history up to which it was pruned
);

-- One row too: the store's clock, but for its number, which is in the word.
CREATE TABLE hc.clock (
    only_row       integer PRIMARY KEY CHECK (only_row = 1),
    epoch          bigint  NOT NULL,
    tick_interval  double precision NOT NULL,   -- seconds; fixed for the life of the store
    ticker         text    NOT NULL,
    standbys       text    NOT NULL,            -- JSON
    ticked_at      double precision NOT NULL,   -- wall clock, for people
    released_until bigint  NOT NULL,            -- the guard holds nobody back up to this tick
    roles          bigint  NOT NULL DEFAULT 0   -- how often another epoch, ticker or standbys came
) WITH (fillfactor = 10);

-- The clock's word: its number, and below it the lowest 12 bits of `roles`. A beat reads it for next to nothing,
-- and it stands nowhere else. Who has locked the clock's row sets it (`setval`; nobody draws from it), and that
-- is seen at once and stays, whatever becomes of the transaction. Numbers begin with 1.
CREATE SEQUENCE hc.word AS bigint;
SELECT setval('hc.word', 1 << 12, true);

CREATE TABLE hc.groups (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name     text   NOT NULL UNIQUE,
    revision bigint NOT NULL,
    oldest   bigint NOT NULL                    -- a delta after an older revision cannot be given
) WITH (fillfactor = 50);

CREATE TABLE hc.rows (
    group_id       bigint  NOT NULL,
    key            text    NOT NULL,
    member_id      text    NOT NULL,
    incarnation    bigint  NOT NULL,
    revision       bigint  NOT NULL,
    state          text    NOT NULL,
    session        text    NOT NULL,
    instance       text    NOT NULL,
    host           text    NOT NULL,
    ttl            double precision NOT NULL,
    ready          smallint NOT NULL,
    standing_since bigint  NOT NULL,            -- the fencing token; 0: it does not stand
    capabilities   bytea   NOT NULL,
    shards         bytea   NOT NULL,            -- one bit a shard, the lowest first
    mode           text    NOT NULL,
    since          double precision NOT NULL,   -- wall clock, for people
    PRIMARY KEY (group_id, key)
);
CREATE INDEX rows_revision ON hc.rows (group_id, revision);
CREATE INDEX rows_member   ON hc.rows (group_id, member_id);
CREATE INDEX rows_session  ON hc.rows (session)  WHERE state IN ('up', 'suspect') AND session <> '';
CREATE INDEX rows_shards   ON hc.rows (group_id) WHERE shards <> '';

CREATE TABLE hc.marks (
    group_id    bigint   NOT NULL,
    member_id   text     NOT NULL,
    revision    bigint   NOT NULL,
    disabled    text,                           -- the reason
    forced_down smallint NOT NULL,
    expelled    smallint NOT NULL,
    since       double precision NOT NULL,
    PRIMARY KEY (group_id, member_id)
);

CREATE TABLE hc.claims (
    group_id       bigint NOT NULL,
    key            text   NOT NULL,
    row            text   NOT NULL,
    member_id      text   NOT NULL,
    incarnation    bigint NOT NULL,
    revision       bigint NOT NULL,
    session        text   NOT NULL,
    ttl            double precision NOT NULL,
    standing_since bigint NOT NULL,
    shards         bytea  NOT NULL,
    mode           text   NOT NULL,
    vacates_epoch  bigint NOT NULL DEFAULT 0,   -- the tick at which it goes, set by a commit later
    vacates_at     bigint NOT NULL DEFAULT 0,   -- than the one that made the claim
    PRIMARY KEY (group_id, key)
);

-- What was removed, so that a delta shows it. A key that is here again is in its own table only.
CREATE TABLE hc.tombstones (
    group_id bigint NOT NULL,
    kind     text   NOT NULL,
    key      text   NOT NULL,
    revision bigint NOT NULL,
    PRIMARY KEY (group_id, kind, key)
);
CREATE INDEX tombstones_revision ON hc.tombstones (group_id, revision);

-- A fenced session is kept for the guard's window, in which it counts as expired.
CREATE TABLE hc.sessions (
    id           text    PRIMARY KEY,
    instance     text    NOT NULL,
    host         text    NOT NULL,
    process      text    NOT NULL,
    ttl          double precision NOT NULL,
    lasts        integer NOT NULL,              -- D: by how many ticks a beat moves the deadline on
    opened       double precision NOT NULL,     -- wall clock, for people
    notice       bigint  NOT NULL DEFAULT 0,
    had_rows     smallint NOT NULL DEFAULT 0,
    fenced_epoch bigint,                        -- the tick at which it was fenced
    fenced_at    bigint
) WITH (fillfactor = 70);
CREATE INDEX sessions_fenced ON hc.sessions (id) WHERE fenced_at IS NOT NULL;

-- What is volatile, and written all the time: never in the write-ahead log, and every beat a HOT update, since
-- no index is on what it changes. When a backend is killed, or the server dies, the table is empty afterwards:
-- hence the life marker, the row of no session, whose notice is the clock's epoch. Who misses a row looks for
-- it, and if it is not there fills the table anew from the sessions.
CREATE UNLOGGED TABLE hc.beats (
    session  text    PRIMARY KEY,
    deadline bigint  NOT NULL,                  -- the word that the beat met, and `lasts`: overdue when the
    lasts    bigint  NOT NULL,                  -- tick (deadline >> 12) is reached. In words too: D << 12
    notice   bigint  NOT NULL,                  -- the session's, so that a beat reads one row
    fenced   boolean NOT NULL DEFAULT false,
    seen     double precision NOT NULL          -- wall clock, for people
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.5, autovacuum_analyze_scale_factor = 0.5);

-- Commits that wait for a busy group; whoever has its lock carries them out along with its own.
CREATE TABLE hc.intents (
    number     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id         text  NOT NULL UNIQUE,
    group_name text  NOT NULL,
    asked      bytea NOT NULL,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    outcome    bytea
);
CREATE INDEX intents_waiting ON hc.intents (group_name, number) WHERE outcome IS NULL;

CREATE TABLE hc.history (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         double precision NOT NULL,
    group_name text   NOT NULL,
    member_id  text   NOT NULL,
    what       text   NOT NULL,
    who        text   NOT NULL,
    revision   bigint NOT NULL,
    detail     text   NOT NULL
);
CREATE INDEX history_group ON hc.history (group_name, id);
