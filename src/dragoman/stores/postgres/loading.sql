-- What was loaded, read back in the shape of runtime/inventory.py: the rows whose key lies behind $1 and up to $2, or,
-- where it has several columns, behind the first half of the parameters and up to the second.

-- name: projects
select id, name, created_at from projects where id > $1 and id <= $2 order by id

-- name: credentials
select id, project, name, scopes, hash, pepper_id, created_at, expires_at, rpm, previous_hash, previous_until,
    last_used_at, revoked_at, subject
from credentials where id > $1 and id <= $2 order by id

-- name: conversations
select tape, project, id, owner, shared, archived, title, origin, created_at, updated_at, messages, turns, head,
    live_run, written, replied, spoke
from conversations where tape > $1 and tape <= $2 order by tape

-- name: entries
select place, run, at, weight, run_id, kind, body from entries where place > $1 and place <= $2 order by place

-- name: deltas
select place, run, at, body from deltas where place > $1 and place <= $2 order by place

-- name: runs
select place, number, id, project, status, epoch, users, started_at, ended, ended_at, asked, spoke, pruned, fingerprint
from runs where place > $1 and place <= $2 order by place

-- name: keys
select place, project, key, fingerprint, at, answer from keys where place > $1 and place <= $2 order by place

-- name: records
select project, kind, id, owner, wide, key, version, created_at, updated_at, created_by, updated_by, expires_at, body
from records where (project, kind, id) > ($1, $2, $3) and (project, kind, id) <= ($4, $5, $6)
order by project, kind, id

-- name: knowledge
select project, id, title, public, role, labels, owner, owner_name, updated_at, text
from knowledge where (project, id) > ($1, $2) and (project, id) <= ($3, $4)
order by project, id
