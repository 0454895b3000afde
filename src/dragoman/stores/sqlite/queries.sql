-- All statements of this engine: `-- name: x` begins one, parameters are bound by position.
--
-- Statements that read for callers yield one row with one blob of JSON. Each step of a cursor gives Python's lock away,
-- and on a busy server a read of a hundred rows would have to win it back a hundred times.
--
-- `cross join` tells SQLite in which order to join, from few rows to many; `+x.run` that it is no way to find rows.
-- 4294967295 is 2^32 - 1: the seq in a place. Times are microseconds; `at || 'e-6'` spells them as JSON seconds.

-- name: entries_after
-- ?1, ?2: places between which to read, the first excluded; ?3: how many at most.
select cast('[' || group_concat(
    '{"seq":' || (e.place & 4294967295) || ',"run":' || json_quote(coalesce(f.run_id, ''))
    || ',"at":' || e.at || 'e-6,"event":' || e.body || '}'
) || ']' as blob)
from (
    select place, run, at, body from entries where place > ?1 and place <= ?2
    union all
    select place, run, at, body from deltas where place > ?1 and place <= ?2
    order by place limit ?3
) e
left join entries f on f.place = e.run

-- name: entries_of_run
-- ?1: the run's id. Between its ends also stand turns that were queued meanwhile, and those before a queued run.
select cast('[' || group_concat(
    '{"seq":' || (e.place & 4294967295) || ',"run":' || json_quote(?1)
    || ',"at":' || e.at || 'e-6,"event":' || e.body || '}'
) || ']' as blob)
from (
    select x.place, x.at, x.body
    from runs r
    cross join entries x on x.place >= r.place and x.place <= iif(r.ended = 0, r.place | 4294967295, r.ended)
        and +x.run = r.place
    where r.id = ?1
    union all
    select x.place, x.at, x.body
    from runs r
    cross join deltas x on x.place >= r.place and x.place <= iif(r.ended = 0, r.place | 4294967295, r.ended)
        and +x.run = r.place
    where r.id = ?1
    order by 1
) e

-- name: history
-- ?1, ?2: the tape's first and last place; ?3: the place before which turns were received; ?4: characters.
-- Walks back from one good end to the one before, and stops after the turn that passes the measure: of older turns
-- nothing is touched.
with recursive turn (last, first, chars) as (
    select * from (
        select place, run, weight from entries
        where place > ?1 and place <= ?2 and run < ?3
            and kind in ('run_completed', 'run_cancelled', 'run_needs_client', 'messages_imported')
        order by place desc limit 1
    )
    union all
    select e.place, e.run, t.chars + e.weight
    from turn t
    cross join entries e on e.place = (
        select o.place from entries o
        where o.place > ?1 and o.place < t.last and o.run < ?3
            and o.kind in ('run_completed', 'run_cancelled', 'run_needs_client', 'messages_imported')
        order by o.place desc limit 1
    )
    where t.chars <= ?4
)
select cast('[' || group_concat(
    '{"seq":' || (e.place & 4294967295) || ',"run":' || json_quote(e.run_id)
    || ',"at":' || e.at || 'e-6,"event":' || e.body || '}'
) || ']' as blob)
from (
    select x.place, f.run_id, x.at, x.body
    from turn t
    cross join entries f on f.place = t.first
    cross join entries x on x.place >= t.first and x.place <= t.last and +x.run = t.first
    order by x.place
) e

-- name: head
-- ?1: tape. No row if there is no such tape.
select max(
    coalesce((select max(place) from entries where place > ?1 << 32 and place < (?1 + 1) << 32), 0),
    coalesce((select max(place) from deltas where place > ?1 << 32 and place < (?1 + 1) << 32), 0)
) & 4294967295
from conversations where tape = ?1

