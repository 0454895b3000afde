"""The chat routes: requests -> turns, and how they are answered (elastic spec 1, 3.1).

POST /api/observability_ai_assistant/chat/complete              SSE, or NDJSON with ?format=default
POST /internal/observability_ai_assistant/chat/complete         NDJSON, or one JSON object with isStream: false
POST /internal/observability_ai_assistant/chat                  NDJSON: one model call, no loop, nothing kept
POST /internal/observability_ai_assistant/chat/recall           one line of NDJSON: what the knowledge base has on it
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET

from dragoman.core import events as ev
from dragoman.core.agents import NO_ARGUMENTS, Loop, ToolSpec
from dragoman.core.errors import BadRequest, NotFound
from dragoman.core.knowledge import ContextFound, FindContext
from dragoman.core.messages import Message, said
from dragoman.core.names import CONVERSATION_ID_CHARS_MAX, ConversationId, Scope
from dragoman.core.operations import Briefing, Instruction, Outcome, Started, StartTurn
from dragoman.core.screen import NO_SCREEN, Screen, ScreenItem
from dragoman.dialects.elastic import chat_shapes as shapes
from dragoman.dialects.elastic import requests
from dragoman.dialects.elastic.errors import (
    CONVERSATION_NOT_FOUND,
    MEDIA_TYPE,
    SSE_MEDIA_TYPE,
    STREAM_MEDIA_TYPE,
    accepts_sse_alone,
    failure_of,
    fields_of,
    is_for_stream,
    refusal,
    truth,
    wants_one_piece,
)
from dragoman.dialects.elastic.events import ChatEvents, Events
from dragoman.dialects.elastic.frames import Chunks
from dragoman.dialects.elastic.messages import OPENING, WireMessage, core_messages, iso, told_result
from dragoman.wire.dialect import Headers, Parameter, Reply, Request, Route, Streamed
from dragoman.wire.ndjson import line

ORIGIN = "elastic"
FORMATS = ("openai", "default")

CALLS_MAX = 8
"""Calls of the server's tools in one answer, the `context` step included (Q22)."""
RESULT_TOKENS_MAX = 4000
TEMPERATURE = 0.25
EXIT_LOOP = ToolSpec(
    "exit_loop",
    "Ends the work on this question. Call it with the answer that can be given with what is known by now.",
    {
        "type": "object",
        "properties": {"response": {"type": "string", "description": "The answer, as the user is to read it."}},
        "required": ["response"],
    },
)
RESERVED = frozenset({OPENING, EXIT_LOOP.name})
"""Names that no action can have: a call of that name would not be known for the caller's."""

_HEADERS: Headers = (("x-accel-buffering", "no"),)

# -- turns -------------------------------------------------------------------------------------------------------------


def public_complete(request: Request) -> StartTurn:
    """Raises BadRequest, NotFound."""
    requests.query(request, "format")
    asked = requests.body(request, shapes.PublicComplete)
    for at, told in enumerate(asked.messages):
        if told.message.deanonymizations is not UNSET:
            raise requests.excess(f"messages.{at}.message.deanonymizations")
    return _turn(request, asked, _actions(asked.actions, "actions"), NO_SCREEN)


def internal_complete(request: Request) -> StartTurn:
    """Raises BadRequest, NotFound."""
    requests.query(request)
    asked = requests.body(request, shapes.InternalComplete)
    actions = tuple(
        action
        for at, context in enumerate(asked.screenContexts)
        for action in _actions(context.actions, f"screenContexts.{at}.actions")
    )
    return _turn(request, asked, actions, _screen(asked.screenContexts))


