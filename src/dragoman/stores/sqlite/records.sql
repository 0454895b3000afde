-- Records: small documents beside the tapes.

-- name: record
-- ?4: now.
select project, kind, id, body, owner, wide, key, version, created_at, updated_at, created_by, updated_by, expires_at
from records
where project = ?1 and kind = ?2 and id = ?3 and (expires_at is null or expires_at > ?4)

-- name: record_of_key
-- ?4: now.
select project, kind, id, body, owner, wide, key, version, created_at, updated_at, created_by, updated_by, expires_at
from records
where project = ?1 and kind = ?2 and key = ?3 and key <> '' and (expires_at is null or expires_at > ?4)

-- name: records_page
-- ?3: now; ?4: owner, null = anybody; ?5: wide or not, null = either; ?6: how many, -1 = all; ?7: how many before them.
-- One row at least: the first column is how many there are in all.
with found as (
    select * from records
    where project = ?1 and kind = ?2 and (expires_at is null or expires_at > ?3)
        and (?4 is null or wide or owner = ?4) and (?5 is null or wide = ?5)
)
select (select count(*) from found), p.project, p.kind, p.id, p.body, p.owner, p.wide, p.key, p.version, p.created_at,
    p.updated_at, p.created_by, p.updated_by, p.expires_at
from (select 1) left join (select * from found order by created_at, id limit ?6 offset ?7) p on true
order by p.created_at, p.id

-- name: put_record
insert into records (project, kind, id, body, owner, wide, key, version, created_at, updated_at, created_by, updated_by,
    expires_at)
values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
on conflict (project, kind, id) do update set
    body = excluded.body, owner = excluded.owner, wide = excluded.wide, key = excluded.key, version = excluded.version,
    updated_at = excluded.updated_at, updated_by = excluded.updated_by, expires_at = excluded.expires_at

-- name: delete_record
delete from records where project = ?1 and kind = ?2 and id = ?3

-- name: delete_records
delete from records where project = ?1

-- name: forget_expired_record
-- What has expired and has this id or this key. ?5: now.
delete from records
where project = ?1 and kind = ?2 and (id = ?3 or key = ?4 and key <> '') and expires_at <= ?5

-- name: forget_expired_records
-- ?1: now.
delete from records where expires_at <= ?1
