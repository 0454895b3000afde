"""Clients of Rowboat's wire, second generation: conversations that the server keeps, answered by a workflow. They learn
a conversation's id with the first whole answer, and look at each answer when they have it.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from tests.crash.clients import FIRST_WAIT_S, WAIT_MAX_S, Client, Saying, World
from tests.crash.scripts import TRANSFER, Script

STREAMED_SHARE = 0.5
Violated = Callable[[str, str], None]
Message = dict[str, Any]


class RowboatClient(Client):
    """Goes by names of its own for its conversations: their ids are the server's to give."""

    def __init__(
        self, world: World, name: str, project: str, conversations: list[str], *, violated: Violated, **options: Any
    ) -> None:
        super().__init__(world, name, project, conversations, **options)
        self._violated = violated
        self._ids: dict[str, str] = {}

    async def append(
        self,
        conversation: str,
        script: Script,
        *,
        mode: str = "",
        keyed: bool = True,
        followed: bool = False,
        cancelled: bool = False,
    ) -> bool:
        """Always with a key, and until the answer was heard to its end."""
        if not mode.startswith("rowboat"):
            mode = "rowboat-stream" if self.rng.random() < STREAMED_SHARE else "rowboat"
        body: dict[str, Any] = {
            "messages": [{"role": "user", "content": script.message()}],
            "conversationId": self._ids.get(conversation),
            "stream": mode == "rowboat-stream",
        }
        wait_s = FIRST_WAIT_S
        while (server := await self._world.pick(self.rng, self._server)) is not None:
            turn = Saying(
                self,
                server,
                self._ids.get(conversation, ""),
                script,
                mode,
                f"key-{script.token}",
                body=body,
                followed=followed,
                cancelled=cancelled,
            )
            verdict = await turn.take()
            if verdict == "taken" and (whole := answer_of(mode, turn.heard)) is None:
                verdict = "again"  # its stream ended, and not with an end
            elif verdict == "taken" and whole:
                self._look(conversation, script, whole)
            if verdict != "again":
                return verdict == "taken"
            followed = cancelled = False
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, WAIT_MAX_S)
        return False

    def _look(self, conversation: str, script: Script, answer: dict[str, Any]) -> None:
        """W3: an answer is whole, and of the conversation for which it was asked."""
        where = f"{self.name}: the answer to {script.token}"
        id = answer["conversationId"]
        if self._ids.setdefault(conversation, id) != id:
            self._violated("W3", f"{where} is of {id}, it was asked for {self._ids[conversation]}")
        for fault in faults_of(answer["turn"]["output"], script):
            self._violated("W3", f"{where} {fault}")


def answer_of(mode: str, heard: bytes) -> dict[str, Any] | None:
    """The whole answer, {} for a turn that failed, None if it was cut off."""
    if mode == "rowboat":
        return msgspec.json.decode(heard)
    frames = messages_of(heard)
    if not frames or frames[-1]["type"] == "message":
        return None
    return frames[-1] if frames[-1]["type"] == "done" else {}


def messages_of(heard: bytes) -> list[dict[str, Any]]:
    """What the whole frames of a stream say."""
    frames = [frame for frame in heard.split(b"\n\n")[:-1] if frame.startswith(b"event: message\ndata: ")]
    return [msgspec.json.decode(frame.partition(b"\ndata: ")[2]) for frame in frames]


def faults_of(output: Sequence[Message], script: Script) -> list[str]:
    """What is wrong with the messages of an answer."""
    found: list[str] = []
    last = output[-1] if output else {}
    text = str(last.get("content") or "")
    if last.get("role") != "assistant" or last.get("responseType") != "external":
        found.append(f"does not end with a text for the user: {last}")
    elif not text.startswith(f"{script.token}/{script.replies}"):
        found.append(f"ends with another text: {text[:100]!r}")
    calls = {call["id"]: call["function"] for each in output for call in each.get("toolCalls") or ()}
    results = {each["toolCallId"]: each for each in output if each["role"] == "tool"}
    if calls.keys() != results.keys() or len(results) != sum(each["role"] == "tool" for each in output):
        found.append(f"has calls {sorted(calls)} and results {sorted(results)}")
    for id, call in calls.items():
        if call["name"] == TRANSFER and id in results and results[id]["content"] != call["arguments"]:
            found.append(f"has half a hand-over: {call['arguments']} and {results[id]['content']}")
    return found
