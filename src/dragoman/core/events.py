"""The closed union of tape events: facts in the past tense, frozen.

Events are forever: kinds may be added, meanings never change. Every `match` on `Event` ends in `assert_never`. A kind
that a newer version wrote is read as `Unread`: it is passed on byte for byte, and shown by nobody.
A run's events, in order (`?` at most once, `*` any number):

    TurnReceived | TurnStaged  RunClaimed  CallAdded?
      ( ReplyStarted (TextAdded | ThinkingAdded)* ReplyFinished
        ( ToolStarted* ToolReturned* | ClientToolRequested* )
        ( CallAdded? ToolReturned HandedOver )? )*                    AttemptReset and RunClaimed may cut in anywhere
    one of RunCompleted RunFailed RunCancelled RunNeedsClient         nothing of that run comes after it

`ASKS` are written by others than the run's owner, at any place before its end. `NOTES` belong to no run, but for a
TitleGiven that a run's owner wrote before its end (`Loop.titled`).
"""

from typing import get_args

import msgspec
from msgspec import Struct

from dragoman.core.agents import Loop, ToolSpec
from dragoman.core.messages import Masked, Message, ToolCall, Usage
from dragoman.core.names import CallId, ConversationId, ProjectId, RunId
from dragoman.core.screen import NO_SCREEN, Screen
from dragoman.core.workflows import Handing, Staging


class _Event(Struct, frozen=True, tag_field="kind", omit_defaults=True, gc=False):
    """Spelling shared by all kinds: `kind` is the tag, defaults are left out. Values without cycles: no need for gc."""


class ConversationCreated(_Event, frozen=True, tag="conversation_created"):
    """`origin` is the dialect or command that made it; `owner` is `Principal.owner` of who did."""

    project: ProjectId
    conversation: ConversationId
    origin: str = ""
    owner: str = ""
    title: str = ""
    workflow: str = ""
    """Id of the version that answers in it, whatever is published later (rowboat spec 3.4); "" = none."""


class MessagesImported(_Event, frozen=True, tag="messages_imported"):
    """Messages that were said elsewhere and belong to this conversation from now on. `replaces` = and nothing of what
    was said in it before does."""

    messages: tuple[Message, ...]
    source: str = ""
    replaces: bool = False


class TurnReceived(_Event, frozen=True, tag="turn_received"):
    """What the caller asked, with everything a restart needs to answer it.

    `agent` and `model` are names ("" = the default); `instructions` are added to the agent's own for this turn;
    `deltas` = the caller reads text as it grows, so the model is asked to stream.
    """

    messages: tuple[Message, ...]
    agent: str = ""
    model: str = ""
    instructions: tuple[str, ...] = ()
    client_tools: tuple[ToolSpec, ...] = ()
    deltas: bool = True
    origin: str = ""
    credential_id: str = ""
    fingerprint: str = ""
    """Of the request it came with (`operations.Mark`): how a repeat without a key is recognised."""
    owner: str = ""
    """`Principal.owner` of who asks, their name, and whether they may change what belongs to the whole project
    (resources:write): for tools that act for somebody."""
    owner_name: str = ""
    owner_wide: bool = False
    system: str = ""
    """The whole system message, "" = the agent's instructions and those of the turn."""
    loop: Loop | None = None
    screen: Screen = NO_SCREEN
    whole: bool = False
    """The caller sent the whole conversation, and `messages` is what of it was not on the tape. Once this turn has
    completed, what did not complete before it is no part of the conversation."""
    restates: int = 0
    """So many of `messages`, from the first, tell the conversation so far otherwise than the tape: once this turn has
    completed they take the place of all earlier turns."""
    staging: Staging | None = None
    """It is answered by a workflow; such turns are written as TurnStaged."""


class TurnStaged(TurnReceived, frozen=True, tag="turn_staged"):
    """A turn that a workflow answers. It has a name of its own so that a version which knows no workflows leaves the
    run alone, rather than to answer it by its one agent. (Tapes may hold a few that were written as TurnReceived.)"""


class RunClaimed(_Event, frozen=True, tag="run_claimed"):
    """An attempt began; `epoch` counts them from 1."""

    epoch: int


