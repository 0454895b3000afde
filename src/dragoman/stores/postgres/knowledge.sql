-- Knowledge: texts that agents search, and the words they are found by. What is called "now" is the time to take (Unix
-- seconds) instead of the database's, or null.

-- name: knowledge_entry
select project, id, text, title, public, role, labels, owner, owner_name, updated_at
from knowledge where project = $1 and id = $2

-- name: knowledge_count
select count(*) from knowledge where project = $1

-- name: knowledge_page
-- $1: project; $2: what title or id contain; $3: how many; $4: by what; $5: whether the last come first.
select project, id, text, title, public, role, labels, owner, owner_name, updated_at
from knowledge where project = $1 and strpos(folded, $2) > 0
order by
    case when not $5::boolean and $4::text = 'title' then title when not $5 and $4 = 'role' then role end,
    case when $5 and $4 = 'title' then title when $5 and $4 = 'role' then role end desc,
    case when not $5 and $4 = 'updated_at' then updated_at when not $5 and $4 = 'public' then public::int end,
    case when $5 and $4 = 'updated_at' then updated_at when $5 and $4 = 'public' then public::int end desc,
    case when $5 and $4 = 'id' then id end desc,
    id
limit $3

-- name: knowledge_found
-- $1: project; $2: owner; $3: labels as JSON; $4: the project's own word; $5, $6: words to look for and what each counts;
-- $7: how many; $8: how many entries to weigh. A word counts the more the fewer entries have it, and in a title three
-- times as much. Entries are weighed that have one of the rarest words: the others would come behind them.
with asked as materialized (
    select a.word, a.word::tsquery as query, a.boost, (
        select count(*) from knowledge k
        where k.words @@ ($4::text || ' & ' || a.word)::tsquery and (k.public or k.owner = $2::text)
            and ($3::text = '{}' or k.labels::jsonb @> $3::jsonb)
    ) as holders
    from unnest($5::text[], $6::float8[]) as a (word, boost)
),
seen as materialized (
    select count(*) as entries from knowledge where project = $1 and (public or owner = $2)
),
chosen as (
    select word from (
        select word, sum(holders) over (order by holders, word) - holders as before from asked where holders > 0
    ) each where before < $8::bigint
),
weighed as materialized (
    select * from (
        select project, id, public, owner, labels, updated_at, words from knowledge
        where words @@ (select ($4 || ' & (' || string_agg(word, ' | ') || ')')::tsquery from chosen)
        offset 0
    ) k
    where k.project = $1 and (k.public or k.owner = $2) and ($3 = '{}' or k.labels::jsonb @> $3::jsonb)
),
best as materialized (
    select w.id, w.updated_at, sum(
        a.boost * ts_rank('{0.3, 0.3, 0.3, 0.9}', w.words, a.query, 1)
        * ln(1 + (s.entries - a.holders + 0.5::float8) / (a.holders + 0.5))
    ) as score
    from weighed w, asked a, seen s
    where w.words @@ a.query
    group by w.id, w.updated_at order by score desc, w.updated_at desc, w.id limit $7
)
select k.project, k.id, k.text, k.title, k.public, k.role, k.labels, k.owner, k.owner_name, k.updated_at, b.score
from best b join knowledge k on k.project = $1 and k.id = b.id
order by b.score desc, k.updated_at desc, k.id

-- name: knowledge_all
-- Like knowledge_found, for whoever looks for nothing in particular. $4: how many.
select project, id, text, title, public, role, labels, owner, owner_name, updated_at, 1.0::float8
from knowledge
where project = $1 and (public or owner = $2) and labels::jsonb @> $3::text::jsonb
order by updated_at desc, id limit $4

-- name: put_knowledge
-- $1: now; entries, in order of id. Who made an entry stays its owner.
insert into knowledge (project, id, text, title, public, role, labels, owner, owner_name, updated_at, folded, lexemes)
select e.project, e.id, e.text, e.title, e.public, e.role, e.labels, e.owner, e.owner_name,
    coalesce($1::float8, extract(epoch from transaction_timestamp())::float8), e.folded, e.lexemes
from unnest(
    $2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[], $7::text[], $8::text[], $9::text[], $10::text[],
    $11::text[], $12::text[]
) with ordinality
    as e (project, id, text, title, public, role, labels, owner, owner_name, folded, lexemes, number)
order by e.number
on conflict (project, id) do update set
    text = excluded.text, title = excluded.title, public = excluded.public, role = excluded.role,
    labels = excluded.labels, updated_at = excluded.updated_at, folded = excluded.folded, lexemes = excluded.lexemes

-- name: delete_knowledge_entry
delete from knowledge where project = $1 and id = $2

-- name: delete_knowledge
delete from knowledge where project = $1
