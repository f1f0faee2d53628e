-- hc.rows stands for the table headcount_rows, or headcount_NAMESPACE_rows. Columns are in the order of the
-- fields of `Row`, `Mark` and `Claim`; see records.py. Which traps are avoided here, and where:
--
-- · %(1)s is the first value, where it is needed twice; a list is put in as ('a', 'b'), and an empty one as
--   (x'ff'), which is no UTF-8 and so nobody's id: IN () is no SQL.
-- · Several statements under one name go out together; asked for rows, the last one that has any answers.
-- · At READ COMMITTED, what INSERT … SELECT and the UPDATE of one table read is not locked. What a DELETE with
--   a subquery, or an UPDATE of a join, reads is: such are not here.
-- · Whoever locks sessions comes by the primary key: by the index of the fenced ones, it would lock an entry
--   there first, and then the row; and whoever fences does so the other way round.
-- · A DELETE waits for each row that it looks at, not only for those that it finds. So keys lead it to them.

-- ── which store this is ──

-- The clock's table is the last one that is made.
-- name: made
SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = {clock}

-- name: head
SELECT m.version, m.needs, m.history, m.epoch, c.tick_interval, c.number FROM hc.meta m, hc.clock c

-- name: found_register
INSERT INTO hc.meta (only_row, version, needs, history, epoch, floor) VALUES (1, %s, %s, %s, %s, %s)

-- name: found_clock
INSERT INTO hc.clock (only_row, epoch, number, tick_interval, ticker, standbys, ticked_at, released_until)
VALUES (1, %s, 1, %s, '', '[]', %s, -1)

-- name: set_version
UPDATE hc.meta SET version = %s

-- name: lock_floor
SELECT history, epoch, floor FROM hc.meta FOR UPDATE

-- name: raise_epoch
UPDATE hc.meta SET history = %s, epoch = %s, floor = greatest(floor, %s)

-- A delta across a new epoch cannot be given: who knows what the reader has seen of the old one.
-- name: raise_groups
UPDATE hc.groups SET revision = %s, oldest = %s

-- name: forget_tombstones
DELETE FROM hc.tombstones

-- name: raise_floor
UPDATE hc.meta SET floor = greatest(floor, %s)

-- MySQL has no transactions that are less durable than others.
-- name: keep


-- name: begin
START TRANSACTION READ WRITE

-- name: begin_reading
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY

-- name: commit
COMMIT

-- ── groups ──

-- name: group
SELECT id, name, revision, oldest FROM hc.groups WHERE name = %s

-- name: group_locked
SELECT id, name, revision, oldest FROM hc.groups WHERE name = %s FOR UPDATE

-- name: group_if_free
SELECT id, name, revision, oldest FROM hc.groups WHERE name = %s FOR UPDATE SKIP LOCKED

-- name: group_names
SELECT name FROM hc.groups

-- name: create_group
INSERT INTO hc.groups (name, revision, oldest) VALUES (%s, %s, %s)

-- name: drop_rows
DELETE FROM hc.rows WHERE group_id = %s

-- name: drop_marks
DELETE FROM hc.marks WHERE group_id = %s

-- name: drop_claims
DELETE FROM hc.claims WHERE group_id = %s

-- name: drop_tombstones
DELETE FROM hc.tombstones WHERE group_id = %s

-- name: drop_group
DELETE FROM hc.groups WHERE id = %s

-- name: set_group
UPDATE hc.groups SET revision = %s, oldest = %s WHERE id = %s

-- One row that is another one whenever some group is.
-- name: groups_at_all
SELECT count(*), coalesce(sum(revision), 0), (SELECT floor FROM hc.meta) FROM hc.groups

-- name: revisions
SELECT name, revision FROM hc.groups

-- ── records, of one group ──

-- name: row
SELECT `key`, member_id, incarnation, revision, state, session, instance, host, ttl, ready, standing_since,
       capabilities, shards, mode, since