class ReplyStarted(_Event, frozen=True, tag="reply_started"):
    agent: str
    model: str


class TextAdded(_Event, frozen=True, tag="text_added"):
    text: str


class ThinkingAdded(_Event, frozen=True, tag="thinking_added"):
    text: str


class ReplyFinished(_Event, frozen=True, tag="reply_finished"):
    """One model call is over. `text` is the whole text, whether or not it was also added piece by piece."""

    text: str
    calls: tuple[ToolCall, ...] = ()
    usage: Usage = Usage()
    finish_reason: str = "stop"
    thinking: str = ""
    closing: ToolCall | None = None
    """The call with which the model ended the loop (`Loop.closing`); `text` is what it said in it."""
    internal: str = ""
    """What an agent of a workflow said to other agents, and not to the user; `text` is "" then, and nothing of it was
    added piece by piece."""
    masked: tuple[Masked, ...] = ()
    """What the model was not told."""


class CallAdded(_Event, frozen=True, tag="call_added"):
    """The server calls a tool of its own accord, as if the model had: what a turn's loop begins with, or what hands the
    word on when an agent of a workflow has said what it had to say."""

    call: ToolCall


class ToolStarted(_Event, frozen=True, tag="tool_started"):
    """The intent: committed before the tool may do anything."""

    call: ToolCall


class ToolReturned(_Event, frozen=True, tag="tool_returned"):
    call_id: CallId
    content: str
    is_error: bool = False
    duration_ms: int = 0
    code: str = ""
    """"" or why it is an error: tool_failed, unknown_tool, bad_arguments, timeout, outcome_unknown, denied,
    call_limit, not_handed_over."""
    shown: str = ""
    """JSON text for a user interface; no model is sent it."""


class ApprovalRequested(_Event, frozen=True, tag="approval_requested"):
    """A person must decide before this call is made. `expires_at` (Unix seconds) is the last moment to do so."""

    call: ToolCall
    arguments_hash: str
    expires_at: float


class ApprovalDecided(_Event, frozen=True, tag="approval_decided"):
    """The first one for a call counts, if it was written before `ApprovalRequested.expires_at` and names the hash that
    was asked about. `decided_by` is a `Principal.owner`."""

    call_id: CallId
    approved: bool
    decided_by: str = ""
    arguments_hash: str = ""


class ClientToolRequested(_Event, frozen=True, tag="client_tool_requested"):
    """The caller is to run this. `expires_at` (Unix seconds) is how long the run waits for the result; 0 = it does not
    and ends with RunNeedsClient. `toolset` is that of the tool: which of the caller's ends is meant."""

    call: ToolCall
    expires_at: float = 0.0
    toolset: str = ""


class ClientToolClaimed(_Event, frozen=True, tag="client_tool_claimed"):
    """One of several ends that could run the call took it up. The first one counts."""

    call_id: CallId
    claimed_by: str = ""


class ClientToolAnswered(_Event, frozen=True, tag="client_tool_answered"):
    """The caller's result of a call that the run waits for. The first one counts, if it was written in time; the run's
    owner repeats it as ToolReturned."""

    call_id: CallId
    content: str
    is_error: bool = False


class HandedOver(_Event, frozen=True, tag="handed_over"):
    """The word went to another agent of the workflow; the result before it says so to the models. `pipeline` is that
    of which `to_agent` is a step."""

    from_agent: str
    to_agent: str
    how: Handing = Handing.TRANSFERRED
    pipeline: str = ""


class AttemptReset(_Event, frozen=True, tag="attempt_reset"):
    """Everything this run put on the tape from `from_seq` up to here is void; a new try follows."""

    from_seq: int


class CancelAsked(_Event, frozen=True, tag="cancel_asked"):
    """Somebody wants the run stopped; `by` is a credential's id. Whoever owns the run ends it."""

    by: str = ""


class TitleGiven(_Event, frozen=True, tag="title_given"):
    title: str


class SharingChanged(_Event, frozen=True, tag="sharing_changed"):
    """Whether everybody in the project may read the conversation."""

    shared: bool


class ArchivingChanged(_Event, frozen=True, tag="archiving_changed"):
    """Whether lists leave the conversation out unless asked for it."""

    archived: bool


