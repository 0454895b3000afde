"""The A2A surface: what the wire's real clients speak. JSON-RPC on one path, told apart by its method; the answers to
approvals and to calls of the client's own tools on two more."""

import re
from collections.abc import Callable
from typing import Any

import msgspec

from dragoman.core.agents import ToolSpec
from dragoman.core.errors import BadRequest, DragomanError, NotFound
from dragoman.core.names import CONVERSATION_ID_CHARS_MAX, ConversationId, RunId, Scope
from dragoman.core.operations import CancelRun, FollowRun, Operation, ReadRun, StartTurn
from dragoman.core.waits import AnswerClientTool, DecideApproval, Settled
from dragoman.dialects.grafana import a2a_rpc as rpc
from dragoman.dialects.grafana import a2a_shapes as shapes
from dragoman.dialects.grafana import a2a_tasks as tasks
from dragoman.dialects.grafana import ids, parameters
from dragoman.dialects.grafana.a2a_frames import Encoder, cursor_of, extensions_of
from dragoman.dialects.grafana.a2a_rpc import RpcFault, call_of, params_of
from dragoman.dialects.grafana.a2a_shapes import REMOTE_TOOLS, ClientTool, Message, SendParams, TaskParams
from dragoman.dialects.grafana.prompts import title_of, user_message
from dragoman.wire import structs
from dragoman.wire.dialect import Reply, Request, Route, Streamed, json_reply

SCOPES = (Scope.PLUGINS_APP_ACCESS, Scope.GRAFANA_CHATS_ACCESS)

DEFAULT_ORIGIN = "assistant"
ORIGIN_CHARS_MAX = 32
CLI_AGENT = "grafana_assistant_cli"
CLI_ORIGIN = "cli"
"""Of chats of the command line, whose own chat window does not send X-App-Source."""

PARTS_MAX = 100
ID_CHARS_MAX = 256
"""Of messageId and of task ids."""
TOOLS_MAX = 64
TOOL_DESCRIPTION_CHARS_MAX = 10_000
TOOLS_BYTES_MAX = 256 * 1024
"""All of a message's tools together, as JSON."""
TOOLSET = "client"
HELD_S = 120.0
"""How long a run waits for the result of a client's tool."""
RESULT_BYTES_MAX = 1024 * 1024
RESULT_VALUES_MAX = 200_000

NO_PUSH = "Push notifications are not supported by this agent; read along with message/stream."
NO_WAIT = "message/send, not waited for"
"""Name of a branch beside those named by methods."""

_NOT_ORIGIN = re.compile(r"[^a-z0-9_-]+")
_PUSH = re.compile(r"tasks/pushNotificationConfig/\w+")


def routes(base: str) -> tuple[Route[Any], ...]:
    """The rows under one base."""
    agent = f"{base}/a2a/agents/{{agentId}}"
    return (
        Route(
            "POST",
            agent,
            message,
            forks=_branches(agent),
            choose=choose,
            scopes=SCOPES,
            summary="Talk to an agent over A2A (JSON-RPC)",
            gives=shapes.RpcFailure,
            refusal=shapes.RpcFailure,
            asks=parameters.A2A,
        ),
        Route(
            "POST",
            f"{base}/a2a/approval/{{approvalId}}",
            approval,
            answer=settled,
            scopes=(*SCOPES, Scope.TOOLS_APPROVE),
            summary="Approve or deny a tool call",
            takes=shapes.Approval,
            gives=shapes.SettledReply,
        ),
        Route(
            "POST",
            f"{base}/a2a/remote-tool-response",
            remote_tool_response,
            answer=settled,
            scopes=SCOPES,
            summary="Hand over the result of a tool that the client runs",
            takes=shapes.RemoteToolResponse,
            gives=shapes.SettledReply,
        ),
    )


def _branches(path: str) -> dict[str, Route[Any]]:
    """By method, and one more."""
    streamed = Streamed(Encoder, headers=(("x-accel-buffering", "no"),))

    def said(summary: str, **way: Any) -> Route[Any]:
        return Route("POST", path, message, summary=summary, takes=shapes.SendCall, **way)

    def of_task(summary: str, decode: Callable[[Request], Operation[Any]], **way: Any) -> Route[Any]:
        return Route("POST", path, decode, summary=summary, takes=shapes.TaskCall, **way)

    answered = shapes.RpcAnswer
    return {
        "message/stream": said("Say something, and read along", stream=streamed),
        "message/send": said("Say something, and wait", collect=tasks.done, gives=answered),
        NO_WAIT: said("Say something, and ask later", accept=tasks.begun, gives=answered),
        "tasks/get": of_task("How a task stands", task, answer=tasks.task, gives=answered),
        "tasks/cancel": of_task("Stop a task", cancel, answer=tasks.cancelled, gives=answered),
        "tasks/resubscribe": of_task("Read a task along again", resubscribe, stream=streamed),
    }


