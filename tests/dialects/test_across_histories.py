"""Random histories of requests of one wire, held against a simple model of what its document must be then: what was
sent, and behind it what came of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.stores.memory import MemoryStore
from dragoman.stores.sqlite.store import open_store
from tests.dialects.across import CONVERSATION, Caller, Json, Speaker, message, told, user
from tests.runtime.looping import ContextTools
from tests.stage import SetUp, Stage, standing
from tests.stage import stage as stage
from tests.support import FixedClock

ACTS = ("go on", "look", "edit", "cut", "again", "act", "fail", "put", "put the same", "copy", "grip", "delete")
CONTEXT = [("assistant", "context"), ("user", "context")]
LOOKS = [("assistant", "look"), ("user", "look")]

Rows = list[tuple[str, str]]


class Model:
    """The document, as whoever sends it must find it."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.messages: list[Json] = []
        self.asked = 0

    def text(self, word: str) -> str:
        self.asked += 1
        return f"{word} {self.asked}"

    async def act(self, what: str, at: int) -> None:
        questions = [at for at, each in enumerate(self.messages) if is_question(each)]
        if not self.messages:
            await self.say([user(self.text("ask"))])
            return
        place = questions[at % len(questions)]
        match what:
            case "go on" | "look":
                await self.say([*self.messages, user(self.text(what.replace("go on", "ask")))])
            case "edit":
                changed = user(self.text("ask"), event="edited")
                await self.say([*self.messages[:place], changed, *self.messages[place + 1 :], user(self.text("ask"))])
            case "cut":
                if not self.messages[place]["message"]["content"].startswith("restart"):
                    await self.say(self.messages[: place + 1])
            case "again":
                await self.say(self.messages)
            case "act":
                await self.action()
            case "fail":
                await self.caller.elastic(*self.messages, user(self.text("fail")))
                await self.check()
            case "put" | "put the same":
                if what == "put the same":
                    await self.put(self.messages)
                elif not self.messages[place]["message"]["content"].startswith("restart"):  # asked again, it would act
                    await self.put([*self.messages[: place + 1], message("assistant", self.text("so"))])
            case "copy":
                copy = await self.caller.call("POST", f"{CONVERSATION}/{self.caller.conversation}/duplicate")
                await self.check()
                self.caller.conversation = copy["conversation"]["id"]
                await self.check()
            case "grip":
                text = self.text("ask")
                await self.caller.grip(text)
                await self.check([("user", text), ("assistant", f"So: {text}")])
            case _:
                await self.caller.call("DELETE", f"{CONVERSATION}/{self.caller.conversation}")
                self.caller.conversation, self.messages = "", []

    async def say(self, messages: list[Json]) -> None:
        """What is sent stands there as it is, and behind it what the server did about it."""
        calls = len(self.caller.prompts)
        await self.caller.elastic(*messages)
        at = max(at for at, each in enumerate(messages) if is_question(each))
        since = told({"messages": messages[at:]})
        self.messages = messages
        if since[-1][0] == "assistant" and CONTEXT[0] in since:
            assert len(self.caller.prompts) == calls  # answered already (D8)
            await self.check()
            return
        looked = LOOKS if since[0][1].startswith("look") and LOOKS[0] not in since else []
        await self.check([*CONTEXT, *looked, ("assistant", f"So: {since[0][1]}")])

    async def action(self) -> None:
        asked = [*self.messages, user(self.text("restart"))]
        assert '"name":"restart"' in await self.caller.elastic(*asked)
        await self.check()
        called = {"name": "restart", "arguments": '{"what":"db"}', "trigger": "assistant"}
        await self.say([*asked, message("assistant", "", function_call=called), user('{"ok":1}', name="restart")])

    async def put(self, messages: list[Json]) -> None:
        document = await self.caller.document()
        names = ("@timestamp", "conversation", "labels", "numeric_labels", "public")
        sent = {"conversation": {name: document[name] for name in names} | {"messages": messages}}
        await self.caller.call("PUT", f"{CONVERSATION}/{self.caller.conversation}", sent)
        self.messages = messages
        await self.check()

    async def check(self, more: Rows | None = None) -> None:
        document = await self.caller.document()
        sent, rest = document["messages"][: len(self.messages)], document["messages"][len(self.messages) :]
        assert sent == self.messages
        assert told({"messages": rest}) == (more or [])
        assert document["conversation"]["title"] == "On things"
        self.messages = document["messages"]


def is_question(each: Json) -> bool:
    return each["message"]["role"] == "user" and "name" not in each["message"]


@pytest.mark.parametrize("engine", ["memory", "sqlite"])
def test_a_document_is_what_was_sent_and_what_came_of_it(engine: str, stage: SetUp, tmp_path: Path) -> None:
    @asynccontextmanager
    async def opened(**settings: Any) -> AsyncIterator[Stage]:
        clock = FixedClock()
        store = MemoryStore(clock) if engine == "memory" else await open_store(tmp_path / "d.db", clock, writer=True)
        async with stage(store=store, clock=clock, **settings) as scene:
            yield scene
        await store.close()

    with standing(opened, model=Speaker(), tools=ContextTools(look='{"seen":1}')) as (scene, run):

        @settings(max_examples=15, deadline=None)
        @given(st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 5)), min_size=1, max_size=8))
        def histories(acts: list[tuple[str, int]]) -> None:
            run(play(scene, acts))

        histories()


async def play(scene: Stage, acts: list[tuple[str, int]]) -> None:
    caller = Caller(scene)
    model = Model(caller)
    await model.act("begin", 0)
    for what, at in acts:
        await model.act(what, at)
