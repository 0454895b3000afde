"""A store with one of everything in it, and all that can be read of a store."""

from typing import Any

from msgspec.structs import replace

from dragoman.access.ports import AccessStore, Credential, Project
from dragoman.core import events as ev
from dragoman.core.knowledge import EntryRole, KnowledgeEntry, Query
from dragoman.core.messages import ToolCall, said
from dragoman.core.names import CallId, ConversationId, ProjectId, RunId, Scope
from dragoman.core.operations import Archived, Mark
from dragoman.core.records import Record
from dragoman.runtime.ports import Store
from tests.stores.conftest import Engine
from tests.stores.talk import PROJECT, append, begin, created, finish, say, turn, wait
from tests.support import FixedClock

OTHER = ProjectId("other")
TITLE = 'Größe \0 — "zitiert" 株式会社 🦉'
KEYED = Mark("f1", "key-1")
UNANSWERED = Mark("f2", "key-2")
RECENT = Mark("f3", "", 60.0)
UNKNOWN_KIND = b'{"kind":"from_the_future","body":"\xc3\xa9"}'


async def fill(store: Engine, clock: FixedClock) -> None:
    """The clock is moved by a minute or so."""
    await _fill_access(store, clock)
    await _fill_ended(store, clock)
    await _fill_marked(store)
    await _fill_open(store)
    await _fill_records(store, clock)
    await _fill_knowledge(store, clock)
    await say(store, "deleted", "r-deleted", "gone?", "yes")  # the highest number of a tape
    assert await store.delete(PROJECT, ConversationId("deleted")) == []


async def _fill_access(store: AccessStore, clock: FixedClock) -> None:
    await store.put_project(Project(PROJECT, "default", clock.at))
    clock.move(1)
    await store.put_project(Project(OTHER, "Ökonomie 株", clock.at))
    full = (Scope.CHAT_RUN, Scope.CHAT_READ)
    await store.put_credential(Credential("c1", PROJECT, "admin", (Scope.ADMIN,), bytes(range(32)), "aabbccdd", 1.5))
    await store.put_credential(
        Credential(
            *("c2", OTHER, "Bot é", full, b"\0" * 32, "aabbccdd", clock.at),
            *(clock.at + 0.1, 0, b"\xff" * 32, clock.at + 1e-6, clock.at, 1e9 / 3, "Ännchen"),
        )
    )


async def _fill_ended(store: Store, clock: FixedClock) -> None:
    claim = await begin(store, "pruned", "r-pruned")
    await finish(store, claim, _streamed("to be dropped"))
    clock.move(60)
    assert await store.prune(ended_before=clock.at - 1, limit=100) == 1
    await say(store, "plain", "r-plain-1", "wie groß?", "so groß: 🦉", weight=20)
    claim = await begin(store, "plain", "r-plain-2", "and?", "really?")
    await finish(store, claim, (ev.TitleGiven(TITLE), *_streamed("yes")))
    await say(store, "plain", "r-plain-3", "x" * 50, "y" * 50)
    await store.note(PROJECT, ConversationId("plain"), (ev.SharingChanged(shared=True), ev.TitleGiven("renamed 🦉")))
    claim = await begin(store, "plain", "r-other", project=OTHER)
    await finish(store, claim, (ev.ReplyFinished("ours"), ev.RunCompleted()))
    await store.note(OTHER, ConversationId("plain"), (ev.ArchivingChanged(archived=True),))
    await say(store, "replaced", "r-replaced", "before?", "yes")
    over = ev.MessagesImported((said("user", "anders \0"), said("assistant", "so")), "elastic", replaces=True)
    await store.replace_messages(PROJECT, ConversationId("replaced"), over, run=RunId("r-over"))
    claim = await begin(store, "failed", "r-failed")
    await finish(store, claim, (ev.ReplyStarted("a", "m"), ev.RunFailed("upstream_failed", "No answer.")))
    claim = await begin(store, "cancelled", "r-cancelled")
    await append(store, claim, (ev.ReplyStarted("a", "m"), ev.ReplyFinished("half")))
    assert await store.ask(claim.run, ev.CancelAsked("c1"))
    await finish(store, claim, (ev.RunCancelled("c1"),))
    claim = await begin(store, "needs client", "r-client")
    call = ToolCall(CallId("call_1"), "look", '{"where": "hier"}')
    await finish(
        store, claim, (ev.ReplyFinished("", (call,)), ev.ClientToolRequested(call), ev.RunNeedsClient((call,)))
    )
    claim = await begin(store, "future", "r-future")
    await finish(store, claim, (ev.load_event(UNKNOWN_KIND), *_streamed("ok")))
    imported = ev.MessagesImported((said("user", "damals"), said("assistant", "früher")), "grip")
    await store.put_messages(
        created("imported"), imported, at=1_000_000_000.000001, updated_at=1_000_000_001.5, run=RunId("r-imported")
    )


