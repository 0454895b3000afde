"""Two users and an admin do anything in any order, over the documented rows and over A2A at once, and each is told just
what a small model of chats says: statuses, and all that can be seen of a chat."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from dragoman.access.scopes import DEFAULT_SCOPES
from dragoman.core.errors import BackendFailed
from dragoman.dialects.grafana import BASES, EVENTS_BASES
from dragoman.dialects.grafana.prompts import NO_TITLE
from dragoman.runtime.ports import Prompt, ReplyDone, ReplyPiece, TextPiece
from tests.dialects.grafana import a2a_reading
from tests.dialects.grafana.reading import Chat as Reader
from tests.parts import ADMIN
from tests.stage import Run, SetUp, Stage, standing
from tests.streaming_client import Client, Response

EXAMPLES = 25
STEPS = 14

A, B = BASES[0], BASES[1]
SECRET = "only-for-the-model"
BLOCK = f"\n<context>{SECRET}</context>"
NOWHERE = "nowhere"
FAILS, WAITS = "fail", "wait"
PROMPTS = ("Hello", "How many?" + BLOCK, "Two\nlines", BLOCK, FAILS + BLOCK)

USERS, ADMIN_USER = ("alice", "bob"), "root"
users = st.sampled_from(USERS)
anybody = st.sampled_from((*USERS, ADMIN_USER))
places = st.integers(0, 20)
"""Which of the chats there ever were, or one that never was."""
prompts = st.sampled_from(PROMPTS)


def shown(prompt: str) -> str:
    """What a person wrote of it."""
    return re.sub(r"\s*<context>.*?</context>", "", prompt, flags=re.DOTALL)


class Parrot:
    """A model that answers with what it was asked, which it sees with its context, and with how many answers there
    were before. It fails, or never answers, if it is asked to."""

    async def reply(self, prompt: Prompt, *, stream: bool) -> AsyncGenerator[ReplyPiece]:
        asked = prompt.messages[-1].full_text
        if asked.startswith(FAILS):
            raise BackendFailed("The parrot is ill.")
        if asked.startswith(WAITS):
            await asyncio.Event().wait()
        told = answer_to(asked, sum(message.role == "assistant" for message in prompt.messages))
        if stream:
            for word in told.split(" "):
                yield TextPiece(word + " ")
        yield ReplyDone(told + " ")

    async def close(self) -> None:
        pass


def answer_to(asked: str, before: int) -> str:
    return f"{before} told of it: {SECRET in asked}. {shown(asked)}"


# -- the model -------------------------------------------------------------------------------------------------------


@dataclass
class Turn:
    asked: str
    state: str
    answer: str = ""
    run: str = ""


@dataclass
class Chat:
    id: str
    owner: str
    name: str
    turns: list[Turn] = field(default_factory=list[Turn])
    shared: bool = False
    archived: bool = False

    def ask(self, prompt: str, *, run: str = "") -> Turn:
        if prompt.startswith(FAILS):
            turn = Turn(shown(prompt), "failed", run=run)
        else:
            before = sum(turn.state == "completed" for turn in self.turns)
            turn = Turn(shown(prompt), "completed", answer_to(prompt, before) + " ", run)
        self.turns.append(turn)
        return turn

    @property
    def said(self) -> list[tuple[str, str]]:
        return [line for turn in self.turns for line in _lines(turn)]


def _lines(turn: Turn) -> Iterator[tuple[str, str]]:
    yield "user", turn.asked
    if turn.state == "completed":
        yield "assistant", turn.answer


def may_write(user: str, chat: Chat | None) -> bool:
    return chat is not None and user in (chat.owner, ADMIN_USER)


def may_read(user: str, chat: Chat | None) -> bool:
    return chat is not None and (chat.shared or may_write(user, chat))


def titled(prompt: str) -> str:
    return shown(prompt).split("\n")[0] or NO_TITLE


# -- the machine -----------------------------------------------------------------------------------------------------


class Histories(RuleBasedStateMachine):
    """`scene` and `run` are set on a class of this test's own."""

    scene: Stage
    run_: Run[Any]

    def __init__(self) -> None:
        super().__init__()
        self.chats: dict[str, Chat] = {}
        self.ever: list[str] = []
        self.made = 0
        self.callers: dict[str, Client] = {}
        self.owners: dict[str, str] = {}
        type(self).run_(self._arrive())

    async def _arrive(self) -> None:
        for user in (*USERS, ADMIN_USER):
            scopes = tuple(ADMIN.scopes) if user == ADMIN_USER else DEFAULT_SCOPES
            minted = await self.scene.house.mint.create(user, ADMIN.project, scopes=scopes, rpm=0)
            self.callers[user] = Client(
                self.scene.house.app, headers={"authorization": f"Bearer {minted.text}", "content-type": "x/json"}
            )
            self.owners[user] = minted.credential.id

    @initialize()
    def begin(self) -> None:
        """Chats to look at from the first step on: two of alice's, one of them shared, and one of bob's."""
        for user, prompt in zip(("alice", "bob", "alice"), PROMPTS, strict=False):
            self.post(user, prompt, 0, True)
        self.change("alice", 0, None, True, None)

    # -- asking ----------------------------------------------------------------------------------------------------

    def ask(self, user: str, method: str, path: str, body: Any = None, **headers: str) -> Response:
        """The answer. Time passes before it, so that changes have an order."""
        type(self).scene.clock.move(1)
        sent = b"" if body is None else json.dumps(body).encode()
        answer = type(self).run_(self.callers[user].request(method, path, body=sent, headers=headers))
        assert SECRET.encode() not in answer.body
        return answer

    def data(self, user: str, method: str, path: str, body: Any = None) -> Any:
        answer = self.ask(user, method, path, body)
        assert answer.status == 200, (method, path, answer.status, answer.body)
        return json.loads(answer.body)["data"]

    def gone(self, user: str, method: str, path: str, body: Any = None) -> None:
        answer = self.ask(user, method, path, body)
        assert (answer.status, json.loads(answer.body)["message"]) == (404, "Chat not found"), (method, path)

    def call(self, user: str, method: str, params: Any) -> Response:
        return self.ask(
            user, "POST", f"{B}/a2a/agents/any", {"jsonrpc": "2.0", "id": "q", "method": method, "params": params}
        )

    def result(self, user: str, method: str, params: Any) -> Any:
        """Of a call that is answered in one piece; an error's code if it is refused."""
        answer = self.call(user, method, params)
        assert answer.status == 200, answer.body
        told = json.loads(answer.body)
        return told["error"]["code"] if "error" in told else told["result"]

    def place(self, number: int) -> tuple[str, Chat | None]:
        name = (*self.ever, NOWHERE)[number % (len(self.ever) + 1)]
        return name, self.chats.get(name)

    def new(self, chat: Chat) -> Chat:
        self.chats[chat.id] = chat
        if chat.id not in self.ever:
            self.ever.append(chat.id)
        return chat

    def said_in(self, prompt: str, **params: Any) -> Any:
        self.made += 1
        message = {"role": "user", "messageId": f"m{self.made}", "parts": [{"kind": "text", "text": prompt}]}
        return {"message": message} | params

    # -- rules: turns ------------------------------------------------------------------------------------------------

    @rule(user=users, prompt=prompts, place=places, is_new=st.booleans())
    def post(self, user: str, prompt: str, place: int, is_new: bool) -> None:
        name, chat = ("", None) if is_new else self.place(place)
        body = {"prompt": prompt} | ({"chatId": name} if name else {})
        if not shown(prompt):
            assert self.ask(user, "POST", f"{A}/assistant/chats", body).status == 400
        elif name and not may_write(user, chat):
            self.gone(user, "POST", f"{A}/assistant/chats", body)
        else:
            told = self.data(user, "POST", f"{A}/assistant/chats", body)["chatId"]
            assert told == name or not name
            chat = chat or self.new(Chat(told, user, titled(prompt)))
            turn = chat.ask(prompt)
            events = self.follow(user, chat.id, "")
            turn.run = events.ended[-1]
            assert (events.failed, events.running) == (turn.state == "failed", [])
            assert lines_of(events.messages.values()) == chat.said

    @rule(user=users, prompt=prompts, place=places, is_new=st.booleans(), streamed=st.booleans())
    def say(self, user: str, prompt: str, place: int, is_new: bool, streamed: bool) -> None:
        name, chat = ("", None) if is_new else self.place(place)
        if name == NOWHERE:
            name = f"named-{self.made}-{type(self).scene.clock.at}"
        params = self.said_in(prompt, **({"contextId": name} if name else {}))
        if chat is not None and not may_write(user, chat):
            assert self.result(user, "message/send", params) == -32602
            return
        if streamed:
            frames = a2a_reading.frames(self.call(user, "message/stream", params).body)
            assert frames[-1].value["result"]["final"]
            last = frames[-1].value["result"]
            task = {"id": last["taskId"], "contextId": last["contextId"]}
            again = a2a_reading.frames(self.call(user, "tasks/resubscribe", {"id": task["id"]}).body)
            assert again[-1].value["result"] == last
        else:
            task = self.result(user, "message/send", params)
        assert task["contextId"] == name or not name
        chat = chat or self.new(Chat(task["contextId"], user, titled(prompt)))
        turn = chat.ask(prompt, run=task["id"])
        self.check_task(user, turn)

    @rule(user=users, place=places, by=anybody)
    def begin_and_cancel(self, user: str, place: int, by: str) -> None:
        name, chat = self.place(place)
        if chat is None or not may_write(user, chat):
            return
        task = self.result(user, "message/send", self.said_in(WAITS, contextId=name, configuration={"blocking": False}))
        assert self.data(user, "GET", f"{A}/chats/{name}")["running"]
        chat.turns.append(Turn(WAITS, "canceled", run=task["id"]))
        if not may_write(by, chat):
            assert self.result(by, "tasks/cancel", {"id": task["id"]}) == -32001
            by = user
        assert self.result(by, "tasks/cancel", {"id": task["id"]})["id"] == task["id"]
        assert self.follow(user, name, "").failed

    # -- rules: looking ----------------------------------------------------------------------------------------------

    @rule(user=anybody, place=places, of=st.integers(0, 3))
    def look_at_a_task(self, user: str, place: int, of: int) -> None:
        _, chat = self.place(place)
        if chat is None or of >= len(chat.turns):
            assert self.result(user, "tasks/get", {"id": "r_nowhere"}) == -32001
        elif may_read(user, chat):
            turn = chat.turns[of]
            self.check_task(user, turn)
            if turn.state != "canceled":
                assert self.result(user, "tasks/cancel", {"id": turn.run}) == (
                    -32002 if may_write(user, chat) else -32001
                )
        else:
            for method in ("tasks/get", "tasks/cancel"):
                assert self.result(user, method, {"id": chat.turns[of].run}) == -32001

    def check_task(self, user: str, turn: Turn) -> None:
        task = self.result(user, "tasks/get", {"id": turn.run})
        assert task["status"]["state"] == turn.state
        told = [each["parts"][0]["text"] for each in task.get("artifacts", ()) if each["name"] == "step.message"]
        assert "".join(told) == turn.answer
        assert [each["parts"][0]["text"] for each in task.get("history", ())] == ([turn.asked] if turn.asked else [])

    @rule(user=anybody, place=places)
    def read(self, user: str, place: int) -> None:
        name, chat = self.place(place)
        if chat is None or not may_read(user, chat):
            for path in (f"/chats/{name}", f"/chats/{name}/all-messages", f"/chats/{name}/ui-messages"):
                self.gone(user, "GET", A + path)
            return
        data = self.data(user, "GET", f"{A}/chats/{name}")
        self.check_chat(data, chat)
        assert lines_of(data["messages"]) == chat.said
        assert self.data(user, "GET", f"{A}/chats/{name}/all-messages")["messages"] == data["messages"]
        parts = self.data(user, "GET", f"{B}/chats/{name}/ui-messages")["messages"]
        assert [(each["role"], each["parts"][0]["text"]) for each in parts] == chat.said

    @rule(user=anybody, place=places)
    def read_what_is_shared(self, user: str, place: int) -> None:
        name, chat = self.place(place)
        if chat is not None and chat.shared:
            assert lines_of(self.data(user, "GET", f"{A}/shared/{name}")["messages"]) == chat.said
        else:
            self.gone(user, "GET", f"{A}/shared/{name}")
            self.gone(user, "GET", f"{A}/shared/{name}/ui-messages")

    @rule(user=users, archived=st.sampled_from(["", "includeArchived=true", "archivedOnly=true"]))
    def list_them(self, user: str, archived: str) -> None:
        data = self.data(user, "GET", f"{A}/chats?source=all&{archived}")
        wanted = {"": (False,), "includeArchived=true": (False, True), "archivedOnly=true": (True,)}[archived]
        mine = {chat.id: chat for chat in self.chats.values() if chat.owner == user and chat.archived in wanted}
        assert sorted(each["id"] for each in data["items"]) == sorted(mine)
        assert data["pagination"]["total"] == len(mine)
        for each in data["items"]:
            self.check_chat(each, mine[each["id"]])
            assert "messages" not in each
        changed = [each["modified"] for each in data["items"]]
        assert changed == sorted(changed, reverse=True)

    def check_chat(self, data: Any, chat: Chat) -> None:
        assert (data["id"], data["name"], data["userId"]) == (chat.id, chat.name, self.owners[chat.owner])
        assert (data["isPublic"], data["archived"], data["running"]) == (chat.shared, chat.archived, False)

    @rule(user=anybody, place=places, at=st.integers(0, 999), part=st.integers(0, 2))
    def follow_from(self, user: str, place: int, at: int, part: int) -> None:
        name, chat = self.place(place)
        if chat is None or not may_read(user, chat):
            self.gone(user, "GET", f"{EVENTS_BASES[0]}/chats/{name}")
            return
        last = int(self.follow(user, name, "").ids[-1])
        seq = at % last  # whoever has the last one waits for the next turn
        self.follow(user, name, f"{seq}.{part}" if part and seq else str(seq))
        beyond = {"last-event-id": str(last + 1000 + at)}
        assert self.ask(user, "GET", f"{EVENTS_BASES[0]}/chats/{name}", **beyond).status == 400

    def follow(self, user: str, name: str, cursor: str) -> Reader:
        """All that is told from behind a place, to the end: in order, each once, at last just what is to be read."""
        path = f"{EVENTS_BASES[0]}/chats/{name}"
        answer = self.ask(user, "GET", path, **({"last-event-id": cursor} if cursor else {}))
        assert answer.status == 200, answer.body
        reader = Later() if cursor else Reader()
        reader.read(answer.body)
        places = [(int(seq), int(part or 10**6)) for seq, _, part in (each.partition(".") for each in reader.ids)]
        assert places == sorted(set(places))
        if cursor:
            seq, _, part = cursor.partition(".")
            assert places[0] > (int(seq), int(part or 10**6))
        assert reader.ended and not reader.running
        view = {each["id"]: each for each in self.data(user, "GET", f"{A}/chats/{name}")["messages"]}
        told = {key: told for key, told in reader.messages.items() if not told["hidden"]}
        assert {key: each | {"chatId": name} for key, each in view.items() if key in told} == told
        return reader

    # -- rules: changing ---------------------------------------------------------------------------------------------

    @rule(
        user=anybody,
        place=places,
        name=st.sampled_from([None, "Another name"]),
        shared=st.sampled_from([None, True, False]),
        archived=st.sampled_from([None, True, False]),
    )
    def change(self, user: str, place: int, name: str | None, shared: bool | None, archived: bool | None) -> None:
        where, chat = self.place(place)
        body = {"name": name, "isPublic": shared, "archived": archived}
        if name is shared is archived is None:
            assert self.ask(user, "PATCH", f"{A}/chats/{where}", body).status == 400
        elif chat is None or not may_write(user, chat):
            self.gone(user, "PATCH", f"{A}/chats/{where}", body)
        else:
            data = self.data(user, "PATCH", f"{A}/chats/{where}", body)
            changed = replace(
                chat,
                name=chat.name if name is None else name,
                shared=chat.shared if shared is None else shared,
                archived=chat.archived if archived is None else archived,
            )
            self.chats[where] = changed
            self.check_chat(data, changed)

    @rule(user=anybody, place=places)
    def delete(self, user: str, place: int) -> None:
        name, chat = self.place(place)
        if may_write(user, chat):
            assert self.data(user, "DELETE", f"{A}/chats/{name}") == {"chatId": name}
            del self.chats[name]
        else:
            self.gone(user, "DELETE", f"{A}/chats/{name}")


class Later(Reader):
    """A reader that came again: what it is told of may have begun before."""

    def _take(self, frame_id: str, kind: str, data: dict[str, Any]) -> None:
        if kind == "MESSAGE_UPDATED":
            self.messages.setdefault(data["id"], data)
        super()._take(frame_id, kind, data)


def lines_of(messages: Any) -> list[tuple[str, str]]:
    return [
        (each["role"], "".join(part["text"] for part in each["content"] if part["type"] == "text"))
        for each in messages
        if not each["hidden"]
    ]


@contextmanager
def machine(stage: SetUp) -> Generator[type[Histories]]:
    with standing(stage, model=Parrot()) as (scene, run):
        yield type("Histories", (Histories,), {"scene": scene, "run_": staticmethod(run)})


def test_everybody_sees_what_the_model_of_chats_says(stage: SetUp) -> None:
    with machine(stage) as histories:
        run_state_machine_as_test(
            histories,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                suppress_health_check=(HealthCheck.too_slow,),
                phases=(Phase.generate,),  # to shrink a failure takes longer than a test may
            ),
        )
