-- hc stands for the schema of the namespace. Columns are in the order of the fields of `Row`, `Mark` and
-- `Claim`; see records.py. Locks are taken in the order groups, sessions, beats; a sweep, which begins with
-- beats, waits for none (SKIP LOCKED).
--
-- pg_sequence_last_value('hc.word'::regclass) is the clock's word: number << 12 | roles & 4095. It is no part of a
-- snapshot: it is as it stands when it is read. So it is read once in a statement that compares with it, but
-- anew for each beat that is written.

-- ── which store this is ──

-- The timeline is read off the name of the log's file: the control file tells it only after a checkpoint.
-- name: identity
SELECT (SELECT system_identifier FROM pg_control_system())::text || '/' ||
       CASE WHEN pg_is_in_recovery() THEN '' ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END,
       current_setting('server_version_num')::int, pg_is_in_recovery()

-- Not by to_regclass, which answers from what this backend remembers of before it had to wait.
-- name: made
SELECT 1 FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid
WHERE n.nspname = btrim('hc.', '".')::name AND c.relname = 'clock'

-- name: head
SELECT m.version, m.needs, m.history, m.epoch, c.tick_interval, pg_sequence_last_value('hc.word'::regclass) >> 12
FROM hc.meta m, hc.clock c

-- name: found_register
INSERT INTO hc.meta (only_row, version, needs, history, epoch, floor) VALUES (1, %s, %s, %s, %s, %s)

-- name: found_clock
INSERT INTO hc.clock (only_row, epoch, tick_interval, ticker, standbys, ticked_at, released_until)
VALUES (1, %s, %s, '', '[]', %s, -1)

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

-- What this transaction writes has to be on the disk before it is answered.
-- name: keep
SET LOCAL synchronous_commit = on

-- name: begin
BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE

-- A standby takes it too, and then says what it is.
-- name: begin_single
BEGIN

-- Through a pooler, where the connection itself has no limits: they hold for this transaction.
-- name: limit_transaction
SELECT set_config('lock_timeout', %s, true), set_config('statement_timeout', %s, true),
       set_config('idle_in_transaction_session_timeout', %s, true), set_config('jit', 'off', true)

-- name: begin_volatile
SET LOCAL synchronous_commit = off

-- name: begin_reading
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY

-- name: commit
COMMIT

-- A client of ours that was stopped, or lost, in the middle of what it asks keeps its locks: the server waits for
-- the rest, and no timeout of its own counts that. So whoever waited for a lock in vain ends it.
-- name: end_stopped
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND application_name = 'headcount'
  AND state = 'active' AND wait_event = 'ClientRead'
  AND state_change < clock_timestamp() - make_interval(secs => %s)

-- name: ring
SELECT pg_notify(%s, %s)

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
SELECT count(*), coalesce(sum(revision), 0)::text, (SELECT floor FROM hc.meta) FROM hc.groups

-- name: revisions
SELECT name, revision FROM hc.groups

-- ── records, of one group ──

-- name: row
SELECT key, member_id, incarnation, revision, state, session, instance, host, ttl, ready, standing_since,
       capabilities, shards, mode, since
FROM hc.rows WHERE group_id = %s AND key = %s

-- name: rows_of
SELECT key, member_id, incarnation, revision, state, session, instance, host, ttl, ready, standing_since,
       capabilities, shards, mode, since
FROM hc.rows WHERE group_id = %s AND member_id = ANY(%s) ORDER BY key COLLATE "C"

-- name: rows_all
SELECT key, member_id, incarnation, revision, state, session, instance, host, ttl, ready, standing_since,
       capabilities, shards, mode, since
FROM hc.rows WHERE group_id = %s

-- name: rows_holding
SELECT key, member_id, incarnation, revision, state, session, instance, host, ttl, ready, standing_since,
       capabilities, shards, mode, since
FROM hc.rows WHERE group_id = %s AND shards <> '' AND state IN ('up', 'suspect')

-- name: put_row
INSERT INTO hc.rows
    (group_id, key, member_id, incarnation, revision, state, session, instance, host, ttl, ready,
     standing_since, capabilities, shards, mode, since)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::boolean::int, %s, %s, %s, %s, %s)
