"""Following a run by its id: no entry twice, none left out, none of another run, however the reader comes back."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from dragoman.access.ports import Project
from dragoman.core.errors import BadRequest, Conflict, Unavailable
from dragoman.core.events import Entry, RunCompleted, TextAdded, TurnReceived, dump_event
from dragoman.core.messages import said
from dragoman.core.names import ConversationId, ProjectId, RunId, Scope
from dragoman.core.operations import FollowRun, Started, StartTurn
from dragoman.core.screen import Screen, ScreenItem
from dragoman.edge.following import CURSOR_MAX, EntryStream, entry_json, follow
from dragoman.runtime.ports import ReplyDone, TextPiece
from dragoman.stores.sqlite.store import open_store
from dragoman.wire import sse
from dragoman.wire.dialect import Request
from tests.parts import ADMIN, Gate, ScriptedReplies, open_config, text_reply
from tests.stage import SetUp, Stage
from tests.streaming_client import Client, Response
from tests.support import FixedClock

WAIT_S = 5.0
CHAT, STREAM = "/api/v1/chat", "/api/v1/chat/stream"
ENTRIES = 200
PIECES = tuple(f"{number} " for number in range(ENTRIES - 5))
"""With TurnReceived, RunClaimed, ReplyStarted, ReplyFinished and RunCompleted: 200 entries."""


def ask(key: str = "k") -> bytes:
    return json.dumps({"message": "count", "session_key": key}).encode()


def events(run: str) -> str:
    return f"/api/runs/{quote(run, safe='')}/events"


def frames(entries: Sequence[Entry]) -> list[tuple[str, Any]]:
    """What a follower is to be shown of these entries: ids and data."""
    return [
        (
            str(entry.seq),
            {"seq": entry.seq, "run": entry.run, "at": entry.at, "event": json.loads(dump_event(entry.event))},
        )
        for entry in entries
    ]


def read(body: bytes) -> list[tuple[str, Any]]:
    return [(frame.id, json.loads(frame.data)) for frame in sse.Reader().feed(body)]


async def counted(s: Stage, key: str = "k") -> RunId:
    """A run that has counted to its end."""
    answer = await s.client().request("POST", STREAM, body=ask(key))
    await s.house.runs[0].settled()
    return RunId(answer.headers["x-run-id"])


async def tape_of(s: Stage, run: str) -> list[Entry]:
    view = await s.store.run(ADMIN.project, RunId(run))
    return list(await s.store.read_run(view))


# -- the cursor in a request -------------------------------------------------------------------------------------------


def request(**changes: Any) -> Request:
    known: dict[str, Any] = {
        "method": "GET",
        "path": "/api/runs/r/events",
        "params": {"run": "r"},
        "query": {},
        "headers": {},
        "body": b"",
        "id": "abcdef012345",
        "nonce": "0" * 32,
        "at": 0.0,
    }
    return Request(**(known | changes))


@pytest.mark.parametrize(
    ("headers", "query", "after"),
    [
        ({}, {}, 0),
        ({}, {"from": "0"}, 0),
        ({}, {"from": "7"}, 7),
        ({}, {"starting_after": "7"}, 7),
        ({"last-event-id": "7"}, {}, 7),
        ({"last-event-id": "007"}, {}, 7),
        ({"last-event-id": str(CURSOR_MAX)}, {}, CURSOR_MAX),
        ({"last-event-id": "7"}, {"from": "8", "starting_after": "9"}, 7),
        ({"last-event-id": ""}, {"from": "8", "starting_after": "9"}, 8),
        ({}, {"other": "8"}, 0),
    ],
)
def test_a_cursor_may_be_said_in_three_ways_and_the_header_wins(
    headers: dict[str, str], query: dict[str, str], after: int
) -> None:
    assert follow(request(headers=headers, query=query)) == FollowRun(RunId("r"), after)


BAD = ["-1", "abc", "1.5", "+1", " 1", "1 ", "0x1", "1e3", "٣", "²", str(CURSOR_MAX + 1), "9" * 400, "1, 2", "null"]


@pytest.mark.parametrize("said", BAD)
@pytest.mark.parametrize("field", ["Last-Event-ID", "from", "starting_after"])
def test_what_is_no_cursor_is_refused_by_the_name_it_came_under(field: str, said: str) -> None:
    given = {"headers": {"last-event-id": said}} if field == "Last-Event-ID" else {"query": {field: said}}
    with pytest.raises(BadRequest) as refused:
        follow(request(**given))
    assert refused.value.detail == f"{field} must be the seq of an entry: a whole number from 0 to 9007199254740992."


@pytest.mark.parametrize("field", ["from", "starting_after"])
def test_a_field_without_a_value_is_no_cursor(field: str) -> None:
    with pytest.raises(BadRequest):
        follow(request(query={field: ""}))


# -- frames ------------------------------------------------------------------------------------------------------------

STARTED = Started(ConversationId("k"), 1, RunId("r"), 2, True)  # type: ignore[arg-type] a tape's number


def test_an_entry_is_one_frame_and_the_end_is_the_last() -> None:
    stream = EntryStream()
    assert stream.opened(STARTED) == b""
    text = stream.entry(Entry(3, RunId('r"1'), 1.5, TextAdded("é\n")))
    assert text.decode() == (
        'id: 3\ndata: {"seq":3,"run":"r\\"1","at":1.5,"event":{"kind":"text_added","text":"é\\n"}}\n\n'
    )
    assert not stream.closed
    assert b"run_completed" in stream.entry(Entry(4, RunId("r"), 1.5, RunCompleted()))
    assert stream.closed
    assert stream.entry(Entry(5, RunId("r"), 1.5, TextAdded("x"))) == b""


def test_nobody_is_told_the_instructions_and_the_screen_of_who_asked() -> None:
    screen = Screen("A secret screen.", (ScreenItem("n", "d", '"secret"'),))
    received = TurnReceived((said("user", "how is it?"),), system="secret wishes", screen=screen, owner="ann")
    told = entry_json(Entry(2, RunId("r"), 1.0, received))
    assert b"secret" not in told and b"how is it?" in told and b'"owner":"ann"' in told


def test_a_stream_that_breaks_off_says_when_to_come_back_and_shows_no_end() -> None:
    for error in (Unavailable("The server is stopping."), Conflict("It was deleted.")):
        stream = EntryStream()
        data = stream.failed(error)
        reader = sse.Reader()
        assert (data, reader.feed(data), reader.retry_ms, stream.closed) == (b"retry: 2000\n\n", [], 2000, True)


def test_a_life_sign_delivers_nothing() -> None:
    assert sse.Reader().feed(EntryStream().silence()) == []


# -- R10: a reader that drops and comes back ---------------------------------------------------------------------------

Ask = Callable[[str, str], tuple[str, dict[str, str]]]
WAYS: dict[str, Ask] = {
    "header": lambda run, seq: (events(run), {"last-event-id": seq}),
    "from": lambda run, seq: (f"{events(run)}?from={seq}", {}),
    "starting_after": lambda run, seq: (f"{events(run)}?starting_after={seq}", {}),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_a_reader_that_drops_after_any_entry_gets_the_rest(stage: SetUp, way: Ask) -> None:
    async with stage(model=ScriptedReplies(text_reply(*PIECES))) as s:
        run = await counted(s)
        tape = frames(await tape_of(s, run))
        assert len(tape) == ENTRIES
        for k in range(1, ENTRIES + 1):
            async with s.client().stream("GET", events(run)) as first:
                while len(seen := read(first.body)[:k]) < k:
                    await first.chunk()
            target, headers = way(run, seen[-1][0])
            rest = await s.client().request("GET", target, headers=headers)
            assert seen + read(rest.body) == tape
            assert rest.status == (200 if k < ENTRIES else 204)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_a_reader_that_drops_after_every_entry_of_a_live_run_misses_none(stage: SetUp, way: Ask) -> None:
    model = ScriptedReplies(text_reply(*PIECES))
    model.gate = Gate()
    async with stage(model=model) as s, s.client().stream("POST", STREAM, body=ask()) as asked:
        await asked.until(b"event: start")
        run = asked.headers["x-run-id"]
        seen: list[tuple[str, Any]] = []
        while not seen or seen[-1][1]["event"]["kind"] != "run_completed":
            target, headers = way(run, seen[-1][0] if seen else "0")
            async with s.client().stream("GET", target, headers=headers) as answer:
                model.gate.release()
                seen.append(read(await answer.until(b"\n\n"))[0])
        await s.house.runs[0].settled()
        assert seen == frames(await tape_of(s, run))
    assert len(seen) >= ENTRIES


# -- R11: the boundary between what stands on the tape and what is just being written ----------------------------------


class Chatty(ScriptedReplies):
    """Says its pieces with a turn of the event loop between any two, so that readers come in between."""

    async def reply(self, prompt: Any, *, stream: bool) -> Any:
        for piece in PIECES:
            yield TextPiece(piece)
            await asyncio.sleep(0)
        yield ReplyDone("".join(PIECES))


@asynccontextmanager
async def engine(name: str, tmp_path: Path) -> AsyncIterator[dict[str, Any]]:
    if name == "memory":
        yield {}
        return
    clock = FixedClock()
    store = await open_store(tmp_path / "store.db", clock, writer=True)
    try:
        yield {"store": store, "clock": clock}
    finally:
        await store.close()


@pytest.mark.parametrize(("name", "runs"), [("memory", 5), ("sqlite", 1)])
async def test_readers_that_come_back_while_entries_are_written_miss_none_and_get_none_twice(
    stage: SetUp, tmp_path: Path, name: str, runs: int
) -> None:
    seed = random.randrange(2**32)
    choose = random.Random(seed)
    races = count()

    async def drop_in(s: Stage, run: str) -> list[tuple[str, Any]]:
        seen: list[tuple[str, Any]] = []
        while not seen or seen[-1][1]["event"]["kind"] != "run_completed":
            next(races)
            target, headers = choose.choice([*WAYS.values()])(run, seen[-1][0] if seen else "0")
            async with s.client().stream("GET", target, headers=headers) as answer:
                for _ in range(choose.randrange(1, 4)):
                    if answer.ended:
                        break
                    await answer.chunk()
                seen += read(answer.body)
        return seen

    async with engine(name, tmp_path) as parts, stage(model=Chatty(), **parts) as s:
        for turn in range(runs):
            async with s.client().stream("POST", STREAM, body=ask(f"k{turn}")) as asked:
                await asked.until(b"event: start")
                run = asked.headers["x-run-id"]
                readers = [asyncio.create_task(drop_in(s, run)) for _ in range(8)]
                shown = await asyncio.wait_for(asyncio.gather(*readers), 4 * WAIT_S)
                await asked.rest()
            tape = frames(await tape_of(s, run))
            assert all(each == tape for each in shown), f"seed {seed}"
    assert next(races) > 300, "nobody came back: this raced nothing"


# -- R16: cursors that are not ours ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({"last-event-id": "abc"}, "", 400),
        ({"last-event-id": "-1"}, "", 400),
        ({"last-event-id": str(CURSOR_MAX + 1)}, "", 400),
        ({"last-event-id": "9" * 400}, "", 400),
        ({"last-event-id": "1.5"}, "", 400),
        ({"last-event-id": "1 or 1=1"}, "", 400),
        ({"last-event-id": "{head}0"}, "", 400),
        ({}, "?from=abc", 400),
        ({}, "?starting_after=-1", 400),
        ({}, "?from={head}0", 400),
        ({"last-event-id": "{foreign}"}, "", 200),
        ({"last-event-id": ""}, "", 200),
    ],
)
async def test_a_forged_cursor_is_refused_or_shows_this_run_alone(
    stage: SetUp, headers: dict[str, str], query: str, status: int
) -> None:
    """R16. A seq of another run's entry on the same tape is a place like any other: what is ours behind it is shown."""
    model = ScriptedReplies(text_reply("It is ", "fine."))
    model.gate = Gate()
    async with stage(model=model) as s:
        async with s.client().stream("POST", STREAM, body=ask()) as first:
            await first.until(b"event: start")
            waiting = asyncio.create_task(s.client().request("POST", CHAT, body=ask()))
            while len(await s.store.runs(ADMIN.project, limit=10)) < 2:
                await asyncio.sleep(0)
            run, other = first.headers["x-run-id"], (await s.store.runs(ADMIN.project, limit=1))[0]
            model.gate.open()
            await first.rest()
        await waiting
        await s.house.runs[0].settled()
        tape, head = await tape_of(s, run), (await s.store.get(ADMIN.project, ConversationId("k"))).head
        assert tape[0].seq < other.first_seq < tape[-1].seq < head
        said_here = {"head": str(head), "foreign": str(other.first_seq)}
        sent = {name: value.format(**said_here) for name, value in headers.items()}
        answer = await s.client().request("GET", events(run) + query.format(**said_here), headers=sent)
        assert answer.status == status
        if status == 200:
            after = other.first_seq if "{foreign}" in headers.values() else 0
            assert read(answer.body) == frames([entry for entry in tape if entry.seq > after])
        else:
            named = "Last-Event-ID" if "last-event-id" in headers else query[1:].partition("=")[0]
            message = json.loads(answer.body)["error"]["message"]
            assert message.startswith(named) or str(head) in message


