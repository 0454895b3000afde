-- min_reader: 1
-- Whose a conversation is and who may see it, whom a credential stands for, and records: small documents beside the
-- tapes. Code of step 1 works on: what it writes gets the defaults.

alter table conversations add column owner text collate "C" not null default '';
alter table conversations add column shared boolean not null default false;
alter table conversations add column archived boolean not null default false;

update conversations c set owner = coalesce(e.body::json ->> 'owner', '')
from entries e where e.place = (c.tape << 32) + 1 and e.kind = 'conversation_created';

-- Lists are of one owner's, who has some hundreds. Not by age: a row whose indexed columns stay is rewritten in place.
create index conversations_by_owner on conversations (project, owner);

alter table credentials add column subject text collate "C" not null default '';

create table records (
    project text collate "C" not null,
    kind text collate "C" not null,
    id text collate "C" not null,
    owner text collate "C" not null,
    wide boolean not null,
    key text collate "C" not null,  -- unique if not ''
    body text not null,
    version integer not null,
    created_at double precision not null,
    updated_at double precision not null,
    created_by text collate "C" not null,
    updated_by text collate "C" not null,
    expires_at double precision,
    primary key (project, kind, id)
);

create unique index records_by_key on records (project, kind, key) where key <> '';
create index records_by_expiry on records (expires_at) where expires_at is not null;
