"""Requests about chats -> operations."""

from collections.abc import Mapping
from typing import TypeVar

from msgspec import Struct

from dragoman.core.admission import IssueStreamTicket
from dragoman.core.errors import BadRequest, FieldFault, NotAuthenticated, NotFound
from dragoman.core.names import CONVERSATION_ID_CHARS_MAX, ConversationId
from dragoman.core.operations import (
    Archived,
    BrowseConversations,
    DeleteConversation,
    FollowConversation,
    ReadConversation,
    StartTurn,
    UpdateConversation,
)
from dragoman.dialects.grafana import shapes
from dragoman.dialects.grafana.ids import new_chat
from dragoman.dialects.grafana.prompts import title_of, user_message
from dragoman.wire import structs
from dragoman.wire.dialect import Request

SOURCE = "assistant"
"""What a chat started here is listed under (`source`): in our words, its origin."""
ALL_SOURCES = "all"
SOURCES_MAX = 20
SOURCE_CHARS_MAX = 64

LIMIT_DEFAULT = 50
LIMIT_MAX = 1000
NUMBER_MAX = 2**53
"""The largest number that every JSON reader holds exactly."""
NUMBER_DIGITS_MAX = 16

MAIN_THREAD = "main"
CURSOR_HEADER = "last-event-id"
CURSOR_FIELD = "lastEventId"

_FLAGS: Mapping[str, bool] = {"": False, "false": False, "0": False, "true": True, "1": True}

S = TypeVar("S", bound=Struct)


def credential(headers: Mapping[str, str]) -> str:
    """Q13: whatever follows `Bearer`. Raises NotAuthenticated."""
    scheme, _, text = headers.get("authorization", "").partition(" ")
    text = text.strip()
    if scheme.lower() != "bearer" or not text or not text.isascii():
        raise NotAuthenticated("Send a service account token as `Authorization: Bearer …`.")
    return text


# -- turns -----------------------------------------------------------------------------------------------------------


def start_chat(request: Request) -> StartTurn:
    """Raises BadRequest; NotFound for a chatId that names nothing here."""
    asked = body_of(request, shapes.StartChat)
    if not asked.prompt:
        raise bad_field("prompt", 'is required: send {"prompt": "your question"}')
    message = user_message(asked.prompt)
    if not message.text.strip():
        raise bad_field("prompt", "holds nothing to be answered; write a question")
    return StartTurn(
        _id(asked.chatId) if asked.chatId else new_chat(request.nonce),
        (message,),
        must_exist=bool(asked.chatId),
        origin=SOURCE,
        title=title_of(message),
        private=True,
        managed=True,
    )


# -- chats -----------------------------------------------------------------------------------------------------------


def read_chat(request: Request) -> ReadConversation:
    return ReadConversation(_chat(request), private=True)


def read_ui_messages(request: Request) -> ReadConversation:
    _check_thread(request)
    return ReadConversation(_chat(request), private=True)


def read_shared(request: Request) -> ReadConversation:
    return ReadConversation(_chat(request), shared_only=True)


def read_shared_ui_messages(request: Request) -> ReadConversation:
    _check_thread(request)
    return ReadConversation(_chat(request), shared_only=True)


def list_chats(request: Request) -> BrowseConversations:
    query = request.query
    archived = Archived.WITH if _flag(query, "includeArchived") else Archived.WITHOUT
    return BrowseConversations(
        _sources(query.get("source", "")),
        Archived.ONLY if _flag(query, "archivedOnly") else archived,
        limit_of(query),
        offset_of(query),
        private=True,
    )


def change_chat(request: Request) -> UpdateConversation:
    asked = body_of(request, shapes.ChangeChat)
    if asked == shapes.ChangeChat():
        raise BadRequest("Nothing is to be changed: send at least one of name, isPublic and archived.")
    return UpdateConversation(
        _chat(request), title=asked.name, shared=asked.isPublic, archived=asked.archived, private=True
    )


def delete_chat(request: Request) -> DeleteConversation:
    return DeleteConversation(_chat(request), private=True)


def issue_ticket(request: Request) -> IssueStreamTicket:
    return IssueStreamTicket(_chat(request))