async def test_a_run_of_another_project_does_not_exist_and_one_scope_is_needed(stage: SetUp) -> None:
    async with stage() as s:
        run = await counted(s)
        await s.store.put_project(Project(ProjectId("other"), "other", 0.0))
        stranger = await s.house.mint.create("x", ProjectId("other"), scopes=(Scope.ADMIN,))
        poor = await s.house.mint.create("y", ADMIN.project, scopes=(Scope.CHAT_RUN,))
        answers = [
            await s.anonymous().request("GET", events(run)),
            await s.anonymous().request("GET", events(run), headers={"authorization": f"Bearer {poor.text}"}),
            await s.anonymous().request("GET", events(run), headers={"authorization": f"Bearer {stranger.text}"}),
            await s.client().request("GET", events("none")),
        ]
    assert [answer.status for answer in answers] == [401, 403, 404, 404]


# -- what is there to be followed --------------------------------------------------------------------------------------


async def test_proxies_are_told_to_let_every_entry_through_at_once(stage: SetUp) -> None:
    async with stage() as s:
        run = await counted(s)
        answer = await s.client().request("GET", events(run))
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert (answer.headers["x-accel-buffering"], answer.headers["cache-control"]) == ("no", "no-cache, no-transform")
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_who_has_read_all_of_an_ended_run_is_told_not_to_come_back(stage: SetUp) -> None:
    """WHATWG HTML, 9.2.3: a reader connects again after every close, unless it is answered 204."""
    async with stage() as s:
        run = await counted(s)
        end = (await tape_of(s, run))[-1].seq
        answer = await s.client().request("GET", events(run), headers={"last-event-id": str(end)})
        later = await counted(s)
        beyond = await s.client().request("GET", f"{events(run)}?from={end + 1}")
        unread = await s.client().request("GET", events(later), headers={"last-event-id": str(end)})
    assert (answer.status, answer.body, "content-length" in answer.headers) == (204, b"", False)
    assert (beyond.status, unread.status) == (204, 200)


