-- min_reader: 1
-- The first schema. Times of tapes are whole microseconds since the Unix epoch.
--
-- A *place* is a point on a tape in one number, tape * 2^32 + seq: entries of a tape lie side by side, in order, and a
-- range of a tape is a range of the primary key. No column of a tape is ever null: Python binds nulls slowly.

create table conversations (
    tape integer primary key autoincrement,  -- autoincrement: the number of a deleted tape never comes back
    project text not null,
    id text not null,
    title text not null,
    origin text not null,
    created_at integer not null,
    updated_at integer not null,
    messages integer not null,
    turns integer not null,
    live_run text not null,  -- '' = none
    unique (project, id)
) strict;

-- Everything on a tape but the deltas. `run` is the place of the run's first entry, 0 for the conversation's own;
-- `run_id` stands on that first entry only, `weight` (characters of the whole turn) on the run's last: to read a tape or
-- its newest turns is to read one stretch of one table.
create table entries (
    place integer primary key,
    run integer not null,
    run_id text not null,
    kind text not null,
    at integer not null,
    weight integer not null,
    body text not null
) strict;

-- Text and thinking as they grew. They stand again, whole, in the reply that follows, so nothing but a reader of the
-- whole tape needs them: apart, they cost the reader of a history nothing.
create table deltas (
    place integer primary key,
    run integer not null,
    at integer not null,
    body text not null
) strict;

-- Numbered in order of acceptance, so that runs at work at the same time lie on the same pages. `place` is that of the
-- run's first entry, `ended` that of its last, 0 while it is open; `users` counts the user messages of its turn.
create table runs (
    number integer primary key,
    id text not null unique,
    project text not null,
    place integer not null,
    status text not null,
    epoch integer not null,
    users integer not null,
    started_at integer not null,
    ended integer not null,
    ended_at integer not null
) strict;

create index runs_by_project on runs (project);
create index runs_open on runs (place) where ended = 0;

-- Another process may delete a project while this one holds its tapes in memory. What would be written to a tape that
-- is gone, or bring it back, fails here, inside the very transaction.
create trigger tapes_do_not_come_back before insert on conversations
when not exists (select 1 from conversations where tape = new.tape)
    and new.tape <= (select seq from sqlite_sequence where name = 'conversations')
begin
    select raise(abort, 'tape is gone');
end;

create trigger entries_need_a_tape before insert on entries
when not exists (select 1 from conversations where tape = new.place >> 32)
begin
    select raise(abort, 'tape is gone');
end;

create trigger deltas_need_a_tape before insert on deltas
when not exists (select 1 from conversations where tape = new.place >> 32)
begin
    select raise(abort, 'tape is gone');
end;

create table projects (
    id text primary key,
    name text not null,
    created_at real not null
) strict;

create table credentials (
    id text primary key,
    project text not null,
    name text not null,
    scopes text not null,  -- separated by spaces
    hash blob not null,
    pepper_id text not null,
    created_at real not null,
    expires_at real,
    rpm integer,
    previous_hash blob,
    previous_until real,
    last_used_at real,
    revoked_at real
) strict;

create index credentials_by_project on credentials (project, created_at);