ON CONFLICT (group_id, key) DO UPDATE SET
    member_id = excluded.member_id, incarnation = excluded.incarnation, revision = excluded.revision,
    state = excluded.state, session = excluded.session, instance = excluded.instance, host = excluded.host,
    ttl = excluded.ttl, ready = excluded.ready, standing_since = excluded.standing_since,
    capabilities = excluded.capabilities, shards = excluded.shards, mode = excluded.mode,
    since = excluded.since

-- name: remove_row
DELETE FROM hc.rows WHERE group_id = %s AND key = %s

-- name: mark
SELECT member_id, revision, disabled, forced_down, expelled, since FROM hc.marks
WHERE group_id = %s AND member_id = %s

-- name: put_mark
INSERT INTO hc.marks (group_id, member_id, revision, disabled, forced_down, expelled, since)
VALUES (%s, %s, %s, %s, %s::boolean::int, %s::boolean::int, %s)
ON CONFLICT (group_id, member_id) DO UPDATE SET
    revision = excluded.revision, disabled = excluded.disabled, forced_down = excluded.forced_down,
    expelled = excluded.expelled, since = excluded.since

-- name: remove_mark
DELETE FROM hc.marks WHERE group_id = %s AND member_id = %s

-- name: claim
SELECT key, row, member_id, incarnation, revision, session, ttl, standing_since, shards, mode
FROM hc.claims WHERE group_id = %s AND key = %s

-- name: claims_of
SELECT key, row, member_id, incarnation, revision, session, ttl, standing_since, shards, mode
FROM hc.claims WHERE group_id = %s AND member_id = ANY(%s)

-- name: claims_after
SELECT key, row, member_id, incarnation, revision, session, ttl, standing_since, shards, mode
FROM hc.claims WHERE group_id = %s AND revision > %s

-- name: put_claim
INSERT INTO hc.claims
    (group_id, key, row, member_id, incarnation, revision, session, ttl, standing_since, shards, mode)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)

-- name: remove_claim
DELETE FROM hc.claims WHERE group_id = %s AND key = %s

-- name: put_tombstone
INSERT INTO hc.tombstones (group_id, kind, key, revision) VALUES (%s, %s, %s, %s)
ON CONFLICT (group_id, kind, key) DO UPDATE SET revision = excluded.revision

-- name: remove_tombstone
DELETE FROM hc.tombstones WHERE group_id = %s AND kind = %s AND key = %s

-- The newest of those that are one too many, if there are that many.
-- name: spare_tombstone
SELECT revision FROM hc.tombstones WHERE group_id = %s ORDER BY revision DESC LIMIT 1 OFFSET %s

-- name: prune_tombstones
DELETE FROM hc.tombstones WHERE group_id = %s AND revision <= %s

-- What a commit will look at, as far as its writes tell: in one go with the lock on the group.
-- name: touched_rows
SELECT key, member_id, incarnation, revision, state, session, instance, host, ttl, ready, standing_since,
       capabilities, shards, mode, since
FROM hc.rows WHERE group_id = (SELECT id FROM hc.groups WHERE name = %s) AND key = ANY(%s)
UNION ALL
SELECT key, member_id, incarnation, revision, state, session, instance, host, ttl, ready, standing_since,
       capabilities, shards, mode, since
FROM hc.rows WHERE group_id = (SELECT id FROM hc.groups WHERE name = %s)
  AND member_id = ANY(%s) AND key <> ALL(%s)

-- name: touched_marks
SELECT member_id, revision, disabled, forced_down, expelled, since FROM hc.marks
WHERE group_id = (SELECT id FROM hc.groups WHERE name = %s) AND member_id = ANY(%s)

-- ── records, as readers see them: since a revision, unless what was removed since is forgotten ──

-- name: read_rows
SELECT key, member_id, incarnation, r.revision, state, session, instance, host, ttl, ready, standing_since,
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
SELECT key, row, member_id, incarnation, r.revision, session, ttl, standing_since, shards, mode
FROM hc.groups g JOIN hc.claims r ON r.group_id = g.id
WHERE g.name = %(group)s
  AND r.revision > CASE WHEN %(after)s BETWEEN g.oldest AND g.revision THEN %(after)s ELSE 0 END