async def test_a_run_that_waits_can_be_followed_from_before_its_turn_comes(stage: SetUp) -> None:
    model = ScriptedReplies(text_reply("It is ", "fine."))
    model.gate = Gate()
    async with stage(model=model) as s, s.client().stream("POST", STREAM, body=ask()) as first:
        await first.until(b"event: start")
        async with s.client().stream("POST", STREAM, body=ask()) as second:
            await second.until(b"event: start")
            run = second.headers["x-run-id"]
            async with s.client().stream("GET", events(run)) as following:
                await following.until(b"turn_received")
                model.gate.open()
                await following.rest()
            await second.rest()
        await first.rest()
        await s.house.runs[0].settled()
        assert read(following.body) == frames(await tape_of(s, run))


async def test_a_run_that_leaves_nothing_behind_can_be_followed_while_it_is_there(stage: SetUp) -> None:
    model = ScriptedReplies(text_reply("It is ", "fine."))
    model.gate = Gate()
    async with stage(model=model) as s:
        turn = StartTurn(ConversationId("k"), (said("user", "hi"),), ephemeral=True)
        started = await s.house.desk.answer(ADMIN, turn)
        async with s.client().stream("GET", events(started.run)) as following:
            await following.until(b"run_claimed")
            model.gate.open()
            await following.rest()
        resumed = await s.client().request("GET", events(started.run), headers={"last-event-id": "3"})
    shown = read(following.body)
    assert [data["event"]["kind"] for _, data in shown][-1] == "run_completed"
    assert read(resumed.body) == [frame for frame in shown if int(frame[0]) > 3]


