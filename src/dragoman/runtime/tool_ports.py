"""What the runtime needs of tools, as Protocols. Each docstring is the guarantee an adapter gives."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from dragoman.core.agents import ToolSpec
from dragoman.core.messages import Message, ToolCall
from dragoman.core.names import ProjectId
from dragoman.core.screen import NO_SCREEN, Screen
from dragoman.core.workflows import SEARCH, Member, Staging, ToolKind, WorkflowTool
from dragoman.runtime.ports import ReplyDone

SERVER = "server"
"""What runs the server's own tools, in `StagedCall.ran_by`."""


class Ask(Protocol):
    """Asks the model of a turn something that is no reply of it."""

    async def __call__(
        self, messages: tuple[Message, ...], tools: tuple[ToolSpec, ...] = (), choice: str = "", plain: str = ""
    ) -> ReplyDone:
        """As `Prompt` has it. Raises BackendFailed."""
        ...


class CallContext(Struct, frozen=True, gc=False):
    """Who calls a tool, and the key that makes a repeat recognisable: `run:call`.

    `owner` is for whom (`Principal.owner`, and their name); `wide` = they may change what belongs to the whole project.
    Of a call in a turn: what was said in it so far, what is on the caller's screen, and how to ask the turn's model
    something by the way.
    """

    project: ProjectId
    key: str
    owner: str = ""
    owner_name: str = ""
    wide: bool = False
    messages: Sequence[Message] = ()
    screen: Screen = NO_SCREEN
    ask: Ask | None = None


class Told(Struct, frozen=True, gc=False):
    """What a tool says: `content` to the model; `shown`, JSON text, to a user interface."""

    content: str
    shown: str = ""


class ToolOutcome(Struct, frozen=True, gc=False):
    """`shown` is JSON text for a user interface."""

    content: str
    is_error: bool = False
    code: str = ""
    shown: str = ""


class Tools(Protocol):
    """The tools of this process."""

    def specs(self, patterns: Sequence[str], *, on_screen: bool = False) -> tuple[ToolSpec, ...]:
        """Those whose `toolset.name` matches one of the patterns (`*` wildcards), in order of registration; of those
        that are not always offered, the ones for turns with a screen if `on_screen`."""
        ...

    def spec(self, name: str) -> ToolSpec | None:
        """Also of one that is never offered."""
        ...

    def check(self, spec: ToolSpec, arguments: str) -> str:
        """What is wrong with the arguments (JSON text) of a call of this tool, ours or a caller's; "" = nothing."""
        ...

    async def call(self, call: ToolCall, context: CallContext) -> ToolOutcome:
        """Check the arguments against the schema and run it, within its timeout and the output cap.

        Never raises but for cancellation: what goes wrong is an outcome with `is_error` and a sentence for the model.
        """
        ...


class StagedCall(Struct, frozen=True, gc=False):
    """A call of a workflow's tool: whose it is, and how the turn is staged. `tool` None: the call is of `SEARCH`, or of
    a tool of the server's that the turn mocks, whose spec `spec` is."""

    member: Member
    staging: Staging
    tool: WorkflowTool | None = None
    spec: ToolSpec | None = None

    def mocks(self, name: str) -> bool:
        """Whether this turn has the result of the tool of that name invented, whatever the tool is."""
        by_profile = self.staging.mock_all and not (self.tool is None and name == SEARCH)
        return by_profile or name in self.staging.mocks

    def ran_by(self, name: str) -> str:
        """webhook, mcp, mock, missing, search, or "server" for a tool of the server's own."""
        if self.mocks(name):
            return ToolKind.MOCK
        if self.tool is not None:
            return self.tool.kind
        return "search" if name == SEARCH else SERVER


class WorkflowTools(Protocol):
    """What runs the tools of workflows: webhooks, MCP servers, models that invent results, searches in sources."""

    async def call(self, call: ToolCall, staged: StagedCall, context: CallContext) -> ToolOutcome:
        """Check the arguments and run it, within its timeout and the output cap. What the turn mocks comes before what
        the tool is (rowboat spec 4.5 and Q18). Never raises but for cancellation, as `Tools.call`."""
        ...
