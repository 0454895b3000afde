"""Managed resources: what people set up once and every later turn goes by. Rules, skills, quickstarts, integrations.

A resource is *wide* if it belongs to the whole project; else it is its owner's, and nobody else's turns or lists know
it. A change names only what it changes: everything else keeps its value. Free-form parts, which are the caller's own
business, are kept as the JSON text they came as.
"""

from typing import Generic, TypeVar

from msgspec import UNSET, Struct, UnsetType

from dragoman.core.operations import Operation

# -- what they are ---------------------------------------------------------------------------------------------------


class Rule(Struct, frozen=True):
    """Standing instructions. Those of the lowest `priority` come first. `applications`: which parts of the product go
    by it; none named = the assistant."""

    name: str
    content: str
    description: str = ""
    enabled: bool = True
    priority: int = 0
    applications: tuple[str, ...] = ()


class AllowedTool(Struct, frozen=True):
    integration: str
    tool: str


class Skill(Struct, frozen=True):
    """Knowledge for one purpose. A message that begins with `/command` brings the body into its turn; one that is
    `known` is listed by name in every turn. `context_items` is JSON text of an array, "" = none."""

    name: str
    body: str
    known: bool = True
    command: str = ""
    """"" = it cannot be called."""
    command_since: float = 0.0
    command_by: str = ""
    context_items: str = ""
    allowed_tools: tuple[AllowedTool, ...] = ()


class Quickstart(Struct, frozen=True):
    """A prompt to begin with."""

    prompt: str
    title: str = ""
    enabled: bool = True
    context_items: str = ""


class Header(Struct, frozen=True):
    """A header for an outside system. Its value is a secret: it is written and never read back (None). To write None
    is to keep the value that is there."""

    name: str
    value: str | None = None

    def __repr__(self) -> str:
        return f"Header({self.name!r})"


class Integration(Struct, frozen=True):
    """An outside server whose tools an assistant may use. `configuration` is JSON text of an object."""

    name: str
    type: str = "mcp"
    description: str = ""
    enabled: bool = True
    applications: tuple[str, ...] = ()
    configuration: str = "{}"
    headers: tuple[Header, ...] = ()


Content = Rule | Skill | Quickstart | Integration

# -- changes: what is not said stays ---------------------------------------------------------------------------------


class RuleChange(Struct, frozen=True):
    name: str | UnsetType = UNSET
    content: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    priority: int | UnsetType = UNSET
    applications: tuple[str, ...] | UnsetType = UNSET


class SkillChange(Struct, frozen=True):
    name: str | UnsetType = UNSET
    body: str | UnsetType = UNSET
    known: bool | UnsetType = UNSET
    command: str | UnsetType = UNSET
    context_items: str | UnsetType = UNSET
    allowed_tools: tuple[AllowedTool, ...] | UnsetType = UNSET


class QuickstartChange(Struct, frozen=True):
    prompt: str | UnsetType = UNSET
    title: str | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    context_items: str | UnsetType = UNSET


class IntegrationChange(Struct, frozen=True):
    name: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    applications: tuple[str, ...] | UnsetType = UNSET
    configuration: str | UnsetType = UNSET
    headers: tuple[Header, ...] | UnsetType = UNSET


Change = RuleChange | SkillChange | QuickstartChange | IntegrationChange

# -- operations, alike for all kinds ---------------------------------------------------------------------------------

C = TypeVar("C")


class Resource(Struct, Generic[C], frozen=True):
    """One resource as it stands. Times are Unix seconds; `version` counts writes from 1."""

    id: str
    content: C
    owner: str
    wide: bool
    version: int
    created_at: float
    updated_at: float
    created_by: str
    updated_by: str


class ResourcePage(Struct, Generic[C], frozen=True):
    items: tuple[Resource[C], ...]
    total: int
    limit: int
    offset: int


class ListResources(Operation[ResourcePage[C]], Generic[C], frozen=True):
    """The principal's own and the wide ones, oldest first. `wide` not None: only those that are, or are not."""

    kind: type[C]
    wide: bool | None = None
    limit: int = 100
    offset: int = 0


class ReadResource(Operation[Resource[C]], Generic[C], frozen=True):
    """Raises NotFound, also for what is somebody else's."""

    kind: type[C]
    id: str


class CreateResource(Operation[Resource[C]], Generic[C], frozen=True):
    """Raises BadRequest; NotAllowed if it is to be wide and the principal may not; Conflict if there are as many as may
    be, or the skill's command is taken."""

    content: C
    wide: bool


class ChangeResource(Operation[Resource[C]], Generic[C], frozen=True):
    """`wide` not None: it becomes wide, or the principal's own. `was_wide` not None: if it is not that, there is no
    such resource (NotFound). Raises as CreateResource does."""

    kind: type[C]
    id: str
    change: Change
    wide: bool | None = None
    was_wide: bool | None = None


class ResourceGone(Struct, frozen=True):
    id: str


class DeleteResource(Operation[ResourceGone], frozen=True):
    """`was_wide` as above. Raises NotFound; NotAllowed."""

    kind: type[Content]
    id: str
    was_wide: bool | None = None


# -- the project's own -----------------------------------------------------------------------------------------------


class Terms(Struct, frozen=True):
    """Whether somebody agreed to terms of use on the project's behalf. The server has none of its own."""

    accepted: bool


class ReadTerms(Operation[Terms], frozen=True):
    pass


class AcceptTerms(Operation[Terms], frozen=True):
    """Raises NotAllowed without the right to change what belongs to the whole project."""

    accepted: bool


class PromptUsage(Struct, frozen=True):
    """Turns of one calendar month (UTC), `YYYY-MM`. `limit` 0 = there is none."""

    turns: int
    limit: int
    month: str


class ReadPromptUsage(Operation[PromptUsage], frozen=True):
    pass


class TokenLimits(Struct, frozen=True):
    """LLM tokens that may be used in a month: by the whole project, by each person, by all services together. 0 = there
    is no limit."""

    project: int = 0
    person: int = 0
    services: int = 0


class ReadTokenLimits(Operation[TokenLimits], frozen=True):
    pass


class Feedback(Struct, frozen=True):
    """What somebody thought of something. `rating` is 1 or -1; `metadata` is JSON text of an object, "" = none."""

    target_kind: str
    target_id: str
    rating: int
    comment: str = ""
    metadata: str = ""


class FeedbackKept(Struct, frozen=True):
    id: str


class GiveFeedback(Operation[FeedbackKept], frozen=True):
    """A second one by the same principal about the same thing replaces the first. Raises BadRequest."""

    feedback: Feedback
