"""Which generation of this API a request speaks: nothing says so but its keys (rowboat spec 5.1, Q2; decision 0046).

    conversationId or stream                                        g2, g2_stream
    state and mockTools                                             g15
    state                                                           g1
    workflowId, testProfileId, or a message spelled as in G1        g1
    a message spelled in camel case                                 g15
    nothing of all that                                             ambiguous

A key counts when it is there, whatever its value: clients send null for what they do not use.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, cast

from dragoman.core.errors import BadRequest
from dragoman.dialects.rowboat.issues import INVALID_JSON, invalid, limit_of, wrong_type
from dragoman.wire import structs
from dragoman.wire.dialect import Request

VALUES_MAX = 200_000
"""JSON values of one body: callers send whole conversations, some ten values a message."""

NO_JSON = frozenset({"empty", "not_utf8", "json_invalid"})

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Generation(StrEnum):
    """The branches of the chat route, by name."""

    G1 = "g1"
    """The reference page's: stateless, snake case."""
    G15 = "g15"
    """Stateless, camel case, the next speaker told from the history."""
    G2 = "g2"
    """Conversations that are kept."""
    G2_STREAM = "g2_stream"
    AMBIGUOUS = "ambiguous"

    @property
    def strict(self) -> bool:
        """Whether what is wrong with a body goes unsaid, as this generation has it."""
        return self in (Generation.G2, Generation.G2_STREAM)


def fields_of(request: Request) -> dict[str, Any]:
    """The members of the body. Raises BadRequest."""
    try:
        value = structs.parse(_utf8(request.body), values_max=VALUES_MAX)
    except BadRequest as error:
        fault = error.faults[0]
        if fault.type in NO_JSON:
            raise BadRequest(INVALID_JSON, faults=error.faults) from None
        raise invalid([limit_of(fault)]) from None
    if not isinstance(value, dict):
        raise invalid([wrong_type((), "object", value)])
    return cast("dict[str, Any]", value)


def _utf8(body: bytes) -> bytes:
    """The body as UTF-8, without a byte order mark. What is not UTF-8 is Latin-1: so the client library up to 1.0.6
    sends texts by way of urllib3 1.x, without a word about it."""
    body = body.removeprefix(BYTE_ORDER_MARK)
    try:
        body.decode()
    except UnicodeDecodeError:
        return body.decode("latin-1").encode()
    return body


def choose(request: Request) -> str:
    """The name of the branch. Raises BadRequest for a body that is no JSON object."""
    return generation_of(fields_of(request))


def generation_of(fields: Mapping[str, Any]) -> Generation:
    if "conversationId" in fields or "stream" in fields:
        return Generation.G2_STREAM if fields.get("stream") is True else Generation.G2
    if "state" in fields:
        return Generation.G15 if "mockTools" in fields else Generation.G1
    messages = list(_messages(fields))
    if "workflowId" in fields or "testProfileId" in fields or _any_has(messages, "agenticResponseType", "tool_calls"):
        return Generation.G1
    if _any_has(messages, "responseType", "toolCalls"):
        return Generation.G15
    return Generation.AMBIGUOUS


def _messages(fields: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    messages = fields.get("messages")
    for message in cast("list[Any]", messages) if isinstance(messages, list) else ():
        if isinstance(message, dict):
            yield cast("dict[str, Any]", message)


def _any_has(messages: list[Mapping[str, Any]], *keys: str) -> bool:
    return any(key in message for message in messages for key in keys)
