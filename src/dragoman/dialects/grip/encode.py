"""What happened -> Grip's replies and frames."""

import json
import math
from collections.abc import Iterator
from json.encoder import encode_basestring_ascii
from typing import Any, Never, assert_never

from msgspec import UNSET

from dragoman.core import errors
from dragoman.core import events as ev
from dragoman.core.errors import DragomanError
from dragoman.core.events import Entry
from dragoman.core.messages import ToolResult
from dragoman.core.names import CallId
from dragoman.core.operations import (
    ConversationPage,
    ConversationView,
    Deleted,
    Outcome,
    Started,
    Status,
    ToolList,
    ToolOutput,
    TurnView,
)
from dragoman.core.transcript import ended_well
from dragoman.dialects.grip import shapes
from dragoman.wire.dialect import Reply, Request, json_reply
from dragoman.wire.retelling import Retelling

RUN_FAILED = "Agent execution failed"
"""Q12: the one text for every failed run."""

RATE_LIMITS = frozenset({"per_ip_rpm", "per_credential_rpm", "per_project_rpm"})

SENTENCES = {"not_allowed": 403, "conflict": 409, "key_reused": 422, "expired": 410, "not_offered": 501}
"""Errors of which nothing is said but their own sentence, by code."""

PING = b": ping\n\n"

# -- chat ------------------------------------------------------------------------------------------------------------


def chat(outcome: Outcome, request: Request) -> Reply:
    """Q10, Q12. A run that waits for its client cannot be answered here: Grip has no client tools."""
    if not isinstance(outcome.end, ev.RunCompleted):
        return _error(502, RUN_FAILED)
    reply = shapes.ChatReply(
        response=outcome.text,
        iterations=outcome.replies,
        usage=shapes.UsageCount(outcome.usage.prompt_tokens, outcome.usage.completion_tokens),
        tool_calls_made=tuple(call.name for call in outcome.calls),
        session_key=outcome.started.conversation,
    )
    return json_reply(reply)


class Stream:
    """One reader's frames of one run.

        start  ( token*  tool_start*  tool_end* )*  token*  message?  done
        …or, from anywhere:  tool_end*  error

    `token`s are sent as they come, also those of a reply that turns out to call tools; `message` and the tokens after
    the last tool frame both are the last reply's text. What agents of a workflow say to each other is no text; a call
    that the server makes by itself has its frames when it has returned, as any other without a start.

    This wire cannot take a token back: an attempt after an AttemptReset is heard from where the void one stopped, and
    one that says something else ends this stream with `error` (WIRE.md, section 4).
    """

    __slots__ = ("_calls", "_closed", "_names", "_open", "_replies", "_retelling", "_text")

    def __init__(self, request: Request | None = None) -> None:
        self._closed = False
        self._retelling = Retelling()
        self._text = ""
        self._replies = 0
        self._calls: list[str] = []
        self._names: dict[CallId, str] = {}
        self._open: dict[CallId, str] = {}
        """Tools whose `tool_start` was sent and whose `tool_end` was not."""

    @property
    def closed(self) -> bool:
        return self._closed

    def opened(self, started: Started) -> bytes:
        return _frame("start", {"session_key": started.conversation})

    def silence(self) -> bytes:
        return PING

    def held(self) -> bytes:
        return b""

    def failed(self, error: DragomanError) -> bytes:
        return b"" if self._closed else self._fail()

    def entry(self, entry: Entry) -> bytes:
        if self._closed:
            return b""
        event = entry.event
        match event:
            case ev.TextAdded(text=text):
                return self._tell(self._retelling.add(text))
            case ev.ReplyFinished():
                return self._finish_reply(entry.seq, event)
            case ev.CallAdded(call=call):
                self._names[call.id] = call.name
                return b""
            case ev.ToolStarted(call=call):
                self._retelling.settle(entry.seq)
                return self._start_tool(call.id, call.name)
            case ev.ToolReturned(call_id=call_id):
                self._retelling.settle(entry.seq)
                return self._end_tool(call_id)
            case ev.AttemptReset(from_seq=from_seq):
                return b"" if self._retelling.reset(from_seq) else self._fail()
            case ev.RunCompleted():
                return self._complete(event)
            case ev.RunFailed() | ev.RunCancelled() | ev.RunNeedsClient():
                return self._fail()
            case (
                ev.ConversationCreated()
                | ev.MessagesImported()
                | ev.TurnReceived()
                | ev.RunClaimed()
                | ev.ReplyStarted()
                | ev.ThinkingAdded()
                | ev.ApprovalRequested()
                | ev.ApprovalDecided()
                | ev.ClientToolRequested()
                | ev.HandedOver()
                | ev.TitleGiven()
                | ev.CancelAsked()
                | ev.ClientToolClaimed()
                | ev.ClientToolAnswered()
                | ev.SharingChanged()
                | ev.ArchivingChanged()
                | ev.Unread()
            ):
                return b""
            case _:
                assert_never(event)

    # -- text ------------------------------------------------------------------------------------------------------

    def _tell(self, text: str | None) -> bytes:
        """What is new to the reader; None ends the stream, as it cannot be told."""
        if text is None:
            return self._fail()
        return _token(text) if text else b""

    def _finish_reply(self, seq: int, event: ev.ReplyFinished) -> bytes:
        text = event.text
        frames = self._tell(self._retelling.finish(text, seq=seq))  # a model that does not stream says all of it here
        if self._closed:
            return frames
        if event.calls and text and not text[-1].isspace():
            # Who prints tokens as they come would otherwise see this text run into that of the next reply.
            frames += _token("\n\n")
        self._text = text
        self._replies += 1
        for call in event.calls:
            self._calls.append(call.name)
            self._names[call.id] = call.name
        return frames

    # -- tools -----------------------------------------------------------------------------------------------------

    def _start_tool(self, call_id: CallId, name: str) -> bytes:
        if call_id in self._open:  # run again after a crash: for the reader it is still the same call
            return b""
        self._open[call_id] = name
        return _frame("tool_start", {"tool": name})

    def _end_tool(self, call_id: CallId) -> bytes:
        begun = b"" if call_id in self._open else self._start_tool(call_id, self._names.get(call_id, ""))
        return begun + _frame("tool_end", {"tool": self._open.pop(call_id)})

    # -- ends ------------------------------------------------------------------------------------------------------

    def _complete(self, event: ev.RunCompleted) -> bytes:
        self._closed = True
        usage = {"prompt_tokens": event.usage.prompt_tokens, "completion_tokens": event.usage.completion_tokens}
        done = {"iterations": self._replies, "usage": usage, "tool_calls_made": self._calls}
        message = _frame("message", {"text": self._text}) if self._text else b""
        return message + _frame("done", done)

    def _fail(self) -> bytes:
        self._closed = True
        ends = [_frame("tool_end", {"tool": name}) for name in self._open.values()]
        return b"".join(ends) + _frame("error", {"detail": RUN_FAILED})


