"""Rowboat's API: the chat of a project's workflow in all its generations, and the chat widget. Facts, quirks (Q1..) and
divergences: WIRE.md."""

from collections.abc import Callable, Mapping
from typing import Any

from dragoman.core.names import Scope
from dragoman.core.operations import Outcome, StartTurn
from dragoman.dialects.rowboat import decode, encode, errors, examples, shapes, widget
from dragoman.dialects.rowboat.generations import Generation, choose
from dragoman.dialects.rowboat.stream import Stream
from dragoman.wire.dialect import Dialect, Reply, Request, Route, Streamed

CHAT = "/api/v1/{projectId}/chat"

CORS_HEADERS = (
    ("access-control-allow-origin", "*"),
    ("access-control-allow-methods", "GET, POST, PUT, DELETE, OPTIONS"),
    ("access-control-allow-headers", "Content-Type, x-client-id, Authorization"),
)
"""Q26: on every answer, refusals included."""

STREAM_HEADERS = (("cache-control", "no-cache, no-store"), ("x-accel-buffering", "no"))


def _branch(
    turn: Callable[[Request], StartTurn],
    collect: Callable[[Outcome, Request], Reply],
    summary: str,
    takes: type,
    gives: type,
) -> Route[Any]:
    return Route("POST", CHAT, turn, collect=collect, summary=summary, takes=takes, gives=gives)


_BRANCHES: Mapping[str, Route[Any]] = {
    Generation.G1: _branch(
        decode.g1,
        encode.g1,
        "The whole history and the state of the last answer, as the reference page has it",
        shapes.ChatRequest,
        shapes.ChatReply,
    ),
    Generation.G15: _branch(
        decode.g15,
        encode.g15,
        "The whole history in camel case; tools may be mocked",
        shapes.MockingRequest,
        shapes.MockingReply,
    ),
    Generation.G2: _branch(
        decode.g2,
        encode.g2,
        "What is new in a conversation that the server keeps",
        shapes.TurnRequest,
        shapes.TurnReply,
    ),
    Generation.G2_STREAM: Route(
        "POST",
        CHAT,
        decode.g2,
        stream=Streamed(Stream, media_type="text/event-stream", headers=STREAM_HEADERS),
        summary="The same, read message by message",
        takes=shapes.TurnRequest,
    ),
    Generation.AMBIGUOUS: _branch(
        decode.ambiguous,
        encode.ambiguous,
        "Messages and nothing else: the answer suits a caller of any generation",
        shapes.PlainRequest,
        shapes.EveryReply,
    ),
}

_CHAT = Route[Any](
    "POST",
    CHAT,
    decode.g1,
    scopes=(Scope.CHAT_RUN,),
    forks=_BRANCHES,
    choose=choose,
    precheck=decode.precheck,
    summary="Say something to the project's workflow; the keys of the body tell which generation is meant",
)

DIALECT = Dialect(
    name="rowboat",
    title="Rowboat chat API",
    prefixes=("/api/v1/", f"{widget.PREFIX}/"),
    routes=(_CHAT, *widget.ROUTES),
    credential=decode.credential,
    fail=errors.fail,
    refusal=shapes.Refusal,
    examples=examples.EXAMPLES,
    project=decode.project,
    cors_headers=CORS_HEADERS,
    limits_first=True,
)