def _turn(request: Request, asked: shapes.CompleteFields, actions: tuple[ToolSpec, ...], screen: Screen) -> StartTurn:
    messages, notes, fault = _heard(asked.messages)
    persist = truth(asked.persist)
    known = persist and asked.conversationId != ""
    loop, offered = _loop(asked, actions)
    return StartTurn(
        _known_id(asked.conversationId) if known else requests.uuid_of(request.nonce),
        messages,
        model=_connector(asked.connectorId),
        client_tools=offered,
        ephemeral=not persist,
        must_exist=known,
        origin=ORIGIN,
        title=asked.title if persist else "",
        private=True,
        tell_shared=True,
        known_model=True,
        whole=known,
        briefing=Briefing(notes, _instructions(request, asked.instructions)),
        loop=msgspec.structs.replace(loop, titled=persist and not known and not asked.title),
        screen=screen,
        fault=fault,
    )


def _loop(asked: shapes.CompleteFields, actions: tuple[ToolSpec, ...]) -> tuple[Loop, tuple[ToolSpec, ...]]:
    """How the turn runs, and the caller's tools that it has."""
    actions = _distinct(actions)
    loop = Loop(
        opening=OPENING,
        calls_max=CALLS_MAX,
        closing=EXIT_LOOP,
        result_tokens_max=RESULT_TOKENS_MAX,
        temperature=TEMPERATURE,
        json_results=True,
        checked=True,
        whole_replies=True,
    )
    disable = asked.disableFunctions
    if isinstance(disable, dict):
        excepted = _convert(disable, shapes.FunctionsExcept, "disableFunctions").excepted
        kept = tuple(action for action in actions if action.name in excepted)
        return msgspec.structs.replace(loop, tools=bool(excepted), own_tools=False, only=excepted), kept
    return msgspec.structs.replace(loop, tools=not truth(disable)), actions


def _heard(wire: Sequence[WireMessage]) -> tuple[tuple[Message, ...], tuple[str, ...], BadRequest | None]:
    """The same, and what is wrong with them that belongs into the stream: the connector is looked for first, then the
    conversation. Raises BadRequest for what does not belong there."""
    try:
        return *_messages(wire), None
    except BadRequest as error:
        if not is_for_stream(error):
            raise
        return (), (), error


def _messages(wire: Sequence[WireMessage]) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """What was said, and what belongs into the system message: texts of `system`, and of `elastic` marked as such."""
    messages = tuple(message for message in core_messages(wire) if message.role != "system")
    if not messages:
        raise requests.invalid("messages", "there must be at least one message of a user or an assistant")
    return messages, tuple(note for told in wire if (note := _note(told)))


def _note(told: WireMessage) -> str:
    """ "" if that is no message of the system's or the application's, or an empty one."""
    text = told.message.content or ""
    if told.message.role == "elastic" and text:
        return f"Context from the application:\n{text}"
    return text if told.message.role == "system" else ""


def _instructions(request: Request, given: Sequence[str | shapes.GivenInstruction]) -> tuple[Instruction, ...]:
    """Those without an id get one of their own."""
    rows: list[Instruction] = []
    for number, each in enumerate(given):
        own = f"{request.nonce}-{number}"
        if isinstance(each, str):
            rows.append(Instruction(own, each))
        else:
            rows.append(Instruction(each.id or each.doc_id or own, each.text))
    return tuple(rows)


def _actions(functions: Sequence[shapes.Function], place: str) -> tuple[ToolSpec, ...]:
    for number, function in enumerate(functions):
        if function.name in RESERVED or not function.name:
            raise requests.invalid(f"{place}.{number}.name", f"{function.name!r} cannot be the name of an action")
    return tuple(_tool(function) for function in functions)


def _distinct(tools: Sequence[ToolSpec]) -> tuple[ToolSpec, ...]:
    """Of several of one name the last: models are told of none twice, and several parts of a screen may offer one."""
    return tuple({tool.name: tool for tool in tools}.values())


def _tool(function: shapes.Function) -> ToolSpec:
    """A tool that the caller runs: the turn ends with its call (Q14)."""
    return ToolSpec(function.name, function.description, function.parameters or NO_ARGUMENTS, held_s=0.0)


