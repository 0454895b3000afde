"""What a caller may ask, in our words, and what it gets back. Dialects translate into these; the desk answers them.

Each operation names its result by its type parameter: `ListTools` is an `Operation[ToolList]`.

`private` on an operation means: conversations belong to who began them. To anybody else they are not there, but that
shared ones may be read; a principal with the scope admin reads and changes all. Wires without users leave it off.
`tell_shared`: to change a shared one of somebody else's is not allowed, rather than that it is not found.
"""

from enum import StrEnum
from typing import Any, Generic, TypeVar

from msgspec import Struct

from dragoman.core.agents import Loop, ToolSpec
from dragoman.core.errors import BadRequest
from dragoman.core.events import Event, RunEnd
from dragoman.core.messages import Masked, Message, ToolCall, Usage
from dragoman.core.names import ConversationId, RunId, Tape
from dragoman.core.screen import NO_SCREEN, Screen
from dragoman.core.workflows import Staging, WorkflowWanted

R_co = TypeVar("R_co", covariant=True)


class Operation(Struct, Generic[R_co], frozen=True):
    """A canonical request whose result is an `R_co`."""


class Mark(Struct, frozen=True, gc=False):
    """How a request is recognised when it comes a second time (promise G2).

    `fingerprint` is a hash of who asks, where and what. `key` is the caller's own name for the request, hashed with who
    asks and where; "" = none. `window_s` > 0: also without a key, a request of the same fingerprint that was accepted
    so many seconds ago or less is the same one (a client library's own retry).
    """

    fingerprint: str = ""
    key: str = ""
    window_s: float = 0.0


# -- turns ---------------------------------------------------------------------------------------------------------


class Started(Struct, frozen=True, gc=False):
    """A turn was accepted: committed and synced. `seq` is the place of its TurnReceived; readers follow from there."""

    conversation: ConversationId
    tape: Tape
    run: RunId
    seq: int
    created: bool
    """The conversation did not exist before."""
    ephemeral: bool = False
    replayed: bool = False
    """The turn is an earlier one: this request was a repeat of that one's."""
    head: int = 0
    """Of a conversation that is followed: `Listening.head`."""
    title: str = ""
    """Of a `whole` turn: the title that the conversation has; "" = it is new, and has none yet."""


class Instruction(Struct, frozen=True, gc=False):
    """A standing wish of the user. Of two with the same id the first counts."""

    id: str
    text: str


class Briefing(Struct, frozen=True):
    """The server puts the whole system message of the turn together: the agent's instructions, `notes` of the
    application that asks, then the user's instructions, those of the request before those that are kept."""

    notes: tuple[str, ...] = ()
    instructions: tuple[Instruction, ...] = ()


class StartTurn(Operation[Started], frozen=True):
    """Say something in a conversation and have it answered.

    `conversation` is made if it does not exist, unless `must_exist`. `deltas` = the caller reads text as it grows.
    `ephemeral` = nothing of it may reach a disk (design decision 8). `message_id` is the caller's own name for this
    very message, if its wire has one: a second turn of that name is the first. `title` is given to a conversation that
    is made. `private`: see above. `managed` = what the principal has set up here goes with the turn: rules, slash
    commands, the tools of a connected tunnel. `agent_or_default` = an `agent` that is not known here means the default.

    `known_model` = a `model` that is not known here is not found, rather than passed on. `whole` = `messages` is the
    whole conversation and not only what is new. `system` is the whole system message; with a `briefing` the server
    makes it. `loop` and `screen`: as in `TurnReceived`.
    """

    conversation: ConversationId
    messages: tuple[Message, ...]
    agent: str = ""
    model: str = ""
    instructions: tuple[str, ...] = ()
    client_tools: tuple[ToolSpec, ...] = ()
    deltas: bool = True
    ephemeral: bool = False
    must_exist: bool = False
    origin: str = ""
    message_id: str = ""
    title: str = ""
    private: bool = False
    tell_shared: bool = False
    managed: bool = False
    agent_or_default: bool = False
    known_model: bool = False
    whole: bool = False
    restates: int = 0
    """Of a `whole` turn, told by the server: as in `TurnReceived`."""
    system: str = ""
    briefing: Briefing | None = None
    loop: Loop | None = None
    screen: Screen = NO_SCREEN
    fault: BadRequest | None = None
    """What is wrong with the messages (which are not there then), to be raised once the model and the conversation are
    known to be there: some wires look for those first."""
    workflow: WorkflowWanted | None = None
    """A workflow of the project answers, and no agent of the configuration. Raises NotFound, `what` = workflow,
    published_workflow (none is, and none was asked for) or test_profile."""
    staging: Staging | None = None
    """Of a turn with a `workflow`, told by the server."""