FROM hc.rows WHERE group_id = %s AND `key` = %s

-- name: rows_of
SELECT `key`, member_id, incarnation, revision, state, session, instance, host, ttl, ready, standing_since,
       capabilities, shards, mode, since
FROM hc.rows WHERE group_id = %s AND member_id IN %s ORDER BY `key`

-- name: rows_all
SELECT `key`, member_id, incarnation, revision, state, session, instance, host, ttl, ready, standing_since,
       capabilities, shards, mode, since
FROM hc.rows WHERE group_id = %s

-- name: rows_holding
SELECT `key`, member_id, incarnation, revision, state, session, instance, host, ttl, ready, standing_since,
       capabilities, shards, mode, since
FROM hc.rows WHERE group_id = %s AND holding = 1 AND state IN ('up', 'suspect')

-- VALUES(…) is how both servers name the row that was to be put in; MySQL also has another way.
-- name: put_row
INSERT INTO hc.rows
    (group_id, `key`, member_id, incarnation, revision, state, session, instance, host, ttl, ready,
     standing_since, capabilities, shards, mode, since, holding)
VALUES (%(1)s, %(2)s, %(3)s, %(4)s, %(5)s, %(6)s, %(7)s, %(8)s, %(9)s, %(10)s, %(11)s, %(12)s, %(13)s, %(14)s,
        %(15)s, %(16)s, %(14)s <> '')
ON DUPLICATE KEY UPDATE
    member_id = VALUES(member_id), incarnation = VALUES(incarnation), revision = VALUES(revision),
    state = VALUES(state), session = VALUES(session), instance = VALUES(instance), host = VALUES(host),
    ttl = VALUES(ttl), ready = VALUES(ready), standing_since = VALUES(standing_since),
    capabilities = VALUES(capabilities), shards = VALUES(shards), mode = VALUES(mode),
    since = VALUES(since), holding = VALUES(holding)

-- name: remove_row
DELETE FROM hc.rows WHERE group_id = %s AND `key` = %s

-- name: mark
SELECT member_id, revision, disabled, forced_down, expelled, since FROM hc.marks
WHERE group_id = %s AND member_id = %s

-- name: put_mark
INSERT INTO hc.marks (group_id, member_id, revision, disabled, forced_down, expelled, since)
VALUES (%s, %s, %s, %s, %s, %s, %s)
ON DUPLICATE KEY UPDATE
    revision = VALUES(revision), disabled = VALUES(disabled), forced_down = VALUES(forced_down),
    expelled = VALUES(expelled), since = VALUES(since)

-- name: remove_mark
DELETE FROM hc.marks WHERE group_id = %s AND member_id = %s

-- name: claim
SELECT `key`, `row`, member_id, incarnation, revision, session, ttl, standing_since, shards, mode
FROM hc.claims WHERE group_id = %s AND `key` = %s

-- name: claims_of
SELECT `key`, `row`, member_id, incarnation, revision, session, ttl, standing_since, shards, mode
FROM hc.claims WHERE group_id = %s AND member_id IN %s

-- name: claims_after
SELECT `key`, `row`, member_id, incarnation, revision, session, ttl, standing_since, shards, mode
FROM hc.claims WHERE group_id = %s AND revision > %s

-- name: put_claim
INSERT INTO hc.claims
    (group_id, `key`, `row`, member_id, incarnation, revision, session, ttl, standing_since, shards, mode)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)

-- name: remove_claim
DELETE FROM hc.claims WHERE group_id = %s AND `key` = %s

-- name: put_tombstone
INSERT INTO hc.tombstones (group_id, kind, `key`, revision) VALUES (%s, %s, %s, %s)
ON DUPLICATE KEY UPDATE revision = VALUES(revision)

-- name: remove_tombstone
DELETE FROM hc.tombstones WHERE group_id = %s AND kind = %s AND `key` = %s