def choose(request: Request) -> str:
    """The branch that the JSON-RPC method means. Raises RpcFault."""
    call = call_of(request)
    match call.method:
        case "message/send":
            configuration = params_of(call, SendParams).configuration
            return NO_WAIT if configuration is not None and configuration.blocking is False else call.method
        case "message/stream" | "tasks/get" | "tasks/cancel" | "tasks/resubscribe":
            return call.method
        case "agent/getAuthenticatedExtendedCard":
            raise RpcFault(rpc.CARD_NOT_CONFIGURED, "This agent has one card, and shows it to everybody.")
        case method if _PUSH.fullmatch(method):
            raise RpcFault(rpc.PUSH_NOT_SUPPORTED, NO_PUSH)
        case method:
            shown = ascii(method[: rpc.METHOD_CHARS_SHOWN_MAX])
            known = "message/stream, message/send, tasks/get, tasks/cancel and tasks/resubscribe"
            raise RpcFault(rpc.METHOD_NOT_FOUND, f"There is no method {shown}; there are {known}.")


# -- messages --------------------------------------------------------------------------------------------------------


def message(request: Request) -> StartTurn:
    """A turn. Who waits for the whole answer does not need the text as it grows. Raises RpcFault."""
    call = call_of(request)
    params = params_of(call, SendParams)
    said = params.message
    if params.configuration is not None and params.configuration.push_notification_config is not None:
        raise RpcFault(rpc.PUSH_NOT_SUPPORTED, NO_PUSH)
    if said.role != "user":
        raise _invalid("params.message.role must be user")
    if len(said.message_id) > ID_CHARS_MAX:
        raise _invalid(f"params.message.messageId must have at most {ID_CHARS_MAX} characters")
    if said.task_id:
        raise _invalid("params.message.taskId must be left out: a task is one answer; contextId continues the chat")
    asked = user_message(_text(said))
    return StartTurn(
        _conversation(params, request),
        (asked,),
        agent=request.params["agentId"],
        agent_or_default=True,
        client_tools=_client_tools(params, request),
        deltas=call.method == "message/stream",
        origin=_origin(request),
        message_id=said.message_id,
        title=title_of(asked),
        private=True,
        managed=True,
    )


def _text(said: Message) -> str:
    """The text parts, a line end between them. The text may be empty: some prompts are nothing but context."""
    if not 1 <= len(said.parts) <= PARTS_MAX:
        raise _invalid(f"params.message.parts must hold 1 to {PARTS_MAX} parts")
    texts: list[str] = []
    for number, part in enumerate(said.parts):
        if part.kind in ("data", "file"):
            raise RpcFault(
                rpc.CONTENT_NOT_SUPPORTED,
                f"This agent reads text only; part {number} is of kind {part.kind}. Put it as text.",
            )
        if part.kind != "text" or part.text is None:
            raise _invalid(f'params.message.parts[{number}] must be {{"kind":"text","text":"…"}}')
        texts.append(part.text)
    return "\n".join(texts)


def _conversation(params: SendParams, request: Request) -> ConversationId:
    """Q6: `contextId` in either place; a new chat if in none."""
    given = {place for place in (params.context_id, params.message.context_id) if place}
    if len(given) > 1:
        raise _invalid("params.contextId and params.message.contextId must be the same")
    if not given:
        return ids.new_chat(request.nonce)
    chat = given.pop()
    if len(chat) > CONVERSATION_ID_CHARS_MAX or not chat.isprintable():
        raise _invalid(f"contextId must have 1 to {CONVERSATION_ID_CHARS_MAX} printable characters")
    return ConversationId(chat)


def _origin(request: Request) -> str:
    """Which client a chat began in, by its own word: lists are filtered by it, and nothing else hangs on it."""
    given = _NOT_ORIGIN.sub("-", request.headers.get("x-app-source", "").lower())[:ORIGIN_CHARS_MAX].strip("-")
    return given or (CLI_ORIGIN if request.params["agentId"] == CLI_AGENT else DEFAULT_ORIGIN)


