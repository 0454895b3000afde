"""What the runtime needs from outside, as Protocols. Each docstring is the guarantee an adapter gives.

Adapters do not inherit from these; they fit. Ports raise only errors of the tree in `core.errors`, and `StaleClaim`.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from msgspec import Struct

from dragoman.core.agents import ToolSpec
from dragoman.core.events import ConversationCreated, Entry, Event, MessagesImported, TurnReceived
from dragoman.core.messages import Message, ToolCall, Usage
from dragoman.core.names import ConversationId, ProjectId, RunId, Tape
from dragoman.core.operations import ConversationInfo, ConversationPage, RunView

# -- the tape --------------------------------------------------------------------------------------------------------


class StaleClaim(Exception):
    """This attempt no longer owns its run: it was claimed again, ended, or its conversation was deleted.

    Nothing was written. The attempt must stop at once and say nothing more.
    """


class Claim(Struct, frozen=True, gc=False):
    """The right to write a run's events. Fenced: every write carries `epoch` (design decision 4)."""

    project: ProjectId
    conversation: ConversationId
    tape: Tape
    run: RunId
    epoch: int


class NewTurn(Struct, frozen=True, gc=False):
    """What `Log.accept` writes. `created` is appended first if the conversation does not exist yet."""

    project: ProjectId
    conversation: ConversationId
    run: RunId
    received: TurnReceived
    created: ConversationCreated
    must_exist: bool = False
    queue_max: int = 8
    """Turns that may wait on one conversation besides the live one."""


class Accepted(Struct, frozen=True, gc=False):
    """`claim` is set if the run may start now; None = it waits until those before it have ended."""

    tape: Tape
    run: RunId
    seq: int
    """Place of the TurnReceived."""
    created: bool
    claim: Claim | None


class Log(Protocol):
    """The tapes. Append-only; per tape `seq` counts 1..n without a gap and entries never change.

    A call that returned survives a crash of the process and of the machine (a memory log: of neither, and says so).
    A call that raised wrote nothing. `at` of entries comes from the store's clock. Safe to call from one event loop by
    any number of tasks.
    """

    async def accept(self, turn: NewTurn) -> Accepted:
        """In one transaction: the conversation (made if absent), the run, ConversationCreated?, TurnReceived and, if no
        other run of the conversation is live or waiting, RunClaimed{epoch: 1}.

        Raises NotFound if `must_exist` and it does not; LimitReached("queue_per_conversation") if `queue_max` wait.
        """
        ...

    async def append(self, claim: Claim, events: Sequence[Event]) -> int:
        """Append all or nothing; the seq of the last one. Raises StaleClaim."""
        ...

    async def finish(self, claim: Claim, events: Sequence[Event], *, weight: int) -> Claim | None:
        """Append `events`, the last of which is the run's end, free the conversation, and claim the next waiting run of
        it (RunClaimed), all in one transaction. That claim is returned; None if nobody waits. Raises StaleClaim.

        `weight`: characters of the turn's messages, for `history`.
        """
        ...

    async def reclaim(self, run: RunId) -> Claim | None:
        """Take an unfinished, claimed run over: epoch + 1, RunClaimed appended; its old owner is stale from now on.
        None if the run has ended, waits, or is unknown."""
        ...

    async def unfinished(self) -> Sequence[RunView]:
        """Runs that are claimed and have not ended, oldest first: what recovery takes over."""
        ...

    async def end_waiting(self, run: RunId, end: Event) -> bool:
        """End a run that is still waiting in its conversation's queue. False if it is not waiting (any more)."""
        ...

    async def read(self, tape: Tape, *, after: int, limit: int = 1000) -> Sequence[Entry]:
        """Committed entries with seq > `after`, in order, at most `limit`. Empty if there are none (any more)."""
        ...

    async def grown(self, tape: Tape, *, after: int) -> None:
        """Return when the tape may hold an entry beyond `after`, or was deleted. May return early; carries no data."""
        ...

    async def read_run(self, run: RunView | Claim) -> Sequence[Entry]:
        """Every entry of one run, in order, deltas included."""
        ...

    async def history(self, tape: Tape, *, before: int, chars_max: int) -> Sequence[Entry]:
        """Entries, deltas left out, of the newest turns whose TurnReceived stands before `before` and that ended well,
        whole turns only, newest first until their weights pass `chars_max` (the turn that passes it is included), in
        tape order. Cost depends on `chars_max`, not on the tape's length."""
        ...


