-- min_reader: 1
-- Knowledge: texts that agents search, and the words they are found by. Code of step 3 works on: it knows nothing of
-- them.

create table knowledge (
    number integer primary key,
    project text not null,
    id text not null,
    text text not null,
    title text not null,
    public integer not null,
    role text not null,
    labels text not null,  -- a JSON object of strings
    owner text not null,
    owner_name text not null,
    updated_at real not null,
    folded text not null,  -- title and id without upper case
    unique (project, id)
) strict;

-- The row of an entry has its number. What stands here are words that are made already (runtime/knowledge_rules.py):
-- letters, digits and marks with a space between, and nothing is to be done to them. `scope` names the project.
create virtual table knowledge_words using fts5 (
    scope, title, text, tokenize = "unicode61 remove_diacritics 0 categories 'L* N* M* Co'"
);

create trigger knowledge_words_go_with_their_entry after delete on knowledge begin
    delete from knowledge_words where rowid = old.number;
end;

-- What others share is listed with one's own.
create index conversations_shared on conversations (project) where shared <> 0;
