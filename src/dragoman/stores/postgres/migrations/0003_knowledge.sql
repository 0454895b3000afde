-- min_reader: 1
-- Knowledge: texts that agents search, and the words they are found by. Code of step 2 works on: it knows nothing of
-- them.

-- `lexemes` are words that are made already (runtime/knowledge_rules.py), with the project's own before them, as a
-- tsvector is written: no text search configuration of this database has a say in what is found. Rows stay whole up to
-- 8 KiB: a search looks at the words of a thousand of them.
create table knowledge (
    project text collate "C" not null,
    id text collate "C" not null,
    text text not null,
    title text collate "C" not null,
    public boolean not null,
    role text collate "C" not null,
    labels text not null,  -- a JSON object of strings
    owner text collate "C" not null,
    owner_name text not null,
    updated_at double precision not null,
    folded text collate "C" not null,  -- title and id without upper case
    lexemes text not null,
    words tsvector not null generated always as (lexemes::tsvector) stored,
    primary key (project, id)
) with (toast_tuple_target = 8160);

create index knowledge_by_words on knowledge using gin (words);

-- What others share is listed with one's own.
create index conversations_shared on conversations (project) where shared;