class Outcome(Struct, frozen=True, gc=False):
    """A run's end, folded: what `collect` routes answer with.

    `text` is the last reply's text; `replies` counts replies; `calls` lists every tool call in order. `answered` is all
    that was said in it, as in `TurnView`, and `said_at` when.
    """

    started: Started
    end: RunEnd
    text: str
    replies: int
    calls: tuple[ToolCall, ...]
    usage: Usage
    answered: tuple[Message, ...] = ()
    said_at: tuple[float, ...] = ()


class CancelRun(Operation["RunView"], frozen=True):
    """Stop a run. Asking again, or after the end, changes nothing.

    The result may still be `running`: then the wish is committed and whoever drives the run is ending it.
    """

    run: RunId
    private: bool = False


class Following(Struct, frozen=True, gc=False):
    """A run to be read from behind `after`, a seq of its tape."""

    started: Started
    after: int


class FollowRun(Operation[Following], frozen=True):
    """Read a run's entries from behind the cursor `after` (0 = from its beginning) to its end, as they come."""

    run: RunId
    after: int = 0
    private: bool = False


class Listening(Struct, frozen=True, gc=False):
    """A conversation to be read from behind `after`, a seq of its tape."""

    conversation: ConversationId
    tape: Tape
    after: int
    head: int = 0
    """seq of the tape's last entry when this was answered: what stands up to there is no news."""


class FollowConversation(Operation[Listening], frozen=True):
    """Read everything that is said in a conversation, as it comes, whatever run it belongs to.

    `after` is a cursor. The entries begin at or before it, so far back that what is being said at the cursor can be
    told from its beginning; an encoder leaves out what its reader has. The stream ends when the end of a turn was read
    and no other is at work or waits; a reader that has read that end already waits for the next turn.
    """

    conversation: ConversationId
    after: int = 0
    private: bool = False


# -- reading -------------------------------------------------------------------------------------------------------


class TurnView(Struct, frozen=True, gc=False):
    """One turn as a reader sees it: what was asked, what was answered (only the attempt that counts), how it ended."""

    run: RunId
    seq: int
    at: float
    asked: tuple[Message, ...]
    answered: tuple[Message, ...]
    end: Event | None
    """One of RunEnd; None while it runs; MessagesImported for what was said elsewhere."""
    said_at: tuple[float, ...] = ()
    """Of each of `answered`: when that reply was begun, or that result came. () = not told."""
    took_ms: tuple[int, ...] = ()
    """Of each of `answered`: how long the call took; 0 for replies. () = not told."""
    system: str = ""
    """`TurnReceived.system`."""
    masked: tuple[Masked, ...] = ()
    """What models were not told in this turn, each value once."""
    by_several: bool = False
    """Several agents of a workflow answered it, and `answered` holds what they said to each other."""


class ConversationInfo(Struct, frozen=True, gc=False):
    """What lists show. Times are Unix seconds.

    `messages` counts user messages and final answers of turns that ended well, imported ones included. A turn that
    tells the conversation anew (`TurnReceived.restates`) takes none away: what it replaces stays counted.
    """

    id: ConversationId
    tape: Tape
    title: str
    origin: str
    created_at: float
    updated_at: float
    messages: int
    turns: int
    head: int
    """seq of the tape's last entry."""
    live_run: RunId | None = None
    owner: str = ""
    """`Principal.owner` of who made it; "" = not known (made before owners were kept)."""
    shared: bool = False
    """Everybody in the project may read it."""
    archived: bool = False


