"""Grip's requests -> operations. What is wrong with a body is told field by field, in Grip's own rows (WIRE.md, Q2)."""

import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Never, cast

from dragoman.core.errors import BadRequest, FieldFault, NotAuthenticated, NotFound, NotOffered
from dragoman.core.messages import said
from dragoman.core.names import ConversationId
from dragoman.core.operations import (
    CallTool,
    DeleteConversation,
    ListConversations,
    ListTools,
    Operation,
    ReadConversation,
    ReadStatus,
    StartTurn,
)
from dragoman.dialects.grip.shapes import (
    KEY_CHARS_MAX,
    KEY_PATTERN,
    MESSAGE_CHARS_MAX,
    MODEL_CHARS_MAX,
    ChatRequest,
)
from dragoman.wire import structs
from dragoman.wire.dialect import Request

ORIGIN = "grip"

QUERY_CHARS_MAX = 500
AUTO_KEY_DIGITS = 12
UNKNOWN_ROWS_MAX = 100
NAME_CHARS_SHOWN_MAX = 200
"""Unknown fields told, and so much of each one's name: an answer must not outgrow the request it refuses."""
FAULTS_NAMED_MAX = 5
"""A sentence names so many faults; the rows list all."""

KEY_FAULT = f"session_key must match {KEY_PATTERN}"
_KEY = re.compile(r"[\w:.@-]+")  # Q9: Unicode letters too
_JSON_MEDIA_TYPE = re.compile(r"\s*application/(?:[^;\s]+\+)?json\s*(?:;|\Z)", re.IGNORECASE)
_NO_TEXT = "Input should be a valid string, unable to parse raw data as a unicode string"
_SCHEME = "Bearer "
_CHAT_FIELDS = ("message", "session_key", "model")


def credential(headers: Mapping[str, str]) -> str:
    """Q6: exactly `Bearer`, one space, and ASCII text. Raises NotAuthenticated."""
    # Blanks after a header's value are no part of it (RFC 9110, 5.5), but not every HTTP parser takes them off.
    text = headers.get("authorization", "").rstrip(" \t")
    secret = text[len(_SCHEME) :]
    if not text.startswith(_SCHEME) or not secret or secret[0].isspace() or not secret.isascii():
        raise NotAuthenticated("Authentication required")
    return secret


# -- chat ------------------------------------------------------------------------------------------------------------


def chat(request: Request) -> StartTurn:
    return _turn(request, deltas=False)


def chat_stream(request: Request) -> StartTurn:
    return _turn(request, deltas=True)


def _turn(request: Request, *, deltas: bool) -> StartTurn:
    asked = _chat_request(request)
    return StartTurn(
        ConversationId(asked.session_key or f"api:{request.nonce[:AUTO_KEY_DIGITS]}"),
        (said("user", asked.message),),
        model=asked.model or "",
        deltas=deltas,
        origin=ORIGIN,
    )


def _chat_request(request: Request) -> ChatRequest:
    """Raises BadRequest with a row for every field that is wrong: declared fields first, then those unknown (Q8)."""
    body = _json_object(request)
    faults: list[FieldFault] = []
    message = _text(body, "message", faults, chars_min=1, chars_max=MESSAGE_CHARS_MAX, required=True)
    key = _text(body, "session_key", faults, chars_max=KEY_CHARS_MAX)
    if key is not None and _KEY.fullmatch(key) is None:
        faults.append(FieldFault("session_key", f"Value error, {KEY_FAULT}", "value_error"))
    model = _text(body, "model", faults, chars_max=MODEL_CHARS_MAX)
    if len(body) > len(_CHAT_FIELDS) or not all(field in _CHAT_FIELDS for field in body):
        faults.extend(_unknown(body))
    if faults:
        raise refused(faults)
    return ChatRequest(message or "", key, model)


def _unknown(body: Mapping[str, Any]) -> list[FieldFault]:
    """A row for each field of another name. A name that is no text makes the whole body bad: raises BadRequest."""
    fields = [field for field in body if field not in _CHAT_FIELDS]
    if any(structs.has_lone_surrogate(field) for field in fields):
        raise refused([FieldFault("", _NO_TEXT, "string_unicode")])
    shown = [field[:NAME_CHARS_SHOWN_MAX] for field in fields[:UNKNOWN_ROWS_MAX]]
    return [FieldFault(field, "Extra inputs are not permitted", "extra_forbidden") for field in shown]


# -- sessions --------------------------------------------------------------------------------------------------------


def sessions(request: Request) -> ListConversations:
    return ListConversations()


def session(request: Request) -> ReadConversation:
    return ReadConversation(_path_key(request), turns=False)


def session_messages(request: Request) -> ReadConversation:
    return ReadConversation(_path_key(request))


def delete_session(request: Request) -> DeleteConversation:
    return DeleteConversation(_path_key(request))


