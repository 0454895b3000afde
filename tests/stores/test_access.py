"""`access.ports.AccessStore`, the same for every engine."""

import asyncio

import pytest
from msgspec.structs import replace

from dragoman.access.ports import Credential, Project
from dragoman.core import events as ev
from dragoman.core.errors import BadRequest, Conflict, NotFound
from dragoman.core.names import ConversationId, ProjectId, RunId, Scope
from dragoman.runtime.ports import StaleClaim
from tests.stores.conftest import Engine
from tests.stores.talk import append, begin, finish, say

MINE = Project(ProjectId("mine"), "Mine ünd 🦉", 10.5)
YOURS = Project(ProjectId("yours"), "Yours", 9.0)

PLAIN = Credential(
    id="k1",
    project=MINE.id,
    name="ci",
    scopes=(Scope.CHAT_RUN, Scope.CHAT_READ),
    hash=bytes(range(32)),
    pepper_id="p1",
    created_at=11.25,
)
FULL = replace(
    PLAIN,
    id="k2",
    created_at=11.0,
    expires_at=99.5,
    rpm=0,
    previous_hash=b"\0\xff" * 16,
    previous_until=50.0,
    last_used_at=20.0,
    revoked_at=60.0,
    subject="Änne 🦉",
)


async def test_projects_are_put_and_found(store: Engine):
    await store.put_project(MINE)
    await store.put_project(YOURS)
    assert await store.project(MINE.id) == MINE
    assert await store.project(ProjectId("MINE")) is None
    assert list(await store.projects()) == [YOURS, MINE]


async def test_a_project_id_is_taken_once(store: Engine):
    await store.put_project(MINE)
    with pytest.raises(Conflict):
        await store.put_project(replace(MINE, name="another"))
    assert await store.project(MINE.id) == MINE


async def test_credentials_come_back_as_they_were_put(store: Engine):
    await store.put_project(MINE)
    await store.put_project(YOURS)
    theirs = replace(PLAIN, id="k3", project=YOURS.id, scopes=())
    for credential in (PLAIN, FULL, theirs):
        await store.put_credential(credential)
    assert await store.credential("k1") == PLAIN
    assert await store.credential("k2") == FULL
    assert await store.credential("K2") is None
    assert list(await store.credentials(MINE.id)) == [FULL, PLAIN]
    assert list(await store.credentials(None)) == [FULL, PLAIN, theirs]
    assert list(await store.credentials(ProjectId("nobody"))) == []


async def test_a_credential_is_replaced_whole(store: Engine):
    await store.put_project(MINE)
    await store.put_credential(FULL)
    changed = replace(PLAIN, id="k2", name="other", scopes=(Scope.ADMIN,), hash=b"x" * 32, pepper_id="p2", rpm=5)
    await store.put_credential(changed)
    assert await store.credential("k2") == changed
    assert len(await store.credentials(None)) == 1


async def test_a_credential_needs_its_project(store: Engine):
    with pytest.raises(NotFound) as refused:
        await store.put_credential(PLAIN)
    assert refused.value.what == "project"
    assert await store.credential("k1") is None


async def test_a_touch_sets_when_it_was_last_used_and_never_goes_back(store: Engine):
    await store.put_project(MINE)
    await store.put_credential(PLAIN)
    await store.touch_credential("k1", at=30.5)
    await store.touch_credential("k1", at=29.0)
    await store.touch_credential("nobody", at=30.0)
    assert await store.credential("k1") == replace(PLAIN, last_used_at=30.5)


async def test_a_deleted_project_is_gone_with_all_it_owns(store: Engine):
    await store.put_project(MINE)
    await store.put_project(YOURS)
    theirs = replace(PLAIN, id="k3", project=YOURS.id)
    await store.put_credential(PLAIN)
    await store.put_credential(theirs)
    await say(store, "done", "r1", "q", "a")
    mine = await begin(store, "c", "r2", project=MINE.id)
    await say_in(store, MINE.id)
    yours = await begin(store, "c", "r3", project=YOURS.id)
    waiting = asyncio.ensure_future(store.grown(mine.tape, after=3))
    await asyncio.sleep(0)
    assert await store.delete_project(MINE.id) is True
    await asyncio.wait_for(waiting, 5)
    assert list(await store.projects()) == [YOURS]
    assert list(await store.credentials(None)) == [theirs]
    assert await store.count(MINE.id) == 0
    assert list(await store.runs(MINE.id, limit=10)) == []
    assert await store.run(None, RunId("r2")) is None
    assert list(await store.read(mine.tape, after=0)) == []
    with pytest.raises(StaleClaim):
        await append(store, mine, (ev.TextAdded("x"),))
    assert await append(store, yours, (ev.TextAdded("x"),)) == 4
    assert (await begin(store, "c", "r4", project=MINE.id)).tape > yours.tape


async def say_in(store: Engine, project: str) -> None:
    claim = await begin(store, "d", "r5", project=project)
    await finish(store, claim, (ev.RunCompleted(),), weight=1)
    assert await store.get(ProjectId(project), ConversationId("d")) is not None


async def test_deleting_what_is_not_there_says_so(store: Engine):
    await begin(store, "c", "r1", project="never put")
    assert await store.delete_project(ProjectId("nobody")) is False
    assert await store.count(ProjectId("never put")) == 1


@pytest.mark.parametrize("bad", ["\ud800", "a\0"])
async def test_bad_keys_are_refused_everywhere(store: Engine, bad: str):
    await store.put_project(MINE)
    for call in (
        store.project(ProjectId(bad)),
        store.put_project(replace(MINE, id=ProjectId(bad))),
        store.put_project(replace(YOURS, name=bad)),
        store.delete_project(ProjectId(bad)),
        store.credential(bad),
        store.credentials(ProjectId(bad)),
        store.put_credential(replace(PLAIN, id=bad)),
        store.put_credential(replace(PLAIN, name=bad)),
        store.touch_credential(bad, at=1.0),
    ):
        with pytest.raises(BadRequest):
            await call
    assert list(await store.projects()) == [MINE]
