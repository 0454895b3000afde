import asyncio
import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dragoman.core.agents import NO_ARGUMENTS, Repeat, ToolSpec
from dragoman.core.errors import ToolFailed
from dragoman.core.messages import ToolCall
from dragoman.core.names import CallId
from dragoman.runtime.tool_ports import CallContext, ToolOutcome, Tools
from dragoman.tools.arguments import Arguments, Run
from dragoman.tools.registry import OUTPUT_BYTES_MAX, PATTERN_SETS_MAX, Registry
from tests.tools.conftest import CONTEXT, Call


def spec(name: str, toolset: str = "", *, timeout_s: float = 5.0, repeat: Repeat = Repeat.ONCE) -> ToolSpec:
    return ToolSpec(name, f"Does {name}.", NO_ARGUMENTS, repeat=repeat, toolset=toolset, timeout_s=timeout_s)


def saying(text: str) -> Run:
    async def run(arguments: Arguments, context: CallContext) -> str:
        return text

    return run


def raising(error: BaseException) -> Run:
    async def run(arguments: Arguments, context: CallContext) -> str:
        raise error

    return run


def test_it_fits_the_port(registry: Registry):
    port: Tools = registry
    assert port.specs(["*"]) == ()


async def test_a_tool_gets_its_arguments_and_who_calls(registry: Registry, call: Call):
    seen: list[tuple[Arguments, CallContext]] = []

    async def run(arguments: Arguments, context: CallContext) -> str:
        seen.append((arguments, context))
        return "done"

    registry.register(spec("count"), run)
    assert await call("count", '{"a": 1}') == ToolOutcome("done")
    assert await call("count", "") == ToolOutcome("done")
    assert seen == [({"a": 1}, CONTEXT), ({}, CONTEXT)]


async def test_bad_arguments_never_reach_the_tool(registry: Registry, call: Call):
    registry.register(spec("count"), raising(AssertionError("must not run")))
    assert await call("count", "[]") == ToolOutcome(
        "The arguments must be a JSON object, not an array. Correct them and call count again.", True, "bad_arguments"
    )


async def test_arguments_that_do_not_fit_the_schema_never_reach_the_tool(registry: Registry, call: Call):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    registry.register(ToolSpec("count", "", schema), raising(AssertionError("must not run")))
    assert await call("count", '{"n": "x"}') == ToolOutcome(
        'The arguments do not fit: n: "x" is not of type "integer". It takes: n. Correct them and call count again.',
        True,
        "bad_arguments",
    )


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("read_fil", "There is no tool 'read_fil'. The closest names are: read_file, write_file."),
        ("xyz", "There is no tool 'xyz'. No name is close to it."),
        ("", "There is no tool ''. No name is close to it."),
        ("q\u202e" + "q" * 1000, "There is no tool 'q\\u202e" + "q" * 98 + "'. No name is close to it."),
    ],
)
async def test_an_unknown_tool_is_told_with_the_closest_names(registry: Registry, call: Call, name: str, sentence: str):
    registry.register(spec("read_file"), saying(""))
    registry.register(spec("write_file"), saying(""))
    assert await call(name) == ToolOutcome(sentence, True, "unknown_tool")


async def test_a_tool_that_fails_on_purpose_says_so_itself(registry: Registry, call: Call):
    registry.register(spec("a"), raising(ToolFailed("There is no such file.", internal="/srv/secret")))
    registry.register(spec("b"), raising(ToolFailed("Not allowed.", code="denied")))
    assert await call("a") == ToolOutcome("There is no such file.", True, "tool_failed")
    assert await call("b") == ToolOutcome("Not allowed.", True, "denied")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("password=hunter2"),
        TimeoutError("password=hunter2"),
        RecursionError("password=hunter2"),
        ExceptionGroup("password=hunter2", [ValueError("password=hunter2")]),
        asyncio.CancelledError("password=hunter2"),
    ],
)
async def test_an_unexpected_failure_is_for_the_log_alone(
    registry: Registry, call: Call, caplog: pytest.LogCaptureFixture, error: BaseException
):
    registry.register(spec("a"), raising(error))
    with caplog.at_level(logging.ERROR, logger="dragoman.tools"):
        outcome = await call("a")
    assert outcome == ToolOutcome(
        "a failed for a reason of its own; the server's log has it. Go on without it, or say so.", True, "tool_failed"
    )
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[1] is error


@pytest.mark.parametrize(
    ("repeat", "effect"),
    [
        (Repeat.PURE, ""),
        (Repeat.ONCE, " It may still have had its effect: look before you repeat it."),
        (Repeat.IDEMPOTENT, " It may still have had its effect: look before you repeat it."),
    ],
)
async def test_a_tool_that_takes_too_long_is_stopped(registry: Registry, call: Call, repeat: Repeat, effect: str):
    stopped = asyncio.Event()

    async def run(arguments: Arguments, context: CallContext) -> str:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return "never"

    registry.register(spec("slow", timeout_s=0.01, repeat=repeat), run)
    assert await call("slow") == ToolOutcome(
        f"slow did not finish within 0.01 s and was stopped.{effect}", True, "timeout"
    )
    assert stopped.is_set()