async def _fill_marked(store: Store) -> None:
    for mark, run in ((KEYED, "r-keyed"), (UNANSWERED, "r-unanswered"), (RECENT, "r-recent")):
        accepted = await store.accept(turn("marked", run, mark=mark))
        assert accepted.claim is not None
        await finish(store, accepted.claim, (ev.ReplyFinished(run), ev.RunCompleted()))
    await store.keep_answer(PROJECT, KEYED.key, b"\0\xff answer")


async def _fill_open(store: Store) -> None:
    """Runs that have not ended: one in the midst of its second try, one at a tool, one asked to stop, with two waiting
    behind it of which one was cancelled."""
    claim = await begin(store, "lost", "r-lost", "which files are there?")
    await append(store, claim, (ev.ReplyStarted("assistant", "m"), ev.TextAdded("I ")))
    again = await store.reclaim(claim.run)
    assert again is not None
    await append(store, again, (ev.AttemptReset(claim.seq + 1), ev.ReplyStarted("assistant", "m"), ev.TextAdded("I")))
    claim = await begin(store, "at a tool", "r-tool", "which files are there?")
    call = ToolCall(CallId("call_1"), "list_files", "{}")
    await append(store, claim, (ev.ReplyStarted("assistant", "m"), ev.ReplyFinished("", (call,)), ev.ToolStarted(call)))
    assert await store.ask(claim.run, ev.ApprovalDecided(call.id, approved=True, decided_by="c1")) == 7
    assert await store.note(PROJECT, claim.conversation, (ev.ArchivingChanged(archived=True),)) == 8
    claim = await begin(store, "asked", "r-asked", "stop me")
    await append(store, claim, (ev.ReplyStarted("assistant", "m"), ev.ThinkingAdded("hm")))
    await wait(store, "asked", "r-waiting-1", "me too")
    await wait(store, "asked", "r-waiting-2", "and me")
    assert await store.end_waiting(RunId("r-waiting-1"), ev.RunCancelled("c1"))
    assert await store.ask(claim.run, ev.CancelAsked("c1"))


async def _fill_records(store: Engine, clock: FixedClock) -> None:
    for project, kind, record_id, key in (
        (PROJECT, "rule", "r2", ""),
        (PROJECT, "rule", "r10", "short é"),
        (PROJECT, "skill", "r2", "short é"),
        (OTHER, "rule", "r2", "short é"),
        (ProjectId(""), "login", "code", ""),
    ):
        made = Record(project, kind, record_id, '{"text":"\\u0000 🦉"}', owner="c1", wide=key != "", key=key)
        put = await store.records.put(replace(made, created_by="c1", updated_by="c1"), expect=0)
    clock.move(1)
    await store.records.put(replace(put, expires_at=clock.at + 1e6, updated_by="Ännchen"), expect=1)