async def test_a_server_that_stops_sends_its_followers_away_without_an_end(stage: SetUp) -> None:
    model = ScriptedReplies(text_reply("It is ", "fine."))
    model.gate = Gate()
    async with stage(model=model) as s, s.client().stream("POST", STREAM, body=ask()) as asked:
        await asked.until(b"event: start")
        run = asked.headers["x-run-id"]
        async with s.client().stream("GET", events(run)) as following:
            await following.until(b"run_claimed")
            s.house.runs[0].hang_up()
            await following.rest()
    assert following.ended and following.body.endswith(b"\n\nretry: 2000\n\n")
    assert b"run_completed" not in following.body and b"event:" not in following.body


async def test_followers_of_a_deleted_conversation_are_sent_away_and_find_it_gone(stage: SetUp) -> None:
    model = ScriptedReplies(text_reply("never"))
    model.gate = Gate()
    async with stage(model=model) as s, s.client().stream("POST", STREAM, body=ask()) as asked:
        await asked.until(b"event: start")
        run = asked.headers["x-run-id"]
        async with s.client().stream("GET", events(run)) as following:
            await following.until(b"run_claimed")
            await s.client().request("DELETE", "/api/v1/sessions/k")
            await following.rest()
        again = await s.client().request("GET", events(run))
    assert following.body.endswith(b"\n\nretry: 2000\n\n")
    assert again.status == 404


