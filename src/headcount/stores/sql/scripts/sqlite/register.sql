-- Columns are in the order of the fields of `Row`, `Mark` and `Claim`; see records.py.
-- A + before a column says that no index is to be used for it: without one, SQLite reads a whole group to
-- find the rows of one member in the order that is asked for, or every session to find a few by name.

-- name: head
SELECT history, epoch, changes, tick_interval FROM meta

-- name: found_register
INSERT INTO meta (only_row, history, epoch, floor, tick_interval) VALUES (1, ?, ?, ?, ?)

-- name: raise_epoch
UPDATE meta SET history = :history, epoch = :epoch, floor = max(floor, :epoch << 32), changes = changes + 1

-- A delta across a new epoch cannot be given: who knows what the reader has seen of the old one.
-- name: raise_groups
UPDATE groups SET revision = :epoch << 32, oldest = :epoch << 32, changed = (SELECT changes FROM meta)

-- name: forget_tombstones
DELETE FROM tombstones

-- name: count_change
UPDATE meta SET changes = changes + 1

-- name: group
SELECT id, name, revision, oldest FROM groups WHERE name = ?

-- name: group_by_id
SELECT id, name, revision, oldest FROM groups WHERE id = ?

-- name: group_names
SELECT name FROM groups ORDER BY name

-- name: create_group
INSERT INTO groups (name, revision, oldest, changed)
SELECT ?, floor + 1, floor + 1, changes FROM meta

-- name: undo_departure
DELETE FROM departed WHERE name = ?

-- name: raise_floor
UPDATE meta SET floor = max(floor, ?)

-- name: depart
INSERT OR REPLACE INTO departed (name, changed) SELECT ?, changes FROM meta

-- name: drop_rows
DELETE FROM rows WHERE group_id = ?

-- name: drop_marks
DELETE FROM marks WHERE group_id = ?

-- name: drop_claims
DELETE FROM claims WHERE group_id = ?

-- name: drop_tombstones
DELETE FROM tombstones WHERE group_id = ?

-- name: drop_group
DELETE FROM groups WHERE id = ?

-- name: row
SELECT key, member_id, incarnation, revision, state, session, instance, host, ttl, ready, standing_since,
       capabilities, shards, mode, since
FROM rows WHERE group_id = ? AND key = ?

-- name: rows_of
SELECT key, member_id, incarnation, revision, state, session, instance, host, ttl, ready, standing_since,
       capabilities, shards, mode, since
FROM rows WHERE group_id = ? AND member_id IN (SELECT value FROM json_each(?)) ORDER BY +key

-- name: rows_after
SELECT key, member_id, incarnation, revision, state, session, instance, host, ttl, ready, standing_since,
       capabilities, shards, mode, since
FROM rows WHERE group_id = ? AND revision > ?

-- name: rows_all
SELECT key, member_id, incarnation, revision, state, session, instance, host, ttl, ready, standing_since,
       capabilities, shards, mode, since
FROM rows WHERE group_id = ?

-- name: rows_holding
SELECT key, member_id, incarnation, revision, state, session, instance, host, ttl, ready, standing_since,
       capabilities, shards, mode, since
FROM rows WHERE group_id = ? AND shards <> x'' AND state IN ('up', 'suspect')

-- name: groups_of_sessions
SELECT DISTINCT group_id FROM rows
WHERE session IN (SELECT value FROM json_each(?)) AND state IN ('up', 'suspect') AND session <> ''

-- name: rows_of_sessions
SELECT key, member_id, incarnation, revision, state, session, instance, host, ttl, ready, standing_since,
       capabilities, shards, mode, since
FROM rows
WHERE session IN (SELECT value FROM json_each(?)) AND state IN ('up', 'suspect') AND session <> ''
  AND +group_id = ? ORDER BY +key

-- name: put_row
INSERT OR REPLACE INTO rows
    (group_id, key, member_id, incarnation, revision, state, session, instance, host, ttl, ready,
     standing_since, capabilities, shards, mode, since)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: remove_row
DELETE FROM rows WHERE group_id = ? AND key = ?

-- name: mark
SELECT member_id, revision, disabled, forced_down, expelled, since FROM marks WHERE group_id = ? AND member_id = ?

-- name: marks_of
SELECT member_id, revision, disabled, forced_down, expelled, since FROM marks
WHERE group_id = ? AND member_id IN (SELECT value FROM json_each(?))

-- name: marks_after
SELECT member_id, revision, disabled, forced_down, expelled, since FROM marks WHERE group_id = ? AND revision > ?

-- name: put_mark
INSERT OR REPLACE INTO marks (group_id, member_id, revision, disabled, forced_down, expelled, since)
VALUES (?, ?, ?, ?, ?, ?, ?)

-- name: remove_mark
DELETE FROM marks WHERE group_id = ? AND member_id = ?

-- name: claim
SELECT key, row, member_id, incarnation, revision, session, ttl, standing_since, shards, mode
FROM claims WHERE group_id = ? AND key = ?

-- name: claims_of
SELECT key, row, member_id, incarnation, revision, session, ttl, standing_since, shards, mode
FROM claims WHERE group_id = ? AND member_id IN (SELECT value FROM json_each(?))

-- name: claims_after
SELECT key, row, member_id, incarnation, revision, session, ttl, standing_since, shards, mode
FROM claims WHERE group_id = ? AND revision > ?

