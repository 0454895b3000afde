-- All statements of this engine: `-- name: x` begins one, parameters are bound by position.
--
-- Times are microseconds; what is called "now" is the time to take instead of the database's, or null. 4294967295 is
-- 2^32 - 1: the seq in a place. `offset 0` keeps a subquery whole: what several processes lock, all lock in its order.
-- `ended < 1` is `ended = 0` for those who come with a key: the index of open runs is no way to find them.

-- Writing. ---------------------------------------------------------------------------------------------------------

-- name: append
-- $1: now; $2..$7: tapes: number, the head we expect, the head there will be, written, replied, spoke;
-- $8..$14: entries: place, run, at (not looked at), weight, run_id, kind, body; $15..$17: deltas: place, run, body.
-- One row: the time, and the tapes that were written, which are those whose head is the expected one.
with now as (
    select coalesce($1::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint) as us
),
written as (
    update conversations c set head = d.head, written = d.written, replied = d.replied, spoke = d.spoke
    from (
        select * from unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::boolean[])
            as t (tape, was, head, written, replied, spoke)
        order by t.tape offset 0
    ) d
    where c.tape = d.tape and c.head = d.was
    returning c.tape
),
put_entries as (
    insert into entries (place, run, at, weight, run_id, kind, body)
    select e.place, e.run, n.us, e.weight, e.run_id, e.kind, e.body
    from now n, unnest($8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::text[], $13::text[], $14::text[])
        as e (place, run, at, weight, run_id, kind, body)
    where e.place >> 32 = any(array(select tape from written))
),
put_deltas as (
    insert into deltas (place, run, at, body)
    select d.place, d.run, n.us, d.body
    from now n, unnest($15::bigint[], $16::bigint[], $17::text[]) as d (place, run, body)
    where d.place >> 32 = any(array(select tape from written))
)
select us, array(select tape from written) from now