-- name: read_removed
SELECT kind, key FROM hc.groups g JOIN hc.tombstones r ON r.group_id = g.id
WHERE g.name = %(group)s AND %(after)s BETWEEN g.oldest AND g.revision AND r.revision > %(after)s
ORDER BY r.revision

-- name: only_rows
SELECT key, member_id, incarnation, r.revision, state, session, instance, host, ttl, ready, standing_since,
       capabilities, shards, mode, since
FROM hc.groups g JOIN hc.rows r ON r.group_id = g.id WHERE g.name = %s AND member_id = ANY(%s)

-- name: only_marks
SELECT member_id, r.revision, disabled, forced_down, expelled, since
FROM hc.groups g JOIN hc.marks r ON r.group_id = g.id WHERE g.name = %s AND member_id = ANY(%s)

-- name: only_claims
SELECT key, row, member_id, incarnation, r.revision, session, ttl, standing_since, shards, mode
FROM hc.groups g JOIN hc.claims r ON r.group_id = g.id WHERE g.name = %s AND member_id = ANY(%s)

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
WHERE %(member)s::text IS NULL OR member_id = %(member)s ORDER BY id DESC LIMIT %(limit)s

-- name: history_of_group
SELECT at, group_name, member_id, what, who, revision, detail FROM hc.history
WHERE group_name = %(group)s AND (%(member)s::text IS NULL OR member_id = %(member)s)
ORDER BY id DESC LIMIT %(limit)s

-- name: groups_with_new_history
SELECT DISTINCT group_name FROM hc.history WHERE id > (SELECT pruned FROM hc.meta)

-- name: prune_group_history
DELETE FROM hc.history WHERE group_name = %(group)s AND id <= (
    SELECT id FROM hc.history WHERE group_name = %(group)s ORDER BY id DESC LIMIT 1 OFFSET %(keep)s)

-- name: prune_history
DELETE FROM hc.history WHERE id <= (SELECT max(id) FROM hc.history) - %s

-- name: set_pruned
UPDATE hc.meta SET pruned = coalesce((SELECT max(id) FROM hc.history), 0)

-- ── sessions ──

-- name: open_beat
INSERT INTO hc.beats (session, deadline, lasts, notice, seen)
VALUES (%s, pg_sequence_last_value('hc.word'::regclass) + (%s::bigint << 12), %s::bigint << 12, 0, %s)
ON CONFLICT (session) DO UPDATE SET deadline = greatest(beats.deadline, excluded.deadline),
    lasts = greatest(beats.lasts, excluded.lasts), seen = excluded.seen

-- name: open_session
INSERT INTO hc.sessions (id, instance, host, process, ttl, lasts, opened) VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (id) DO NOTHING

-- Not to be fenced until the transaction is over: to fence one takes the stronger lock.
-- name: alive
SELECT id FROM hc.sessions WHERE id = %s AND fenced_at IS NULL FOR KEY SHARE

-- name: alive_of
SELECT id FROM hc.sessions WHERE id = ANY(%s) AND fenced_at IS NULL ORDER BY id COLLATE "C" FOR KEY SHARE

-- name: note_rows
UPDATE hc.sessions SET had_rows = 1 WHERE id = %s AND had_rows = 0

-- The session's number first, then its copy, which may have to be made: the beats may be lost, and whoever
-- fills them anew at this moment must not put an older one there.
-- name: raise_notice
WITH raised AS (
    UPDATE hc.sessions SET notice = notice + 1 WHERE id = %s AND fenced_at IS NULL RETURNING id, lasts, notice
)
INSERT INTO hc.beats (session, deadline, lasts, notice, seen)
SELECT id, pg_sequence_last_value('hc.word'::regclass) + (lasts::bigint << 12), lasts::bigint << 12, notice, 0
FROM raised
ON CONFLICT (session) DO UPDATE SET notice = excluded.notice

-- name: lock_session
SELECT id FROM hc.sessions WHERE id = %s FOR UPDATE

-- name: sessions_locked
SELECT id FROM hc.sessions WHERE id = ANY(%s) AND fenced_at IS NULL ORDER BY id COLLATE "C" FOR NO KEY UPDATE

