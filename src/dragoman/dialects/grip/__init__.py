"""Grip AI's REST API: blocking and streamed chat, sessions, tools. Facts, quirks (Q1..) and divergences: WIRE.md."""

from typing import Any, Never

from dragoman.core.names import Scope
from dragoman.dialects.grip import decode, encode, shapes
from dragoman.dialects.grip.session_files import SESSION_FILES
from dragoman.wire.dialect import Dialect, Example, Parameter, Route, Streamed


def _not_offered(method: str, path: str, sentence: str, *, open: bool = False) -> Route[Never]:
    """A route of Grip's that this server knows and declines with 501."""
    return Route(
        method,
        path,
        decode.not_offered(sentence),
        answer=encode.nothing,
        open=open,
        summary=f"Not offered: {sentence}",
        gives=shapes.ErrorBody,
        status=501,
    )


_CRON = "This server runs nothing on a schedule; let a cron job of your own post to /api/v1/chat."
_MCP = "MCP servers are set up in this server's configuration file, not through this API."

_ROUTES: tuple[Route[Any], ...] = (
    Route(
        "POST",
        "/api/v1/chat",
        decode.chat,
        collect=encode.chat,
        scopes=(Scope.CHAT_RUN,),
        summary="Send a message and wait for the complete response",
        takes=shapes.ChatRequest,
        gives=shapes.ChatReply,
    ),
    Route(
        "POST",
        "/api/v1/chat/stream",
        decode.chat_stream,
        stream=Streamed(encode.Stream, headers=(("x-accel-buffering", "no"),)),
        scopes=(Scope.CHAT_RUN,),
        summary="Send a message and read the response as it is written",
        takes=shapes.ChatRequest,
    ),
    Route(
        "GET",
        "/api/v1/sessions",
        decode.sessions,
        answer=encode.sessions,
        scopes=(Scope.CONVERSATIONS_READ,),
        summary="All session keys, sorted",
        gives=shapes.SessionKeys,
    ),
    Route(
        "GET",
        "/api/v1/sessions/{key}/messages",
        decode.session_messages,
        answer=encode.session_messages,
        scopes=(Scope.CONVERSATIONS_READ,),
        summary="What was said in a session (Dragoman's own)",
        gives=shapes.SessionMessages,
    ),
    Route(
        "GET",
        "/api/v1/sessions/{key:path}",
        decode.session,
        answer=encode.session,
        scopes=(Scope.CONVERSATIONS_READ,),
        summary="A session's message count and times",
        gives=shapes.SessionDetail,
    ),
    Route(
        "DELETE",
        "/api/v1/sessions/{key:path}",
        decode.delete_session,
        answer=encode.session_deleted,
        scopes=(Scope.CONVERSATIONS_WRITE,),
        summary="Delete a session",
        gives=shapes.SessionDeleted,
    ),
    Route(
        "GET",
        "/api/v1/tools",
        decode.tools,
        answer=encode.tools,
        scopes=(Scope.CHAT_READ,),
        summary="The tools the agent can call",
        gives=shapes.Tools,
    ),
    Route(
        "POST",
        "/api/v1/tools/{name}/execute",
        decode.execute_tool,
        answer=encode.tool_executed,
        scopes=(Scope.TOOLS_USE,),
        summary="Run one tool directly",
        takes=shapes.ToolExecuteRequest,
        gives=shapes.ToolExecuted,
    ),
    Route(
        "GET",
        "/api/v1/health",
        decode.health,
        answer=encode.health,
        summary="Version and uptime",
        gives=shapes.Health,
    ),
    Route(
        "GET",
        "/api/v1/status",
        decode.status,
        answer=encode.status,
        scopes=(Scope.CHAT_READ,),
        summary="What this server runs with",
        gives=shapes.ServerStatus,
    ),
    Route(
        "GET",
        "/api/v1/metrics",
        decode.status,
        answer=encode.metrics,
        scopes=(Scope.METRICS_READ,),
        summary="Counters since the start of the process",
        gives=shapes.Metrics,
    ),
    Route(
        "GET",
        "/api/v1/memory/search",
        decode.search_memory,
        answer=encode.nothing,
        summary="Not offered, but the query is checked",
        gives=shapes.ErrorBody,
        status=501,
        asks=(Parameter("q", "What is looked for", required=True),),
    ),
    _not_offered("GET", "/api/v1/memory", "This server keeps no memory across sessions."),
    _not_offered("GET", "/api/v1/config", "This server shows no configuration over HTTP; run `dragoman config show`."),
    _not_offered("GET", "/api/v1/skills", "This server has agents and tools, but no skills; see /api/v1/tools."),
    _not_offered("GET", "/api/v1/workflows", "Workflows are not shown here; run `dragoman workflows ls`."),
    _not_offered("GET", "/api/v1/workflows/{name}", "Workflows are not shown here; run `dragoman workflows ls`."),
    _not_offered("POST", "/api/v1/convert", "This server converts no documents; send their text in a message."),
    _not_offered("GET", "/api/v1/cron", _CRON),
    _not_offered("POST", "/api/v1/cron", _CRON),
    _not_offered("DELETE", "/api/v1/cron/{id}", _CRON),
    _not_offered("POST", "/api/v1/cron/{id}/enable", _CRON),
    _not_offered("POST", "/api/v1/cron/{id}/disable", _CRON),
    _not_offered("GET", "/api/v1/mcp/servers", _MCP),
    _not_offered("GET", "/api/v1/mcp/callback", _MCP, open=True),
    _not_offered("GET", "/api/v1/mcp/{server}/status", _MCP),
    _not_offered("POST", "/api/v1/mcp/{server}/login", _MCP),
    _not_offered("POST", "/api/v1/mcp/{server}/enable", _MCP),
    _not_offered("POST", "/api/v1/mcp/{server}/disable", _MCP),
)

_EXAMPLES = (
    Example(
        "Send a message and wait for the complete response",
        "POST",
        "/api/v1/chat",
        {
            "message": "List all files in the workspace",
            "session_key": "my-session",
            "model": "claude-4.5-sonnet",
        },
        expect=('"session_key":"my-session"', '"tool_calls_made":["list_files"]'),
    ),
    Example(
        "Send a message and read the response as it is written",
        "POST",
        "/api/v1/chat/stream",
        {
            "message": "Analyze this codebase",
            "session_key": "stream-session",
        },
        expect=('event: start\ndata: {"session_key": "stream-session"}\n', "event: message\n", "event: done\n"),
    ),
    Example(
        "Read what is known of a session",
        "GET",
        "/api/v1/sessions/my-session",
        expect=('"key":"my-session"', '"message_count":'),
    ),
)

DIALECT = Dialect(
    name="grip",
    title="Grip AI REST API",
    prefixes=("/api/v1/",),
    routes=_ROUTES,
    credential=decode.credential,
    fail=encode.fail,
    refusal=shapes.ErrorBody,
    examples=_EXAMPLES,
    files=SESSION_FILES,
)