-- The newest of those that are one too many, if there are that many.
-- name: spare_tombstone
SELECT revision FROM hc.tombstones WHERE group_id = %s ORDER BY revision DESC LIMIT 1 OFFSET %s

-- name: prune_tombstones
DELETE FROM hc.tombstones WHERE group_id = %s AND revision <= %s

-- What a commit will look at, as far as its writes tell: in one go with the lock on the group.
-- name: touched_rows
SELECT `key`, member_id, incarnation, revision, state, session, instance, host, ttl, ready, standing_since,
       capabilities, shards, mode, since
FROM hc.rows WHERE group_id = (SELECT id FROM hc.groups WHERE name = %s) AND `key` IN %s
UNION ALL
SELECT `key`, member_id, incarnation, revision, state, session, instance, host, ttl, ready, standing_since,
       capabilities, shards, mode, since
FROM hc.rows WHERE group_id = (SELECT id FROM hc.groups WHERE name = %s)
  AND member_id IN %s AND `key` NOT IN %s

-- name: touched_marks
SELECT member_id, revision, disabled, forced_down, expelled, since FROM hc.marks
WHERE group_id = (SELECT id FROM hc.groups WHERE name = %s) AND member_id IN %s

-- ── records, as readers see them: since a revision, unless what was removed since is forgotten ──

-- name: read_rows
SELECT `key`, member_id, incarnation, r.revision, state, session, instance, host, ttl, ready, standing_since,
       capabilities, shards, mode, since
FROM hc.groups g JOIN hc.rows r ON r.group_id = g.id
WHERE g.name = %(group)s
  AND r.revision > CASE WHEN %(after)s BETWEEN g.oldest AND g.revision THEN %(after)s ELSE 0 END

-- name: read_marks
SELECT member_id, r.revision, disabled, forced_down, expelled, since
FROM hc.groups g JOIN hc.marks r ON r.group_id = g.id
WHERE g.name = %(group)s
  AND r.revision > CASE WHEN %(after)s BETWEEN g.oldest AND g.revision THEN %(after)s ELSE 0 END

-- name: read_claims
SELECT `key`, `row`, member_id, incarnation, r.revision, session, ttl, standing_since, shards, mode
FROM hc.groups g JOIN hc.claims r ON r.group_id = g.id
WHERE g.name = %(group)s
  AND r.revision > CASE WHEN %(after)s BETWEEN g.oldest AND g.revision THEN %(after)s ELSE 0 END

-- name: read_removed
SELECT kind, `key` FROM hc.groups g JOIN hc.tombstones r ON r.group_id = g.id
WHERE g.name = %(group)s AND %(after)s BETWEEN g.oldest AND g.revision AND r.revision > %(after)s
ORDER BY r.revision

-- name: only_rows
SELECT `key`, member_id, incarnation, r.revision, state, session, instance, host, ttl, ready, standing_since,
       capabilities, shards, mode, since
FROM hc.groups g JOIN hc.rows r ON r.group_id = g.id WHERE g.name = %s AND member_id IN %s

-- name: only_marks
SELECT member_id, r.revision, disabled, forced_down, expelled, since
FROM hc.groups g JOIN hc.marks r ON r.group_id = g.id WHERE g.name = %s AND member_id IN %s

-- name: only_claims
SELECT `key`, `row`, member_id, incarnation, r.revision, session, ttl, standing_since, shards, mode
FROM hc.groups g JOIN hc.claims r ON r.group_id = g.id WHERE g.name = %s AND member_id IN %s

-- name: last_seen
SELECT r.member_id, max(b.seen)
FROM hc.groups g JOIN hc.rows r ON r.group_id = g.id JOIN hc.beats b ON b.session = r.session
WHERE g.name = %s AND r.state IN ('up', 'suspect') AND r.session <> '' GROUP BY r.member_id

-- ── history ──

-- name: add_history
INSERT INTO hc.history (at, group_name, member_id, what, who, revision, detail)
VALUES (%s, %s, %s, %s, %s, %s, %s)