-- name: write
-- Like append, for whatever may happen to tapes.
-- $1: now; $2: lease; $3: its owner; $4: how long a key is known;
-- $5..$18: tapes as above, and live_run, title, messages, turns, when changed (-1 = leave it, 0 = now), whether new,
-- shared, archived; $19..$24: new tapes: number, project, id, origin, created (0 = now), owner;
-- $25..$31: entries: place, run, at (0 = now), weight, run_id, kind, body; $32..$34: deltas: place, run, body;
-- $35..$45: new runs: place, id, project, status, epoch, users, fingerprint, leased, started (0 = now), ended, ended_at
-- (0 = now); $46..$52: changed runs: place, status, epoch, asked, spoke, leased, ended;
-- $53..$56: keys: project, key, fingerprint, place.
with now as (
    select coalesce($1::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint) as us
),
due as (
    select * from unnest(
        $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::boolean[], $11::text[], $12::text[],
        $13::bigint[], $14::bigint[], $15::bigint[], $16::boolean[], $17::boolean[], $18::boolean[]
    ) as t (
        tape, was, head, written, replied, spoke, live_run, title, messages, turns, changed_at, is_new, shared, archived
    )
),
made as (
    insert into conversations (
        tape, project, id, title, origin, created_at, updated_at, messages, turns, head, live_run, written, replied,
        spoke, owner, shared, archived
    )
    select d.tape, m.project, m.id, d.title, m.origin, case m.created_at when 0 then n.us else m.created_at end,
        case d.changed_at when 0 then n.us else d.changed_at end, d.messages, d.turns, d.head, d.live_run, d.written,
        d.replied, d.spoke, m.owner, d.shared, d.archived
    from now n, (
        select * from unnest($19::bigint[], $20::text[], $21::text[], $22::text[], $23::bigint[], $24::text[])
            as t (tape, project, id, origin, created_at, owner)
        order by t.project collate "C", t.id collate "C" offset 0
    ) m join due d on d.tape = m.tape
    on conflict (project, id) do nothing
    returning tape
),
changed as (
    update conversations c set head = d.head, written = d.written, replied = d.replied, spoke = d.spoke,
        live_run = d.live_run, title = d.title, messages = d.messages, turns = d.turns,
        shared = d.shared, archived = d.archived,
        updated_at = case d.changed_at when -1 then c.updated_at when 0 then n.us else d.changed_at end
    from now n, (select * from due where not is_new order by tape offset 0) d
    where c.tape = d.tape and c.head = d.was
    returning c.tape
),
written as (
    select tape from made union all select tape from changed
),
put_entries as (
    insert into entries (place, run, at, weight, run_id, kind, body)
    select e.place, e.run, case e.at when 0 then n.us else e.at end, e.weight, e.run_id, e.kind, e.body
    from now n, unnest(
        $25::bigint[], $26::bigint[], $27::bigint[], $28::bigint[], $29::text[], $30::text[], $31::text[]
    ) as e (place, run, at, weight, run_id, kind, body)
    where e.place >> 32 = any(array(select tape from written))
),
put_deltas as (
    insert into deltas (place, run, at, body)
    select d.place, d.run, n.us, d.body
    from now n, unnest($32::bigint[], $33::bigint[], $34::text[]) as d (place, run, body)
    where d.place >> 32 = any(array(select tape from written))
),
put_runs as (
    insert into runs (
        place, id, project, status, epoch, users, fingerprint, started_at, ended, ended_at, asked, spoke, pruned, owner,
        lease_until
    )
    select r.place, r.id, r.project, r.status, r.epoch, r.users, r.fingerprint,
        case r.started_at when 0 then n.us else r.started_at end, r.ended,
        case when r.ended = 0 then 0 when r.ended_at = 0 then n.us else r.ended_at end, 0, false, false,
        case when r.leased then $3::text else '' end, case when r.leased then n.us + $2::bigint end
    from now n, (
        select * from unnest(
            $35::bigint[], $36::text[], $37::text[], $38::text[], $39::bigint[], $40::bigint[], $41::text[],
            $42::boolean[], $43::bigint[], $44::bigint[], $45::bigint[]
        ) with ordinality
            as t (place, id, project, status, epoch, users, fingerprint, leased, started_at, ended, ended_at, number)
        order by t.number offset 0
    ) r
    where r.place >> 32 = any(array(select tape from written))
),
change_runs as (
    update runs r set status = x.status, epoch = x.epoch, asked = x.asked, spoke = x.spoke, ended = x.ended,
        ended_at = case x.ended when 0 then 0 else n.us end,
        owner = case when x.leased then $3::text else r.owner end,
        lease_until = case when x.leased then n.us + $2::bigint else r.lease_until end
    from now n, (
        select * from unnest(
            $46::bigint[], $47::text[], $48::bigint[], $49::bigint[], $50::boolean[], $51::boolean[], $52::bigint[]
        ) as t (place, status, epoch, asked, spoke, leased, ended)
        order by t.place offset 0
    ) x
    where r.place = x.place and x.place >> 32 = any(array(select tape from written))
),
put_keys as (
    insert into keys (project, key, fingerprint, place, at)
    select k.project, k.key, k.fingerprint, k.place, n.us
    from now n, (
        select * from unnest($53::text[], $54::text[], $55::text[], $56::bigint[])
            as t (project, key, fingerprint, place)
        order by t.project collate "C", t.key collate "C" offset 0
    ) k
    where k.place >> 32 = any(array(select tape from written))
    -- A key that is still known was written by somebody after we looked: null is refused, and with it the batch.
    on conflict (project, key) do update set
        place = case when keys.at < excluded.at - $4::bigint then excluded.place end,
        fingerprint = excluded.fingerprint, at = excluded.at, answer = null
)
select us, array(select tape from written) from now

-- name: tapes
-- What a writer must know of tapes: $1: now; $2: owner; $3: numbers; $4, $5: project and id of others. A row for each
-- open run, in order of its place, or one without; `held`: another owner's lease on it is live.
with wanted as (
    select unnest($3::bigint[]) as tape
    union
    select c.tape from unnest($4::text[], $5::text[]) as k (project, id)
    join conversations c on c.project = k.project and c.id = k.id
)
select c.tape, c.project, c.id, c.title, c.messages, c.turns, c.head, c.written, c.replied, c.spoke,
    c.owner, c.shared, c.archived, r.place, r.id, r.status, r.epoch, r.users, r.asked,
    r.owner <> $2::text and coalesce(r.lease_until, 0)
        > coalesce($1::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint) as held
