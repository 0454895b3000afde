"""What the runtime needs from outside, as Protocols. Each docstring is the guarantee an adapter gives.

Adapters do not inherit from these; they fit. Ports raise only errors of the tree in `core.errors`, and `StaleClaim`.
"""

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from dragoman.core.agents import ToolSpec
from dragoman.core.events import ConversationCreated, Entry, Event, MessagesImported, TurnReceived
from dragoman.core.knowledge import Knowledge
from dragoman.core.messages import Masked, Message, ToolCall, Usage
from dragoman.core.names import ConversationId, ProjectId, RunId, Tape
from dragoman.core.operations import Archived, ConversationInfo, ConversationPage, ConversationShelf, Mark, RunView
from dragoman.core.records import Records

# -- the tape --------------------------------------------------------------------------------------------------------


class StaleClaim(Exception):
    """This attempt no longer owns its run: it was claimed again, ended, or its conversation was deleted.

    Nothing was written. The attempt must stop at once and say nothing more.
    """


class Claim(Struct, frozen=True, gc=False):
    """The right to write a run's events. Fenced: every write carries `epoch` (design decision 4).

    It comes with a lease of `LEASE_S` on the store's clock, to be extended with `Log.renew`; a claim whose lease ran
    out is good until somebody takes the run over.
    """

    project: ProjectId
    conversation: ConversationId
    tape: Tape
    run: RunId
    epoch: int
    seq: int
    """Place of the RunClaimed that tells of it."""


LEASE_S = 15.0
"""How long a claim keeps its run from being taken over, counted from when it was given or last renewed."""
KEY_KEPT_S = 24 * 3600.0
"""How long a `Mark.key` is known."""


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
    mark: Mark = Mark()
    """`received.fingerprint` is its fingerprint."""
    only_owner: str = ""
    """If not "": a conversation that exists and belongs to somebody else is not found. One whose owner is not known
    ("") belongs to nobody, and so to somebody else."""


class Accepted(Struct, frozen=True, gc=False):
    """`claim` is set if the run may start now; None = it waits until those before it have ended.

    `replayed`: nothing was written; this is the turn that the mark's request began the first time, of which
    `conversation` and `run` may be other ones than asked for, and there is no claim.
    """

    conversation: ConversationId
    tape: Tape
    run: RunId
    seq: int
    """Place of the TurnReceived."""
    created: bool
    claim: Claim | None
    replayed: bool = False