-- name: history
SELECT at, group_name, member_id, what, who, revision, detail FROM hc.history
WHERE %(member)s IS NULL OR member_id = %(member)s ORDER BY id DESC LIMIT %(limit)s

-- name: history_of_group
SELECT at, group_name, member_id, what, who, revision, detail FROM hc.history
WHERE group_name = %(group)s AND (%(member)s IS NULL OR member_id = %(member)s)
ORDER BY id DESC LIMIT %(limit)s

-- name: groups_with_new_history
SELECT DISTINCT group_name FROM hc.history WHERE id > (SELECT pruned FROM hc.meta)

-- In two steps: a DELETE would lock what its subquery reads, and MySQL lets none read its own table.
-- name: prune_group_history
SELECT max(id) INTO @spare FROM (
    SELECT id FROM hc.history WHERE group_name = %(group)s ORDER BY id DESC LIMIT 1 OFFSET %(keep)s) spare;
DELETE FROM hc.history WHERE group_name = %(group)s AND id <= @spare

-- name: prune_history
SELECT max(id) INTO @newest FROM hc.history;
DELETE FROM hc.history WHERE id <= @newest - %s

-- name: set_pruned
UPDATE hc.meta SET pruned = coalesce((SELECT max(id) FROM hc.history), 0)

-- ── sessions ──

-- name: open_beat
INSERT INTO hc.beats (session, deadline, lasts, notice, seen)
SELECT %s, number + %s, %s, 0, %s FROM hc.clock
ON DUPLICATE KEY UPDATE deadline = greatest(hc.beats.deadline, VALUES(deadline)), seen = VALUES(seen)

-- Not INSERT IGNORE, which ignores more than that it is there.
-- name: open_session
INSERT INTO hc.sessions (id, instance, host, process, ttl, lasts, opened) VALUES (%s, %s, %s, %s, %s, %s, %s)
ON DUPLICATE KEY UPDATE id = id

-- Not to be fenced until the transaction is over. A shared lock would do, but then the commit may want to
-- write the session too (note_rows), and two that share a lock and want more of it wait for each other.
-- name: alive
SELECT id FROM hc.sessions FORCE INDEX (PRIMARY) WHERE id = %s AND fenced_at IS NULL FOR UPDATE

-- name: alive_of
SELECT id FROM hc.sessions FORCE INDEX (PRIMARY) WHERE id IN %s AND fenced_at IS NULL ORDER BY id FOR UPDATE

-- name: note_rows
UPDATE hc.sessions SET had_rows = 1 WHERE id = %s AND had_rows = 0

-- The session's number first, then its copy, which may have to be made: the beats may be lost, and whoever
-- fills them anew at this moment must not put an older one there.
-- name: raise_notice
UPDATE hc.sessions SET notice = notice + 1 WHERE id = %(1)s AND fenced_at IS NULL;
INSERT INTO hc.beats (session, deadline, lasts, notice, seen)
SELECT s.id, c.number + s.lasts, s.lasts, s.notice, 0 FROM hc.sessions s, hc.clock c
WHERE s.id = %(1)s AND s.fenced_at IS NULL
ON DUPLICATE KEY UPDATE notice = VALUES(notice)

-- name: lock_session
SELECT id FROM hc.sessions FORCE INDEX (PRIMARY) WHERE id = %s FOR UPDATE

-- name: sessions_locked
SELECT id FROM hc.sessions FORCE INDEX (PRIMARY) WHERE id IN %s AND fenced_at IS NULL ORDER BY id FOR UPDATE

-- name: fence_sessions
UPDATE hc.sessions FORCE INDEX (PRIMARY) SET fenced_epoch = %s, fenced_at = %s WHERE id IN %s

-- name: fence_beats
UPDATE hc.beats FORCE INDEX (PRIMARY) SET fenced = 1 WHERE session IN %s

-- A session that said goodbye itself is none that expired.
-- name: retire_session
UPDATE hc.sessions SET fenced_epoch = 0, fenced_at = 0, had_rows = 0 WHERE id = %s