def _screen(contexts: Sequence[shapes.ScreenContext]) -> Screen:
    texts = [text for each in contexts for text in (each.description, each.screenDescription) if text]
    items = tuple(
        ScreenItem(shown.name, shown.description, msgspec.json.encode(shown.value).decode())
        for each in contexts
        for shown in each.data
    )
    return Screen("\n\n".join(dict.fromkeys(texts)), items)


def _known_id(text: str) -> ConversationId:
    """Raises NotFound for what cannot be the id of a conversation."""
    if len(text) > CONVERSATION_ID_CHARS_MAX or "\0" in text:
        raise NotFound(CONVERSATION_NOT_FOUND, what="conversation")
    return ConversationId(text)


def _connector(text: str) -> str:
    """A model's name. Raises NotFound: an empty one would mean the default."""
    if not text:
        raise NotFound("No connector or inference endpoint found for ID ''", what="model")
    return text


def _convert(value: Any, shape: Any, place: str) -> Any:
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        raise requests.invalid(place, str(error)) from None


def one_reply(request: Request) -> StartTurn:
    """One model call: nothing is run, nothing kept. Raises BadRequest, NotFound."""
    requests.query(request)
    asked = requests.body(request, shapes.ChatAsked)
    messages, notes, fault = _heard(asked.messages)
    tools = _distinct([_tool(function) for function in asked.functions])
    if asked.functionCall and all(tool.name != asked.functionCall for tool in tools):
        raise requests.invalid("functionCall", f"there is no function {asked.functionCall!r} in functions")
    return StartTurn(
        requests.uuid_of(request.nonce),
        messages,
        model=_connector(asked.connectorId),
        client_tools=tools,
        ephemeral=True,
        origin=ORIGIN,
        private=True,
        known_model=True,
        system="\n\n".join(text for text in (asked.systemMessage, *notes) if text),
        loop=Loop(temperature=TEMPERATURE, own_tools=False, choice=asked.functionCall, once=True, whole_replies=True),
        fault=fault,
    )


def recall(request: Request) -> FindContext:
    """Raises BadRequest, NotFound."""
    requests.query(request)
    asked = requests.body(request, shapes.RecallAsked)
    messages = (said("user", asked.prompt),) if asked.prompt and not asked.messages else ()
    screen = Screen(asked.screenDescription or asked.context)
    return FindContext(messages or _messages(asked.messages)[0], _connector(asked.connectorId), screen)


# -- answers -----------------------------------------------------------------------------------------------------------


def named(started: Started) -> Headers:
    """★ The conversation that is kept: upstream's public route never tells a new one's id. One that began on a wire
    where people choose ids may have one that no header can hold; who continues it knows it."""
    name = started.conversation
    sendable = name.isascii() and name.isprintable()
    return (("x-conversation-id", name),) if sendable and not started.ephemeral else ()


def whole(outcome: Outcome, request: Request) -> Reply:
    """With `isStream: false`."""
    if isinstance(outcome.end, ev.RunFailed | ev.RunCancelled):
        upstream = isinstance(outcome.end, ev.RunFailed) and outcome.end.code.startswith("upstream_")
        return refusal(502 if upstream else 500, failure_of(outcome.end).message)
    conversation = UNSET if outcome.started.ephemeral else outcome.started.conversation
    answer = shapes.Completed(str(fields_of(request).get("connectorId", "")), conversation, outcome.text)
    return Reply(200, msgspec.json.encode(answer), MEDIA_TYPE)


class _Content(msgspec.Struct, frozen=True):
    """What of the `context` step's result is told here."""

    learnings: tuple[Any, ...] = ()


def recalled(found: ContextFound, request: Request) -> Reply:
    """One messageAdd (elastic spec 3.1). Its id is the request's."""
    learnings = msgspec.json.decode(found.content, type=_Content).learnings
    documents = msgspec.json.encode({"relevantDocuments": learnings}).decode()
    told = WireMessage(iso(request.at), told_result(OPENING, documents, found.shown))
    event = {"type": "messageAdd", "id": requests.uuid_of(request.nonce), "message": told}
    return Reply(200, line(msgspec.json.encode(event)), STREAM_MEDIA_TYPE)


