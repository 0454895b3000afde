"""Grip's replies, byte for byte."""

from typing import Any

import pytest

from dragoman.core import errors
from dragoman.core import events as ev
from dragoman.core.agents import ToolSpec
from dragoman.core.errors import DragomanError, FieldFault
from dragoman.core.messages import Image, Message, Text, Thinking, ToolCall, ToolResult, Usage, said
from dragoman.core.names import CallId, ConversationId, RunId, Tape
from dragoman.core.operations import (
    ConversationInfo,
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
from dragoman.dialects.grip import encode
from dragoman.wire.dialect import Reply, Request

STARTED = Started(ConversationId("my-session"), Tape(1), RunId("run-1"), 2, created=True)
LIST_FILES = ToolCall(CallId("call_1"), "list_files", '{"path":"."}')
READ_FILE = ToolCall(CallId("call_2"), "read_file", "{}")


def request(*, at: float = 1_700_000_000.0, **params: str) -> Request:
    return Request("GET", "/", params, {}, {}, b"", "abcdef012345", "0" * 32, at)


def json_body(body: str, status: int = 200, *headers: tuple[str, str]) -> Reply:
    return Reply(status, body.encode(), "application/json", headers)


def outcome(end: Any, *, text: str = "Hello.", replies: int = 1, calls: tuple[ToolCall, ...] = ()) -> Outcome:
    return Outcome(STARTED, end, text, replies, calls, Usage(12, 3))


# -- chat ------------------------------------------------------------------------------------------------------------


def test_a_completed_run_is_answered_with_five_fields_in_order() -> None:
    reply = encode.chat(
        outcome(ev.RunCompleted(), text='Hé "x"\n', replies=3, calls=(LIST_FILES, READ_FILE, LIST_FILES)), request()
    )
    assert reply == json_body(
        '{"response":"Hé \\"x\\"\\n","iterations":3,"usage":{"prompt_tokens":12,"completion_tokens":3},'
        '"tool_calls_made":["list_files","read_file","list_files"],"session_key":"my-session"}'
    )


def test_a_run_without_tools_took_one_iteration() -> None:
    reply = encode.chat(outcome(ev.RunCompleted()), request())
    assert reply == json_body(
        '{"response":"Hello.","iterations":1,"usage":{"prompt_tokens":12,"completion_tokens":3},'
        '"tool_calls_made":[],"session_key":"my-session"}'
    )


@pytest.mark.parametrize(
    "end",
    [
        ev.RunFailed("upstream_refused", "The model refused: bad key."),
        ev.RunFailed("step_limit", "Too many steps."),
        ev.RunCancelled("someone"),
        ev.RunNeedsClient((LIST_FILES,)),
    ],
    ids=ev.kind_of,
)
def test_a_run_that_did_not_complete_is_502_and_says_nothing_else(end: Any) -> None:
    assert encode.chat(outcome(end), request()) == json_body('{"detail":"Agent execution failed"}', 502)


# -- sessions --------------------------------------------------------------------------------------------------------


def info(
    key: str = "s1", *, messages: int = 2, created_at: float = 1_700_000_000.0, updated_at: float = 1_700_000_060.5
) -> ConversationInfo:
    return ConversationInfo(
        ConversationId(key),
        Tape(1),
        title="",
        origin="grip",
        created_at=created_at,
        updated_at=updated_at,
        messages=messages,
        turns=1,
        head=9,
    )


def test_session_keys_are_sorted_and_counted() -> None:
    page = ConversationPage((info("user_bob"), info("user:bob"), info("B"), info("é")))
    assert encode.sessions(page, request()) == json_body('{"sessions":["B","user:bob","user_bob","é"],"count":4}')


def test_without_sessions_the_list_is_empty() -> None:
    assert encode.sessions(ConversationPage(()), request()) == json_body('{"sessions":[],"count":0}')


def test_a_session_is_told_with_its_count_times_and_age() -> None:
    reply = encode.session(ConversationView(info(messages=4), ()), request(at=1_700_000_100.06))
    assert reply == json_body(
        '{"key":"s1","message_count":4,"created_at":1700000000.0,"updated_at":1700000060.5,"age_seconds":100.1}'
    )


def test_a_session_created_by_a_clock_that_is_ahead_has_no_negative_age() -> None:
    reply = encode.session(ConversationView(info(), ()), request(at=1_699_999_999.0))
    assert reply.body.endswith(b'"age_seconds":0.0}')


def test_a_deleted_session_is_told_by_its_key() -> None:
    assert encode.session_deleted(Deleted(ConversationId("user:bob")), request(key="user:bob")) == json_body(
        '{"deleted":true,"key":"user:bob"}'
    )


def turn(at: float, asked: tuple[Message, ...], answered: tuple[Message, ...], end: Any) -> TurnView:
    return TurnView(RunId(f"run-{at}"), int(at), at, asked, answered, end)


def test_the_messages_of_a_session_are_questions_replies_and_results_of_turns_that_ended_well() -> None:
    turns = (
        turn(
            1.0,
            (
                Message("system", (Text("Be brief."),)),
                Message("user", (Text("What is "), Image("image/png", "aaaa"), Text("here?"))),
            ),
            (
                Message("assistant", (Thinking("hm"), Text("Let me look."), LIST_FILES)),
                Message("tool", (ToolResult(CallId("call_1"), "a.txt"),)),
                Message("assistant", (READ_FILE,)),
                Message("tool", (ToolResult(CallId("call_2"), "no such file", is_error=True),)),
                said("assistant", "One file."),
            ),
            ev.RunCompleted(),
        ),
        turn(2.0, (said("user", "fails"),), (said("assistant", "half"),), ev.RunFailed("upstream_failed", "x")),
        turn(3.0, (said("user", "empty?"),), (Message("assistant", ()),), ev.RunCompleted()),
        turn(4.0, (said("user", "stop"),), (said("assistant", "I was say"),), ev.RunCancelled()),
        turn(5.0, (said("user", "still running"),), (said("assistant", "so f"),), None),
        turn(6.0, (said("user", "old"), said("assistant", "older")), (), ev.MessagesImported(())),
    )
    reply = encode.session_messages(ConversationView(info(), turns), request())
    assert reply == json_body(
        '{"key":"s1","messages":['
        '{"role":"user","content":"What is here?","at":1.0},'
        '{"role":"assistant","content":"Let me look.","at":1.0},'
        '{"role":"tool","content":"a.txt","at":1.0,"tool":"list_files"},'
        '{"role":"tool","content":"no such file","at":1.0,"tool":"read_file"},'
        '{"role":"assistant","content":"One file.","at":1.0},'
        '{"role":"user","content":"empty?","at":3.0},'
        '{"role":"assistant","content":"","at":3.0},'
        '{"role":"user","content":"stop","at":4.0},'
        '{"role":"assistant","content":"I was say","at":4.0},'
        '{"role":"user","content":"old","at":6.0},'
        '{"role":"assistant","content":"older","at":6.0}'
        '],"count":11}'
    )


def test_a_result_of_an_unknown_call_names_no_tool() -> None:
    stray = Message("tool", (ToolResult(CallId("call_9"), "x"),))
    view = ConversationView(info(), (turn(1.0, (stray,), (), ev.MessagesImported(())),))
    assert encode.session_messages(view, request()) == json_body(
        '{"key":"s1","messages":[{"role":"tool","content":"x","at":1.0}],"count":1}'
    )


# -- tools and status ------------------------------------------------------------------------------------------------


def test_tools_are_listed_as_function_definitions() -> None:
    spec = ToolSpec(
        "list_files", "Lists files.", {"type": "object", "properties": {"path": {"type": "string"}}}, examples=("ls",)
    )
    assert encode.tools(ToolList((spec,)), request()) == json_body(
        '{"tools":[{"type":"function","function":{"name":"list_files","description":"Lists files.",'
        '"parameters":{"type":"object","properties":{"path":{"type":"string"}}}}}],"count":1}'
    )


@pytest.mark.parametrize(("is_error", "success"), [(False, "true"), (True, "false")])
def test_a_tool_that_ran_is_told_with_its_output_and_success(is_error: bool, success: str) -> None:
    reply = encode.tool_executed(ToolOutput("list_files", "a.txt\n", is_error), request(name="list_files"))
    assert reply == json_body(f'{{"tool":"list_files","output":"a.txt\\n","success":{success}}}')


def test_a_tool_that_is_not_there_is_not_found() -> None:
    output = ToolOutput("nope", "There is no tool nope.", is_error=True, code="unknown_tool")
    assert encode.tool_executed(output, request(name="nope")) == json_body('{"detail":"Tool \'nope\' not found"}', 404)


STATUS = Status(
    version="1.0.0",
    uptime_s=12.34,
    model="main",
    models=("main",),
    agents=("assistant",),
    tools=("list_files",),
    workspace="/srv/workspace",
    conversations=7,
    live_runs=2,
    steps_max=25,
    counters={
        "runs": 5,
        "replies": 9,
        "tool_calls": 4,
        "errors": 1,
        "prompt_tokens": 100,
        "completion_tokens": 40,
        "recovered": 3,
    },
)


def test_health_tells_version_and_uptime() -> None:
    assert encode.health(STATUS, request()) == json_body('{"status":"ok","version":"1.0.0","uptime_seconds":12.3}')


def test_status_has_every_field_of_the_released_server_and_null_where_there_is_no_such_setting() -> None:
    assert encode.status(STATUS, request()) == json_body(
        '{"model":"main","max_tokens":null,"temperature":null,"max_tool_iterations":25,"workspace":"/srv/workspace",'
        '"session_count":7,"sandbox_enabled":null,"shell_timeout":null,"mcp_server_count":null,'
        '"channels":{"telegram":"disabled","discord":"disabled","slack":"disabled"},"heartbeat_enabled":false,'
        '"heartbeat_interval_minutes":null,"tool_execute_enabled":true}'
    )


def test_metrics_are_the_counters_of_the_process() -> None:
    assert encode.metrics(STATUS, request()) == json_body(
        '{"metrics":{"total_agent_runs":5,"total_tool_calls":4,"total_llm_calls":9,"total_errors":1,'
        '"total_prompt_tokens":100,"total_completion_tokens":40,"total_workflow_runs":0,"active_sessions":2,'
        '"uptime_seconds":12.3}}'
    )


# -- errors ----------------------------------------------------------------------------------------------------------


def detail(status: int, text: str, *headers: tuple[str, str]) -> Reply:
    return json_body(f'{{"detail":"{text}"}}', status, *headers)


ERRORS: list[tuple[DragomanError, Reply]] = [
    (
        errors.NotAuthenticated("No such credential.", internal="kid 7"),
        detail(401, "Authentication required", ("www-authenticate", "Bearer")),
    ),
    (
        errors.NotAllowed("This credential lacks the scope tools:use."),
        detail(403, "This credential lacks the scope tools:use."),
    ),
    (errors.NotFound("There is no such path.", what="route"), detail(404, "Not Found")),
    (errors.NotFound("There is no conversation x.", what="conversation"), detail(404, "Session not found")),
    (errors.NotFound("There is no agent x.", what="agent"), detail(404, "There is no agent x.")),
    (errors.NotFound("There is no tool x.", what="tool"), detail(404, "There is no tool x.")),
    (errors.WrongMethod("No.", allowed=["GET", "DELETE"]), detail(405, "Method Not Allowed", ("allow", "GET, DELETE"))),
    (errors.Conflict("It was deleted meanwhile."), detail(409, "It was deleted meanwhile.")),
    (errors.KeyReused("That key is taken."), detail(422, "That key is taken.")),
    (errors.StillRunning("Not yet.", retry_after_s=1.2), detail(409, "Not yet.", ("retry-after", "2"))),
    (errors.Expired("Kept no longer."), detail(410, "Kept no longer.")),
    (errors.TooLarge("Too large", bytes_max=1048576), detail(413, "Request body too large (max 1048576 bytes)")),
    (errors.NotOffered("Not here."), detail(501, "Not here.")),
    (errors.BackendFailed("The model refused.", internal="401 from 10.0.0.1"), detail(502, "Agent execution failed")),
    (errors.ToolFailed("No such file."), detail(502, "Agent execution failed")),
    (
        errors.Unavailable("The server is stopping.", retry_after_s=4.2),
        detail(503, "The server is stopping.", ("retry-after", "5")),
    ),
    (DragomanError("It broke.", internal="line 7"), detail(500, "Internal server error")),
]


@pytest.mark.parametrize(("error", "reply"), ERRORS, ids=lambda value: getattr(value, "detail", ""))
def test_every_error_has_grips_status_and_sentence(error: DragomanError, reply: Reply) -> None:
    assert encode.fail(error, None) == reply


def test_a_missing_tool_is_named_as_the_path_named_it() -> None:
    error = errors.NotFound("There is no tool x.", what="tool")
    assert encode.fail(error, request(name="x")) == detail(404, "Tool 'x' not found")


def test_a_bad_request_lists_its_rows() -> None:
    error = errors.BadRequest("a is wrong", faults=[FieldFault("a", "Wrong", "bad"), FieldFault("b", "Worse", "worse")])
    assert encode.fail(error, request()) == json_body(
        '{"detail":"a is wrong","errors":[{"field":"a","message":"Wrong","type":"bad"},'
        '{"field":"b","message":"Worse","type":"worse"}]}',
        400,
    )


def test_a_bad_request_without_rows_is_a_sentence_alone() -> None:
    error = errors.BadRequest("Query must be 1-500 characters")
    assert encode.fail(error, None) == json_body('{"detail":"Query must be 1-500 characters"}', 400)


@pytest.mark.parametrize("limit", ["per_ip_rpm", "per_credential_rpm", "per_project_rpm"])
@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (44.1, "45"), (60.0, "60")])
def test_a_rate_limit_tells_when_to_come_back_in_whole_seconds(limit: str, seconds: float, header: str) -> None:
    error = errors.LimitReached("Slow down.", limit=limit, retry_after_s=seconds)
    assert encode.fail(error, None) == detail(
        429, "Rate limit exceeded", ("retry-after", header), ("x-ratelimit-remaining", "0")
    )


def test_a_full_queue_is_not_called_a_rate_limit() -> None:
    error = errors.LimitReached("8 turns wait.", limit="queue_per_conversation", retry_after_s=2.5)
    sentence = "Too many messages are waiting in this session; try again when some have been answered"
    assert encode.fail(error, None) == detail(429, sentence, ("retry-after", "3"))


def test_any_other_limit_says_its_own_sentence() -> None:
    error = errors.LimitReached("This conversation has 9 readers already.", limit="readers_per_conversation")
    assert encode.fail(error, None) == detail(429, "This conversation has 9 readers already.", ("retry-after", "1"))