-- name: drop_session
DELETE FROM hc.sessions WHERE id = %s

-- name: drop_beat
DELETE FROM hc.beats WHERE session = %s

-- ── beats ──

-- Prepared, since that halves its cost: hence the question marks. An older beat that lands late must not bring the
-- deadline back. What it has to tell is in the answer to the UPDATE itself: how many rows it was (they are counted
-- whether or not anything in them changed), and the number that LAST_INSERT_ID is given, which bears the notice as
-- it is under the row's lock, the roles and the tick; see mysql_beat.py. Both look at one snapshot of the clock,
-- from before the lock is let go: an older tick than that of this moment is safe, a newer one is not.
-- name: beat_one
UPDATE hc.beats
SET deadline = greatest(deadline, lasts + CAST(8589934591 & LAST_INSERT_ID(
        (least(notice, 262143) << 45) + (SELECT ((roles & 4095) << 33) + number FROM hc.clock WHERE only_row = 1)
    ) AS SIGNED)),
    seen = ?
WHERE session = ? AND fenced = 0

-- LAST_INSERT_ID is given some notice, if there is any. The key leads, so that they are locked in one order, and
-- none that is not meant.
-- name: beat_many
UPDATE hc.beats FORCE INDEX (PRIMARY)
SET deadline = greatest(deadline, (SELECT number FROM hc.clock WHERE only_row = 1) + lasts), seen = %s,
    notice = if(notice > 0, LAST_INSERT_ID(notice), notice)
WHERE session IN %s AND fenced = 0

-- name: beating
SELECT session, notice FROM hc.beats WHERE session IN %s AND fenced = 0

-- name: noticed
SELECT session, notice FROM hc.beats WHERE session IN %s AND notice > 0

-- name: marked
SELECT 1 FROM hc.beats b JOIN hc.clock c ON b.notice = c.epoch WHERE b.session = ''

-- name: set_marker
INSERT INTO hc.beats (session, deadline, lasts, notice, seen) VALUES ('', 9223372036854775807, 0, %s, 0)
ON DUPLICATE KEY UPDATE notice = VALUES(notice)

-- name: grant_all
INSERT INTO hc.beats (session, deadline, lasts, notice, seen)
SELECT s.id, c.number + s.lasts, s.lasts, s.notice, 0
FROM hc.sessions s, hc.clock c WHERE s.fenced_at IS NULL ORDER BY s.id
ON DUPLICATE KEY UPDATE deadline = greatest(hc.beats.deadline, VALUES(deadline))

-- name: grant_missing
INSERT INTO hc.beats (session, deadline, lasts, notice, seen)
SELECT s.id, c.number + s.lasts, s.lasts, s.notice, 0
FROM hc.sessions s CROSS JOIN hc.clock c LEFT JOIN hc.beats b ON b.session = s.id
WHERE s.fenced_at IS NULL AND b.session IS NULL ORDER BY s.id
ON DUPLICATE KEY UPDATE deadline = hc.beats.deadline

-- ── ticks ──

-- name: clock
SELECT epoch, number, tick_interval, ticker, standbys, ticked_at, released_until, roles FROM hc.clock

-- name: lock_clock
SELECT 1 FROM hc.clock FOR UPDATE

-- In this order: what stands further left is seen as it is set by what stands further right.
-- name: set_tick
UPDATE hc.clock SET roles = roles + (ticker <> %(2)s OR standbys <> %(3)s),
    number = %(1)s, ticker = %(2)s, standbys = %(3)s, ticked_at = %(4)s

-- name: set_epoch
UPDATE hc.clock SET roles = roles + 1, epoch = %s, ticker = '', standbys = '[]', ticked_at = %s, released_until = -1

-- name: newest_claim_epoch
SELECT coalesce(max(vacates_epoch), 0) FROM hc.claims

