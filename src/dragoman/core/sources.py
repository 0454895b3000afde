"""Sources: documents of a project in which agents of workflows search (rowboat spec 7.2, 8.5)."""

from msgspec import Struct


class Source(Struct, frozen=True):
    """`id` is 24 hex digits. One that is not `active` is kept and not searched. Times are Unix seconds."""

    id: str
    name: str
    description: str = ""
    documents: int = 0
    active: bool = True
    created_at: float = 0.0


class Document(Struct, frozen=True):
    """One text. `name` is where it is from, such as a file's name; "" = it has its title only."""

    title: str
    text: str
    name: str = ""


class Passage(Struct, frozen=True):
    """What a search found: a piece of a document, or the whole of it. `document` is the document's id."""

    source: str
    document: str
    title: str
    name: str
    text: str