async def _fill_knowledge(store: Engine, clock: FixedClock) -> None:
    """What several queries find, engines rank each in its way: those below find one entry or none."""
    for project, entry_id, title, owner in (
        (PROJECT, "k10", "Größe: 株式会社 🦉", "c1"),
        (PROJECT, "K2", "", "Ännchen"),
        (OTHER, "k2", "theirs", "c1"),
    ):
        text = f'"{entry_id}" is\tindexed\\ twice, {entry_id}'
        public, labels = owner == "c1", {"kind": 'é "x"', "": "1"} if title else {}
        entry = KnowledgeEntry(project, entry_id, text, title, public, EntryRole.ASSISTANT, labels, owner, "Ä b")
        await store.knowledge.put((entry,))
        clock.move(1)
    await store.knowledge.put((replace(entry, text="theirs, 書き直し", owner="nobody"),))


def _streamed(text: str) -> tuple[ev.Event, ...]:
    pieces = tuple(ev.TextAdded(char) for char in text)
    return (ev.ReplyStarted("a", "m"), ev.ThinkingAdded("…"), *pieces, ev.ReplyFinished(text), ev.RunCompleted())


async def everything(store: Engine) -> dict[str, Any]:
    """All that every method that reads says."""
    found: dict[str, Any] = {
        "projects": await store.projects(),
        "credentials": await store.credentials(None),
        "unfinished": await store.unfinished(),
        "codes": await store.records.page(ProjectId(""), "login", limit=0, offset=0),
        "keys": [await store.answer_kept(PROJECT, mark.key) for mark in (KEYED, UNANSWERED)],
        "replays": [await store.accept(turn("marked", "new", mark=mark)) for mark in (KEYED, UNANSWERED, RECENT)],
    }
    for project in (each.id for each in found["projects"]):
        runs = await store.runs(project, limit=1000)
        page = await store.page(project, after="", limit=0)
        found[project] = {
            "itself": await store.project(project),
            "credentials": await store.credentials(project),
            "count": await store.count(project),
            "records": [await store.records.page(project, kind, limit=0, offset=0) for kind in ("rule", "skill")],
            "knowledge": [
                await store.knowledge.page(project, containing=containing, sort=sort, descending=down, limit=limit)
                for containing, sort, down, limit in (
                    ("", "title", False, 9),
                    ("K2", "id", True, 1),
                    ("", "role", True, 2),
                )
            ],
            "known": (await store.knowledge.count(project), await store.knowledge.get(project, "k2")),
            "found": [
                [each.entry for each in await store.knowledge.search(project, asked, owner=owner, labels={}, limit=9)]
                for owner in ("c1", "Ännchen")
                for asked in ((), (Query("k2"),), (Query("K10 grosse"), Query("会社", 2.0)), (Query("書き直し"),))
            ],
            "shelves": [
                await store.browse(
                    *(project,),
                    owner=owner,
                    origins=origins,
                    archived=archived,
                    limit=limit,
                    offset=limit // 3,
                    shared=shared,
                )
                for shared in (False, True)
                for owner in (None, "c1", "nobody")
                for origins in ((), ("test", "else"))
                for archived in Archived
                for limit in (0, 3, 100)
            ],
            "live": await store.live_of(project, "c1"),
            "turns": [await store.turns_since(project, at=at) for at in (0.0, 1_700_000_030.0, 1_700_000_061.25)],
            "page": page,
            "pages": [await store.page(project, after=info.id, limit=2) for info in page.items],
            "each": [await store.get(project, info.id) for info in page.items],
            "runs": runs,
            "run": [(await store.run(project, run.id), await store.run(None, run.id)) for run in runs],
            "entries of runs": [await store.read_run(run) for run in runs],
            "tapes": [await store.read(info.tape, after=0) for info in page.items],
            "ends of tapes": [await store.read(info.tape, after=3, limit=2) for info in page.items],
            "histories": [
                await store.history(info.tape, before=before, chars_max=chars_max)
                for info in page.items
                for before in (4, 12, 1000)
                for chars_max in (0, 30, 10_000)
            ],
        }
    return found
