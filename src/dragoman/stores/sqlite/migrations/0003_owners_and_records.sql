-- min_reader: 1
-- Whose a conversation is and who may see it, whom a credential stands for, and records: small documents beside the
-- tapes. Code of step 2 works on: what it writes gets the defaults.

alter table conversations add column owner text not null default '';
alter table conversations add column shared integer not null default 0;
alter table conversations add column archived integer not null default 0;

update conversations set owner = coalesce(
    (
        select json_extract(body, '$.owner') from entries
        where place = (conversations.tape << 32) + 1 and kind = 'conversation_created'
    ),
    ''
);

-- Lists are of one owner's, who has some hundreds. Not by age: every turn would write a second page.
create index conversations_by_owner on conversations (project, owner);

alter table credentials add column subject text not null default '';

create table records (
    project text not null,
    kind text not null,
    id text not null,
    owner text not null,
    wide integer not null,
    key text not null,  -- unique if not ''
    body text not null,
    version integer not null,
    created_at real not null,
    updated_at real not null,
    created_by text not null,
    updated_by text not null,
    expires_at real,
    unique (project, kind, id)
) strict;

create unique index records_by_key on records (project, kind, key) where key <> '';
create index records_by_expiry on records (expires_at) where expires_at is not null;