# -- events ----------------------------------------------------------------------------------------------------------


class Cursor(Struct, frozen=True):
    """The last frame a reader has: `id: 12` is the last frame of entry 12, `id: 12.1` the first of several."""

    seq: int
    part: int = 0
    """0 = the last of its entry."""

    @property
    def whole(self) -> int:
        """The last entry of which the reader has every frame."""
        return self.seq - 1 if self.part else self.seq


def cursor_of(request: Request) -> Cursor | None:
    """None = the reader has nothing yet. The header wins over the query field. Raises BadRequest."""
    name, said = "Last-Event-ID", request.headers.get(CURSOR_HEADER, "")
    if not said:
        name, said = CURSOR_FIELD, request.query.get(CURSOR_FIELD, "")
    if not said:
        return None
    seq, dot, part = said.partition(".")
    cursor = Cursor(_number(seq), _number(part) if dot else 0)
    if cursor.seq < 0 or cursor.part < bool(dot) or (dot and not cursor.seq):
        raise bad_field(name, "must be the id of an event of this stream, such as 12 or 12.1")
    return cursor


def follow(request: Request) -> FollowConversation:
    cursor = cursor_of(request)
    return FollowConversation(_chat(request), cursor.whole if cursor else 0, private=True)


# -- parts of requests -----------------------------------------------------------------------------------------------


def limit_of(query: Mapping[str, str]) -> int:
    """Raises BadRequest."""
    said = query.get("limit", "")
    limit = _number(said) if said else LIMIT_DEFAULT
    if not 1 <= limit <= LIMIT_MAX:
        raise bad_field("limit", f"must be a whole number from 1 to {LIMIT_MAX}")
    return limit


def offset_of(query: Mapping[str, str]) -> int:
    """Raises BadRequest."""
    said = query.get("offset", "")
    offset = _number(said) if said else 0
    if offset < 0:
        raise bad_field("offset", "must be a whole number, 0 or more")
    return offset


def _chat(request: Request) -> ConversationId:
    return _id(request.params["chatId"])


def _id(text: str) -> ConversationId:
    """Raises NotFound for what cannot be a conversation's id."""
    if not 1 <= len(text) <= CONVERSATION_ID_CHARS_MAX or "\0" in text or structs.has_lone_surrogate(text):
        raise NotFound("Chat not found", what="conversation")
    return ConversationId(text)


def body_of(request: Request, shape: type[S]) -> S:
    """The body, whatever content type it says it has: the credential cannot come from a browser's form."""
    if not request.body:
        raise BadRequest("The body is empty: send a JSON object.", faults=(FieldFault("", "is empty"),))
    return structs.decode(request.body, shape)


def _sources(said: str) -> tuple[str, ...]:
    """One source, several with commas between them, or all. () = of any."""
    sources = tuple(dict.fromkeys(part for each in said.split(",") if (part := each.strip())))
    if ALL_SOURCES in sources:
        return ()
    if len(sources) > SOURCES_MAX or any(len(each) > SOURCE_CHARS_MAX for each in sources):
        raise bad_field("source", f"names at most {SOURCES_MAX} sources of at most {SOURCE_CHARS_MAX} characters")
    return sources or (SOURCE,)


def _flag(query: Mapping[str, str], field: str) -> bool:
    flag = _FLAGS.get(query.get(field, "").lower())
    if flag is None:
        raise bad_field(field, "must be true or false")
    return flag


def _number(said: str) -> int:
    """-1 for what is no whole number, or one too large."""
    if said.isascii() and said.isdigit() and len(said) <= NUMBER_DIGITS_MAX and (number := int(said)) <= NUMBER_MAX:
        return number
    return -1


def _check_thread(request: Request) -> None:
    thread = request.query.get("thread", MAIN_THREAD)
    if thread != MAIN_THREAD:
        raise NotFound(f"This chat has no such thread; its only one is {MAIN_THREAD}.", what="thread")


def bad_field(field: str, sentence: str) -> BadRequest:
    return BadRequest(f"{field} {sentence}.", faults=(FieldFault(field, sentence),))