-- name: conversations_page
-- ?1: project; ?2: the id after which to begin; ?3: limit, -1 = all.
select cast('[' || group_concat(
    '{"id":' || json_quote(c.id) || ',"tape":' || c.tape || ',"title":' || json_quote(c.title)
    || ',"origin":' || json_quote(c.origin) || ',"created_at":' || c.created_at || 'e-6,"updated_at":' || c.updated_at
    || 'e-6,"messages":' || c.messages || ',"turns":' || c.turns || ',"head":' || c.head
    || ',"live_run":' || json_quote(nullif(c.live_run, '')) || ',"owner":' || json_quote(c.owner)
    || ',"shared":' || iif(c.shared, 'true', 'false') || ',"archived":' || iif(c.archived, 'true', 'false') || '}'
) || ']' as blob)
from (
    select *, max(
        coalesce((select max(e.place) from entries e where e.place > tape << 32 and e.place < (tape + 1) << 32), 0),
        coalesce((select max(d.place) from deltas d where d.place > tape << 32 and d.place < (tape + 1) << 32), 0)
    ) & 4294967295 as head
    from conversations
    where project = ?1 and id > ?2
    order by id limit ?3
) c

-- name: conversation
-- ?1: project; ?2: id.
select cast(
    '[{"id":' || json_quote(c.id) || ',"tape":' || c.tape || ',"title":' || json_quote(c.title)
    || ',"origin":' || json_quote(c.origin) || ',"created_at":' || c.created_at || 'e-6,"updated_at":' || c.updated_at
    || 'e-6,"messages":' || c.messages || ',"turns":' || c.turns || ',"head":' || (max(
        coalesce((select max(e.place) from entries e where e.place > c.tape << 32 and e.place < (c.tape + 1) << 32), 0),
        coalesce((select max(d.place) from deltas d where d.place > c.tape << 32 and d.place < (c.tape + 1) << 32), 0)
    ) & 4294967295) || ',"live_run":' || json_quote(nullif(c.live_run, '')) || ',"owner":' || json_quote(c.owner)
    || ',"shared":' || iif(c.shared, 'true', 'false') || ',"archived":' || iif(c.archived, 'true', 'false') || '}]'
    as blob)
from conversations c where c.project = ?1 and c.id = ?2

-- name: conversations_shelf
-- ?1: project; ?2: owner, null = anybody's; ?3: origins as a JSON array, '[]' = any; ?4: 0 = not the archived ones,
-- 1 = only those, null = all; ?5: limit; ?6: offset; ?7: with what others share. Of the parts those that are not meant are
-- empty before they have looked at anything.
with found as materialized (
    select tape, id, updated_at from conversations
    where project = ?1 and owner = ?2 and archived = coalesce(?4, archived)
        and (?3 = '[]' or origin in (select value from json_each(?3)))
    union all
    select tape, id, updated_at from conversations
    where ?7 and project = ?1 and owner <> ?2 and shared <> 0 and archived = coalesce(?4, archived)
        and (?3 = '[]' or origin in (select value from json_each(?3)))
    union all
    select tape, id, updated_at from conversations
    where ?2 is null and project = ?1 and archived = coalesce(?4, archived)
        and (?3 = '[]' or origin in (select value from json_each(?3)))
)
select cast('{"total":' || (select count(*) from found) || ',"items":[' || coalesce(group_concat(
    '{"id":' || json_quote(c.id) || ',"tape":' || c.tape || ',"title":' || json_quote(c.title)
    || ',"origin":' || json_quote(c.origin) || ',"created_at":' || c.created_at || 'e-6,"updated_at":' || c.updated_at
    || 'e-6,"messages":' || c.messages || ',"turns":' || c.turns || ',"head":' || c.head
    || ',"live_run":' || json_quote(nullif(c.live_run, '')) || ',"owner":' || json_quote(c.owner)
    || ',"shared":' || iif(c.shared, 'true', 'false') || ',"archived":' || iif(c.archived, 'true', 'false') || '}'
), '') || ']}' as blob)
from (
    select c.*, max(
        coalesce((select max(e.place) from entries e where e.place > c.tape << 32 and e.place < (c.tape + 1) << 32), 0),
        coalesce((select max(d.place) from deltas d where d.place > c.tape << 32 and d.place < (c.tape + 1) << 32), 0)
    ) & 4294967295 as head
    from (select tape from found order by updated_at desc, id limit ?5 offset ?6) shown
    cross join conversations c on c.tape = shown.tape
    order by c.updated_at desc, c.id
) c