def _path_key(request: Request) -> ConversationId:
    """Q16: keys in paths are not validated, but one that cannot be stored names nothing. Raises NotFound."""
    key = request.params["key"]
    if not 1 <= len(key) <= KEY_CHARS_MAX or "\0" in key or structs.has_lone_surrogate(key):
        raise NotFound("Session not found", what="conversation")
    return ConversationId(key)


# -- tools and status ------------------------------------------------------------------------------------------------


def tools(request: Request) -> ListTools:
    return ListTools()


def execute_tool(request: Request) -> CallTool:
    """`{"parameters": {…}}`; unknown fields are ignored here, unlike in chat bodies."""
    body = _json_object(request)
    parameters = body.get("parameters", {})
    if not isinstance(parameters, dict):
        raise refused([FieldFault("parameters", "Input should be a valid dictionary", "dict_type")])
    arguments = json.dumps(parameters, separators=(",", ":"))
    return CallTool(request.params["name"], arguments)


def health(request: Request) -> ReadStatus:
    return ReadStatus(counted=False)


def status(request: Request) -> ReadStatus:
    return ReadStatus()


# -- not offered -----------------------------------------------------------------------------------------------------


def not_offered(sentence: str) -> Callable[[Request], Operation[Never]]:
    """A decoder that refuses: Grip has this route, this server does not."""

    def refuse(request: Request) -> Operation[Never]:
        raise NotOffered(sentence)

    return refuse


def search_memory(request: Request) -> Operation[Never]:
    """C25: the query is checked as on a released server before the search is declined."""
    query = request.query.get("q")
    if query is None:
        raise refused([FieldFault("query -> q", "Field required", "missing")])
    if not 1 <= len(query) <= QUERY_CHARS_MAX:
        raise BadRequest(f"Query must be 1-{QUERY_CHARS_MAX} characters")
    raise NotOffered("This server keeps no memory across sessions to search in.")


# -- validation ------------------------------------------------------------------------------------------------------


def _json_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object. Raises BadRequest."""
    if not request.body:
        raise refused([FieldFault("", "Field required", "missing")])
    value = _json(request) if _JSON_MEDIA_TYPE.match(request.headers.get("content-type", "")) else None
    if not isinstance(value, dict):
        message = "Input should be a valid dictionary or object to extract fields from"
        raise refused([FieldFault("", message, "model_attributes_type")])
    return cast("dict[str, Any]", value)


def _json(request: Request) -> Any:
    try:
        return structs.parse_keeping_surrogates(request.body)
    except BadRequest as error:
        if error.faults[0].type == "not_utf8":
            raise BadRequest("There was an error parsing the body") from None
        raise


def _text(
    body: Mapping[str, Any],
    field: str,
    faults: list[FieldFault],
    *,
    chars_max: int,
    chars_min: int = 0,
    required: bool = False,
) -> str | None:
    """The field's text if there is nothing wrong with it; else None, and what is wrong is added to `faults`."""
    if field not in body and required:
        faults.append(FieldFault(field, "Field required", "missing"))
        return None
    text = body.get(field)
    if text is None and not required:
        return None
    if not isinstance(text, str):
        faults.append(FieldFault(field, "Input should be a valid string", "string_type"))
    elif structs.has_lone_surrogate(text):
        faults.append(FieldFault(field, _NO_TEXT, "string_unicode"))
    elif len(text) < chars_min:
        faults.append(FieldFault(field, f"String should have at least {chars_min} character", "string_too_short"))
    elif len(text) > chars_max:
        faults.append(FieldFault(field, f"String should have at most {chars_max} characters", "string_too_long"))
    else:
        return text
    return None


def refused(faults: Collection[FieldFault]) -> BadRequest:
    """The rows as they are, under one sentence that names them."""
    sentences = [_sentence(fault) for fault in faults]
    more = len(sentences) - FAULTS_NAMED_MAX
    if more > 0:
        sentences[FAULTS_NAMED_MAX:] = [f"and {more} more"]
    return BadRequest("; ".join(sentences), faults=tuple(faults))


def _sentence(fault: FieldFault) -> str:
    """Q2: what a person can act on. For a bad key it is the reference page's text, to the letter."""
    field = fault.field.removeprefix("query -> ") or "the body"
    match fault.type:
        case "value_error":
            return fault.message.removeprefix("Value error, ")
        case "missing":
            return f"{field} is required"
        case "extra_forbidden":
            return f"{fault.field or 'an empty name'} is not a field of this request"
        case "string_type":
            return f"{field} must be a string"
        case "string_unicode":
            return f"{field} must not hold a lone surrogate"
        case "dict_type":
            return f"{field} must be an object"
        case "model_attributes_type":
            return "the body must be a JSON object, sent as application/json"
        case _:
            return f"{field} must have {fault.message.removeprefix('String should have ')}"
