"""Webhooks: a workflow's tool is a program of the project's, asked over HTTP, that checks our signature (rowboat spec
7.1).

    POST {"requestId": uuid, "content": "{\\"toolCall\\": {…, \\"arguments\\": \\"{…}\\"}}"}
    x-signature-jwt: HS256 with the project's secret, over the SHA-256 of `content`

A request may be repeated only if the tool says that this does no harm, or if nothing was sent. Each repeat has the same
`requestId` and `Idempotency-Key`. What it answers with of the headers that it was sent is blotted out.
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, cast
from uuid import UUID, uuid5

import msgspec

from dragoman.access.jwt import sign
from dragoman.core.agents import Repeat, ToolSpec
from dragoman.core.errors import ToolFailed
from dragoman.core.messages import ToolCall
from dragoman.core.names import CallId, Clock, ProjectId
from dragoman.runtime.project_settings import CONNECTION, ProjectSettings, Settings
from dragoman.runtime.tool_ports import CallContext
from dragoman.tools.arguments import Arguments
from dragoman.tools.blotting import Headers, without_secrets
from dragoman.tools.connections.connection import Connection
from dragoman.tools.egress import TOTAL_S, Answer, BrokeOff, Egress, NotReached, Target

KIND = "webhook"
"""Of connections in the configuration."""
SIGNATURE = "x-signature-jwt"
ISSUER = "rowboat"
SIGNED_S = 300
"""How long a signature is good for."""
TRIES_MAX = 3
WAITS_S = (0.25, 1.0)
"""Before the second try, and before the third."""
SAID_CHARS_MAX = 300
"""So much of what the other side says of a failure is passed on."""

_REQUESTS = UUID("6f2d3c1e-55c4-4b8f-9b1c-0f7a3f1d9a57")
"""The namespace of request ids: the same run and call have the same."""
_AWAY = (502, 503, 504)


class Webhooks:
    """`connections` are those of the configuration; `sleep` waits between tries."""

    def __init__(
        self,
        egress: Egress,
        settings: ProjectSettings,
        connections: Sequence[Connection],
        *,
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._egress = egress
        self._settings = settings
        self._connections = {each.name: each for each in connections if each.kind == KIND}
        self._clock = clock
        self._sleep = sleep

    async def call(self, spec: ToolSpec, call: ToolCall, arguments: Arguments, context: CallContext) -> str:
        """What the webhook said: the text under `result` if there is one, else its JSON. Raises ToolFailed."""
        settings = await self._settings.of(context.project)
        target = self._target(settings)
        body, content_hash = request_of(call, arguments, context.key)

        def signature() -> str:
            claims = claims_of(
                settings,
                call.id,
                project=context.project,
                url=target.url,
                key=context.key,
                body_hash=content_hash,
                now=int(self._clock.now()),
            )
            return sign(claims, settings.secret)

        return result_of(await self._answered(spec, target, body, signature, context.key))

    def _target(self, settings: Settings) -> Target:
        webhook = settings.webhook
        if not webhook:
            raise ToolFailed(
                "This project has no webhook, so the tool cannot be called. Somebody must set one: dragoman projects"
                " set PROJECT --webhook URL"
            )
        if not webhook.startswith(CONNECTION):
            return Target("The webhook", webhook, (), guarded=True)
        name = webhook.removeprefix(CONNECTION)
        connection = self._connections.get(name)
        if connection is None:
            raise ToolFailed(
                f'The project\'s webhook is the connection {name}, and the configuration has none of kind "{KIND}" of'
                " that name."
            )
        return Target("The webhook", connection.url, (), connection.headers)

    async def _answered(
        self, spec: ToolSpec, target: Target, body: bytes, signature: Callable[[], str], key: str
    ) -> Answer:
        """A 2xx answer; asked again as often as may be."""
        ends = self._clock.monotonic() + spec.timeout_s
        harmless = spec.repeat is not Repeat.ONCE
        for tried in range(1, TRIES_MAX + 1):
            left_s = ends - self._clock.monotonic()
            signed = (SIGNATURE, signature())
            try:
                answer = await self._egress.post(
                    target,
                    body,
                    media_type="application/json",
                    key=key,
                    headers=(signed,),
                    total_s=max(_share_s(left_s), 0.001) if harmless else max(left_s, 0.001),
                )
            except ToolFailed as error:
                failed = error
                again = isinstance(error, NotReached) or (harmless and _may_pass(error))
            else:
                answer = _without_secrets(answer, (*target.headers, signed))
                if 200 <= answer.status < 300:
                    return answer
                failed = _refused(answer)
                again = harmless and answer.status in _AWAY
            if not again or tried == TRIES_MAX or self._clock.monotonic() + WAITS_S[tried - 1] >= ends:
                raise failed
            await self._sleep(WAITS_S[tried - 1])
        raise AssertionError("the last try returns or raises")


def request_of(call: ToolCall, arguments: Arguments, key: str) -> tuple[bytes, str]:
    """The body of a request, and the hash that is signed. The arguments are a JSON text inside a JSON text."""
    function = {"name": call.name, "arguments": msgspec.json.encode(arguments).decode()}
    content = msgspec.json.encode({"toolCall": {"id": call.id, "type": "function", "function": function}})
    body = msgspec.json.encode({"requestId": request_id(key), "content": content.decode()})
    return body, hashlib.sha256(content).hexdigest()


def request_id(key: str) -> str:
    """The same for each try of one call."""
    return str(uuid5(_REQUESTS, key))


def claims_of(
    settings: Settings, call_id: CallId, *, project: ProjectId, url: str, key: str, body_hash: str, now: int
) -> Mapping[str, Any]:
    """What is signed: all that either generation of receivers looks at, or the hash alone (`webhook_style`)."""
    if settings.webhook_style == "minimal":
        return {"bodyHash": body_hash}
    return {
        "requestId": request_id(key),
        "projectId": project,
        "bodyHash": body_hash,
        "iss": ISSUER,
        "aud": url,
        "sub": f"tool-call-{call_id}",
        "jti": request_id(key),
        "iat": now,
        "exp": now + SIGNED_S,
    }


def result_of(answer: Answer) -> str:
    """Raises ToolFailed if it is no JSON."""
    try:
        read = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ToolFailed(
            f'The webhook answered {answer.status} with something that is no JSON; it must answer {{"result": …}}.'
            f"{_words(answer)}",
            internal="no JSON",
        ) from None
    if isinstance(read, dict) and "result" in read:
        result = cast("dict[str, object]", read)["result"]
        return result if isinstance(result, str) else msgspec.json.encode(result).decode()
    return answer.body.decode()


def _without_secrets(answer: Answer, headers: Headers) -> Answer:
    """Before any of it is read or cut. What headers hold is ASCII, so nothing else is touched."""
    body = without_secrets(answer.body.decode("latin-1"), headers).encode("latin-1")
    return Answer(answer.status, answer.media_type, body)


def _refused(answer: Answer) -> ToolFailed:
    try:
        phrase = f"{answer.status} {HTTPStatus(answer.status).phrase}"
    except ValueError:
        phrase = str(answer.status)
    return ToolFailed(f"Error: the webhook answered {phrase}.{_words(answer)}", internal=f"status {answer.status}")


def _words(answer: Answer) -> str:
    words = answer.body[: SAID_CHARS_MAX * 4].decode("utf-8", "replace").strip()[:SAID_CHARS_MAX]
    return f" It said: {words}" if words else ""


def _may_pass(error: ToolFailed) -> bool:
    """Whether a moment later it may be otherwise, as far as how it failed tells."""
    return error.code == "timeout" or isinstance(error, BrokeOff)


def _share_s(left_s: float) -> float:
    """What one try may take of the time that is left, so that a try is left where there may be one: the usual time of
    a request, or half of it all if that is more."""
    return max(min(TOTAL_S, left_s), left_s / 2)