class RunCompleted(_Event, frozen=True, tag="run_completed"):
    usage: Usage = Usage()


class RunFailed(_Event, frozen=True, tag="run_failed"):
    """`code` is from the error tree or step_limit, token_limit, time_limit, repeated_call; `detail` is to be shown."""

    code: str
    detail: str
    usage: Usage = Usage()


class RunCancelled(_Event, frozen=True, tag="run_cancelled"):
    cancelled_by: str = ""
    usage: Usage = Usage()


class RunNeedsClient(_Event, frozen=True, tag="run_needs_client"):
    """The caller must run these calls and send their results with its next turn."""

    calls: tuple[ToolCall, ...]
    usage: Usage = Usage()


class Unread(_Event, frozen=True, tag="unread"):
    """An event of a kind that this version does not know: a newer one wrote it. `body` is its JSON as it stands."""

    name: str
    body: str


RunEnd = RunCompleted | RunFailed | RunCancelled | RunNeedsClient
Event = (
    ConversationCreated
    | MessagesImported
    | TurnReceived
    | TurnStaged
    | RunClaimed
    | ReplyStarted
    | TextAdded
    | ThinkingAdded
    | ReplyFinished
    | CallAdded
    | ToolStarted
    | ToolReturned
    | ApprovalRequested
    | ApprovalDecided
    | ClientToolRequested
    | ClientToolClaimed
    | ClientToolAnswered
    | HandedOver
    | AttemptReset
    | CancelAsked
    | TitleGiven
    | SharingChanged
    | ArchivingChanged
    | RunCompleted
    | RunFailed
    | RunCancelled
    | RunNeedsClient
    | Unread
)

DELTAS = (TextAdded, ThinkingAdded)
"""Kinds whose content stands again, whole, in the ReplyFinished that follows."""
Ask = CancelAsked | ApprovalDecided | ClientToolClaimed | ClientToolAnswered
ASKS = (CancelAsked, ApprovalDecided, ClientToolClaimed, ClientToolAnswered)
"""Kinds written by others than the run's owner (`Log.ask`)."""
Note = TitleGiven | SharingChanged | ArchivingChanged
NOTES = (TitleGiven, SharingChanged, ArchivingChanged)
"""Kinds of the conversation itself that people write at any time (`Log.note`)."""


class Entry(Struct, frozen=True, gc=False):
    """One event where it stands on a tape. `run` is "" for events of the conversation itself; `at` is Unix seconds."""

    seq: int
    run: RunId
    at: float
    event: Event


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


class _Kind(Struct, frozen=True):
    kind: str


_kind_decoder = msgspec.json.Decoder(_Kind)
_KINDS = frozenset(str(kind.__struct_config__.tag) for kind in get_args(Event))


class _RawEntry(Struct, frozen=True, gc=False):
    seq: int
    run: RunId
    at: float
    event: msgspec.Raw


_entries_decoder = msgspec.json.Decoder(list[Entry])
_raw_entries_decoder = msgspec.json.Decoder(list[_RawEntry])


def load_entries(body: bytes) -> list[Entry]:
    """A JSON array of entries. Kinds we do not know become Unread."""
    try:
        return _entries_decoder.decode(body)
    except msgspec.ValidationError:
        raw = _raw_entries_decoder.decode(body)
        return [Entry(each.seq, each.run, each.at, load_event(bytes(each.event))) for each in raw]


def dump_event(event: Event) -> bytes:
    """JSON, always the same bytes for the same event."""
    return event.body.encode() if isinstance(event, Unread) else _encoder.encode(event)


def load_event(body: bytes | str) -> Event:
    """Unread for a kind we do not know. Raises msgspec.ValidationError on anything else that is no event."""
    try:
        return _decoder.decode(body)
    except msgspec.ValidationError:
        kind = _kind_decoder.decode(body).kind
        if kind in _KINDS:
            raise
        return Unread(kind, body if isinstance(body, str) else body.decode())


def kind_of(event: Event) -> str:
    if isinstance(event, Unread):
        return event.name
    return str(type(event).__struct_config__.tag)


def is_end(event: Event) -> bool:
    return isinstance(event, RunEnd)
