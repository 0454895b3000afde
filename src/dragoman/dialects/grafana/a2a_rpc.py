"""JSON-RPC 2.0 as A2A 0.3 uses it: a request's envelope, and how a refusal is said.

what does not say that it is JSON-RPC 2.0     HTTP 400, codes -32700 and -32600
what is wrong with the call, or its envelope  HTTP 200, A2A's codes; on a stream's method as the stream's one frame,
                                              since clients that wait for frames read nothing else
who asks, how often, and our own failures     plain HTTP statuses: the dialect's business, not JSON-RPC's
"""

from typing import Any, TypeVar, cast

import msgspec
from msgspec import UNSET, Struct

from dragoman.core import errors
from dragoman.core.errors import BadRequest, DragomanError
from dragoman.dialects.grafana.a2a_shapes import RpcAnswer, RpcError, RpcFailure, RpcId, Task
from dragoman.dialects.grafana.errors import CHAT_NOT_FOUND
from dragoman.wire import sse, structs
from dragoman.wire.dialect import Reply, Request

T = TypeVar("T")

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
STREAM_BROKE = -32000
TASK_NOT_FOUND = -32001
TASK_NOT_CANCELABLE = -32002
PUSH_NOT_SUPPORTED = -32003
NOT_SUPPORTED = -32004
CONTENT_NOT_SUPPORTED = -32005
CARD_NOT_CONFIGURED = -32007

ID_CHARS_MAX = 256
"""Each frame repeats it."""
ID_NUMBER_MAX = 2**53
METHOD_CHARS_SHOWN_MAX = 100
NO_TASK = "There is no task with this id."
SAID_OTHERWISE = "params.message.messageId came with another message before; every message needs one of its own."
KEY_HEADER = "idempotency-key"

STREAMING = frozenset({"message/stream", "tasks/resubscribe"})
STREAM_TYPE = "text/event-stream; charset=utf-8"

_UNREADABLE = frozenset({"empty", "not_utf8", "json_invalid"})


class RpcCall(Struct, frozen=True):
    """`id` is None if there is one, and it cannot be echoed; `method` is "" if it is none."""

    id: RpcId
    method: str
    params: Any


class RpcFault(BadRequest):
    """A refusal with a code of its own. `call` is what could be read of a call whose envelope is wrong."""

    def __init__(self, rpc_code: int, detail: str, *, call: RpcCall | None = None) -> None:
        super().__init__(detail)
        self.rpc_code = rpc_code
        self.call = call


def call_of(request: Request) -> RpcCall:
    """The envelope. Raises RpcFault."""
    try:
        value = structs.parse(request.body)
    except BadRequest as error:
        code = PARSE_ERROR if error.faults[0].type in _UNREADABLE else INVALID_REQUEST
        raise RpcFault(code, error.detail) from None
    if not isinstance(value, dict):
        raise RpcFault(INVALID_REQUEST, "The body must be one JSON-RPC request, an object; batches are not taken.")
    body = cast("dict[str, Any]", value)
    if body.get("jsonrpc") != "2.0":
        raise RpcFault(INVALID_REQUEST, 'The body must be a JSON-RPC request with "jsonrpc":"2.0".')
    given = body.get("method")
    method = given if isinstance(given, str) else ""
    call = RpcCall(_id(body.get("id")), method, body.get("params"))
    if call.id is None:
        sentence = f"id must be a string of at most {ID_CHARS_MAX} characters, or a whole number."
        raise RpcFault(INVALID_REQUEST, sentence, call=call)
    if not method:
        raise RpcFault(INVALID_REQUEST, "method must be a string, the name of one.", call=call)
    return call


def params_of(call: RpcCall, shape: type[T]) -> T:
    """Raises RpcFault naming the field."""
    try:
        return msgspec.convert(call.params, shape)
    except msgspec.ValidationError as error:
        text = str(error).replace("`", "").replace("$.", "params.").replace("$[", "params[")
        raise RpcFault(INVALID_PARAMS, f"{text}.") from None


def _id(given: object) -> RpcId:
    """Q2: echoed just as it came. null counts as none; None is what cannot be echoed."""
    if given is None:
        return UNSET
    if isinstance(given, str) and len(given) <= ID_CHARS_MAX:
        return given
    if isinstance(given, int) and not isinstance(given, bool) and abs(given) <= ID_NUMBER_MAX:
        return given
    return None


# -- answers ---------------------------------------------------------------------------------------------------------


def answer(request: Request, task: Task) -> Reply:
    return Reply(200, msgspec.json.encode(RpcAnswer(id=id_of(request), result=task)))


def id_of(request: Request) -> RpcId:
    """UNSET if the request is no JSON-RPC: an answer to what was begun is never held back for that."""
    try:
        return call_of(request).id
    except RpcFault:
        return UNSET


def refusal(call: RpcCall | None, code: int, sentence: str) -> Reply:
    """`call` is None if nothing of one could be read."""
    if call is None:
        failure = RpcFailure(id=None, error=RpcError(code, sentence), status="error", message=sentence)
        return Reply(400, msgspec.json.encode(failure))
    body = msgspec.json.encode(RpcFailure(id=call.id, error=RpcError(code, sentence)))
    if call.method in STREAMING:
        return Reply(200, sse.frame(body), STREAM_TYPE)
    return Reply(200, body)


def fail(error: DragomanError, request: Request) -> Reply | None:
    """JSON-RPC's answer to an error, for paths that take JSON-RPC; None if the error is no matter of JSON-RPC's."""
    code = _code(error)
    if code is None:
        return None
    try:
        call = call_of(request)
    except RpcFault as fault:
        # Any other error here is older than the reading of the body.
        return refusal(fault.call, code, error.detail) if isinstance(error, RpcFault) else None
    if isinstance(error, errors.KeyReused) and KEY_HEADER in request.headers:
        return None  # the key is HTTP's own, and so is what is said of it
    return refusal(call, code, _sentence(error))


def _sentence(error: DragomanError) -> str:
    if isinstance(error, errors.NotFound):
        return {"run": NO_TASK, "conversation": CHAT_NOT_FOUND}.get(error.what, error.detail)
    return SAID_OTHERWISE if isinstance(error, errors.KeyReused) else error.detail


def _code(error: DragomanError) -> int | None:
    match error:
        case RpcFault():
            return error.rpc_code
        case errors.TooLarge():
            return None
        case errors.BadRequest() | errors.KeyReused():
            return INVALID_PARAMS
        case errors.NotFound():
            return {"run": TASK_NOT_FOUND, "route": None}.get(error.what, INVALID_PARAMS)
        case errors.Expired():
            return TASK_NOT_FOUND
        case errors.NotOffered():
            return NOT_SUPPORTED
        case _:
            return None