class Log(Protocol):
    """The tapes. Append-only; per tape `seq` counts 1..n without a gap and entries never change.

    A call that returned survives a crash of the process and of the machine (a memory log: of neither, and says so).
    A call that raised an error of the tree or StaleClaim wrote nothing, with one exception: after Unavailable it may be
    that all of it was written and only the word of it was lost. So `append` and `finish` say what they build on, and
    can be called again with the same arguments: what is there already is not written twice. A key does it for `accept`.

    `at` of entries comes from the store's clock, and so do leases. Safe to call from one event loop by any number of
    tasks, and by any number of processes if the engine is one for replicas.
    """

    async def accept(self, turn: NewTurn) -> Accepted:
        """In one transaction: the conversation (made if absent), the run, ConversationCreated?, TurnReceived and, if no
        other run of the conversation is live or waiting, RunClaimed{epoch: 1}.

        Before that, a request that was accepted already is recognised by `turn.mark` (within the project): by its key
        if it has one, else, if `window_s` > 0, by its fingerprint among the turns of the last `window_s` seconds. Its
        first turn is returned, `replayed`. A turn that is gone with its conversation, or a key older than KEY_KEPT_S,
        is not remembered.

        Raises NotFound if `must_exist` and it does not, or if it is not `only_owner`'s;
        LimitReached("queue_per_conversation") if `queue_max` wait; KeyReused if the key came with another fingerprint;
        Conflict if there is a run of that id already.
        """
        ...

    async def append(self, claim: Claim, events: Sequence[Event], *, after: int) -> int:
        """Append all or nothing; the seq of the last one. Raises StaleClaim.

        `after`: the seq of the last entry that this claim wrote, `claim.seq` if none. If these very events stand
        already behind it, nothing is written and the seq of the last of them is returned. No events: only the claim is
        checked, and `after` is returned.
        """
        ...

    async def finish(self, claim: Claim, events: Sequence[Event], *, after: int, weight: int) -> Claim | None:
        """Append `events`, the last of which is the run's end, free the conversation, and claim the next waiting run of
        it (RunClaimed), all in one transaction. That claim is returned; None if nobody waits. Raises StaleClaim.

        `after` as for `append`: if the run ended with these very events, nothing is written, and the claim that came of
        it is returned if it is still ours. `weight`: characters of the turn's messages, for `history`.
        """
        ...

    async def renew(self, claims: Sequence[Claim]) -> frozenset[RunId]:
        """Extend the leases of those claims that are still good; the runs of those that are not: they were taken over,
        have ended, or are gone."""
        ...

    async def release(self, claims: Sequence[Claim]) -> None:
        """Give up leases, so that the runs can be taken over at once. Claims that are not good any more are let go."""
        ...

    async def take_lost(self, *, limit: int) -> Sequence[Claim]:
        """Take over runs that are claimed, have not ended and whose lease is not live, oldest first, at most `limit`:
        for each epoch + 1 and RunClaimed; old owners are stale from now on. No run is taken by two processes.

        An engine with one writing process counts no lease as live that was given before it was opened.
        """
        ...

    async def reclaim(self, run: RunId) -> Claim | None:
        """The same for one run, also if its lease is live and ours. None if the run has ended, waits, is unknown, or is
        another process's."""
        ...

    async def unfinished(self) -> Sequence[RunView]:
        """Runs that are claimed and have not ended, oldest first."""
        ...

    async def end_waiting(self, run: RunId, end: Event) -> bool:
        """End a run that is still waiting in its conversation's queue. False if it is not waiting (any more)."""
        ...

    async def ask(self, run: RunId, event: Event) -> int:
        """Append an event of `events.ASKS` to a run that is claimed, whoever owns it, and ring that owner's bell; its
        seq. 0, and nothing written, if the run waits, has ended, or is unknown."""
        ...

    async def asked(self, claims: Sequence[Claim]) -> Mapping[RunId, int]:
        """Of those runs to which something was asked since they were claimed: the seq of the last such entry."""
        ...

    async def note(self, project: ProjectId, conversation: ConversationId, events: Sequence[Event]) -> int:
        """Append events of `events.NOTES`, of no run (""), to a conversation, all or nothing; the seq of the last one.
        They may stand between the entries of a run. Raises NotFound."""
        ...

    async def bell(self) -> None:
        """Return when a run of this process may have been asked something, or a lease may have been released. May
        return early, returns after a second at the latest if another process could have rung; carries no data."""
        ...

    async def prune(self, *, ended_before: float, limit: int) -> int:
        """Delete the deltas of runs that ended before that time (Unix seconds), of at most `limit` runs, and forget
        keys older than KEY_KEPT_S; how many runs. They are marked `RunView.pruned`."""
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

    async def browse(
        self,
        project: ProjectId,
        *,
        owner: str | None,
        origins: Collection[str],
        archived: Archived,
        limit: int,
        offset: int,
        shared: bool = False,
    ) -> ConversationShelf:
        """Newest `updated_at` first (then by id); `owner` None = anybody's, `shared` = or anybody's that is shared,
        `origins` empty = any. The list and the total are of one moment."""
        ...

    async def count(self, project: ProjectId) -> int: ...

    async def turns_since(self, project: ProjectId, *, at: float) -> int:
        """How many turns were accepted at or after that time (Unix seconds), deleted conversations left out."""
        ...

    async def live_of(self, project: ProjectId, owner: str) -> Sequence[ConversationInfo]:
        """The owner's conversations with a run at work, oldest run first; `owner` "" = anybody's."""
        ...

    async def delete(self, project: ProjectId, conversation: ConversationId) -> Sequence[RunId] | None:
        """Delete it with its tape and runs in one transaction; the ids of runs that had not ended. None if absent.
        Readers waiting in `Log.grown` are woken."""
        ...

    async def put_messages(
        self, created: ConversationCreated, imported: MessagesImported, *, at: float, updated_at: float, run: RunId
    ) -> ConversationInfo:
        """A conversation that begins with messages from elsewhere, with their times. Raises Conflict if it exists."""
        ...

    async def replace_messages(
        self, project: ProjectId, conversation: ConversationId, imported: MessagesImported, *, run: RunId
    ) -> ConversationInfo:
        """Append `imported`, which `replaces`, as a turn of its own that has ended. `ConversationInfo.messages` and
        `.turns` count from it anew. Raises NotFound; Conflict while a run of the conversation is live or waits."""
        ...


