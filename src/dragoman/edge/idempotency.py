"""How a request that begins a turn is recognised when it comes a second time (promise G2).

By the caller's own name for it, in this order:

    Idempotency-Key   header of draft-ietf-httpapi-idempotency-key-header-07: a string of RFC 9651 ("quoted"), or bare
    message id        the wire's own name for the message, where it has one (`StartTurn.message_id`)
    nothing           a client library's own retry, which says so in `x-stainless-retry-count`, and only for a while

A key names a request of one credential to one path; a message id names a message of one credential in one dialect.
"""

import re
from hashlib import sha256
from typing import Any

import msgspec

from dragoman.core.errors import BadRequest, FieldFault
from dragoman.core.names import Principal
from dragoman.core.operations import Mark, Operation, StartTurn
from dragoman.wire.dialect import Request

KEY_HEADER = "idempotency-key"
KEY_CHARS_MAX = 255
RETRY_HEADER = "x-stainless-retry-count"
"""Sent by client libraries of the OpenAI family: how many times this request was sent before, "0" the first time."""
RETRY_WINDOW_S = 10.0
"""For so long after a turn was accepted, a library's retry of its request is the same turn."""
RETRY_DIGITS_MAX = 4

NO_MARK = Mark()

_QUOTED = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"(?:;[\x20-\x7e]*)?')
"""RFC 9651, 3.3.3. Parameters may follow (3.1.2); none is known, so they mean nothing."""
_ESCAPED = re.compile(r"\\(.)")
_VISIBLE = re.compile(rf"[\x21-\x7e]{{1,{KEY_CHARS_MAX}}}")


def mark_of(request: Request, principal: Principal, operation: Operation[Any]) -> Mark:
    """The request's mark; NO_MARK unless it begins a turn. Raises BadRequest if its key is none.

    The fingerprint covers who asks, where, and what: the body's JSON whatever the order of its keys, or its bytes. For
    a message id it covers the messages alone, since what wraps them may differ from one try to the next (JSON-RPC's
    `id`). Without either it is a hash of the bytes: 2 us for a short body, and nobody sends the same one in other
    words.
    """
    if not isinstance(operation, StartTurn):
        return NO_MARK
    who = principal.credential_id.encode()
    given = request.headers.get(KEY_HEADER)
    if given is None and operation.message_id:
        place = (b"message", who, operation.origin.encode())
        return Mark(_digest(*place, _messages(operation)), _digest(*place, _bytes(operation.message_id)))
    place = (b"request", who, request.method.encode(), _bytes(request.path))
    query = _bytes(repr(sorted(request.query.items()))) if request.query else b""
    if given is None:
        window_s = RETRY_WINDOW_S if _is_retry(request.headers.get(RETRY_HEADER, "")) else 0.0
        return Mark(_digest(*place, query, request.body), window_s=window_s)
    key = key_of(given)
    return Mark(_digest(*place, query, _canonical(request.body)), _digest(*place, key.encode()))


def key_of(header: str) -> str:
    """The key in an Idempotency-Key header: `"abc"` and `abc` are the same. Raises BadRequest."""
    key = header
    if header.startswith('"'):
        match = _QUOTED.fullmatch(header)
        key = _ESCAPED.sub(r"\1", match[1]) if match else ""
    if _VISIBLE.fullmatch(key) is None:
        sentence = f"must be 1 to {KEY_CHARS_MAX} visible ASCII characters, with or without double quotes around them"
        raise BadRequest(f"Idempotency-Key {sentence}", faults=(FieldFault("Idempotency-Key", sentence),))
    return key


def _is_retry(count: str) -> bool:
    return count.isascii() and count.isdigit() and len(count) <= RETRY_DIGITS_MAX and int(count) > 0


def _canonical(body: bytes) -> bytes:
    """The body's JSON with its keys in order, or the body as it is."""
    try:
        return msgspec.json.encode(msgspec.json.decode(body), order="sorted")
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        return body


def _messages(turn: StartTurn) -> bytes:
    try:
        return msgspec.json.encode(turn.messages)
    except UnicodeEncodeError:  # no store will take it; the refusal is its business
        return _bytes(repr(turn.messages))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _digest(*parts: bytes) -> str:
    """SHA-256 in hex. Lengths come first: no two rows of parts run together to the same bytes."""
    lengths = ",".join([str(len(part)) for part in parts])
    return sha256(b"".join((lengths.encode(), b":", *parts))).hexdigest()