-- name: conversations_live
-- ?1: project; ?2: owner, '' = anybody's.
select cast('[' || group_concat(
    '{"id":' || json_quote(c.id) || ',"tape":' || c.tape || ',"title":' || json_quote(c.title)
    || ',"origin":' || json_quote(c.origin) || ',"created_at":' || c.created_at || 'e-6,"updated_at":' || c.updated_at
    || 'e-6,"messages":' || c.messages || ',"turns":' || c.turns || ',"head":' || c.head
    || ',"live_run":' || json_quote(nullif(c.live_run, '')) || ',"owner":' || json_quote(c.owner)
    || ',"shared":' || iif(c.shared, 'true', 'false') || ',"archived":' || iif(c.archived, 'true', 'false') || '}'
) || ']' as blob)
from (
    select c.*, max(
        coalesce((select max(e.place) from entries e where e.place > c.tape << 32 and e.place < (c.tape + 1) << 32), 0),
        coalesce((select max(d.place) from deltas d where d.place > c.tape << 32 and d.place < (c.tape + 1) << 32), 0)
    ) & 4294967295 as head
    from runs n indexed by runs_open cross join conversations c on c.tape = n.place >> 32
    where n.ended = 0 and n.status = 'running' and c.project = ?1 and (?2 = '' or c.owner = ?2)
    order by n.number
) c

-- name: turns_since
-- ?1: project; ?2: the time. Runs are numbered in order of acceptance, so that none is looked at before the newest that
-- is older; imported ones bear times of long ago, and no epoch.
select count(*) from runs r
where r.project = ?1 and r.started_at >= ?2 and r.number > coalesce((
    select o.number from runs o where o.project = ?1 and o.started_at < ?2 and o.epoch > 0
    order by o.number desc limit 1
), 0) and not (r.epoch = 0 and r.status = 'completed')

-- name: conversations_count
select count(*) from conversations where project = ?1

-- name: run
-- ?1: project, null = any; ?2: id.
select cast(
    '[{"id":' || json_quote(r.id) || ',"conversation":' || json_quote(c.id) || ',"tape":' || c.tape
    || ',"status":"' || r.status || '","epoch":' || r.epoch || ',"first_seq":' || (r.place & 4294967295)
    || ',"started_at":' || r.started_at || 'e-6,"ended_at":' || iif(r.ended = 0, 'null', r.ended_at || 'e-6')
    || ',"pruned":' || iif(r.pruned = 1, 'true', 'false') || '}]' as blob)
from runs r join conversations c on c.tape = r.place >> 32
where r.id = ?2 and (?1 is null or r.project = ?1)

-- name: runs_newest
-- ?1: project; ?2: limit.
select cast('[' || group_concat(
    '{"id":' || json_quote(r.id) || ',"conversation":' || json_quote(r.conversation) || ',"tape":' || r.tape
    || ',"status":"' || r.status || '","epoch":' || r.epoch || ',"first_seq":' || (r.place & 4294967295)
    || ',"started_at":' || r.started_at || 'e-6,"ended_at":' || iif(r.ended = 0, 'null', r.ended_at || 'e-6')
    || ',"pruned":' || iif(r.pruned = 1, 'true', 'false') || '}'
) || ']' as blob)
from (
    select n.*, c.id as conversation, c.tape
    from runs n cross join conversations c on c.tape = n.place >> 32
    where n.project = ?1
    order by n.number desc limit ?2
) r

-- name: runs_unfinished
select cast('[' || group_concat(
    '{"id":' || json_quote(r.id) || ',"conversation":' || json_quote(r.conversation) || ',"tape":' || r.tape
    || ',"status":"' || r.status || '","epoch":' || r.epoch || ',"first_seq":' || (r.place & 4294967295)
    || ',"started_at":' || r.started_at || 'e-6,"ended_at":null}'
) || ']' as blob)
from (
    select n.*, c.id as conversation, c.tape
    from runs n indexed by runs_open cross join conversations c on c.tape = n.place >> 32
    where n.ended = 0 and n.status = 'running'
    order by n.number
) r

-- What the writer reads when it does not know a tape. --------------------------------------------------------------

-- name: tape_by_number
select tape, project, id, title, origin, created_at, updated_at, messages, turns, max(
    coalesce((select max(e.place) from entries e where e.place > tape << 32 and e.place < (tape + 1) << 32), 0),
    coalesce((select max(d.place) from deltas d where d.place > tape << 32 and d.place < (tape + 1) << 32), 0)
) & 4294967295, owner, shared, archived
from conversations where tape = ?1

-- name: tape_by_id
select tape from conversations where project = ?1 and id = ?2