def _token(text: str) -> bytes:
    """Q14, and the hottest line of this wire: by hand, since only the text needs escaping."""
    return f'event: token\ndata: {{"text": {encode_basestring_ascii(text)}}}\n\n'.encode()


def _frame(event: str, data: dict[str, Any]) -> bytes:
    """Q14: LF line ends; JSON spaced and ASCII-escaped, which are the defaults of `json.dumps`."""
    return f"event: {event}\ndata: {json.dumps(data)}\n\n".encode()


# -- sessions --------------------------------------------------------------------------------------------------------


def sessions(page: ConversationPage, request: Request) -> Reply:
    keys = tuple(sorted(info.id for info in page.items))
    return json_reply(shapes.SessionKeys(keys, len(keys)))


def session(view: ConversationView, request: Request) -> Reply:
    info = view.info
    age_s = round(max(0.0, request.at - info.created_at), 1)
    detail = shapes.SessionDetail(info.id, info.messages, float(info.created_at), float(info.updated_at), age_s)
    return json_reply(detail)


def session_messages(view: ConversationView, request: Request) -> Reply:
    """What was said, in order, in turns that ended well (Q12): questions, replies with a text, results of tools. What
    agents said to each other is not among it."""
    entries = tuple(entry for turn in view.turns if ended_well(turn) for entry in _entries(turn))
    return json_reply(shapes.SessionMessages(view.info.id, entries, len(entries)))


def _entries(turn: TurnView) -> Iterator[shapes.SessionEntry]:
    names: dict[CallId, str] = {}
    for message in (*turn.asked, *turn.answered):
        names.update((call.id, call.name) for call in message.calls)
        if message.role == "tool":
            for part in message.parts:
                if isinstance(part, ToolResult):
                    yield shapes.SessionEntry("tool", part.content, turn.at, names.get(part.call_id, UNSET))
        elif message.role != "system" and not message.is_internal and (message.text or not message.calls):
            yield shapes.SessionEntry(message.role, message.text, turn.at)