-- name: put_claim
INSERT OR REPLACE INTO claims
    (group_id, key, row, member_id, incarnation, revision, session, ttl, standing_since, shards, mode)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: remove_claim
DELETE FROM claims WHERE group_id = ? AND key = ?

-- name: tombstones_after
SELECT kind, key FROM tombstones WHERE group_id = ? AND revision > ? ORDER BY revision

-- name: put_tombstone
INSERT OR REPLACE INTO tombstones (group_id, kind, key, revision) VALUES (?, ?, ?, ?)

-- name: remove_tombstone
DELETE FROM tombstones WHERE group_id = ? AND kind = ? AND key = ?

-- The newest of those that are one too many, if there are that many.
-- name: spare_tombstone
SELECT revision FROM tombstones WHERE group_id = ? ORDER BY revision DESC LIMIT 1 OFFSET ?

-- name: prune_tombstones
DELETE FROM tombstones WHERE group_id = ? AND revision <= ?

-- name: set_group
UPDATE groups SET revision = ?, oldest = ?, changed = (SELECT changes FROM meta) WHERE id = ?

-- name: raise_notice
UPDATE sessions SET notice = notice + 1 WHERE id = ?

-- name: note_rows
UPDATE sessions SET had_rows = 1 WHERE id = ? AND had_rows = 0

-- name: add_history
INSERT INTO history (at, group_name, member_id, what, who, revision, detail) VALUES (?, ?, ?, ?, ?, ?, ?)

-- name: history
SELECT at, group_name, member_id, what, who, revision, detail FROM history
WHERE :member IS NULL OR member_id = :member ORDER BY id DESC LIMIT :limit

-- name: history_of_group
SELECT at, group_name, member_id, what, who, revision, detail FROM history
WHERE group_name = :group AND (:member IS NULL OR member_id = :member) ORDER BY id DESC LIMIT :limit

-- name: open_session
INSERT OR IGNORE INTO sessions (id, instance, host, process, ttl, opened) VALUES (?, ?, ?, ?, ?, ?)

-- name: alive
SELECT 1 FROM sessions WHERE id = ? AND fenced_at IS NULL

-- name: drop_session
DELETE FROM sessions WHERE id = ?

-- name: fence
UPDATE sessions SET fenced_epoch = ?, fenced_at = ? WHERE id = ?

-- Per session that a beat names: its notice (NULL: it is lost), and which history this is.
-- name: beating
SELECT named.value, sessions.notice, meta.history, meta.epoch
FROM meta CROSS JOIN json_each(?) AS named
LEFT JOIN sessions ON sessions.id = named.value AND sessions.fenced_at IS NULL

-- name: unfenced
SELECT id, had_rows FROM sessions WHERE fenced_at IS NULL

-- name: processes
SELECT id, process FROM sessions WHERE +fenced_at IS NULL AND id IN (SELECT value FROM json_each(?))

-- name: ttls
SELECT id, ttl FROM sessions WHERE fenced_at IS NULL

-- name: expired
SELECT count(*) FROM sessions WHERE fenced_at IS NOT NULL AND had_rows

-- name: forget_sessions
DELETE FROM sessions WHERE fenced_at IS NOT NULL AND (fenced_epoch <> :epoch OR fenced_at + :window <= :number)

-- Whether a sweep would find anything to do here. One small row, and no lock.
-- name: look
SELECT changes,
    (SELECT count(*) FROM sessions WHERE fenced_at IS NULL) AS live,
    EXISTS (SELECT 1 FROM sessions WHERE fenced_at IS NOT NULL
            AND (fenced_epoch <> :epoch OR fenced_at + :window <= :number)) AS forgettable,
    EXISTS (SELECT 1 FROM claims WHERE vacates_epoch <> :epoch OR vacates_at <= :number
            OR session NOT IN (SELECT id FROM sessions WHERE fenced_at IS NULL)) AS claimed,
    coalesce((SELECT max(id) FROM history), 0) - pruned AS unpruned
FROM meta

-- name: all_claims
SELECT group_id, vacates_epoch, vacates_at,
       key, row, member_id, incarnation, revision, session, ttl, standing_since, shards, mode
FROM claims ORDER BY group_id, key

-- name: claims_of_session
SELECT group_id, key, row, member_id, incarnation, revision, session, ttl, standing_since, shards, mode
FROM claims WHERE session = ?

-- name: set_vacates
UPDATE claims SET vacates_epoch = ?, vacates_at = ? WHERE group_id = ? AND key = ?

-- name: newest_claim_epoch
SELECT coalesce(max(vacates_epoch), 0) FROM claims

-- name: groups_with_new_history
SELECT DISTINCT group_name FROM history WHERE id > (SELECT pruned FROM meta)

-- name: prune_group_history
DELETE FROM history WHERE group_name = :group AND id <= (
    SELECT id FROM history WHERE group_name = :group ORDER BY id DESC LIMIT 1 OFFSET :keep)

-- name: prune_history
DELETE FROM history WHERE id <= (SELECT max(id) FROM history) - ?

-- name: set_pruned
UPDATE meta SET pruned = (SELECT max(id) FROM history)

-- name: prune_departed
DELETE FROM departed WHERE changed < (SELECT changes FROM meta) - ?

-- name: changes
SELECT changes FROM meta

-- name: changed_since
SELECT name FROM groups WHERE changed > :heard UNION SELECT name FROM departed WHERE changed > :heard

-- name: live_sessions_of_group
SELECT member_id, session FROM rows WHERE group_id = ? AND state IN ('up', 'suspect')
