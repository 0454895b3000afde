-- Knowledge: texts that agents search, and the words they are found by.

-- name: knowledge_entry
select project, id, text, title, public, role, labels, owner, owner_name, updated_at
from knowledge where project = ?1 and id = ?2

-- name: knowledge_count
select count(*) from knowledge where project = ?1

-- name: knowledge_page
-- ?1: project; ?2: what title or id contain; ?3: how many; ?4: by what; ?5: whether the last come first.
select project, id, text, title, public, role, labels, owner, owner_name, updated_at
from knowledge where project = ?1 and instr(folded, ?2) > 0
order by iif(?5, null, case ?4
    when 'title' then title when 'updated_at' then updated_at when 'role' then role when 'public' then public else id
end), iif(?5, case ?4
    when 'title' then title when 'updated_at' then updated_at when 'role' then role when 'public' then public else id
end, null) desc, id
limit ?3

-- name: knowledge_found
-- ?1: project; ?2: owner; ?3: labels as JSON; ?4: what to look for and what it counts, as JSON; ?5: how many.
-- Words of the title count three times. What is common counts next to nothing, but never nothing.
with asked as (
    select value ->> 0 as wanted, value ->> 1 as boost from json_each(?4)
),
hits as materialized (
    select w.rowid as number, -bm25(knowledge_words, 0.0, 3.0, 1.0) * a.boost as score
    from asked a cross join knowledge_words w
    where knowledge_words match a.wanted
),
scored as materialized (
    select number, sum(score) as score from hits group by number
)
select k.project, k.id, k.text, k.title, k.public, k.role, k.labels, k.owner, k.owner_name, k.updated_at, s.score
from scored s cross join knowledge k on k.number = s.number
where k.project = ?1 and (k.public <> 0 or k.owner = ?2) and not exists (
    select 1 from json_each(?3) w
    where not exists (select 1 from json_each(k.labels) h where h.key = w.key and h.value = w.value)
)
order by s.score desc, k.updated_at desc, k.id limit ?5

-- name: knowledge_all
-- Like knowledge_found, for whoever looks for nothing in particular. ?4: how many.
select k.project, k.id, k.text, k.title, k.public, k.role, k.labels, k.owner, k.owner_name, k.updated_at, 1.0
from knowledge k
where k.project = ?1 and (k.public <> 0 or k.owner = ?2) and not exists (
    select 1 from json_each(?3) w
    where not exists (select 1 from json_each(k.labels) h where h.key = w.key and h.value = w.value)
)
order by k.updated_at desc, k.id limit ?4

-- name: put_knowledge
-- Who made an entry stays its owner.
insert into knowledge (project, id, text, title, public, role, labels, owner, owner_name, updated_at, folded)
values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
on conflict (project, id) do update set
    text = excluded.text, title = excluded.title, public = excluded.public, role = excluded.role,
    labels = excluded.labels, updated_at = excluded.updated_at, folded = excluded.folded

-- name: put_knowledge_words
-- ?1, ?2: project and id of an entry; ?3..?5: its words.
insert or replace into knowledge_words (rowid, scope, title, text)
select number, ?3, ?4, ?5 from knowledge where project = ?1 and id = ?2

-- name: delete_knowledge_entry
delete from knowledge where project = ?1 and id = ?2

-- name: delete_knowledge
delete from knowledge where project = ?1