from wanted w
join conversations c on c.tape = w.tape
left join runs r on r.place > c.tape << 32 and r.place < (c.tape + 1) << 32 and r.ended = 0
order by c.tape, r.place

-- name: lock_tapes
-- The same tapes, until the transaction ends. What is known of them must be read after this, by another statement.
select tape from conversations
where tape = any(array(
    select unnest($1::bigint[])
    union
    select c.tape from unnest($2::text[], $3::text[]) as k (project, id)
    join conversations c on c.project = k.project and c.id = k.id
))
order by tape for update

-- name: lost
-- Whether there is a run that is nobody's. $1: now.
select exists (
    select 1 from runs
    where ended = 0 and status = 'running'
        and coalesce(lease_until, 0) <= coalesce($1::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint)
)

-- name: lock_lost
-- The tapes of such runs, oldest first, but for those at which somebody is at work just now: nobody is waited for.
-- $1: now; $2: how many.
select c.tape from runs r
join conversations c on c.tape = r.place >> 32
where r.ended = 0 and r.status = 'running'
    and coalesce(r.lease_until, 0) <= coalesce($1::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint)
order by r.number limit $2 for update of c, r skip locked

-- name: lock_run
-- The tape of a run ($2) that is claimed, unless another owner's ($3) lease on it is live. $1: now.
select c.tape from runs r
join conversations c on c.tape = r.place >> 32
where r.id = $2 and r.ended = 0 and r.status = 'running'
    and (r.owner = $3 or coalesce(r.lease_until, 0)
        <= coalesce($1::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint))
for update of c, r

-- name: lock_fingerprints
-- $1, in order. Until the transaction ends.
select pg_advisory_xact_lock(hashtextextended(f, 0)) from unnest($1::text[]) f

-- name: marks
-- Turns that were accepted already: $1: now; $2: how long a key is known; $3, $4: project and key; $5..$7: project,
-- fingerprint, and how far to look back for it, the newest of several counting.
with now as (
    select coalesce($1::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint) as us
)
select k.project, k.key, k.fingerprint, r.place, r.id, c.id
from now n, unnest($3::text[], $4::text[]) as a (project, key),
    lateral (select * from keys where project = a.project and key = a.key offset 0) k
join runs r on r.place = k.place
join conversations c on c.tape = r.place >> 32
where k.at >= n.us - $2::bigint
union all
select a.project, '', a.fingerprint, f.place, f.id, c.id
from now n, unnest($5::text[], $6::text[], $7::bigint[]) as a (project, fingerprint, window_us),
    lateral (
        select r.place, r.id from runs r
        where r.fingerprint = a.fingerprint and r.fingerprint <> '' and r.project = a.project
            and r.started_at >= n.us - a.window_us
        order by r.number desc limit 1
    ) f
join conversations c on c.tape = f.place >> 32

-- name: written_behind
-- What the owner of a run wrote behind a place, to see whether it was this: $1: run; $2: its epoch; $3: the place;
-- $4: how many at most; $5: kinds that others write; $6: tape. One row of nulls if it wrote nothing, none if there is
-- no such run under that epoch on that tape.
select b.place, b.body
from runs r left join lateral (
    (
        select e.place, e.body from entries e
        where e.place > $3::bigint and e.place <= case r.ended when 0 then r.place | 4294967295 else r.ended end
            and e.run = r.place and e.kind <> all($5::text[])
        order by e.place limit $4
    )
    union all
    (
        select d.place, d.body from deltas d
        where d.place > $3::bigint and d.place <= case r.ended when 0 then r.place | 4294967295 else r.ended end
            and d.run = r.place
        order by d.place limit $4
    )
    order by 1 limit $4
) b on true
where r.id = $1 and r.epoch = $2 and r.place >> 32 = $6

