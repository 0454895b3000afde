-- All rows of this engine in the shape of runtime/inventory.py, each table in order of its first column.
-- 4294967295 is 2^32 - 1: the seq in a place.

-- name: projects
select id, name, created_at from projects order by id

-- name: credentials
select id, project, name, scopes, hash, pepper_id, created_at, expires_at, rpm, previous_hash, previous_until,
    last_used_at, revoked_at, subject
from credentials order by id

-- name: conversations
-- Without what is of the run at work.
select tape, project, id, owner, shared, archived, title, origin, created_at, updated_at, messages, turns, max(
    coalesce((select max(e.place) from entries e where e.place > tape << 32 and e.place < (tape + 1) << 32), 0),
    coalesce((select max(d.place) from deltas d where d.place > tape << 32 and d.place < (tape + 1) << 32), 0)
) & 4294967295, live_run
from conversations order by tape

-- name: entries
select place, run, at, weight, run_id, kind, body from entries order by place

-- name: deltas
select place, run, at, body from deltas order by place

-- name: runs
-- Where `pruned` is 0, code of the first schema may have ended a run without looking whether it had deltas.
select r.place, r.number, r.id, r.project, r.status, r.epoch, r.users, r.started_at, r.ended, r.ended_at,
    iif(r.ended <> 0, 0, coalesce((
        select place & 4294967295 from entries
        where place > r.place and place <= r.place | 4294967295 and run = r.place
            and kind in ('cancel_asked', 'approval_decided', 'client_tool_claimed', 'client_tool_answered')
        order by place desc limit 1
    ), 0)),
    r.ended <> 0 and (r.pruned = 1 or r.pruned = 0 and exists (
        select 1 from deltas d where d.place > r.place and d.place <= r.ended and d.run = r.place
    )),
    r.pruned = 1,
    coalesce((
        select json_extract(e.body, '$.fingerprint') from entries e
        where e.place = r.place and (e.kind = 'turn_received' or e.kind = 'turn_staged')
    ), '')
from runs r order by r.place

-- name: keys
select place, project, key, fingerprint, at, answer from keys order by place

-- name: records
select project, kind, id, owner, wide, key, version, created_at, updated_at, created_by, updated_by, expires_at, body
from records order by project, kind, id

-- name: knowledge
select project, id, title, public, role, labels, owner, owner_name, updated_at, text
from knowledge order by project, id

-- name: version
select version, min_reader from schema_version order by version desc limit 1