-- name: fence_sessions
UPDATE hc.sessions SET fenced_epoch = %s, fenced_at = %s WHERE id = ANY(%s)

-- name: fence_beats
UPDATE hc.beats SET fenced = true WHERE session = ANY(%s)

-- A session that said goodbye itself is none that expired.
-- name: retire_session
UPDATE hc.sessions SET fenced_epoch = 0, fenced_at = 0, had_rows = 0 WHERE id = %s

-- name: drop_session
DELETE FROM hc.sessions WHERE id = %s

-- name: drop_beat
DELETE FROM hc.beats WHERE session = %s

-- ── beats ──

-- One row, read and written in one go, and one number, which costs next to nothing. An older beat that lands
-- late does not bring the deadline back: whoever had to wait for the row, or finds that it has changed, reads
-- the word anew, and that only grows. So there is no `greatest` here, with which the answer would not be
-- certain to tell the word that was added, and a word that cannot be read (NULL) would pass for a beat.
-- In a subquery, the word would be read once, before the row is waited for.
-- name: beat_one
UPDATE hc.beats b SET deadline = pg_sequence_last_value('hc.word'::regclass) + b.lasts, seen = %s
WHERE b.session = %s AND NOT b.fenced RETURNING b.notice, b.deadline - b.lasts

-- Of many, only those that have a notice are named, and all are counted. The word is the oldest that any met.
-- name: beat_many
WITH mine AS MATERIALIZED (
    SELECT session FROM hc.beats WHERE session = ANY(%s) AND NOT fenced
    ORDER BY session COLLATE "C" FOR NO KEY UPDATE
), done AS (
    UPDATE hc.beats b SET deadline = pg_sequence_last_value('hc.word'::regclass) + b.lasts, seen = %s
    FROM mine WHERE b.session = mine.session AND NOT b.fenced
    RETURNING b.session, b.notice, b.deadline - b.lasts AS word
)
SELECT min(word), count(*),
       array_agg(session) FILTER (WHERE notice > 0), array_agg(notice) FILTER (WHERE notice > 0)
FROM done

-- name: beating
SELECT session, notice FROM hc.beats WHERE session = ANY(%s) AND NOT fenced

-- name: marked
SELECT 1 FROM hc.beats b JOIN hc.clock c ON b.notice = c.epoch WHERE b.session = ''

-- name: set_marker
INSERT INTO hc.beats (session, deadline, lasts, notice, seen) VALUES ('', 9223372036854775807, 0, %s, 0)
ON CONFLICT (session) DO UPDATE SET notice = excluded.notice

-- name: grant_all
INSERT INTO hc.beats (session, deadline, lasts, notice, seen)
SELECT s.id, pg_sequence_last_value('hc.word'::regclass) + (s.lasts::bigint << 12), s.lasts::bigint << 12, s.notice, 0
FROM hc.sessions s WHERE s.fenced_at IS NULL ORDER BY s.id COLLATE "C"
ON CONFLICT (session) DO UPDATE SET deadline = greatest(beats.deadline, excluded.deadline)

-- name: grant_missing
INSERT INTO hc.beats (session, deadline, lasts, notice, seen)
SELECT s.id, pg_sequence_last_value('hc.word'::regclass) + (s.lasts::bigint << 12), s.lasts::bigint << 12, s.notice, 0
FROM hc.sessions s LEFT JOIN hc.beats b ON b.session = s.id
WHERE s.fenced_at IS NULL AND b.session IS NULL ORDER BY s.id COLLATE "C"
ON CONFLICT (session) DO NOTHING

-- ── ticks ──

-- name: clock
SELECT epoch, pg_sequence_last_value('hc.word'::regclass) >> 12, tick_interval, ticker, standbys, ticked_at,
       released_until, roles
FROM hc.clock

-- Whoever is going to change the clock reads it in a statement after this one: the word may be read before a
-- lock is waited for.
-- name: lock_clock
SELECT 1 FROM hc.clock FOR UPDATE

-- name: set_tick
UPDATE hc.clock c
SET roles = c.roles + (c.ticker <> n.ticker OR c.standbys <> n.standbys)::int,
    ticker = n.ticker, standbys = n.standbys, ticked_at = n.ticked_at
