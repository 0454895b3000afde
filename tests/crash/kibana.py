"""Clients of the Elastic wire: they send the whole conversation each time, with its id, act when they are asked to, and
tell it otherwise now and then. After each turn they look at the conversation's document.

What a document must be is known from what was sent: the messages of the last turn that completed, then its answer. What
a turn said whose end was another one changes nothing.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from tests.crash.clients import CONNECTION_ERRORS, ENDS, FIRST_WAIT_S, WAIT_MAX_S, Client, Saying, World
from tests.crash.scripts import ACTION, OPENING, Script, again, draw, title_of

RETOLD_SHARE = 0.25
"""Turns before which the client forgets its last question, or all calls and results."""
ACTS_SHARE = 0.25
OVER = (*ENDS, "run_needs_client")
CONVERSATION = "/internal/observability_ai_assistant/conversation"
AT = "2026-11-21T00:00:00.000Z"
Message = dict[str, Any]
Violated = Callable[[str, str], None]


def draw_acting(rng: random.Random, token: str, canary: str) -> Script:
    """As the others', but for those that begin with something that the client must do."""
    script = draw(rng, token, canary, faults=True)
    if rng.random() < ACTS_SHARE:
        return msgspec.structs.replace(script, steps=((ACTION,), *script.steps[:1]))
    return script


def told(role: str, content: str, **fields: Any) -> Message:
    return {"@timestamp": AT, "message": {"role": role, "content": content, **fields}}


Essence = tuple[str, str, str, str]
"""Role, text, the name of the call or of what was called, and its arguments."""


def essence(messages: Sequence[Message]) -> list[Essence]:
    """What must come back of messages: who said what, which call, which result."""
    found: list[Essence] = []
    for each in messages:
        message: Mapping[str, Any] = each["message"]
        call: Mapping[str, Any] = message.get("function_call") or {}
        name = call.get("name", "")
        found.append((message["role"], message.get("content") or "", name or message.get("name", ""), _args(call)))
    return found


def _args(call: Mapping[str, Any]) -> str:
    text = call.get("arguments", "") if call.get("name") else ""
    return "" if text in ("", "{}") else text


def as_sent(found: Sequence[Essence], sent: Sequence[Essence]) -> int:
    """How many of the messages found are what was sent, with the `context` calls between them of which a client need
    not know; -1 if not all of it is there."""
    at = 0
    for message in sent:
        while at < len(found) and found[at] != message and found[at][2] == OPENING:
            at += 1
        if at == len(found) or found[at] != message:
            return -1
        at += 1
    return at


def plain(messages: Sequence[Message]) -> list[Message]:
    """Only what was said: as a client knows it that heard nothing of calls and results."""
    kept = [each for each in messages if not each["message"].get("name") and each["message"].get("content")]
    return [told(each["message"]["role"], each["message"]["content"]) for each in kept]


def before_last(messages: Sequence[Message]) -> list[Message]:
    """Without the last question and all behind it."""
    questions = [at for at, (role, _, name, _) in enumerate(essence(messages)) if role == "user" and not name]
    return list(messages[: questions[-1]]) if questions else []


class Thread:
    """One conversation as its client knows it."""

    def __init__(self) -> None:
        self.id = ""
        self.messages: list[Message] = []
        """"" and [] until its first turn has completed."""


