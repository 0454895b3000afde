-- min_reader: 1
-- Runs whose deltas were dropped, keys of requests, and what a probe writes. Code of step 1 works on: what it writes
-- gets the defaults, and what it deletes takes its keys along.

-- 0 = may have deltas, 1 = had some, which were dropped, 2 = never had any.
alter table runs add column pruned integer not null default 0;

update runs set pruned = 2
where ended <> 0 and not exists (
    select 1 from deltas d where d.place > runs.place and d.place <= runs.ended and d.run = runs.place
);

create index runs_to_prune on runs (ended_at) where pruned = 0 and ended <> 0;

-- The callers' own names for requests that began a turn. `place` is that of the run's first entry; `answer` is what was
-- answered to the first request, null = nothing yet.
create table keys (
    place integer primary key,
    project text not null,
    key text not null,
    fingerprint text not null,
    run_id text not null,
    at integer not null,
    answer blob,
    unique (project, key)
) strict;

create index keys_by_age on keys (at);

create trigger keys_go_with_their_tape after delete on conversations begin
    delete from keys where place > old.tape << 32 and place < (old.tape + 1) << 32;
end;

-- One row that is written over and over, to see whether a commit goes through.
create table probes (
    number integer not null
) strict;

insert into probes values (0);
