-- hc.meta stands for the table headcount_meta, or headcount_NAMESPACE_meta; the others likewise.
--
-- Here DDL commits by itself, so each script may be run again on what an earlier run has left half-made; the
-- rows of meta and clock come last, and only where they are is the schema there.
--
-- Ids and names are bytes (UTF-8): so neither case nor accents nor spaces at the end are folded, whatever the
-- server's collations are. Those who are told bytes in BLOBs want bytes.

-- One row. `history` names the server's history that this belongs to, `epoch` ours: where the two do not fit
-- together any more, a new epoch begins. `version` is the newest migration that was run, `needs` the oldest
-- release, by its newest migration, that can still work here.
CREATE TABLE IF NOT EXISTS hc.meta (
    only_row TINYINT        NOT NULL PRIMARY KEY,
    version  INT            NOT NULL,
    needs    INT            NOT NULL,
    history  VARBINARY(500) NOT NULL,
    epoch    BIGINT         NOT NULL,
    floor    BIGINT         NOT NULL,               -- no group begins at or below it
    pruned   BIGINT         NOT NULL DEFAULT 0      -- the line of history up to which it was pruned
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS hc.groups (
    id       BIGINT         NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name     VARBINARY(500) NOT NULL,
    revision BIGINT         NOT NULL,
    oldest   BIGINT         NOT NULL,               -- a delta after an older revision cannot be given
    UNIQUE KEY groups_name (name)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS hc.rows (
    group_id       BIGINT         NOT NULL,
    `key`          VARBINARY(500) NOT NULL,
    member_id      VARBINARY(500) NOT NULL,
    incarnation    BIGINT         NOT NULL,
    revision       BIGINT         NOT NULL,
    state          VARBINARY(20)  NOT NULL,
    session        VARBINARY(500) NOT NULL,
    instance       VARBINARY(500) NOT NULL,
    host           VARBINARY(500) NOT NULL,
    ttl            DOUBLE         NOT NULL,
    ready          TINYINT        NOT NULL,
    standing_since BIGINT         NOT NULL,         -- the fencing token; 0: it does not stand
    capabilities   MEDIUMBLOB     NOT NULL,
    shards         BLOB           NOT NULL,         -- one bit a shard, the lowest first
    mode           VARBINARY(20)  NOT NULL,
    since          DOUBLE         NOT NULL,         -- wall clock, for people
    holding        TINYINT        NOT NULL,         -- whether it has shards: a BLOB has no index
    PRIMARY KEY (group_id, `key`),
    KEY rows_revision (group_id, revision),
    KEY rows_member (group_id, member_id),
    KEY rows_session (session),
    KEY rows_holding (group_id, holding)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS hc.marks (
    group_id    BIGINT         NOT NULL,
    member_id   VARBINARY(500) NOT NULL,
    revision    BIGINT         NOT NULL,
    disabled    MEDIUMTEXT,                         -- the reason
    forced_down TINYINT        NOT NULL,
    expelled    TINYINT        NOT NULL,
    since       DOUBLE         NOT NULL,
    PRIMARY KEY (group_id, member_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS hc.claims (
    group_id       BIGINT         NOT NULL,
    `key`          VARBINARY(500) NOT NULL,
    `row`          VARBINARY(500) NOT NULL,
    member_id      VARBINARY(500) NOT NULL,
    incarnation    BIGINT         NOT NULL,
    revision       BIGINT         NOT NULL,
    session        VARBINARY(500) NOT NULL,
    ttl            DOUBLE         NOT NULL,
    standing_since BIGINT         NOT NULL,
    shards         BLOB           NOT NULL,
    mode           VARBINARY(20)  NOT NULL,
    vacates_epoch  BIGINT         NOT NULL DEFAULT 0,   -- the tick at which it goes, set by a commit later
    vacates_at     BIGINT         NOT NULL DEFAULT 0,   -- than the one that made the claim
    PRIMARY KEY (group_id, `key`)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What was removed, so that a delta shows it. A key that is here again is in its own table only.
CREATE TABLE IF NOT EXISTS hc.tombstones (
    group_id BIGINT         NOT NULL,
    kind     VARBINARY(20)  NOT NULL,
    `key`    VARBINARY(500) NOT NULL,
    revision BIGINT         NOT NULL,
    PRIMARY KEY (group_id, kind, `key`),
    KEY tombstones_revision (group_id, revision)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- A fenced session is kept for the guard's window, in which it counts as expired.
CREATE TABLE IF NOT EXISTS hc.sessions (
    id           VARBINARY(500) NOT NULL PRIMARY KEY,
    instance     VARBINARY(500) NOT NULL,
    host         VARBINARY(500) NOT NULL,
    process      VARBINARY(500) NOT NULL,
    ttl          DOUBLE         NOT NULL,
    lasts        INT            NOT NULL,           -- D: by how many ticks a beat moves the deadline on
    opened       DOUBLE         NOT NULL,           -- wall clock, for people
    notice       BIGINT         NOT NULL DEFAULT 0,
    had_rows     TINYINT        NOT NULL DEFAULT 0,
    fenced_epoch BIGINT,                            -- the tick at which it was fenced
    fenced_at    BIGINT,
    KEY sessions_fenced (fenced_at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What is volatile, and written all the time: one small row each, and no index on what changes. The life marker
-- is the row of no session, whose notice is the clock's epoch. Who misses a row looks for it, and if it is not
-- there fills the table anew from the sessions: so it may be emptied, or left out of a backup.
CREATE TABLE IF NOT EXISTS hc.beats (
    session  VARBINARY(500) NOT NULL PRIMARY KEY,
    deadline BIGINT         NOT NULL,               -- overdue when the tick has reached it
    lasts    INT            NOT NULL,
    notice   BIGINT         NOT NULL,               -- the session's, so that a beat reads one row
    fenced   TINYINT        NOT NULL DEFAULT 0,
    seen     DOUBLE         NOT NULL                -- wall clock, for people
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Commits that wait for a busy group; whoever has its lock carries them out along with its own. The id is the
-- primary key, so that all who lock one of them lock that first.
CREATE TABLE IF NOT EXISTS hc.intents (
    id         VARBINARY(100) NOT NULL PRIMARY KEY,
    number     BIGINT         NOT NULL AUTO_INCREMENT,
    group_name VARBINARY(500) NOT NULL,
    asked      MEDIUMBLOB     NOT NULL,
    at         DATETIME(6)    NOT NULL,             -- UTC
    outcome    MEDIUMBLOB,
    UNIQUE KEY intents_number (number),
    KEY intents_waiting (group_name, number),
    KEY intents_at (at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS hc.history (
    id         BIGINT         NOT NULL AUTO_INCREMENT PRIMARY KEY,
    at         DOUBLE         NOT NULL,
    group_name VARBINARY(500) NOT NULL,
    member_id  VARBINARY(500) NOT NULL,
    what       VARBINARY(500) NOT NULL,
    who        VARBINARY(500) NOT NULL,
    revision   BIGINT         NOT NULL,
    detail     MEDIUMTEXT     NOT NULL,
    KEY history_group (group_name, id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- One row: the store's clock. The last table, so that all are there when it is.
CREATE TABLE IF NOT EXISTS hc.clock (
    only_row       TINYINT        NOT NULL PRIMARY KEY,
    epoch          BIGINT         NOT NULL,
    number         BIGINT         NOT NULL,
    tick_interval  DOUBLE         NOT NULL,         -- seconds; fixed for the life of the store
    ticker         VARBINARY(500) NOT NULL,
    standbys       VARBINARY(2000) NOT NULL,        -- JSON
    ticked_at      DOUBLE         NOT NULL,         -- wall clock, for people
    released_until BIGINT         NOT NULL,         -- the guard holds nobody back up to this tick
    roles          BIGINT         NOT NULL DEFAULT 0    -- how often another epoch, ticker or standbys came
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