-- name: claimed_at
-- The run that was claimed at a place ($1) and is still under that claim of this owner ($2).
select c.project, c.id, r.id, r.epoch
from entries e
join runs r on r.place = e.run
join conversations c on c.tape = r.place >> 32
where e.place = $1 and e.kind = 'run_claimed' and r.epoch = 1 and r.ended = 0 and r.owner = $2

-- name: take_numbers
select nextval('tape_numbers') from generate_series(1, $1)

-- name: renew
-- $1: now; $2: lease; $3, $4: runs and their epochs. Those that are still good. A row that somebody else is just about
-- to write is left alone: nobody waits for a renewal, and there is time for another.
with now as (
    select coalesce($1::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint) as us
),
free as (
    select r.place
    from unnest($3::text[], $4::bigint[]) as a (id, epoch) join runs r on r.id = a.id
    where r.epoch = a.epoch and r.ended < 1 and r.status = 'running'
    for update of r skip locked
),
renewed as (
    update runs r set lease_until = n.us + $2::bigint from now n, free f where r.place = f.place
)
select r.id, r.epoch
from unnest($3::text[], $4::bigint[]) as a (id, epoch) join runs r on r.id = a.id
where r.epoch = a.epoch and r.ended < 1 and r.status = 'running'

-- name: release
-- $1, $2: runs and their epochs.
with held as (
    select r.place
    from unnest($1::text[], $2::bigint[]) as a (id, epoch) join runs r on r.id = a.id
    where r.epoch = a.epoch and r.ended < 1
    order by r.place for update of r
)
update runs r set lease_until = null from held h where r.place = h.place

-- name: asked
-- $1, $2: runs and the seqs of their claims.
select r.id, r.asked
from unnest($1::text[], $2::bigint[]) as a (id, seq) join runs r on r.id = a.id
where r.ended < 1 and r.asked > a.seq

-- name: probe
-- $1: owner; $2: now.
insert into probes (owner, at)
values ($1, coalesce($2::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint))
on conflict (owner) do update set at = excluded.at

-- name: delete_tape
-- $1: tape, which is locked. Its runs that had not ended, in order.
with gone_entries as (delete from entries where place > $1::bigint << 32 and place < ($1::bigint + 1) << 32),
gone_deltas as (delete from deltas where place > $1::bigint << 32 and place < ($1::bigint + 1) << 32),
gone_keys as (delete from keys where place > $1::bigint << 32 and place < ($1::bigint + 1) << 32),
gone_runs as (
    delete from runs where place > $1::bigint << 32 and place < ($1::bigint + 1) << 32 returning place, id, ended
),
gone as (delete from conversations where tape = $1)
select id from gone_runs where ended = 0 order by place

-- name: prune
-- $1: Runs that ended before this; $2: how many of them. Their tapes.
with ripe as (
    select place, ended from runs
    where spoke and not pruned and ended_at < $1
    order by ended_at limit $2 for update skip locked
),
gone as (
    delete from deltas d using ripe r where d.place > r.place and d.place <= r.ended and d.run = r.place
)
update runs r set pruned = true from ripe p where r.place = p.place returning r.place >> 32

-- name: forget_keys
-- $1: now; $2: how long a key is known; $3: how many at once.
delete from keys where ctid = any(array(
    select ctid from keys
    where at < coalesce($1::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint) - $2::bigint
    order by at limit $3
))

-- name: keep_answer
-- $1: now; $2: how long a key is known; $3: project; $4: key; $5: answer.
update keys set answer = $5
where project = $3 and key = $4 and answer is null
    and at >= coalesce($1::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint) - $2::bigint

-- name: answer_kept
-- As above.
select answer from keys
where project = $3 and key = $4
    and at >= coalesce($1::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint) - $2::bigint

-- Reading. ---------------------------------------------------------------------------------------------------------

