"""Knowledge: texts that agents can search and remember, and the standing instructions that people give.

An entry belongs to a project. A *public* one is recalled for everybody in it, any other only for who made it.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from msgspec import Struct, field

from dragoman.core.messages import Message
from dragoman.core.names import ProjectId
from dragoman.core.operations import Instruction, Operation
from dragoman.core.screen import NO_SCREEN, Screen

# -- what is kept ----------------------------------------------------------------------------------------------------


class EntryRole(StrEnum):
    """Who wrote it down."""

    ASSISTANT = "assistant"
    PROGRAM = "program"
    """That fills a knowledge base by itself."""
    USER = "user"


class KnowledgeEntry(Struct, frozen=True):
    """One text. `updated_at` is Unix seconds, by the store's clock when it is written."""

    project: ProjectId
    id: str
    text: str
    title: str = ""
    public: bool = True
    role: EntryRole = EntryRole.USER
    labels: dict[str, str] = field(default_factory=dict[str, str])
    owner: str = ""
    """`Principal.owner` of who made it, and their name."""
    owner_name: str = ""
    updated_at: float = 0.0


class Query(Struct, frozen=True):
    text: str
    boost: float = 1.0
    """What its scores count, against those of other queries."""


class Found(Struct, frozen=True):
    """`score` is above 0, the higher the better, and comparable only within one search."""

    entry: KnowledgeEntry
    score: float


class Knowledge(Protocol):
    """The entries of all projects, searchable by their words. Durable like the tapes, and may be written by several
    processes at once. Every call is one transaction.

    Raises Unavailable; BadRequest for texts that not every engine can keep (NUL, lone surrogates).
    """

    async def put(self, entries: Sequence[KnowledgeEntry]) -> None:
        """Write them all or none, each over the one of its id in its project. Who made an entry first stays its owner.
        All are of one project."""
        ...

    async def get(self, project: ProjectId, entry_id: str) -> KnowledgeEntry | None: ...

    async def delete(self, project: ProjectId, entry_id: str) -> bool:
        """False if it is not there."""
        ...

    async def page(
        self, project: ProjectId, *, containing: str = "", sort: str = "title", descending: bool = False, limit: int
    ) -> Sequence[KnowledgeEntry]:
        """Entries in whose title or id `containing` stands, upper or lower case alike; "" = all. `sort`: title,
        updated_at, id, role or public; then by id."""
        ...

    async def search(
        self, project: ProjectId, queries: Sequence[Query], *, owner: str, labels: Mapping[str, str], limit: int
    ) -> Sequence[Found]:
        """The best, best first, of the public entries and the owner's own that share a word with a query and carry all
        `labels`. A word in the title counts for more than one in the text. No query matches everything."""
        ...

    async def count(self, project: ProjectId) -> int: ...


# -- operations ------------------------------------------------------------------------------------------------------


class KnowledgeKept(Struct, frozen=True):
    """So many entries were written."""

    count: int


class SaveEntries(Operation[KnowledgeKept], frozen=True):
    """Write entries, all or none; project, owner, its name and the time are the server's to fill in. Raises BadRequest
    naming the entry; NotAllowed without resources:write for what is public or somebody else's; Conflict if the project
    has as many as may be."""

    entries: tuple[KnowledgeEntry, ...]


class EntryPage(Struct, frozen=True):
    items: tuple[KnowledgeEntry, ...]


class ListEntries(Operation[EntryPage], frozen=True):
    """As `Knowledge.page`: also private entries of others are listed."""

    containing: str = ""
    sort: str = "title"
    descending: bool = False
    limit: int = 500


class EntryGone(Struct, frozen=True):
    id: str


class DeleteEntry(Operation[EntryGone], frozen=True):
    """Raises NotFound."""

    id: str


class RecalledEntries(Struct, frozen=True):
    items: tuple[Found, ...]


class RecallEntries(Operation[RecalledEntries], frozen=True):
    """Search the knowledge base as the principal: 20 entries and `RECALL_TOKENS_MAX` estimated LLM tokens at most."""

    queries: tuple[Query, ...]
    labels: dict[str, str] = field(default_factory=dict[str, str])


class KeptInstruction(Struct, frozen=True):
    id: str
    text: str
    public: bool


class InstructionList(Struct, frozen=True):
    items: tuple[KeptInstruction, ...]


class ListInstructions(Operation[InstructionList], frozen=True):
    """The principal's own, and everybody's public ones."""


class PutInstruction(Operation[KeptInstruction], frozen=True):
    """Set the principal's public, or private, instruction: there is one of each, and the id of the first stays."""

    id: str
    text: str
    public: bool


class KnowledgeStatus(Struct, frozen=True):
    entries: int


class ReadKnowledgeStatus(Operation[KnowledgeStatus], frozen=True):
    """How much is known."""


class ContextFound(Struct, frozen=True):
    """What the opening of a turn would tell the model: JSON texts as the `context` tool gives them."""

    content: str
    shown: str


class FindContext(Operation[ContextFound], frozen=True):
    """Run the `context` step for these messages, outside any conversation. Raises NotFound if `model` is not known."""

    messages: tuple[Message, ...]
    model: str
    screen: Screen = NO_SCREEN


class FunctionList(Struct, frozen=True):
    """What a turn of the principal's would be offered, and the system message it would begin with."""

    tools: tuple["FunctionShown", ...]
    system: str


class FunctionShown(Struct, frozen=True):
    name: str
    description: str
    parameters: dict[str, object]
    internal: bool
    """No model is offered it (`Offered.NEVER`)."""


class ListFunctions(Operation[FunctionList], frozen=True):
    """As a turn of the default agent that has a `Briefing` with these `notes` would have it."""

    notes: tuple[str, ...] = ()
    instructions: tuple[Instruction, ...] = ()
