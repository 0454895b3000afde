"""Conversations: read, listed, written, replaced, shared, copied, deleted (elastic spec 3.2).

A message of role `system` is never shown as one: the first of them is the `systemMessage` of a conversation that has no
other.
"""

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, UnsetType

from dragoman.core.documents import (
    CreateDocument,
    Document,
    DocumentList,
    DuplicateDocument,
    Labels,
    ListDocuments,
    PatchDocument,
    ReadDocument,
    ReplaceDocument,
)
from dragoman.core.messages import Message
from dragoman.core.names import ConversationId, Scope
from dragoman.core.operations import DeleteConversation, Deleted
from dragoman.dialects.elastic import conversation_shapes as shapes
from dragoman.dialects.elastic.errors import truth
from dragoman.dialects.elastic.messages import WireMessage, core_messages, iso, wire_messages
from dragoman.dialects.elastic.requests import INTERNAL, body, query, uuid_of, write
from dragoman.wire.dialect import Reply, Request, Route, json_reply

ORIGIN = "elastic"
LISTED_MAX = 100
"""Elastic spec 3.2."""
SYSTEM = "system"

_ALL = f"{INTERNAL}/conversations"
_NEW = f"{INTERNAL}/conversation"
_ONE = f"{INTERNAL}/conversation/{{conversation}}"
_COPY = f"{_ONE}/duplicate"
_READS = (Scope.CHAT_RUN, Scope.CONVERSATIONS_READ)
_WRITES = (Scope.CHAT_RUN, Scope.CONVERSATIONS_WRITE)

# -- requests ----------------------------------------------------------------------------------------------------------


def read(request: Request) -> ReadDocument:
    query(request)
    return ReadDocument(_named(request))


def page(request: Request) -> ListDocuments:
    """`{query}`, an empty object, or no body at all."""
    query(request)
    if request.body:
        body(request, shapes.ListBody)
    else:
        write(request)
    return ListDocuments(LISTED_MAX)


def create(request: Request) -> CreateDocument:
    query(request)
    sent = body(request, shapes.CreateBody).conversation
    return CreateDocument(
        uuid_of(request.nonce),
        sent.conversation.title,
        _spoken(sent.messages),
        _labels(sent),
        shared=truth(sent.public),
        archived=_flag(sent.archived) or False,
        origin=ORIGIN,
    )


def replace(request: Request) -> ReplaceDocument:
    """The id in the path is the one that counts."""
    query(request)
    sent = body(request, shapes.UpdateBody).conversation
    return ReplaceDocument(
        _named(request),
        sent.conversation.title,
        _spoken(sent.messages),
        _labels(sent),
        shared=truth(sent.public),
        archived=_flag(sent.archived),
    )


def patch(request: Request) -> PatchDocument:
    query(request)
    sent = body(request, shapes.PatchBody)
    return PatchDocument(_named(request), shared=_flag(sent.public), archived=_flag(sent.archived))


def duplicate(request: Request) -> DuplicateDocument:
    query(request)
    write(request)
    return DuplicateDocument(_named(request), uuid_of(request.nonce))


def delete(request: Request) -> DeleteConversation:
    query(request)
    write(request)
    return DeleteConversation(_named(request), private=True, tell_shared=True)


def _named(request: Request) -> ConversationId:
    return ConversationId(request.params["conversation"])


def _flag(value: shapes.Flag | UnsetType) -> bool | None:
    return None if value is UNSET else truth(value)


def _spoken(messages: Sequence[WireMessage]) -> tuple[Message, ...]:
    return core_messages(tuple(each for each in messages if each.message.role != SYSTEM))


def _labels(sent: shapes.ConversationCreate | shapes.ConversationUpdate) -> Labels:
    return Labels(sent.labels, sent.numeric_labels, sent.systemMessage or _system_in(sent.messages))


def _system_in(messages: Sequence[WireMessage]) -> str:
    """The text of the first system message; "" if there is none."""
    return next((each.message.content or "" for each in messages if each.message.role == SYSTEM), "")


# -- answers -----------------------------------------------------------------------------------------------------------


def conversation_of(document: Document) -> shapes.Conversation:
    info = document.info
    messages = wire_messages(document.turns)
    author = shapes.Author(document.owner_name or info.owner, info.owner) if info.owner else UNSET
    return shapes.Conversation(
        iso(info.created_at),
        author,
        shapes.Head(info.id, info.title, iso(info.updated_at)),
        document.system or _system_in(messages),
        tuple(each for each in messages if each.message.role != SYSTEM),
        document.labels.labels,
        {name: _number(value) for name, value in document.labels.numeric_labels.items()},
        document.project,
        info.shared,
        info.archived,
    )


def _number(value: float) -> float:
    """As it was sent: 3, not 3.0."""
    return int(value) if value.is_integer() else value


def document(found: Document, request: Request) -> Reply:
    return json_reply(conversation_of(found))


def documents(found: DocumentList, request: Request) -> Reply:
    return json_reply(shapes.Conversations(tuple(map(conversation_of, found.items))))


def deleted(gone: Deleted, request: Request) -> Reply:
    return json_reply(shapes.Nothing())


ROUTES: tuple[Route[Any], ...] = (
    Route(
        *("GET", _ONE, read, document),
        scopes=_READS,
        summary="A conversation, whole",
        gives=shapes.Conversation,
    ),
    Route(
        *("POST", _ALL, page, documents),
        scopes=_READS,
        summary="Conversations that are yours or shared, newest first, at most 100",
        takes=shapes.ListBody,
        gives=shapes.Conversations,
    ),
    Route(
        *("POST", _NEW, create, document),
        scopes=_WRITES,
        summary="Write a conversation",
        takes=shapes.CreateBody,
        gives=shapes.Conversation,
    ),
    Route(
        *("PUT", _ONE, replace, document),
        scopes=_WRITES,
        summary="Replace a conversation of yours: title, messages, labels",
        takes=shapes.UpdateBody,
        gives=shapes.Conversation,
    ),
    Route(
        *("PATCH", _ONE, patch, document),
        scopes=_WRITES,
        summary="Share a conversation of yours, or archive it",
        takes=shapes.PatchBody,
        gives=shapes.Conversation,
    ),
    Route(
        *("POST", _COPY, duplicate, document),
        scopes=_WRITES,
        summary="Copy a conversation; the copy is yours",
        gives=shapes.Conversation,
    ),
    Route(
        *("DELETE", _ONE, delete, deleted),
        scopes=_WRITES,
        summary="Delete a conversation of yours",
        gives=shapes.Nothing,
    ),
)