class Runs(Protocol):
    async def run(self, project: ProjectId | None, run: RunId) -> RunView | None:
        """One run; `project` None = of any project (recovery, command line)."""
        ...

    async def runs(self, project: ProjectId, *, limit: int) -> Sequence[RunView]:
        """Newest first."""
        ...

    async def keep_answer(self, project: ProjectId, key: str, answer: bytes) -> None:
        """Keep the answer that was given to the request of a `Mark.key`, for its repeats. Nothing if the key is unknown
        or has an answer."""
        ...

    async def answer_kept(self, project: ProjectId, key: str) -> bytes | None: ...


class Store(Log, Conversations, Runs, Protocol):
    """One engine that keeps it all: what `stores.*` offer and the contract tests test."""

    @property
    def records(self) -> Records: ...

    @property
    def knowledge(self) -> Knowledge: ...

    async def probe(self) -> None:
        """Return if a turn could be committed now. Raises Unavailable, whose code and detail say why not."""
        ...

    async def close(self) -> None: ...


class Sealer(Protocol):
    """Keeps secrets. What was sealed can be opened by nobody who has only the store, and only in the same context: what
    the secret is and whose."""

    def seal(self, secret: bytes, context: str) -> str: ...

    def open(self, text: str, context: str) -> bytes:
        """Raises Unavailable if it was sealed with another key, in another context, or is damaged."""
        ...


# -- models ----------------------------------------------------------------------------------------------------------


class Prompt(Struct, frozen=True, gc=False):
    """One question to a model. `messages` begins with the system message, if there are instructions.

    `model_name` is the name to put on the wire, "" = the model's configured one. `max_tokens` bounds the answer.
    `key` is stable over retries of the same reply: `run:reply number`. `choice`: which tool the model may call: "" =
    the provider's own way, `auto`, or the name of the one it must call. `temperature` None = the configured one.
    `plain` is what a stand-in says that cannot invent anything, such as the offline router; "" = whatever it does.
    """

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    model_name: str = ""
    max_tokens: int | None = None
    key: str = ""
    choice: str = ""
    temperature: float | None = None
    plain: str = ""


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
    masked: tuple[Masked, ...] = ()
    """What it was not told."""


ReplyPiece = TextPiece | ThinkingPiece | Retracted | ReplyDone


class Model(Protocol):
    """An LLM, or something that stands in for one."""

    def reply(self, prompt: Prompt, *, stream: bool) -> AsyncGenerator[ReplyPiece]:
        """Ask once. Pieces come as they arrive, neighbouring text of one network read merged; ReplyDone comes last:
        without it there was no reply. Raises BackendFailed, also in mid-stream. Closing the iterator closes the
        connection at once. `stream=False` asks for the whole at once and yields only ReplyDone.
        """
        ...

    async def close(self) -> None: ...


class Models(Protocol):
    async def choose(self, project: ProjectId, name: str) -> tuple[Model, str]:
        """The model for a name a caller gave ("" = the default), and the name to put on the wire: "" for one that is
        known to the project, which has a name of its own there.

        A name that is not known goes verbatim to the default model's provider. Raises BackendFailed for one that is
        known and cannot be asked; Unavailable.
        """
        ...

    async def knows(self, project: ProjectId, name: str) -> bool:
        """It is a configured model's, or one that the project set up. Raises Unavailable."""
        ...