-- name: processes
SELECT id, process FROM hc.sessions WHERE id IN %s AND fenced_at IS NULL

-- name: serving_of
SELECT session FROM hc.beats WHERE session IN %s AND deadline > %s AND fenced = 0

-- Those of other processes first.
-- name: serving
SELECT s.id, s.process FROM hc.beats b JOIN hc.sessions s ON s.id = b.session
WHERE b.deadline > %s AND b.fenced = 0 AND s.fenced_at IS NULL AND s.id NOT IN %s
ORDER BY s.process IN %s, s.id LIMIT 20

-- name: release_guard
UPDATE hc.clock SET released_until = %s

-- ── sweeps ──

-- Whether there is anything to do: one row. The deadlines have no index, so that beats are cheap, and are
-- read through; now and then, whether a session has none.
-- name: look
SELECT
    EXISTS (SELECT 1 FROM hc.beats WHERE deadline <= c.number AND fenced = 0) AS overdue,
    EXISTS (SELECT 1 FROM hc.sessions WHERE fenced_at IS NOT NULL) AS fenced,
    EXISTS (SELECT 1 FROM hc.claims) AS claimed,
    NOT EXISTS (SELECT 1 FROM hc.beats WHERE session = '' AND notice = c.epoch) AS unmarked,
    mod(c.number, 16) = 0 AND (SELECT count(*) FROM hc.sessions WHERE fenced_at IS NULL)
        > (SELECT count(*) FROM hc.beats WHERE session <> '' AND fenced = 0) AS unbeaten,
    coalesce((SELECT max(id) FROM hc.history), 0) - m.pruned AS unpruned
FROM hc.clock c, hc.meta m

-- First without locks, which a scan would put on every row in turn; then on those that were found, in the way
-- of their keys. The LIMIT keeps the two apart.
-- name: overdue
SELECT b.session, s.had_rows
FROM (SELECT session FROM hc.beats WHERE deadline <= %(1)s AND fenced = 0 LIMIT 100000) late
STRAIGHT_JOIN hc.beats b ON b.session = late.session
STRAIGHT_JOIN hc.sessions s FORCE INDEX (PRIMARY) ON s.id = b.session
WHERE b.deadline <= %(1)s AND b.fenced = 0 AND s.fenced_at IS NULL
ORDER BY b.deadline, b.session FOR UPDATE SKIP LOCKED

-- name: census
SELECT count(CASE WHEN fenced_at IS NULL THEN 1 END),
       count(CASE WHEN fenced_at IS NOT NULL AND fenced_epoch = %s AND fenced_at + %s > %s THEN 1 END)
FROM hc.sessions WHERE had_rows = 1

-- Beats whose session is gone.
-- name: stray_beats
SELECT b.session FROM hc.beats b LEFT JOIN hc.sessions s ON s.id = b.session
WHERE b.deadline <= %s AND b.session <> '' AND s.id IS NULL

-- name: groups_of_sessions
SELECT DISTINCT g.name FROM hc.rows r JOIN hc.groups g ON g.id = r.group_id
WHERE r.session IN %s AND r.state IN ('up', 'suspect') AND r.session <> ''

-- Those of these sessions that have rows which did not lapse yet, group by group.
-- name: up_in_groups
SELECT DISTINCT g.name, r.session FROM hc.rows r JOIN hc.groups g ON g.id = r.group_id
WHERE r.session IN %s AND r.state = 'up' AND r.session <> ''

-- name: groups_of_claims
SELECT DISTINCT g.name FROM hc.claims c JOIN hc.groups g ON g.id = c.group_id WHERE c.session = %s

-- Where a fence has not reached the rows yet: a sweep or a goodbye was cut short, or is under way.
-- name: groups_of_fenced
SELECT DISTINCT g.name FROM hc.sessions s
JOIN hc.rows r ON r.session = s.id AND r.state IN ('up', 'suspect') AND r.session <> ''
JOIN hc.groups g ON g.id = r.group_id WHERE s.fenced_at IS NOT NULL