-- name: entries_after
-- $1, $2: places between which to read, the first excluded; $3: how many at most.
select x.place, coalesce(f.run_id, ''), x.at, x.body
from (
    select * from (
        select place, run, at, body from entries where place > $1 and place <= $2 order by place limit $3
    ) e
    union all
    select * from (
        select place, run, at, body from deltas where place > $1 and place <= $2 order by place limit $3
    ) d
    order by place limit $3
) x
left join entries f on f.place = x.run
order by x.place

-- name: entries_of_run
-- $1: the run's id. Between its ends also stand turns that were queued meanwhile, and those before a queued run.
select x.place, r.id, x.at, x.body
from runs r, lateral (
    select e.place, e.at, e.body from entries e
    where e.place >= r.place and e.place <= case r.ended when 0 then r.place | 4294967295 else r.ended end
        and e.run = r.place
    union all
    select d.place, d.at, d.body from deltas d
    where d.place >= r.place and d.place <= case r.ended when 0 then r.place | 4294967295 else r.ended end
        and d.run = r.place
) x
where r.id = $1
order by x.place

-- name: history
-- $1, $2: the tape's first and last place; $3: the place before which turns were received; $4: characters.
-- Walks back from one good end to the one before, and stops after the turn that passes the measure: of older turns
-- nothing is touched.
with recursive turn (last, first, chars) as (
    (
        select place, run, weight from entries
        where place > $1 and place <= $2 and run < $3
            and kind in ('run_completed', 'run_cancelled', 'run_needs_client', 'messages_imported')
        order by place desc limit 1
    )
    union all
    select e.place, e.run, t.chars + e.weight
    from turn t, lateral (
        select o.place, o.run, o.weight from entries o
        where o.place > $1 and o.place < t.last and o.run < $3
            and o.kind in ('run_completed', 'run_cancelled', 'run_needs_client', 'messages_imported')
        order by o.place desc limit 1
    ) e
    where t.chars <= $4
)
select x.place, f.run_id, x.at, x.body
from turn t
join entries f on f.place = t.first
join entries x on x.place >= t.first and x.place <= t.last and x.run = t.first
order by x.place

-- name: head
-- $1: tape. No row if there is no such tape.
select head from conversations where tape = $1

-- name: heads
-- $1: tapes. Those that exist.
select tape, head from conversations where tape = any($1::bigint[])

-- name: conversation
-- $1: project; $2: id.
select id, tape, title, origin, created_at, updated_at, messages, turns, head, live_run, owner, shared, archived
from conversations where project = $1 and id = $2

-- name: conversations_page
-- $1: project; $2: the id after which to begin; $3: limit, null = all.
select id, tape, title, origin, created_at, updated_at, messages, turns, head, live_run, owner, shared, archived
from conversations where project = $1 and id > $2 order by id limit $3

-- name: conversations_shelf
-- $1: project; $2: owner, null = anybody's; $3: origins, none = any; $4: whether archived, null = both; $5: limit;
-- $6: offset; $7: with what others share. Of the parts those that are not meant are empty before they have looked at
-- anything. At least one row, of nulls but for the number of all.
with found as materialized (
    select tape, id, updated_at from conversations
    where project = $1 and owner = $2::text and archived = coalesce($4::boolean, archived)
        and (cardinality($3::text[]) = 0 or origin = any($3::text[]))
    union all
    select tape, id, updated_at from conversations
    where $7::boolean and project = $1 and owner <> $2::text and shared and archived = coalesce($4::boolean, archived)
        and (cardinality($3::text[]) = 0 or origin = any($3::text[]))
    union all
    select tape, id, updated_at from conversations
    where $2::text is null and project = $1 and archived = coalesce($4::boolean, archived)
        and (cardinality($3::text[]) = 0 or origin = any($3::text[]))
)
select c.id, c.tape, c.title, c.origin, c.created_at, c.updated_at, c.messages, c.turns, c.head, c.live_run, c.owner,
    c.shared, c.archived, t.total
from (select count(*) as total from found) t
left join (
    (select tape from found order by updated_at desc, id limit $5 offset $6) shown
    join conversations c on c.tape = shown.tape
) on true
order by c.updated_at desc, c.id

