-- name: clock
SELECT history, changes, epoch, number, tick_interval, ticker, standbys, ticked_at, released_until FROM clock

-- name: set_clock
INSERT OR REPLACE INTO clock
    (only_row, history, changes, epoch, number, tick_interval, ticker, standbys, ticked_at, released_until)
VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: clear
DELETE FROM beats

-- name: grant
INSERT INTO beats (session, deadline, lasts, seen) VALUES (?, ?, ?, ?)
ON CONFLICT (session) DO UPDATE SET deadline = max(deadline, excluded.deadline), seen = excluded.seen

-- An older beat that lands late must not bring the deadline back: hence max.
-- name: beat
UPDATE beats SET deadline = max(deadline, ? + lasts), seen = ?
WHERE session IN (SELECT value FROM json_each(?))

-- name: present
SELECT session FROM beats WHERE session IN (SELECT value FROM json_each(?))

-- name: look
SELECT count(*), min(deadline) FROM beats

-- name: all
SELECT session FROM beats

-- name: overdue
SELECT session, deadline FROM beats WHERE deadline <= ? ORDER BY deadline, session

-- name: serving
SELECT session FROM beats WHERE deadline > ?

-- name: serving_of
SELECT session FROM beats WHERE deadline > ? AND session IN (SELECT value FROM json_each(?))

-- name: remove
DELETE FROM beats WHERE session IN (SELECT value FROM json_each(?))

-- name: seen
SELECT session, seen FROM beats WHERE session IN (SELECT value FROM json_each(?))