# -- which way a request is answered -----------------------------------------------------------------------------------


def public_form(request: Request) -> str:
    """Q1: octets unless nothing but an event stream will do; NDJSON for `?format=default`."""
    wanted = requests.query(request, "format").get("format", "openai")
    if wanted not in FORMATS:
        raise requests.invalid("query.format", f"{wanted!r} is none of {', '.join(FORMATS)}")
    if wanted == "default":
        return "lines"
    return "sse" if accepts_sse_alone(request) else "octets"


def internal_form(request: Request) -> str:
    return "json" if wants_one_piece(request) else "ndjson"


# -- routes ------------------------------------------------------------------------------------------------------------

_SCOPES = (Scope.CHAT_RUN,)
_COMPLETE = f"{requests.PUBLIC}/chat/complete"
_INTERNAL = f"{requests.INTERNAL}/chat/complete"
_CHAT = f"{requests.INTERNAL}/chat"
_RECALL = f"{requests.INTERNAL}/chat/recall"
_COMPLETES = "Generate a chat completion"
_LINES = "The assistant's own events, one JSON object a line"
_FORMAT = Parameter(
    "format", "`openai` (server-sent events) or `default` (a JSON object a line)", Literal["openai", "default"]
)

_EVENTS = Streamed(Events, STREAM_MEDIA_TYPE, _HEADERS, named)


def _branch(path: str, decode: Any, summary: str, **way: Any) -> Route[Any]:
    return Route("POST", path, decode, summary=summary, **way)


_PUBLIC_FORKS = {
    "octets": _branch(
        _COMPLETE,
        public_complete,
        "OpenAI-style chunks in server-sent events, sent as octets; x-conversation-id names what is kept",
        stream=Streamed(Chunks, STREAM_MEDIA_TYPE, _HEADERS, named),
    ),
    "sse": _branch(
        _COMPLETE,
        public_complete,
        "The same as an event stream, for callers that accept nothing else",
        stream=Streamed(Chunks, SSE_MEDIA_TYPE, _HEADERS, named),
    ),
    "lines": _branch(_COMPLETE, public_complete, _LINES, stream=_EVENTS),
}
_INTERNAL_FORKS = {
    "ndjson": _branch(_INTERNAL, internal_complete, _LINES, stream=_EVENTS),
    "json": _branch(
        _INTERNAL, internal_complete, "The last message, with `isStream: false`", collect=whole, gives=shapes.Completed
    ),
}

ROUTES: tuple[Route[Any], ...] = (
    Route(
        "POST",
        _COMPLETE,
        public_complete,
        scopes=_SCOPES,
        forks=_PUBLIC_FORKS,
        choose=public_form,
        summary=f"{_COMPLETES} by using the Observability AI Assistant",
        takes=shapes.PublicComplete,
        asks=(_FORMAT,),
    ),
    Route(
        "POST",
        _INTERNAL,
        internal_complete,
        scopes=_SCOPES,
        forks=_INTERNAL_FORKS,
        choose=internal_form,
        summary=f"{_COMPLETES}, as Kibana's own pages ask for it",
        takes=shapes.InternalComplete,
        gives=shapes.Completed,
    ),
    Route(
        "POST",
        _CHAT,
        one_reply,
        stream=Streamed(ChatEvents, STREAM_MEDIA_TYPE, _HEADERS),
        scopes=_SCOPES,
        summary="One call of a model, with the caller's own system message and functions",
        takes=shapes.ChatAsked,
    ),
    Route(
        "POST",
        _RECALL,
        recall,
        answer=recalled,
        scopes=_SCOPES,
        summary="What the knowledge base has on the last question",
        takes=shapes.RecallAsked,
        gives_media_type=STREAM_MEDIA_TYPE,
    ),
)
