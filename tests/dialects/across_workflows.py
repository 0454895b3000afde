"""What a workflow puts on a tape, and every way in which a wire tells a run."""

import json
from collections.abc import AsyncGenerator, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from dragoman.cli.conversations import spoken
from dragoman.core import events as ev
from dragoman.core.events import Entry, Event
from dragoman.core.messages import ToolCall, Usage, said
from dragoman.core.names import CallId, ConversationId, RunId, Tape
from dragoman.core.operations import ConversationInfo, ConversationView, Started
from dragoman.core.transcript import Transcript
from dragoman.core.workflows import TRANSFER, Handing, Staging
from dragoman.dialects.elastic.events import Events
from dragoman.dialects.elastic.frames import Chunks
from dragoman.dialects.elastic.messages import wire_messages
from dragoman.dialects.grafana.a2a_steps import Can, Steps
from dragoman.dialects.grafana.events import ChatStream
from dragoman.dialects.grafana.messages import turn_messages
from dragoman.dialects.grip import encode as grip
from dragoman.dialects.grip import session_files
from dragoman.runtime.ports import Prompt, ReplyPiece
from dragoman.runtime.workflow import transfer_text
from dragoman.server.config import Config, load_config
from dragoman.wire.dialect import Request
from tests.parts import call_reply, text_reply

RUN = RunId("run-1")
STARTED = Started(ConversationId("c-1"), Tape(1), RUN, 2, created=True)
AT = 1_700_000_000.0
SECRET = "SECRET"
"""What agents say to each other holds it."""
USAGE = Usage(5, 2)

Json = dict[str, Any]


def asked(text: str = "What colour?") -> ev.TurnReceived:
    return ev.TurnReceived((said("user", text),), origin="grip", staging=Staging("v1"))


def reply(agent: str, text: str, *calls: ToolCall, internal: str = "", streamed: bool = False) -> list[Event]:
    pieces: list[Event] = [ev.TextAdded(text)] if streamed else []
    return [ev.ReplyStarted(agent, "m"), *pieces, ev.ReplyFinished(text, calls, USAGE, internal=internal)]


def transfer(number: int, to: str) -> ToolCall:
    return ToolCall(CallId(f"t{number}"), TRANSFER, transfer_text(to))


def handed(number: int, before: str, to: str, how: Handing, pipeline: str = "", *, added: bool = False) -> list[Event]:
    """The result of a hand-over; `added` = by the server, so with its call."""
    call = transfer(number, to)
    pair: list[Event] = [ev.ToolReturned(call.id, transfer_text(to)), ev.HandedOver(before, to, how, pipeline)]
    return [ev.CallAdded(call), *pair] if added else pair


REPORTED: tuple[Event, ...] = (
    asked(),
    ev.RunClaimed(1),
    *reply("Hub", "", transfer(1, "Scout")),
    *handed(1, "Hub", "Scout", Handing.CALLED),
    *reply("Scout", "", internal=f"{SECRET} blue"),
    *handed(2, "Scout", "Hub", Handing.RETURNED, added=True),
    *reply("Hub", "It is blue.", streamed=True),
    ev.RunCompleted(USAGE),
)
"""One agent calls another, which reports back."""
ALOUD: tuple[Event, ...] = (
    asked(),
    ev.RunClaimed(1),
    *reply("Scout", "", internal=f"{SECRET} blue"),
    *handed(1, "Scout", "Writer", Handing.STEPPED, "Pair", added=True),
    *reply("Writer", "", internal=f"{SECRET} bluish"),
    ev.ReplyStarted("Writer", ""),
    ev.ReplyFinished("It is bluish."),
    ev.RunCompleted(USAGE),
)
"""Two steps of a pipeline with which the workflow starts; the last one's word is said again, to the user."""
STOPPED: tuple[Event, ...] = (
    asked(),
    ev.RunClaimed(1),
    *reply("Hub", "", transfer(1, "Scout")),
    *handed(1, "Hub", "Scout", Handing.CALLED),
    *reply("Scout", "", internal=f"{SECRET} blue"),
    ev.RunCancelled("k", USAGE),
)
"""Cancelled when an agent had just said something to others."""


def entries(events: Iterable[Event]) -> list[Entry]:
    return [Entry(seq, RUN, AT, event) for seq, event in enumerate(events, start=STARTED.seq)]


def view(events: Sequence[Event]) -> ConversationView:
    info = ConversationInfo(STARTED.conversation, Tape(1), "", "grip", AT, AT, messages=2, turns=1, head=99)
    return ConversationView(info, Transcript(entries(events)).turns())


def request(body: bytes = b'{"messages": []}') -> Request:
    return Request("POST", "/", {}, {}, {}, body, "abcdef012345", "0" * 32, AT)