class Conversations(Protocol):
    """Folds over tapes, written in the same transaction as the events they fold. Everything is inside one project."""

    async def get(self, project: ProjectId, conversation: ConversationId) -> ConversationInfo | None: ...

    async def page(self, project: ProjectId, *, after: str, limit: int) -> ConversationPage:
        """In order of id; `limit` 0 = all."""
        ...

    async def count(self, project: ProjectId) -> int: ...

    async def delete(self, project: ProjectId, conversation: ConversationId) -> Sequence[RunId] | None:
        """Delete it with its tape and runs in one transaction; the ids of runs that had not ended. None if absent.
        Readers waiting in `Log.grown` are woken."""
        ...

    async def put_messages(
        self, created: ConversationCreated, imported: MessagesImported, *, at: float, updated_at: float, run: RunId
    ) -> ConversationInfo:
        """A conversation that begins with messages from elsewhere, with their times. Raises Conflict if it exists."""
        ...


class Runs(Protocol):
    async def run(self, project: ProjectId | None, run: RunId) -> RunView | None:
        """One run; `project` None = of any project (recovery, command line)."""
        ...

    async def runs(self, project: ProjectId, *, limit: int) -> Sequence[RunView]:
        """Newest first."""
        ...


class Store(Log, Conversations, Runs, Protocol):
    """One engine that keeps it all: what `stores.*` offer and the contract tests test."""

    async def close(self) -> None: ...


# -- models ----------------------------------------------------------------------------------------------------------


class Prompt(Struct, frozen=True, gc=False):
    """One question to a model. `messages` begins with the system message, if there are instructions.

    `model_name` is the name to put on the wire, "" = the model's configured one. `max_tokens` bounds the answer.
    `key` is stable over retries of the same reply: `run:reply number`.
    """

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    model_name: str = ""
    max_tokens: int | None = None
    key: str = ""


class TextPiece(Struct, frozen=True, gc=False):
    text: str


class ThinkingPiece(Struct, frozen=True, gc=False):
    text: str


class Retracted(Struct, frozen=True, gc=False):
    """All pieces so far are void: the model is being asked again."""

    reason: str = ""


class ReplyDone(Struct, frozen=True, gc=False):
    """Always the last, and the only one for a reply that is not streamed. `text` is the whole text."""

    text: str
    calls: tuple[ToolCall, ...] = ()
    usage: Usage = Usage()
    finish_reason: str = "stop"
    thinking: str = ""
    model_name: str = ""


ReplyPiece = TextPiece | ThinkingPiece | Retracted | ReplyDone


class Model(Protocol):
    """An LLM, or something that stands in for one."""

    def reply(self, prompt: Prompt, *, stream: bool) -> AsyncIterator[ReplyPiece]:
        """Ask once. Pieces come as they arrive, neighbouring text of one network read merged; ReplyDone comes last:
        without it there was no reply. Raises BackendFailed, also in mid-stream. Closing the iterator closes the
        connection at once. `stream=False` asks for the whole at once and yields only ReplyDone.
        """
        ...

    async def close(self) -> None: ...


class Models(Protocol):
    def choose(self, name: str) -> tuple[Model, str]:
        """The model for a name a caller gave ("" = the default), and the name to put on the wire.

        A name that is not configured goes verbatim to the default model's provider. Never raises.
        """
        ...


# -- tools -----------------------------------------------------------------------------------------------------------


class CallContext(Struct, frozen=True, gc=False):
    """Who calls a tool, and the key that makes a repeat recognisable: `run:call`."""

    project: ProjectId
    key: str


class ToolOutcome(Struct, frozen=True, gc=False):
    content: str
    is_error: bool = False
    code: str = ""


class Tools(Protocol):
    """The tools of this process."""

    def specs(self, patterns: Sequence[str]) -> tuple[ToolSpec, ...]:
        """Those whose `toolset.name` matches one of the patterns (`*` wildcards), in order of registration."""
        ...

    def spec(self, name: str) -> ToolSpec | None: ...

    async def call(self, call: ToolCall, context: CallContext) -> ToolOutcome:
        """Check the arguments against the schema and run it, within its timeout and the output cap.

        Never raises but for cancellation: what goes wrong is an outcome with `is_error` and a sentence for the model.
        """
        ...