-- name: tapes_by_id
-- The tapes of several (project, id), as JSON: those that exist.
with asked (project, id) as (values (?, ?))
select json_group_array(json_array(c.project, c.id, c.tape))
from asked a cross join conversations c on c.project = a.project and c.id = a.id

-- name: runs_open
-- ?1: tape.
select place, number, id, status, epoch, users, started_at
from runs indexed by runs_open where ended = 0 and place > ?1 << 32 and place < (?1 + 1) << 32 order by place

-- name: run_replies
-- ?1: the run's place. What decides whether an unfinished run has a finished reply that counts.
select place, body from entries
where place > ?1 and place <= ?1 | 4294967295 and run = ?1 and kind in ('reply_finished', 'attempt_reset')
order by place

-- name: run_last_places
-- ?1: the run's place. Those of the last entry but deltas that its owner wrote, of its last delta, and of the last entry
-- that others wrote (`events.ASKS`); 0 = none.
select coalesce((
    select place from entries
    where place >= ?1 and place <= ?1 | 4294967295 and run = ?1
        and kind not in ('cancel_asked', 'approval_decided', 'client_tool_claimed', 'client_tool_answered')
    order by place desc limit 1
), 0), coalesce((
    select place from deltas where place > ?1 and place <= ?1 | 4294967295 and run = ?1 order by place desc limit 1
), 0), coalesce((
    select place from entries
    where place > ?1 and place <= ?1 | 4294967295 and run = ?1
        and kind in ('cancel_asked', 'approval_decided', 'client_tool_claimed', 'client_tool_answered')
    order by place desc limit 1
), 0)

-- name: run_written_after
-- ?1: the run's place; ?2: a place; ?3: how many at most. What the run's owners wrote behind it.
select place, body from entries
where place > ?2 and place <= ?1 | 4294967295 and run = ?1
    and kind not in ('cancel_asked', 'approval_decided', 'client_tool_claimed', 'client_tool_answered')
union all
select place, body from deltas where place > ?2 and place <= ?1 | 4294967295 and run = ?1
order by place limit ?3

-- name: run_ended
-- ?1: id. Of a run that has ended, with what stands right behind its end.
select r.place, r.epoch, r.ended, coalesce(e.run, 0), coalesce(e.kind, '')
from runs r left join entries e on e.place = r.ended + 1
where r.id = ?1 and r.ended <> 0

-- name: run_place
select place from runs where id = ?1

-- name: runs_running
-- Claimed runs that have not ended, oldest first, as JSON.
select json_group_array(json_array(place, id))
from (select place, id from runs indexed by runs_open where ended = 0 and status = 'running' order by number)

-- name: runs_to_prune
-- ?1: a time; ?2: how many at most.
select number, place, ended from runs indexed by runs_to_prune
where pruned = 0 and ended <> 0 and ended_at < ?1
order by ended_at, number limit ?2

-- name: turn_of_key
-- ?1: project; ?2: key; ?3: the time since which keys are known.
select k.fingerprint, k.place, k.run_id, c.id
from keys k cross join conversations c on c.tape = k.place >> 32
where k.project = ?1 and k.key = ?2 and k.at >= ?3

-- name: turn_of_fingerprint
-- ?1: project; ?2: fingerprint; ?3: the time since which turns count. Runs are numbered in order of acceptance, so that
-- none is looked at before the newest that is older; imported ones bear times of long ago, and no epoch.
select r.place, r.id, c.id
from runs r
cross join entries e on e.place = r.place
cross join conversations c on c.tape = r.place >> 32
where r.project = ?1 and r.started_at >= ?3 and r.number > coalesce((
    select o.number from runs o where o.project = ?1 and o.started_at < ?3 and o.epoch > 0
    order by o.number desc limit 1
), 0) and e.kind in ('turn_received', 'turn_staged') and json_extract(e.body, '$.fingerprint') = ?2
order by r.number desc limit 1

-- name: last_run
select coalesce(max(number), 0) from runs

-- name: last_tape
select coalesce((select seq from sqlite_sequence where name = 'conversations'), 0)

-- What the writer writes. Rows of one batch go into one statement. -------------------------------------------------

-- name: put_conversations
insert into conversations (tape, project, id, title, origin, created_at, updated_at, messages, turns, live_run, owner,
    shared, archived)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