# -- what a reader is sent -------------------------------------------------------------------------------------------


def sse(data: bytes) -> list[tuple[str, Json]]:
    """Events with their data; of chunks without an event's name, "" """
    frames: list[tuple[str, Json]] = []
    for frame in data.decode().split("\n\n"):
        lines = dict(line.partition(": ")[::2] for line in frame.splitlines() if not line.startswith(":"))
        if lines.get("data", "[DONE]") != "[DONE]":
            frames.append((lines.get("event", ""), json.loads(lines["data"])))
    return frames


def _fed(encoder: Any, events: Iterable[Event]) -> bytes:
    return encoder.opened(STARTED) + b"".join(encoder.entry(each) + encoder.held() for each in entries(events))


def grip_frames(events: Sequence[Event]) -> list[tuple[str, Json]]:
    return sse(_fed(grip.Stream(), events))


def elastic_chunks(events: Sequence[Event]) -> list[Json]:
    """The deltas, and what is no chunk as it is."""
    return [data["choices"][0]["delta"] if "choices" in data else data for _, data in sse(_fed(Chunks(), events))]


def elastic_events(events: Sequence[Event]) -> list[Json]:
    return [json.loads(line) for line in _fed(Events(request()), events).splitlines()]


def grafana_frames(events: Sequence[Event]) -> list[Json]:
    started = msgspec.structs.replace(STARTED, head=0)
    stream = ChatStream()
    data = stream.opened(started) + b"".join(stream.entry(each) + stream.held() for each in entries(events))
    return [data for _, data in sse(data)]


def a2a_frames(events: Sequence[Event], can: Can) -> list[Json]:
    steps = Steps(can)
    steps.begin(STARTED)
    return json.loads(msgspec.json.encode([each for entry in entries(events) for each in steps.take(entry)]))


# -- what views show -------------------------------------------------------------------------------------------------


def grip_session(events: Sequence[Event]) -> list[Json]:
    return json.loads(grip.session_messages(view(events), request()).body)["messages"]


def grip_file(events: Sequence[Event]) -> list[Json]:
    return json.loads(session_files.dump(view(events)))["messages"]


def elastic_messages(events: Sequence[Event]) -> list[Json]:
    return [each["message"] for each in json.loads(msgspec.json.encode(wire_messages(view(events).turns)))]


def grafana_messages(events: Sequence[Event]) -> list[Json]:
    turns = view(events).turns
    return json.loads(msgspec.json.encode([each for turn in turns for each in turn_messages(turn, {})]))


def terminal_lines(events: Sequence[Event]) -> list[str]:
    return [
        line for turn in view(events).turns for message in (*turn.asked, *turn.answered) for line in spoken(message)
    ]


# -- a server whose default agent is a workflow ----------------------------------------------------------------------

CONFIG = """
[models.offline]
kind = "offline"
[defaults]
agent = "flow"
workflow = "flow"
[limits]
per_ip_rpm = 0
per_credential_rpm = 0
[workflows.flow]
start = "Hub"
greeting = "Ahoy!"
[workflows.flow.agents.Hub]
instructions = "You are Hub. Ask [@agent:Scout]."
[workflows.flow.agents.Scout]
instructions = "You are Scout."
visibility = "internal"
control = "relinquish_to_parent"
"""


class Players:
    """A model that plays both: Hub has Scout look before it answers `look …`, and answers anything else itself."""

    def __init__(self) -> None:
        self.prompts: list[Prompt] = []
        self.titled: list[Prompt] = []

    async def reply(self, prompt: Prompt, *, stream: bool) -> AsyncGenerator[ReplyPiece]:
        if prompt.choice == "title_conversation":
            self.titled.append(prompt)
            for piece in call_reply(("title_conversation", '{"title":"On things"}')):
                yield piece
            return
        self.prompts.append(prompt)
        for piece in self._pieces(prompt):
            yield piece

    def _pieces(self, prompt: Prompt) -> list[ReplyPiece]:
        at = max(at for at, message in enumerate(prompt.messages) if message.role == "user" and not message.name)
        asked = prompt.messages[at].text
        called = {call.name for message in prompt.messages[at:] for call in message.calls}
        if "You are Scout" in prompt.messages[0].text:
            return text_reply(f"{SECRET} ", asked)
        if asked.startswith("look") and TRANSFER not in called:
            return call_reply((TRANSFER, transfer_text("Scout")))
        return text_reply("So: ", asked)

    async def close(self) -> None:
        pass


def config_in(home: Path) -> Config:
    (home / "dragoman.toml").write_text(CONFIG)
    return load_config(home, env={})