FROM (VALUES (%s::bigint, %s::text, %s::text, %s::double precision)) AS n (number, ticker, standbys, ticked_at)
RETURNING setval('hc.word', (n.number << 12) | (c.roles & 4095), true)

-- The number stays as it is: one tick more, and a transaction that ends in nothing would have made everybody
-- an interval older, with no new epoch that gives it back.
-- name: set_epoch
UPDATE hc.clock
SET roles = roles + 1, epoch = %s, ticker = '', standbys = '[]', ticked_at = %s, released_until = -1
RETURNING setval('hc.word', (pg_sequence_last_value('hc.word'::regclass) >> 12 << 12) | (roles & 4095), true)

-- name: newest_claim_epoch
SELECT coalesce(max(vacates_epoch), 0)::bigint FROM hc.claims

-- name: processes
SELECT id, process FROM hc.sessions WHERE id = ANY(%s) AND fenced_at IS NULL

-- name: serving_of
SELECT session FROM hc.beats WHERE session = ANY(%s) AND deadline >> 12 > %s AND NOT fenced

-- Those of other processes first.
-- name: serving
SELECT s.id, s.process FROM hc.beats b JOIN hc.sessions s ON s.id = b.session
WHERE b.deadline >> 12 > %s AND NOT b.fenced AND s.fenced_at IS NULL AND s.id <> ALL(%s)
ORDER BY s.process = ANY(%s), s.id COLLATE "C" LIMIT 20

-- name: release_guard
UPDATE hc.clock SET released_until = %s

-- ── sweeps ──

-- Whether there is anything to do: one row. The deadlines have no index, so that beats are cheap, and are
-- read through; now and then, whether a session has none. All deadlines of this tick are compared with the last
-- word that it may have.
-- Without its WHERE the planner, who has no statistics of so small tables, expects half a million rows, and
-- spends a third of a second on compiling this.
-- name: look
SELECT
    EXISTS (SELECT 1 FROM hc.beats WHERE deadline <= w.last AND NOT fenced) AS overdue,
    EXISTS (SELECT 1 FROM hc.sessions WHERE fenced_at IS NOT NULL) AS fenced,
    EXISTS (SELECT 1 FROM hc.claims) AS claimed,
    NOT EXISTS (SELECT 1 FROM hc.beats WHERE session = '' AND notice = c.epoch) AS unmarked,
    (w.last >> 12) %% 16 = 0 AND (SELECT count(*) FROM hc.sessions WHERE fenced_at IS NULL)
        > (SELECT count(*) FROM hc.beats WHERE session <> '' AND NOT fenced) AS unbeaten,
    coalesce((SELECT max(id) FROM hc.history), 0) - m.pruned AS unpruned
FROM (SELECT pg_sequence_last_value('hc.word'::regclass) | 4095 AS last) w, hc.clock c, hc.meta m
WHERE c.only_row = 1 AND m.only_row = 1

-- name: overdue
SELECT b.session, s.had_rows FROM hc.beats b JOIN hc.sessions s ON s.id = b.session
WHERE b.deadline >> 12 <= %s AND NOT b.fenced AND s.fenced_at IS NULL
ORDER BY b.deadline, b.session COLLATE "C" FOR UPDATE SKIP LOCKED

-- name: census
SELECT count(*) FILTER (WHERE fenced_at IS NULL),
       count(*) FILTER (WHERE fenced_at IS NOT NULL AND (fenced_epoch = %s AND fenced_at + %s > %s))
FROM hc.sessions WHERE had_rows = 1

-- Beats whose session is gone.
-- name: stray_beats
SELECT b.session FROM hc.beats b WHERE b.deadline >> 12 <= %s AND b.session <> ''
  AND NOT EXISTS (SELECT 1 FROM hc.sessions s WHERE s.id = b.session)

-- name: groups_of_sessions
SELECT DISTINCT g.name FROM hc.rows r JOIN hc.groups g ON g.id = r.group_id
WHERE r.session = ANY(%s) AND r.state IN ('up', 'suspect') AND r.session <> ''

