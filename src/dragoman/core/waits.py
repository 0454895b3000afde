"""What a run can wait for while its reader's stream stays open, as operations: a person's decision about a call, and
the result of a call that the caller itself must make (design decision 7).

What comes is written to the run's tape by whoever brings it, and is heard by whichever process drives the run.
"""

from msgspec import Struct

from dragoman.core.messages import ToolCall
from dragoman.core.names import CallId, ConversationId, RunId
from dragoman.core.operations import Operation


class Settled(Struct, frozen=True, gc=False):
    """What a run waited for has come, or had come before: `repeated` = this very answer was given already."""

    run: RunId
    conversation: ConversationId
    repeated: bool = False


class DecideApproval(Operation[Settled], frozen=True):
    """Approve or deny a call. It binds the arguments it was asked about, by their hash, and is good once.

    Raises NotFound if nothing of that name was asked for; Conflict if it was decided otherwise, or other arguments are
    meant; Expired if the time for it is over or the run has ended. The same decision again is no error.
    """

    run: RunId
    call: CallId
    approved: bool
    arguments_hash: str
    conversation: ConversationId | None = None
    """If given, the run must belong to it."""
    private: bool = False


class AnswerClientTool(Operation[Settled], frozen=True):
    """Hand over the result of a call that the run waits for. Errors as for DecideApproval."""

    run: RunId
    call: CallId
    content: str
    is_error: bool = False
    conversation: ConversationId | None = None
    private: bool = False
    claimed_by: str = ""
    """If given, only whoever claimed the call under this name may answer."""


class ClaimClientTool(Operation[Settled], frozen=True):
    """Take up a call that several could run, under a name. Conflict if another was first. Errors as for
    DecideApproval."""

    run: RunId
    call: CallId
    claimed_by: str
    private: bool = False


class WaitingCall(Struct, frozen=True, gc=False):
    """A call whose result a run waits for. `claimed_by` is "" as long as nobody took it up. Times are Unix seconds."""

    run: RunId
    conversation: ConversationId
    call: ToolCall
    toolset: str
    asked_at: float
    expires_at: float
    claimed_by: str = ""


class WaitingCalls(Struct, frozen=True):
    calls: tuple[WaitingCall, ...]


class ListWaitingCalls(Operation[WaitingCalls], frozen=True):
    """Calls of client tools that runs in the principal's own conversations wait for, oldest first. `toolset` "" = of
    any."""

    toolset: str = ""


class WaitingApproval(Struct, frozen=True, gc=False):
    """A call that a person is asked about. `arguments` is just what `arguments_hash` is over, as JSON in ASCII, so that
    nothing in it is hidden from who reads it; a JSON string if the model wrote no JSON. `owner` is the conversation's.
    Times are Unix seconds."""

    run: RunId
    conversation: ConversationId
    owner: str
    call: CallId
    tool: str
    arguments: str
    arguments_hash: str
    asked_at: float
    expires_at: float


class WaitingApprovals(Struct, frozen=True):
    """`more` = further runs are at work, which were not looked at."""

    approvals: tuple[WaitingApproval, ...]
    more: bool = False


class ListApprovals(Operation[WaitingApprovals], frozen=True):
    """Calls in the principal's own conversations that wait for a decision, oldest first; for an admin: in everybody's
    of the project."""