-- name: conversations_live
-- $1: project; $2: owner, '' = anybody's. Of all that they have, only what is at work is looked at.
select c.id, c.tape, c.title, c.origin, c.created_at, c.updated_at, c.messages, c.turns, c.head, c.live_run, c.owner,
    c.shared, c.archived
from runs r, lateral (select * from conversations where tape = r.place >> 32 offset 0) c
where r.ended = 0 and r.status = 'running' and r.project = $1 and ($2::text = '' or c.owner = $2)
order by r.number

-- name: turns_since
-- $1: project; $2: the time. Runs are numbered in order of acceptance, so that none is looked at before the newest that
-- is older; imported ones bear times of long ago, and no epoch.
select count(*) from runs r
where r.project = $1 and r.started_at >= $2 and r.number > coalesce((
    select o.number from runs o where o.project = $1 and o.started_at < $2 and o.epoch > 0
    order by o.number desc limit 1
), 0) and not (r.epoch = 0 and r.status = 'completed')

-- name: conversations_count
select count(*) from conversations where project = $1

-- name: run
-- $1: project, null = any; $2: id.
select r.id, c.id, c.tape, r.status, r.epoch, r.place, r.started_at, r.ended, r.ended_at, r.pruned
from runs r join conversations c on c.tape = r.place >> 32
where r.id = $2 and ($1::text is null or r.project = $1)

-- name: runs_newest
-- $1: project; $2: limit.
select r.id, c.id, c.tape, r.status, r.epoch, r.place, r.started_at, r.ended, r.ended_at, r.pruned
from (select * from runs where project = $1 order by number desc limit $2) r
join conversations c on c.tape = r.place >> 32
order by r.number desc

-- name: runs_unfinished
select r.id, c.id, c.tape, r.status, r.epoch, r.place, r.started_at, r.ended, r.ended_at, r.pruned
from runs r join conversations c on c.tape = r.place >> 32
where r.ended = 0 and r.status = 'running'
order by r.number

-- name: whereabouts
-- $1: run. Its conversation.
select c.tape, c.project, c.id from runs r join conversations c on c.tape = r.place >> 32 where r.id = $1

-- Access. ----------------------------------------------------------------------------------------------------------

-- name: project
select id, name, created_at from projects where id = $1

-- name: projects
select id, name, created_at from projects order by created_at, id

-- name: put_project
insert into projects (id, name, created_at) values ($1, $2, $3) on conflict do nothing

-- name: conversations_of_project
-- $1: project; $2: how many at most.
select id from conversations where project = $1 limit $2

-- name: delete_credentials
delete from credentials where project = $1

-- name: delete_project
delete from projects where id = $1

-- name: credential
select id, project, name, scopes, hash, pepper_id, created_at, expires_at, rpm, previous_hash, previous_until,
    last_used_at, revoked_at, subject
from credentials where id = $1

-- name: credentials
-- $1: project, null = all.
select id, project, name, scopes, hash, pepper_id, created_at, expires_at, rpm, previous_hash, previous_until,
    last_used_at, revoked_at, subject
from credentials where $1::text is null or project = $1 order by created_at, id

-- name: put_credential
-- Writes nothing if the project does not exist. Its row is held: whoever deletes the project deletes this too.
insert into credentials (id, project, name, scopes, hash, pepper_id, created_at, expires_at, rpm, previous_hash,
    previous_until, last_used_at, revoked_at, subject)
select $1, p.id, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14
from (select id from projects where id = $2 for share) p
on conflict (id) do update set
    project = excluded.project, name = excluded.name, scopes = excluded.scopes, hash = excluded.hash,
    pepper_id = excluded.pepper_id, created_at = excluded.created_at, expires_at = excluded.expires_at,
    rpm = excluded.rpm, previous_hash = excluded.previous_hash, previous_until = excluded.previous_until,
    last_used_at = excluded.last_used_at, revoked_at = excluded.revoked_at, subject = excluded.subject

-- name: touch_credential
-- $1: id; $2: at. Never moves back.
update credentials set last_used_at = greatest($2, coalesce(last_used_at, $2)) where id = $1