-- name: rows_of_fenced
SELECT r.`key`, r.member_id, r.incarnation, r.revision, r.state, r.session, r.instance, r.host, r.ttl, r.ready,
       r.standing_since, r.capabilities, r.shards, r.mode, r.since
FROM hc.sessions s JOIN hc.rows r ON r.session = s.id AND r.state IN ('up', 'suspect') AND r.session <> ''
WHERE s.fenced_at IS NOT NULL AND r.group_id = %s ORDER BY r.`key`

-- name: rows_of_sessions
SELECT `key`, member_id, incarnation, revision, state, session, instance, host, ttl, ready, standing_since,
       capabilities, shards, mode, since
FROM hc.rows WHERE session IN %s AND state IN ('up', 'suspect') AND session <> '' AND group_id = %s
ORDER BY `key`

-- Of these, the ones that are overdue still, with a lock under which no beat passes.
-- name: still_overdue
SELECT session FROM hc.beats FORCE INDEX (PRIMARY)
WHERE session IN %s AND deadline <= %s AND fenced = 0 ORDER BY session FOR UPDATE

-- name: claims_due
SELECT DISTINCT g.name FROM hc.claims c JOIN hc.groups g ON g.id = c.group_id
LEFT JOIN hc.sessions s ON s.id = c.session AND s.fenced_at IS NULL
WHERE s.id IS NULL OR (c.vacates_epoch = %s AND c.vacates_at <= %s)

-- name: claims_due_of
SELECT s.id IS NULL,
       c.`key`, c.`row`, c.member_id, c.incarnation, c.revision, c.session, c.ttl, c.standing_since, c.shards, c.mode
FROM hc.claims c LEFT JOIN hc.sessions s ON s.id = c.session AND s.fenced_at IS NULL
WHERE c.group_id = %s AND (s.id IS NULL OR (c.vacates_epoch = %s AND c.vacates_at <= %s))
ORDER BY c.`key`

-- name: unclocked_claims
SELECT group_id, `key`, ttl FROM hc.claims WHERE vacates_epoch <> %s

-- name: set_vacates
UPDATE hc.claims SET vacates_epoch = %s, vacates_at = %s WHERE group_id = %s AND `key` = %s

-- name: forgettable
SELECT id FROM hc.sessions s WHERE fenced_at IS NOT NULL AND (fenced_epoch <> %s OR fenced_at + %s <= %s)
  AND NOT EXISTS (SELECT 1 FROM hc.rows r WHERE r.session = s.id AND r.state IN ('up', 'suspect') AND r.session <> '')
ORDER BY id

-- name: forget_sessions
DELETE FROM hc.sessions WHERE id IN %s AND coalesce(fenced_at, -1) >= 0

-- name: forget_beats
DELETE FROM hc.beats WHERE session IN %s

-- ── commits that wait for a busy group ──

-- name: add_intent
INSERT INTO hc.intents (id, group_name, asked, at) VALUES (%s, %s, %s, UTC_TIMESTAMP(6))

-- One's own first. What was asked longer ago than anybody waits is not wanted any more.
-- name: intents
SELECT id, asked FROM hc.intents
WHERE group_name = %s AND outcome IS NULL AND (id = %s OR at > UTC_TIMESTAMP(6) - INTERVAL %s SECOND)
ORDER BY id = %s DESC, number LIMIT %s FOR UPDATE SKIP LOCKED

-- name: outcome_of
SELECT outcome FROM hc.intents WHERE id = %s

-- name: set_outcome
UPDATE hc.intents SET outcome = %s WHERE id = %s

-- name: drop_intent
DELETE FROM hc.intents WHERE id = %s

-- name: outcome_locked
SELECT outcome FROM hc.intents WHERE id = %s FOR UPDATE

-- name: drop_old_intents
DELETE FROM hc.intents WHERE at < UTC_TIMESTAMP(6) - INTERVAL %s SECOND