on conflict (tape) do update set
    title = excluded.title, updated_at = excluded.updated_at, messages = excluded.messages, turns = excluded.turns,
    live_run = excluded.live_run, shared = excluded.shared, archived = excluded.archived

-- name: put_runs
insert into runs (number, id, project, place, status, epoch, users, started_at, ended, ended_at, pruned)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
on conflict (number) do update set
    status = excluded.status, epoch = excluded.epoch, ended = excluded.ended, ended_at = excluded.ended_at,
    pruned = excluded.pruned

-- name: put_entries
insert into entries (place, run, run_id, kind, at, weight, body) values (?, ?, ?, ?, ?, ?, ?)

-- name: put_deltas
insert into deltas (place, run, at, body) values (?, ?, ?, ?)

-- name: put_keys
-- The same key again is one that was forgotten.
insert into keys (place, project, key, fingerprint, run_id, at) values (?, ?, ?, ?, ?, ?)
on conflict (project, key) do update set
    place = excluded.place, fingerprint = excluded.fingerprint, run_id = excluded.run_id, at = excluded.at,
    answer = null

-- name: keep_answer
-- ?1: project; ?2: key; ?3: answer; ?4: the time since which keys are known.
update keys set answer = ?3 where project = ?1 and key = ?2 and at >= ?4 and answer is null

-- name: answer_kept
-- ?1: project; ?2: key; ?3: the time since which keys are known.
select answer from keys where project = ?1 and key = ?2 and at >= ?3

-- name: delete_keys
-- ?1: a time.
delete from keys where at < ?1

-- name: delete_deltas_of_run
-- ?1: the run's place; ?2: that of its end.
delete from deltas where place > ?1 and place <= ?2 and run = ?1

-- name: mark_pruned
-- ?1: the run's number; ?2: 1 or 2.
update runs set pruned = ?2 where number = ?1

-- name: probe
update probes set number = number + 1

-- name: delete_runs
-- ?1: tape. Before its entries: they say which.
delete from runs where id in (
    select run_id from entries where place > ?1 << 32 and place < (?1 + 1) << 32 and run_id <> ''
)

-- name: delete_entries
-- ?1: tape.
delete from entries where place > ?1 << 32 and place < (?1 + 1) << 32

-- name: delete_deltas
delete from deltas where place > ?1 << 32 and place < (?1 + 1) << 32

-- name: delete_conversation
delete from conversations where tape = ?1

-- Access. ---------------------------------------------------------------------------------------------------------

-- name: project
select id, name, created_at from projects where id = ?1

-- name: projects
select id, name, created_at from projects order by created_at, id

-- name: put_project
insert into projects (id, name, created_at) values (?, ?, ?) on conflict do nothing

-- name: tapes_of_project
select tape from conversations where project = ?1

-- name: delete_credentials
delete from credentials where project = ?1

-- name: delete_project
delete from projects where id = ?1

-- name: credential
select id, project, name, scopes, hash, pepper_id, created_at, expires_at, rpm, previous_hash, previous_until,
    last_used_at, revoked_at, subject
from credentials where id = ?1

-- name: credentials
-- ?1: project, null = all.
select id, project, name, scopes, hash, pepper_id, created_at, expires_at, rpm, previous_hash, previous_until,
    last_used_at, revoked_at, subject
from credentials where ?1 is null or project = ?1 order by created_at, id

-- name: put_credential
-- Writes nothing if the project does not exist.
insert into credentials (id, project, name, scopes, hash, pepper_id, created_at, expires_at, rpm, previous_hash,
    previous_until, last_used_at, revoked_at, subject)
select ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14
where exists (select 1 from projects where id = ?2)
on conflict (id) do update set
    project = excluded.project, name = excluded.name, scopes = excluded.scopes, hash = excluded.hash,
    pepper_id = excluded.pepper_id, created_at = excluded.created_at, expires_at = excluded.expires_at,
    rpm = excluded.rpm, previous_hash = excluded.previous_hash, previous_until = excluded.previous_until,
    last_used_at = excluded.last_used_at, revoked_at = excluded.revoked_at, subject = excluded.subject

-- name: touch_credential
-- ?1: id; ?2: at. Never moves back.
update credentials set last_used_at = max(?2, coalesce(last_used_at, ?2)) where id = ?1