# -- what is there no more ---------------------------------------------------------------------------------------------


async def test_what_is_kept_no_longer_is_refused_with_what_became_of_the_run(stage: SetUp) -> None:
    async with stage(model=ScriptedReplies(text_reply("It is ", "fine."))) as s:
        run = await counted(s)
        end = (await tape_of(s, run))[-1].seq
        s.clock.move(10.0)
        assert await s.store.prune(ended_before=s.clock.now(), limit=10) == 1
        answers = [await s.client().request("GET", f"{events(run)}?from={seq}") for seq in (0, 5, end - 1)]
        shown = json.loads((await s.client().request("GET", f"/api/runs/{run}")).body)
        last = await s.client().request("GET", f"{events(run)}?from={end}")
        huge = await s.client().request("GET", f"{events(run)}?from={end + 1}")
    for answer in answers:
        body = json.loads(answer.body)
        assert (answer.status, body["error"]["code"]) == (410, "expired")
        assert body["run"] == {name: value for name, value in shown.items() if name != "entries"}
        assert (body["run"]["status"], body["read"]) == ("completed", f"/api/runs/{run}")
    assert (last.status, huge.status) == (204, 400)
    assert "fine." in json.dumps(shown["entries"])  # the text stands in what is still to be read


# -- places ------------------------------------------------------------------------------------------------------------


async def test_followers_take_places_like_all_other_readers(stage: SetUp) -> None:
    model = ScriptedReplies(text_reply("x"))
    model.gate = Gate()
    async with (
        stage(model=model, config=open_config(readers_per_conversation=2)) as s,
        s.client().stream("POST", STREAM, body=ask()) as asked,
    ):
        await asked.until(b"event: start")
        run = asked.headers["x-run-id"]
        async with s.client().stream("GET", events(run)) as following:
            await following.until(b"run_claimed")
            refused: list[Response] = [
                await s.client().request("GET", events(run)),
                await s.client().request("POST", STREAM, body=ask()),
            ]
            elsewhere = await Client(s.house.app).request("GET", "/health")
        model.gate.open()
        let_in = await s.client().request("GET", events(run))
        assert len(await s.store.runs(ADMIN.project, limit=10)) == 1  # who was refused has begun nothing
    assert [(answer.status, answer.headers["retry-after"]) for answer in refused] == [(429, "5")] * 2
    assert json.loads(refused[0].body)["error"]["message"] == "This conversation has 2 readers already."
    assert (elsewhere.status, let_in.status) == (200, 200)
