"""A real `kill -9` of a real server in the middle of a workflow's turn, as one caller of Rowboat's wire sees it: who
asks again under the same key gets the same answer and no second turn, a stream that is cut costs its reader nothing but
the rest of it, and of a turn that is not kept nothing is left.

At which commits it may be killed, on which store, and with which other server is `relays.py`'s matter.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from dragoman.core import events as ev
from tests.crash.homes import Dump, Home, Template, dump, template
from tests.crash.outside import Outside, outside_world
from tests.crash.rowboat import answer_of, faults_of
from tests.crash.scripts import HAND, Script
from tests.crash.servers import Server, free_port

pytestmark = pytest.mark.timeout(60)

CHAT = "/api/v1/amber/chat"
KEY = "the-key"
ENDS_S = 20.0
STEPS = ((f"{HAND}Scout",), ("count_once",), (), (f"{HAND}Line",), ("count_again",), (), ())
SCRIPT = Script("c.1", "canaryamber", STEPS, words=3)
KILLS = {
    "accepted": "accept.after_commit=kill@1",
    "the webhook was asked and its answer is not kept": "tool.effect_done=kill@1",
    "the word came back": "handover.committed=kill@2",
    "the answer is not committed": "finish.before_commit=kill@1",
    "the answer is committed and was not told": "finish.after_commit=kill@1",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ready(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Template]:
    async with template("sqlite", tmp_path_factory.mktemp("crash")) as made:
        yield made


class Stage:
    def __init__(self, home: Home, server: Server, outside: Outside) -> None:
        self.home = home
        self.server = server
        self.outside = outside
        headers = {"Authorization": f"Bearer {home.credentials['amber']}"}
        self.http = httpx.AsyncClient(base_url=server.url, headers=headers, timeout=ENDS_S)

    async def start(self, fuses: str = "") -> None:
        await self.server.launch(fuses)
        await self.server.listens()

    async def died(self) -> bool:
        return await asyncio.wait_for(self.server.wait(), ENDS_S) == -9

    async def ask(self, script: Script, *, key: str = KEY, **fields: Any) -> httpx.Response:
        body = {"messages": [{"role": "user", "content": script.message()}], **fields}
        return await self.http.post(CHAT, json=body, headers={"Idempotency-Key": key} if key else {})

    async def asked_again(self, script: Script, **fields: Any) -> httpx.Response:
        """The answer under the key; while the turn is at work, whoever does not want a stream is told to come back."""
        async with asyncio.timeout(ENDS_S):
            while (answer := await self.ask(script, **fields)).status_code == 409:
                assert int(answer.headers["retry-after"]) > 0
                await asyncio.sleep(0.05)
        return answer

    async def kept(self) -> Dump:
        """What is in the store, once the server has stopped in order."""
        assert await self.server.stop() == 0
        return await dump(self.home)


@asynccontextmanager
async def staged(folder: Path, made: Template) -> AsyncIterator[Stage]:
    async with outside_world(folder) as outside:
        (home,) = await made.homes(folder, upstream=outside.url, lease_s=1)
        server = Server(home, free_port(random.Random()), effects=outside.url, log=folder / "server.log")
        stage = Stage(home, server, outside)
        try:
            async with stage.http:
                yield stage
        finally:
            server.kill()
            await server.wait()
            await made.discard(home)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("fuse", KILLS.values(), ids=KILLS)
async def test_who_asks_again_under_its_key_gets_one_answer_of_one_turn(
    tmp_path: Path, ready: Template, fuse: str, stream: bool
):
    fields = {"conversationId": None, "stream": stream}
    mode = "rowboat-stream" if stream else "rowboat"
    async with staged(tmp_path, ready) as stage:
        await stage.start(fuse)
        with pytest.raises(httpx.TransportError):
            await stage.ask(SCRIPT, **fields)
        assert await stage.died()
        await stage.start()
        answers = [await stage.asked_again(SCRIPT, **fields) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[1].headers["idempotency-replayed"] == "true"
        assert answers[0].headers["x-run-id"] == answers[1].headers["x-run-id"]
        first, second = (answer_of(mode, answer.content) for answer in answers)
        assert first and second and first["conversationId"] == second["conversationId"]
        assert first["turn"]["output"] == second["turn"]["output"] and faults_of(first["turn"]["output"], SCRIPT) == []
        assert (await stage.ask(Script("c.2"), **fields)).status_code == 422
        kept = await stage.kept()
    assert [(tape.conversation, len(kept.runs)) for tape in kept.tapes] == [(first["conversationId"], 1)]
    effects = [effect.tool for effect in stage.outside.effects.lines]
    assert effects.count("count_once") == 1 and effects.count("count_again") in (1, 2)


async def test_a_stream_that_its_reader_leaves_is_a_turn_of_the_conversation_all_the_same(
    tmp_path: Path, ready: Template
):
    """The wire has no way to take a stream up again: whoever wants to know asks the conversation on."""
    async with staged(tmp_path, ready) as stage:
        await stage.start()
        begun = (await stage.ask(Script("c.1", words=2), key="", conversationId=None)).json()["conversationId"]
        left = Script("c.2", "", STEPS, words=3, first_ms=30)
        body = {"messages": [{"role": "user", "content": left.message()}], "conversationId": begun, "stream": True}
        async with stage.http.stream("POST", CHAT, json=body) as answer:
            async for _ in answer.aiter_raw():
                break
        again = await stage.ask(Script("c.3", words=2), key="", conversationId=begun)
        assert again.status_code == 200 and again.json()["conversationId"] == begun
        kept = await stage.kept()
    (tape,) = kept.tapes
    ends = [entry.event for entry in tape.entries if ev.is_end(entry.event)]
    assert [type(end) for end in ends] == [ev.RunCompleted] * 3
    assert stage.outside.bills.lines[-1].turns == ("c.1", "c.2", "c.3")
    assert [effect.tool for effect in stage.outside.effects.lines].count("count_once") == 1


async def test_of_a_turn_that_its_caller_keeps_itself_nothing_is_left(tmp_path: Path, ready: Template):
    """First generation: each request brings the whole conversation. What its tools did lasts all the same, and whoever
    asks again has them act again: the key went with the process."""
    async with staged(tmp_path, ready) as stage:
        await stage.start("handover.committed=kill@2")
        with pytest.raises(httpx.TransportError):
            await stage.ask(SCRIPT, state=None)
        assert await stage.died()
        for path in stage.home.path.glob("dragoman.db*"):
            assert SCRIPT.canary.encode() not in path.read_bytes()
        await stage.start()
        answer = await stage.ask(SCRIPT, state=None)
        assert answer.status_code == 200
        last = answer.json()["messages"][-1]
        assert last["content"].startswith("c.1/8") and last["agenticResponseType"] == "external"
        kept = await stage.kept()
    assert kept.tapes == [] and kept.runs == {}
    keys = [effect.key for effect in stage.outside.effects.lines if effect.tool == "count_once"]
    assert len(keys) == len(set(keys)) == 2
