"""Conversations as whole documents: for wires that read, write and replace one at once. All operations are `private`
and tell of shared ones (see `core.operations`)."""

from msgspec import Struct, field

from dragoman.core.messages import Message
from dragoman.core.names import ConversationId, ProjectId
from dragoman.core.operations import ConversationInfo, Operation, TurnView


class Labels(Struct, frozen=True, omit_defaults=True):
    """What a wire keeps with a conversation besides its messages. `system` "" = that of its last turn."""

    labels: dict[str, str] = field(default_factory=dict[str, str])
    numeric_labels: dict[str, float] = field(default_factory=dict[str, float])
    system: str = ""


class Document(Struct, frozen=True):
    """A conversation whole. `turns` are those that completed, and what was written into it from elsewhere."""

    info: ConversationInfo
    turns: tuple[TurnView, ...]
    labels: Labels
    owner_name: str
    """The name of whom it belongs to; "" = not known any more."""
    system: str
    """The system message of its last turn, or what was written in its place."""
    project: ProjectId


class ReadDocument(Operation[Document], frozen=True):
    """Raises NotFound."""

    conversation: ConversationId


class DocumentList(Struct, frozen=True):
    items: tuple[Document, ...]


class ListDocuments(Operation[DocumentList], frozen=True):
    """The principal's own and those that are shared, in which a turn completed or something was written; those that
    changed last come first. Archived ones too."""

    limit: int = 100


class CreateDocument(Operation[Document], frozen=True):
    """A conversation that begins with these messages. Raises BadRequest."""

    conversation: ConversationId
    title: str
    messages: tuple[Message, ...]
    labels: Labels
    shared: bool = False
    archived: bool = False
    origin: str = ""


class ReplaceDocument(Operation[Document], frozen=True):
    """Title, messages, labels and whether it is shared anew. Messages that are those it has are not written again. A
    title or a `labels.system` of "" leaves what there is; `archived` None too.
    Raises NotFound; NotAllowed if it is shared and somebody else's; Conflict if the messages are others and a run of it
    is live; BadRequest."""

    conversation: ConversationId
    title: str
    messages: tuple[Message, ...]
    labels: Labels
    shared: bool = False
    archived: bool | None = None


class PatchDocument(Operation[Document], frozen=True):
    """Whether it is shared, whether archived; None leaves it as it is. Raises NotFound; NotAllowed as above."""

    conversation: ConversationId
    shared: bool | None = None
    archived: bool | None = None


class DuplicateDocument(Operation[Document], frozen=True):
    """A copy under another id that belongs to the principal, shared with nobody, not archived. Raises NotFound."""

    conversation: ConversationId
    copy: ConversationId