async def test_cancelling_the_caller_cancels_the_tool(registry: Registry):
    started, stopped = asyncio.Event(), asyncio.Event()

    async def run(arguments: Arguments, context: CallContext) -> str:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return "never"

    registry.register(spec("slow"), run)
    task = asyncio.create_task(registry.call(ToolCall(CallId("c"), "slow", ""), CONTEXT))
    await asyncio.wait_for(started.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stopped.is_set()


@pytest.mark.parametrize("unit", ["a", "é", "€", "😀"])
async def test_output_of_the_largest_size_is_whole_and_one_byte_more_is_cut(registry: Registry, call: Call, unit: str):
    largest = unit * (OUTPUT_BYTES_MAX // len(unit.encode()))
    registry.register(spec("whole"), saying(largest))
    over = "x" * (OUTPUT_BYTES_MAX + 1 - len(largest.encode())) + largest
    registry.register(spec("cut"), saying(over))
    assert (await call("whole")).content == largest
    content = (await call("cut")).content
    kept, notice = content.rsplit("\n", 1)
    left_out = len(over.encode()) - len(kept.encode())
    assert over.startswith(kept)
    assert notice == f"[{left_out:,} bytes more were left out here. Ask for less at a time.]"
    assert OUTPUT_BYTES_MAX - 300 < len(content.encode()) <= OUTPUT_BYTES_MAX


async def test_output_no_wire_can_take_is_made_harmless(registry: Registry, call: Call):
    registry.register(spec("odd"), saying("a\udc80b"))
    assert await call("odd") == ToolOutcome("a?b")


async def test_what_a_failing_tool_says_is_capped_too(registry: Registry, call: Call):
    registry.register(spec("long"), raising(ToolFailed("é" * OUTPUT_BYTES_MAX)))
    outcome = await call("long")
    assert outcome.is_error
    assert len(outcome.content.encode()) <= OUTPUT_BYTES_MAX


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arguments=st.text() | st.binary().map(lambda body: body.decode("utf-8", "surrogateescape")))
async def test_no_text_of_a_model_makes_a_call_raise(arguments: str):
    registry = Registry()
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": False}
    registry.register(ToolSpec("a", "", schema), saying("ran"))
    outcome = await registry.call(ToolCall(CallId("c"), "a", arguments), CONTEXT)
    assert outcome == ToolOutcome("ran") or outcome.code == "bad_arguments"


@pytest.fixture
def filled(registry: Registry) -> Registry:
    for name, toolset in [("read_file", "workspace"), ("query", "connections"), ("write_file", "workspace"), ("x", "")]:
        registry.register(spec(name, toolset), saying(""))
    return registry


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["*"], ["read_file", "query", "write_file", "x"]),
        (["workspace.*"], ["read_file", "write_file"]),
        (["write_file", "read_file", "*_file"], ["read_file", "write_file"]),
        (["connections.*", "workspace.read_*"], ["read_file", "query"]),
        (["x"], ["x"]),
        (["Workspace.*"], []),
        (["workspace"], []),
        ([], []),
    ],
)
def test_patterns_choose_in_order_of_registration_each_once(filled: Registry, patterns: list[str], names: list[str]):
    assert [one.name for one in filled.specs(patterns)] == names


def test_the_same_patterns_give_the_same_tuple_until_a_tool_is_added(filled: Registry):
    before = filled.specs(["workspace.*"])
    assert filled.specs(("workspace.*",)) is before
    filled.register(spec("edit_file", "workspace"), saying(""))
    after = filled.specs(["workspace.*"])
    assert [one.name for one in after] == ["read_file", "write_file", "edit_file"]
    assert filled.specs(["workspace.*"]) is after


def test_sets_of_patterns_without_end_are_not_remembered(filled: Registry):
    for number in range(3 * PATTERN_SETS_MAX):
        assert filled.specs([f"nothing-{number}"]) == ()
    assert len(filled._chosen) <= PATTERN_SETS_MAX  # pyright: ignore[reportPrivateUsage] - the bound is the point


def test_a_spec_is_found_by_name(filled: Registry):
    found = filled.spec("query")
    assert found is not None
    assert found.toolset == "connections"
    assert filled.spec("connections.query") is None


@pytest.mark.parametrize("name", ["", "a b", "a.b", "é", "a" * 65, "a\n"])
def test_a_name_no_provider_takes_is_refused(registry: Registry, name: str):
    with pytest.raises(ValueError, match="a name is 1 to 64 letters"):
        registry.register(spec(name), saying(""))


def test_a_name_taken_is_refused(filled: Registry):
    with pytest.raises(ValueError, match=r"^tool 'x' is already registered$"):
        filled.register(spec("x"), saying(""))


def test_a_schema_that_is_none_is_refused_by_the_tools_name(registry: Registry):
    with pytest.raises(ValueError, match=r"^tool 'a': not a usable JSON Schema"):
        registry.register(ToolSpec("a", "", {"type": 5}), saying(""))
    assert registry.spec("a") is None