def session_deleted(deleted: Deleted, request: Request) -> Reply:
    return json_reply(shapes.SessionDeleted(True, deleted.conversation))


# -- tools and status ------------------------------------------------------------------------------------------------


def tools(listed: ToolList, request: Request) -> Reply:
    definitions = tuple(
        shapes.ToolDefinition("function", shapes.ToolFunction(tool.name, tool.description, tool.parameters))
        for tool in listed.tools
    )
    return json_reply(shapes.Tools(definitions, len(definitions)))


def tool_executed(output: ToolOutput, request: Request) -> Reply:
    if output.code == "unknown_tool":
        return _error(404, f"Tool '{output.name}' not found")
    return json_reply(shapes.ToolExecuted(output.name, output.content, not output.is_error))


def health(status: Status, request: Request) -> Reply:
    return json_reply(shapes.Health("ok", status.version, round(status.uptime_s, 1)))


def status(status: Status, request: Request) -> Reply:
    reply = shapes.ServerStatus(
        model=status.model,
        max_tool_iterations=status.steps_max,
        workspace=status.workspace,
        session_count=status.conversations,
    )
    return json_reply(reply)


def metrics(status: Status, request: Request) -> Reply:
    """Counted from the process's start and over all projects; `active_sessions` have a turn running at this moment."""
    count = status.counters.get
    metrics = shapes.MetricsCount(
        total_agent_runs=count("runs", 0),
        total_tool_calls=count("tool_calls", 0),
        total_llm_calls=count("replies", 0),
        total_errors=count("errors", 0),
        total_prompt_tokens=count("prompt_tokens", 0),
        total_completion_tokens=count("completion_tokens", 0),
        total_workflow_runs=count("workflow_runs", 0),
        active_sessions=status.live_runs,
        uptime_seconds=round(status.uptime_s, 1),
    )
    return json_reply(shapes.Metrics(metrics))


def nothing(result: Never, request: Request) -> Reply:
    """For routes whose decoder always refuses."""
    assert_never(result)


# -- errors ----------------------------------------------------------------------------------------------------------


def fail(error: DragomanError, request: Request | None) -> Reply:
    """Every error of the tree as Grip says it; only `detail` is ever shown."""
    match error:
        case errors.TooLarge():
            return _error(413, f"Request body too large (max {error.bytes_max} bytes)")
        case errors.BadRequest():
            rows = tuple(shapes.ErrorRow(fault.field, fault.message, fault.type) for fault in error.faults)
            return json_reply(shapes.ErrorBody(error.detail, rows or UNSET), status=400)
        case errors.NotAuthenticated():
            return _error(401, "Authentication required", ("www-authenticate", "Bearer"))
        case errors.NotFound():
            return _error(404, _not_found(error, request))
        case errors.WrongMethod():
            return _error(405, "Method Not Allowed", ("allow", ", ".join(error.allowed)))
        case errors.LimitReached():
            return _limited(error)
        case errors.StillRunning():
            return _error(409, error.detail, ("retry-after", _whole_seconds(error.retry_after_s)))
        case errors.Unavailable():
            return _error(503, error.detail, ("retry-after", _whole_seconds(error.retry_after_s)))
        case errors.BackendFailed():
            return _error(502, RUN_FAILED)
        case _ if error.code in SENTENCES:
            return _error(SENTENCES[error.code], error.detail)
        case _:
            return _error(500, "Internal server error")


def _not_found(error: errors.NotFound, request: Request | None) -> str:
    match error.what:
        case "route":
            return "Not Found"
        case "conversation":
            return "Session not found"
        case "tool" if request is not None and "name" in request.params:
            return f"Tool '{request.params['name']}' not found"
        case _:
            return error.detail


def _limited(error: errors.LimitReached) -> Reply:
    """Q5. A full queue is no rate limit: the caller must wait for its own turns, so it is told so."""
    retry_after = ("retry-after", _whole_seconds(error.retry_after_s))
    if error.limit in RATE_LIMITS:
        return _error(429, "Rate limit exceeded", retry_after, ("x-ratelimit-remaining", "0"))
    if error.limit == "queue_per_conversation":
        sentence = "Too many messages are waiting in this session; try again when some have been answered"
        return _error(429, sentence, retry_after)
    return _error(429, error.detail, retry_after)


def _whole_seconds(seconds: float) -> str:
    return str(max(1, math.ceil(seconds)))


def _error(status: int, detail: str, *headers: tuple[str, str]) -> Reply:
    return json_reply(shapes.ErrorBody(detail), status=status, headers=headers)