-- Those of these sessions that have rows which did not lapse yet, group by group.
-- name: up_in_groups
SELECT DISTINCT g.name, r.session FROM hc.rows r JOIN hc.groups g ON g.id = r.group_id
WHERE r.session = ANY(%s) AND r.state = 'up' AND r.session <> ''

-- name: groups_of_claims
SELECT DISTINCT g.name FROM hc.claims c JOIN hc.groups g ON g.id = c.group_id WHERE c.session = %s

-- Where a fence has not reached the rows yet: a sweep or a goodbye was cut short, or is under way.
-- name: groups_of_fenced
SELECT DISTINCT g.name FROM hc.sessions s
JOIN hc.rows r ON r.session = s.id AND r.state IN ('up', 'suspect') AND r.session <> ''
JOIN hc.groups g ON g.id = r.group_id WHERE s.fenced_at IS NOT NULL

-- name: rows_of_fenced
SELECT r.key, r.member_id, r.incarnation, r.revision, r.state, r.session, r.instance, r.host, r.ttl, r.ready,
       r.standing_since, r.capabilities, r.shards, r.mode, r.since
FROM hc.sessions s JOIN hc.rows r ON r.session = s.id AND r.state IN ('up', 'suspect') AND r.session <> ''
WHERE s.fenced_at IS NOT NULL AND r.group_id = %s ORDER BY r.key COLLATE "C"

-- name: rows_of_sessions
SELECT key, member_id, incarnation, revision, state, session, instance, host, ttl, ready, standing_since,
       capabilities, shards, mode, since
FROM hc.rows WHERE session = ANY(%s) AND state IN ('up', 'suspect') AND session <> '' AND group_id = %s
ORDER BY key COLLATE "C"

-- Of these, the ones that are overdue still, with a lock under which no beat passes.
-- name: still_overdue
SELECT session FROM hc.beats WHERE session = ANY(%s) AND deadline >> 12 <= %s AND NOT fenced
ORDER BY session COLLATE "C" FOR UPDATE

-- name: claims_due
SELECT DISTINCT g.name FROM hc.claims c JOIN hc.groups g ON g.id = c.group_id
LEFT JOIN hc.sessions s ON s.id = c.session AND s.fenced_at IS NULL
WHERE s.id IS NULL OR (c.vacates_epoch = %s AND c.vacates_at <= %s)

-- name: claims_due_of
SELECT s.id IS NULL,
       c.key, c.row, c.member_id, c.incarnation, c.revision, c.session, c.ttl, c.standing_since, c.shards, c.mode
FROM hc.claims c LEFT JOIN hc.sessions s ON s.id = c.session AND s.fenced_at IS NULL
WHERE c.group_id = %s AND (s.id IS NULL OR (c.vacates_epoch = %s AND c.vacates_at <= %s))
ORDER BY c.key COLLATE "C"

-- name: unclocked_claims
SELECT group_id, key, ttl FROM hc.claims WHERE vacates_epoch <> %s

-- name: set_vacates
UPDATE hc.claims SET vacates_epoch = %s, vacates_at = %s WHERE group_id = %s AND key = %s

-- name: forgettable
SELECT id FROM hc.sessions s WHERE fenced_at IS NOT NULL AND (fenced_epoch <> %s OR fenced_at + %s <= %s)
  AND NOT EXISTS (SELECT 1 FROM hc.rows r WHERE r.session = s.id AND r.state IN ('up', 'suspect') AND r.session <> '')
ORDER BY id

-- name: forget_sessions
DELETE FROM hc.sessions WHERE id = ANY(%s) AND fenced_at IS NOT NULL

-- name: forget_beats
DELETE FROM hc.beats WHERE session = ANY(%s)

-- ── commits that wait for a busy group ──

-- name: add_intent
INSERT INTO hc.intents (id, group_name, asked) VALUES (%s, %s, %s)

-- One's own first. What was asked longer ago than anybody waits is not wanted any more.
-- name: intents
SELECT id, asked FROM hc.intents
WHERE group_name = %s AND outcome IS NULL
  AND (id = %s OR at > clock_timestamp() - make_interval(secs => %s))
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
DELETE FROM hc.intents WHERE at < clock_timestamp() - make_interval(secs => %s)