def _client_tools(params: SendParams, request: Request) -> tuple[ToolSpec, ...]:
    """The client's own tools, if it can be asked to run them. Raises RpcFault."""
    given = params.metadata.client_tools if params.metadata is not None else None
    if given is None or REMOTE_TOOLS not in extensions_of(request):
        return ()
    if len(given.tools) > TOOLS_MAX:
        raise _invalid(f"A message may bring at most {TOOLS_MAX} tools; this one brings {len(given.tools)}")
    if (size := len(msgspec.json.encode(given))) > TOOLS_BYTES_MAX:
        raise _invalid(f"The tools of a message may take {TOOLS_BYTES_MAX:,} bytes; these take {size:,}")
    specs = tuple(_tool(tool, number) for number, tool in enumerate(given.tools))
    names = [spec.name for spec in specs]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise _invalid(f"Two of the message's tools are called {repeated}")
    return specs


def _tool(tool: ClientTool, number: int) -> ToolSpec:
    if ids.TOOL_NAME.fullmatch(tool.name) is None:
        raise _invalid(f"The name of tool {number} must be 1 to 64 letters, digits, _ or -")
    if len(tool.description) > TOOL_DESCRIPTION_CHARS_MAX:
        raise _invalid(f"The description of {tool.name} must have at most {TOOL_DESCRIPTION_CHARS_MAX:,} characters")
    schema = {"type": "object", **(tool.input_schema or {})}
    if schema["type"] != "object":
        raise _invalid(f"The inputSchema of {tool.name} must be of type object")
    return ToolSpec(tool.name, tool.description, schema, toolset=TOOLSET, held_s=HELD_S)


def _invalid(sentence: str) -> RpcFault:
    return RpcFault(rpc.INVALID_PARAMS, f"{sentence}.")


# -- tasks -----------------------------------------------------------------------------------------------------------


def task(request: Request) -> ReadRun:
    asked = params_of(call_of(request), TaskParams)
    if asked.history_length is not None and asked.history_length < 0:
        raise _invalid("params.historyLength must not be negative")
    return ReadRun(_run(asked), private=True)


def cancel(request: Request) -> CancelRun:
    return CancelRun(_run(params_of(call_of(request), TaskParams)), private=True)


def resubscribe(request: Request) -> FollowRun:
    """From the run's beginning: the encoder leaves out what the reader has, and knows what came before it."""
    cursor_of(request)  # refused here, before anything is sent
    return FollowRun(_run(params_of(call_of(request), TaskParams)), private=True)


def _run(asked: TaskParams) -> RunId:
    if not 1 <= len(asked.id) <= ID_CHARS_MAX or "\0" in asked.id:
        raise NotFound(rpc.NO_TASK, what="run")
    return RunId(asked.id)


# -- what a run waits for --------------------------------------------------------------------------------------------


def approval(request: Request) -> DecideApproval:
    """The path says which call; the body says it again. Raises BadRequest, NotFound."""
    decision = structs.decode(request.body, shapes.Approval)
    given = request.params["approvalId"]
    if decision.id is not None and decision.id != given:
        raise BadRequest("The id in the body must be the one in the path.")
    run, call, arguments_hash = ids.read_approval_id(given)
    return DecideApproval(run, call, decision.approved, arguments_hash, _chat(decision.chat_id), private=True)


def remote_tool_response(request: Request) -> AnswerClientTool:
    """Raises BadRequest, NotFound."""
    given = structs.decode(request.body, shapes.RemoteToolResponse, values_max=RESULT_VALUES_MAX)
    run, call = ids.read_request_id(given.request_id)
    if given.success:
        content = given.result if isinstance(given.result, str) else msgspec.json.encode(given.result).decode()
    else:
        content = given.error or "The client could not run the tool, and did not say why."
    if len(content.encode()) > RESULT_BYTES_MAX:
        raise BadRequest(f"The result of a tool may have {RESULT_BYTES_MAX:,} bytes; send the part that matters.")
    return AnswerClientTool(run, call, content, not given.success, _chat(given.chat_id), private=True)


def settled(result: Settled, request: Request) -> Reply:
    return json_reply(shapes.SettledReply(data=shapes.Settled(result.conversation, result.run, result.repeated)))


def _chat(given: str | None) -> ConversationId | None:
    return ConversationId(given) if given else None


# -- errors ----------------------------------------------------------------------------------------------------------


def fail(error: DragomanError, request: Request) -> Reply | None:
    """The answer to an error on the JSON-RPC path; None if it is said as on every other path."""
    if request.method != "POST" or "agentId" not in request.params:
        return None
    return rpc.fail(error, request)
