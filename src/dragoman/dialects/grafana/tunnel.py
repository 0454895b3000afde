"""The tunnel (specification 3.4): a client polls for work, sends its tools, claims a request, answers it.

Every answer is 200 with `status: "success"` but for refusals; the client logs 204 as an error (quirk Q21).
"""

from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from dragoman.core.agents import NO_ARGUMENTS, Repeat, ToolSpec
from dragoman.core.errors import BadRequest, DragomanError, Expired, NotFound
from dragoman.core.names import Scope
from dragoman.core.tunnel import TOOLSET, LendTools, PollTunnel, ToolsLent, TunnelWork
from dragoman.core.waits import AnswerClientTool, ClaimClientTool, Settled, WaitingCall
from dragoman.dialects.grafana import errors
from dragoman.dialects.grafana.encode import success
from dragoman.dialects.grafana.ids import TOOL_NAME, read_request_id, request_id
from dragoman.dialects.grafana.messages import object_of
from dragoman.dialects.grafana.shapes import Success
from dragoman.dialects.grafana.times import rfc3339
from dragoman.wire import structs
from dragoman.wire.dialect import Reply, Request, Route

HELD_S = 120.0
"""How long a run waits for a lent tool. The client polls every 5 s, and a command of its may take a while."""
HASH_CHARS_MAX = 128
RESULT_CHARS_MAX = 1_000_000

_SCOPES = (Scope.TUNNEL_CONNECT,)


class Poll(Struct, frozen=True):
    tools_hash: str = ""


class Annotations(Struct, frozen=True, rename="camel"):
    """MCP's hints about a tool."""

    read_only_hint: bool = False
    idempotent_hint: bool = False


class LentTool(Struct, frozen=True, rename="camel"):
    name: str
    description: str = ""
    input_schema: dict[str, Any] = msgspec.field(default_factory=lambda: dict(NO_ARGUMENTS))
    annotations: Annotations = Annotations()


class Lend(Struct, frozen=True):
    tools: tuple[LentTool, ...]
    tools_hash: str = ""


class Result(Struct, frozen=True):
    result: Any = None
    error: str = ""


class Work(Struct, frozen=True):
    """One request. The advertised name `filesystem_read_file` comes back as tool `filesystem`, action `read_file`."""

    id: str
    tool: str
    action: str
    input: dict[str, Any]
    created_at: str
    expires_at: str


class Polled(Struct, frozen=True, omit_defaults=True):
    """Nothing in it = there is nothing to do."""

    send_tools: bool = False
    request: Work | UnsetType = UNSET


class Lent(Struct, frozen=True):
    tools: int
    """How many there are now."""


class Claimed(Struct, frozen=True):
    claimed: bool


class Accepted(Struct, frozen=True):
    accepted: bool


def routes(base: str) -> tuple[Route[Any], ...]:
    """The four paths under `base`."""
    one = f"{base}/tunnel/requests/{{requestId}}"
    return (
        Route(
            "POST",
            f"{base}/tunnel/poll",
            poll,
            answer=_polled,
            scopes=_SCOPES,
            counted=False,  # twelve a minute while nothing happens: they must not use up what the person may ask
            summary="Ask whether the assistant wants something run on this machine",
            takes=Poll,
            gives=Success[Polled],
        ),
        Route(
            "POST",
            f"{base}/tunnel/tools",
            lend,
            answer=_lent,
            scopes=_SCOPES,
            summary="Say which tools this machine lends to the assistant",
            takes=Lend,
            gives=Success[Lent],
        ),
        Route(
            "POST",
            f"{one}/claim",
            claim,
            answer=_claimed,
            scopes=_SCOPES,
            summary="Take up a request",
            gives=Success[Claimed],
        ),
        Route(
            "POST",
            f"{one}/result",
            result,
            answer=_settled,
            scopes=_SCOPES,
            summary="Answer a request",
            takes=Result,
            gives=Success[Accepted],
        ),
    )


def poll(request: Request) -> PollTunnel:
    return PollTunnel(_hash(structs.decode(request.body or b"{}", Poll).tools_hash))


def lend(request: Request) -> LendTools:
    body = structs.decode(request.body, Lend)
    return LendTools(tuple(_spec(tool) for tool in body.tools), _hash(body.tools_hash))


def claim(request: Request) -> ClaimClientTool:
    """Under a name of this very request: a second claim is another one's, and refused."""
    run, call = read_request_id(request.params["requestId"])
    return ClaimClientTool(run, call, claimed_by=request.nonce, private=True)


def result(request: Request) -> AnswerClientTool:
    run, call = read_request_id(request.params["requestId"])
    body = structs.decode(request.body, Result)
    content = body.error or (body.result if isinstance(body.result, str) else _compact(body.result))
    if len(content) > RESULT_CHARS_MAX:
        raise BadRequest(f"result: {len(content):,} characters; at most {RESULT_CHARS_MAX:,} are taken. Send less.")
    return AnswerClientTool(run, call, content, is_error=bool(body.error), private=True)


def _spec(tool: LentTool) -> ToolSpec:
    """Models' servers refuse a whole question for one tool that they cannot take: so it is refused here."""
    tool_name, _, action = tool.name.partition("_")
    if not tool_name or not action:
        raise BadRequest(f"tools: the name {tool.name[:100]!r} has no tool and action joined by an underscore.")
    if TOOL_NAME.fullmatch(tool.name) is None:
        raise BadRequest(f"tools: the name {tool.name[:100]!r} must be 1 to 64 letters, digits, _ or -.")
    schema = {"type": "object", **tool.input_schema}
    if schema["type"] != "object":
        raise BadRequest(f"tools: the inputSchema of {tool.name} must be of type object.")
    hints = tool.annotations
    repeat = Repeat.PURE if hints.read_only_hint else Repeat.IDEMPOTENT if hints.idempotent_hint else Repeat.ONCE
    return ToolSpec(tool.name, tool.description, schema, repeat=repeat, toolset=TOOLSET, held_s=HELD_S)


def fail(error: DragomanError, request: Request) -> Reply | None:
    """The client knows 404 for a request that is gone or has expired; None if there is nothing special to say."""
    if not isinstance(error, Expired) or "requestId" not in request.params:
        return None
    return errors.fail(NotFound(error.detail, what="call"), request)


def _hash(text: str) -> str:
    if len(text) > HASH_CHARS_MAX:
        raise BadRequest(f"tools_hash: at most {HASH_CHARS_MAX} characters.")
    return text


def _compact(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _polled(work: TunnelWork, request: Request) -> Reply:
    return success(Polled(work.send_tools, UNSET if work.call is None else _work(work.call)))


def _work(waiting: WaitingCall) -> Work:
    tool, _, action = waiting.call.name.partition("_")
    return Work(
        request_id(waiting.run, waiting.call.id),
        tool,
        action,
        object_of(waiting.call.arguments) or {},
        rfc3339(waiting.asked_at),
        rfc3339(waiting.expires_at),
    )


def _lent(lent: ToolsLent, request: Request) -> Reply:
    return success(Lent(lent.count))


def _claimed(settled: Settled, request: Request) -> Reply:
    return success(Claimed(True))


def _settled(settled: Settled, request: Request) -> Reply:
    return success(Accepted(True))