class KibanaClient(Client):
    """Goes by names of its own for its conversations: their ids are the server's to give."""

    def __init__(
        self, world: World, name: str, project: str, conversations: list[str], *, violated: Violated, **options: Any
    ) -> None:
        super().__init__(world, name, project, conversations, **options)
        self._violated = violated
        self._threads = {conversation: Thread() for conversation in conversations}

    async def append(
        self,
        conversation: str,
        script: Script,
        *,
        mode: str = "elastic",
        keyed: bool = True,
        followed: bool = False,
        cancelled: bool = False,
    ) -> bool:
        """Always with a key, and until the stream was heard to its end: only so it is known what to send next."""
        thread = self._threads[conversation]
        history = self._history_for(thread)
        asked = [*history, told("user", script.message())]
        turn = await self._say(thread, script, script.token, asked, followed=followed, cancelled=cancelled)
        if turn is None:
            return False
        over = await self._over(turn.run)
        if over == "run_needs_client" and b'data: {"error"' not in turn.heard:  # else it cannot know of the call
            said, call = self._called(turn.heard)
            asked.append(told("assistant", said, function_call={**call, "trigger": "assistant"}))
            asked.append(told("user", '{"done":true}', name=ACTION))
            turn = await self._say(thread, script, again(script.token), asked, followed=False, cancelled=False)
            if turn is None:
                return False
            over = await self._over(turn.run)
        if over:
            await self._look(thread, script, turn, asked, over)
        return True

    def _history_for(self, thread: Thread) -> list[Message]:
        if self.rng.random() >= RETOLD_SHARE:
            return thread.messages
        return self.rng.choice((plain, before_last))(thread.messages)

    async def _say(
        self, thread: Thread, script: Script, token: str, asked: list[Message], *, followed: bool, cancelled: bool
    ) -> Saying | None:
        """The turn once its stream was heard to its end; None if it was refused or nothing is waited for any more."""
        body: dict[str, Any] = {
            "connectorId": "main",
            "persist": True,
            "messages": asked,
            "actions": [{"name": ACTION, "description": "Acts.", "parameters": {"type": "object"}}],
        }
        if thread.id:
            body["conversationId"] = thread.id
        wait_s = FIRST_WAIT_S
        while (server := await self._world.pick(self.rng, self._server)) is not None:
            turn = Saying(
                self,
                server,
                thread.id,
                script,
                "elastic",
                f"key-{token}",
                body=body,
                token=token,
                followed=followed,
                cancelled=cancelled,
            )
            verdict = await turn.take()
            if verdict != "again":
                return turn if verdict == "taken" else None
            followed = cancelled = False
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, WAIT_MAX_S)
        return None

    def _called(self, heard: bytes) -> tuple[str, dict[str, str]]:
        """What a stream said, and the call that ended it."""
        said, call = "", {"name": "", "arguments": ""}
        for frame in heard.split(b"\n\n"):
            if frame.startswith(b"data: {") and not frame.startswith(b'data: {"error"'):
                delta = msgspec.json.decode(frame.removeprefix(b"data: "))["choices"][0]["delta"]
                said += delta["content"]
                call = delta.get("function_call", call)
        if call["name"] != ACTION:
            self._violated("E1", f"a turn waits for its client, who heard of no call: {heard[-300:]!r}")
        return said, call

    async def _over(self, run: str) -> str:
        """Wait for the run's end; what kind it has, "" if nothing is waited for any more."""
        while (server := await self._world.pick(self.rng, self._server)) is not None:
            kinds = [entry.event["kind"] for entry in await self._entries(server, run)]
            if kinds and kinds[-1] in OVER:
                return kinds[-1]
            await asyncio.sleep(FIRST_WAIT_S)
        return ""

    async def _document(self, id: str) -> Any:
        """None if it is not there, or nothing is waited for any more."""
        while (server := await self._world.pick(self.rng, self._server)) is not None:
            try:
                url = f"{server.url}{CONVERSATION}/{id}"
                async with self._world.session.get(url, headers=self._headers) as answer:
                    if answer.status == 200:
                        return await answer.json()
                    if answer.status == 404:
                        return None
            except CONNECTION_ERRORS:
                pass
            await asyncio.sleep(FIRST_WAIT_S)
        return None

    async def _look(self, thread: Thread, script: Script, turn: Saying, asked: list[Message], over: str) -> None:
        """E1: the document is what the completed turns make it."""
        id, where = turn.named, f"{self.name}: {turn.named} after turn {script.token} ({over})"
        document = await self._document(id)
        if self._world.gave_up.is_set():
            return
        if over != "run_completed":
            if thread.id and (document is None or essence(document["messages"]) != essence(thread.messages)):
                self._violated("E1", f"{where}: a turn that did not complete changed the document")
            return
        if document is None:
            self._violated("E1", f"{where}: it is not there")
            return
        if thread.id not in ("", id):
            self._violated("E1", f"{where}: the turn was for {thread.id}")
        messages = document["messages"]
        found, sent = essence(messages), essence(asked)
        known = as_sent(found, sent)
        if known < 0:
            self._violated("E1", f"{where}: what was sent is not kept: {found[:20]} for {sent[:20]}")
        new = found[max(known, 0) :]
        if not new or new[-1][0] != "assistant" or not new[-1][1].startswith(f"{script.token}/{script.replies}"):
            self._violated("E1", f"{where}: its answer is not the last message: {found[-3:]}")
        calls = [name for role, _, name, _ in new if role == "assistant" and name]
        if calls != [name for role, _, name, _ in new if role == "user"] or calls.count(OPENING) != 1:
            self._violated("E1", f"{where}: calls and results do not match: {new}")
        if not thread.id and document["conversation"]["title"] != title_of(script.token):
            self._violated("E1", f"{where}: the title is {document['conversation']['title']!r}")
        thread.id, thread.messages = id, messages
