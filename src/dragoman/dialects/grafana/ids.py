"""Ids as this wire wants them: of chats, and of what a run waits for. The latter carry the run and the call, so that
nothing need be looked up.

    rt_…   a result that the client owes      run, call
    ap_…   a decision that a person owes      run, hash of the arguments asked about, call

Behind the prefix stand the names, joined with NUL, in base64url without padding. They are no secrets: who answers is
checked against the conversation's owner.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode

from dragoman.core.errors import NotFound
from dragoman.core.names import CallId, ConversationId, RunId

TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What models' providers take as the name of a tool: another one would have every turn refused that has it."""

_REQUEST = "rt_"
_APPROVAL = "ap_"


def new_chat(nonce: str) -> ConversationId:
    """The request's random digits as a UUID of version 4 (RFC 9562, 5.4)."""
    variant = "89ab"[int(nonce[16], 16) % 4]
    return ConversationId(f"{nonce[:8]}-{nonce[8:12]}-4{nonce[13:16]}-{variant}{nonce[17:20]}-{nonce[20:]}")


def request_id(run: RunId, call: CallId) -> str:
    return _REQUEST + _pack(run, call)


def approval_id(run: RunId, call: CallId, arguments_hash: str) -> str:
    return _APPROVAL + _pack(run, arguments_hash, call)


def read_request_id(text: str) -> tuple[RunId, CallId]:
    """Raises NotFound if this is no id that `request_id` gives."""
    names = _unpack(text, _REQUEST, count=2)
    if names is None:
        raise NotFound("There is no tool request with this requestId.", what="call")
    run, call = names
    return RunId(run), CallId(call)


def read_approval_id(text: str) -> tuple[RunId, CallId, str]:
    """The run, the call and the hash of its arguments. Raises NotFound if this is no id that `approval_id` gives."""
    names = _unpack(text, _APPROVAL, count=3)
    if names is None:
        raise NotFound("There is no approval request with this id.", what="call")
    run, arguments_hash, call = names
    return RunId(run), CallId(call), arguments_hash


def _pack(*names: str) -> str:
    return urlsafe_b64encode("\0".join(names).encode()).rstrip(b"=").decode()


def _unpack(text: str, prefix: str, *, count: int) -> list[str] | None:
    """The names; None if the text is not just as `_pack` writes it. The last name may be anything, NUL included."""
    packed = text.removeprefix(prefix)
    if packed == text or not packed.isascii():
        return None
    try:
        names = urlsafe_b64decode(packed + "=" * (-len(packed) % 4)).decode().split("\0", count - 1)
    except ValueError:
        return None
    return names if len(names) == count and all(names) and _pack(*names) == packed else None