class ConversationView(Struct, frozen=True):
    info: ConversationInfo
    turns: tuple[TurnView, ...]


class ReadConversation(Operation[ConversationView], frozen=True):
    """`turns=False` leaves the turns out and costs one row. `shared_only`: one that is not shared is not found."""

    conversation: ConversationId
    turns: bool = True
    private: bool = False
    shared_only: bool = False


class ConversationPage(Struct, frozen=True):
    """`next` is what to pass as `after` for the following page; "" at the end."""

    items: tuple[ConversationInfo, ...]
    next: str = ""


class ListConversations(Operation[ConversationPage], frozen=True):
    """In order of id. `limit` 0 = all."""

    after: str = ""
    limit: int = 0


class Archived(StrEnum):
    """What a list does with archived conversations."""

    WITHOUT = "without"
    WITH = "with"
    ONLY = "only"


class ConversationShelf(Struct, frozen=True):
    """Some of the conversations, and how many there are in all."""

    items: tuple[ConversationInfo, ...]
    total: int


class BrowseConversations(Operation[ConversationShelf], frozen=True):
    """Those that changed last come first. `origins` () = of any. `private`: only the principal's own (for an admin:
    all); `shared`: and those that others share."""

    origins: tuple[str, ...] = ()
    archived: Archived = Archived.WITHOUT
    limit: int = 50
    offset: int = 0
    private: bool = False
    shared: bool = False


class UpdateConversation(Operation[ConversationInfo], frozen=True):
    """Change what is said about a conversation; None leaves it as it is. Only the owner may (or an admin)."""

    conversation: ConversationId
    title: str | None = None
    shared: bool | None = None
    archived: bool | None = None
    private: bool = False
    tell_shared: bool = False


class Deleted(Struct, frozen=True):
    conversation: ConversationId


class DeleteConversation(Operation[Deleted], frozen=True):
    """Gone with its tape and runs; a run still live on it is stopped and cannot bring it back."""

    conversation: ConversationId
    private: bool = False
    tell_shared: bool = False


class RunView(Struct, frozen=True, gc=False):
    """One run. `status`: queued, running, completed, failed, cancelled, needs_client."""

    id: RunId
    conversation: ConversationId
    tape: Tape
    status: str
    epoch: int
    first_seq: int
    started_at: float
    ended_at: float | None = None
    pruned: bool = False
    """Its deltas are kept no longer: its tape has gaps where they stood."""


class Timeline(Struct, frozen=True):
    """A run with its entries, texts left whole."""

    run: RunView
    entries: tuple[Any, ...]


class ReadRun(Operation[Timeline], frozen=True):
    run: RunId
    private: bool = False


# -- tools and status ----------------------------------------------------------------------------------------------


class ToolList(Struct, frozen=True):
    tools: tuple[ToolSpec, ...]


class ListTools(Operation[ToolList], frozen=True):
    """The tools the default agent (or `agent`) holds."""

    agent: str = ""


class ToolOutput(Struct, frozen=True):
    name: str
    content: str
    is_error: bool
    code: str = ""


class CallTool(Operation[ToolOutput], frozen=True):
    """Run one tool outside any conversation. `arguments` is JSON text of an object."""

    name: str
    arguments: str = "{}"


class Status(Struct, frozen=True):
    """What the process can say of itself. Counters run from its start."""

    version: str
    uptime_s: float
    model: str
    models: tuple[str, ...]
    agents: tuple[str, ...]
    tools: tuple[str, ...]
    workspace: str
    conversations: int
    live_runs: int
    steps_max: int
    counters: dict[str, int]
    """runs, replies, tool_calls, errors, prompt_tokens, completion_tokens."""


class ReadStatus(Operation[Status], frozen=True):
    """`counted=False` skips what would have to be asked of the store."""

    counted: bool = True
