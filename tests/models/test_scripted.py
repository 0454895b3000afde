import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from dragoman.core.errors import BackendFailed, BadRequest
from dragoman.core.messages import Message, ToolCall, ToolResult, Usage, said
from dragoman.core.names import CallId
from dragoman.models.scripted import FAULTS, SCRIPT_BYTES_MAX, Scripted, ScriptedCall, ScriptedReply
from dragoman.runtime.ports import Prompt, ReplyDone, ReplyPiece, TextPiece, ThinkingPiece
from tests.models.asking import ask, ask_in_vain


def asking(text: str, *results: str) -> Prompt:
    tools = [Message("tool", (ToolResult(CallId("c"), result),)) for result in results]
    return Prompt((said("user", text), *tools))


def done(text: str, words_asked: int, **fields: Any) -> ReplyDone:
    return ReplyDone(text, usage=Usage(words_asked, len(text.split())), model_name="scripted", **fields)


def scripted(*replies: ScriptedReply) -> Scripted:
    async def sleep(_: float) -> None:
        raise AssertionError("nothing to wait for")

    return Scripted(replies, sleep=sleep)


def from_text(folder: Path, text: str) -> Scripted:
    script = folder / "script.toml"
    script.write_text(text)
    return Scripted.from_file(script, sleep=asyncio.sleep)


async def test_without_a_fitting_reply_it_echoes_the_last_user_message_word_by_word() -> None:
    assert await ask(scripted(), asking("hi  there")) == [
        TextPiece("Echo: "),
        TextPiece("hi  "),
        TextPiece("there"),
        done("Echo: hi  there", 2),
    ]


async def test_a_reply_that_is_not_streamed_comes_at_once() -> None:
    model = scripted(ScriptedReply(thinking=("hm",), text=("It is ", "sunny.")))
    assert await ask(model, asking("weather?"), stream=False) == [done("It is sunny.", 1, thinking="hm")]


async def test_thinking_and_text_come_in_their_pieces() -> None:
    model = scripted(ScriptedReply(thinking="hm", text=("It is ", "", "sunny.")))
    assert await ask(model, asking("weather?")) == [
        ThinkingPiece("hm"),
        TextPiece("It is "),
        TextPiece("sunny."),
        done("It is sunny.", 1, thinking="hm"),
    ]


async def test_the_first_fitting_reply_is_given_until_it_is_used_up() -> None:
    model = scripted(
        ScriptedReply(match="weather", text="rain", times=2),
        ScriptedReply(match="weather", text="sun", times=1),
        ScriptedReply(match="news", text="none"),
    )
    questions = ["weather", "the news", "bad weather", "weather", "weather", "news"]
    texts = [(await ask(model, asking(each), stream=False))[0] for each in questions]
    assert [each.text for each in texts if isinstance(each, ReplyDone)] == [
        "rain",
        "none",
        "rain",
        "sun",
        "Echo: weather",
        "none",
    ]


@pytest.mark.parametrize(
    ("match", "text", "fits"),
    [
        ("a.c", "a.c", True),
        ("a.c", "abc", True),
        (r"^\d+$", "42", True),
        (r"^\d+$", "x42", False),
        ("what (is", "what (is it", True),
        ("what (is", "what is it", False),
        ("", "anything", True),
    ],
)
async def test_a_match_is_a_text_or_a_regular_expression(match: str, text: str, fits: bool) -> None:
    (piece,) = await ask(scripted(ScriptedReply(match=match, text="fits")), asking(text), stream=False)
    assert isinstance(piece, ReplyDone)
    assert (piece.text == "fits") is fits


async def test_after_a_tool_the_last_result_is_matched_and_not_the_question() -> None:
    model = scripted(ScriptedReply(match="first", text="no"), ScriptedReply(match="second", text="yes"))
    assert await ask(model, asking("first question", "first result", "second result"), stream=False) == [done("yes", 6)]


async def test_calls_are_part_of_the_reply_and_arguments_may_be_no_json() -> None:
    calls = (ScriptedCall("read_file", {"path": "é"}), ScriptedCall("x", "{oops", id="mine"))
    assert await ask(scripted(ScriptedReply(calls=calls)), asking("read")) == [
        done(
            "",
            1,
            calls=(ToolCall(CallId("call_1"), "read_file", '{"path":"é"}'), ToolCall(CallId("mine"), "x", "{oops")),
            finish_reason="tool_calls",
        )
    ]


async def test_usage_and_finish_reason_are_what_the_script_says() -> None:
    model = scripted(ScriptedReply(text="a", usage=Usage(10, 5), finish_reason="length"))
    assert await ask(model, stream=False) == [ReplyDone("a", (), Usage(10, 5), "length", model_name="scripted")]


async def test_a_name_the_caller_gave_is_the_name_that_answered() -> None:
    (piece,) = await ask(scripted(ScriptedReply(text="a")), Prompt((), model_name="gpt-y"), stream=False)
    assert isinstance(piece, ReplyDone)
    assert piece.model_name == "gpt-y"


@pytest.mark.parametrize(
    ("after", "said_before"),
    [(0, []), (1, [ThinkingPiece("hm")]), (2, [ThinkingPiece("hm"), TextPiece("a")])]
    + [(after, [ThinkingPiece("hm"), TextPiece("a"), TextPiece("b")]) for after in (3, 9)],
)
async def test_a_fault_strikes_at_its_place(after: int, said_before: list[ReplyPiece]) -> None:
    reply = ScriptedReply(thinking="hm", text=("a", "b"), fault="truncated", fault_after=after, retry_after_s=3.0)
    pieces, error = await ask_in_vain(scripted(reply))
    assert (pieces, error.code, error.retryable, error.retry_after_s) == (said_before, "upstream_truncated", True, 3.0)


@pytest.mark.parametrize("code", FAULTS)
async def test_every_code_of_a_model_can_be_scripted_in_full_or_short(code: str) -> None:
    for spelled in (code, code.removeprefix("upstream_")):
        _, error = await ask_in_vain(scripted(ScriptedReply(fault=spelled)))
        assert (error.code, error.retryable) == (code, FAULTS[code])


async def test_delays_come_before_the_reply_and_between_its_pieces() -> None:
    trail: list[Any] = []

    async def sleep(seconds: float) -> None:
        trail.append(seconds)

    model = Scripted([ScriptedReply(text=("a", "b"), delay_s=0.5), ScriptedReply()], sleep=sleep)
    async for piece in model.reply(asking("x"), stream=True):
        trail.append(piece)
    assert trail == [0.5, TextPiece("a"), 0.5, TextPiece("b"), done("ab", 1)]


async def test_an_empty_or_failing_reply_is_delayed_too() -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    model = Scripted([ScriptedReply(delay_s=1.0, times=1), ScriptedReply(delay_s=2.0, fault="idle")], sleep=sleep)
    await ask(model)
    with pytest.raises(BackendFailed):
        await ask(model)
    assert pauses == [1.0, 2.0]


async def test_a_script_file_says_all_of_it(tmp_path: Path) -> None:
    model = from_text(
        tmp_path,
        """
        [[reply]]
        match = "weather"
        times = 1
        thinking = ["hm"]
        text = ["It is ", "sunny."]
        calls = [{ name = "read_file", arguments = { path = "a.txt" } }]
        usage = { prompt_tokens = 5, completion_tokens = 3 }

        [[reply]]
        text = "Done."
        """,
    )
    call = ToolCall(CallId("call_1"), "read_file", '{"path":"a.txt"}')
    assert await ask(model, asking("weather?")) == [
        ThinkingPiece("hm"),
        TextPiece("It is "),
        TextPiece("sunny."),
        ReplyDone("It is sunny.", (call,), Usage(5, 3), "tool_calls", "hm", "scripted"),
    ]
    assert await ask(model, asking("weather?"), stream=False) == [done("Done.", 1)]


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("[[reply]]\n[[reply]]\ntimes = 0", "reply 2: times: expected int >= 1"),
        ("[[reply]]\ntims = 1", "reply 1: tims: there is no such key; the nearest is times"),
        ("[[reply]]\nzzz = 1", "reply 1: zzz: there is no such key"),
        ('[[reply]]\ncalls = [{name = "a", argument = {}}]', "reply 1: calls[0].argument: there is no such key; "),
        ("[[reply]]\ncalls = [{}]", "reply 1: calls[0]: object missing required field name"),
        ("[[reply]]\ntext = [1]", "reply 1: text[0]: expected str, got int"),
        ('[[reply]]\ndelay_s = "1s"', "reply 1: delay_s: expected float, got str"),
        ("[[reply]]\ndelay_s = 601", "reply 1: delay_s: expected float <= 600.0"),
        ('[[reply]]\nfault = "boom"', "reply 1: fault: there is no fault 'boom'; there are: unreachable, refused, "),
        ("reply = [1]", "reply 1: row: expected object, got int"),
        ("[reply]", "reply: write [[reply]], with two brackets, before each row"),
        ("[[replies]]", "replies: a script holds nothing but [[reply]] rows"),
        ("[[reply", "the script is not TOML: "),
    ],
)
def test_a_bad_script_is_refused_naming_row_and_key(tmp_path: Path, text: str, detail: str) -> None:
    with pytest.raises(BadRequest) as caught:
        from_text(tmp_path, text)
    said = caught.value.detail
    assert said == f"script.toml: {detail}" or (detail.endswith(" ") and said.startswith(f"script.toml: {detail}"))


def test_a_script_that_is_absent_or_too_long_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest) as caught:
        Scripted.from_file(tmp_path / "none.toml", sleep=asyncio.sleep)
    assert caught.value.detail == "none.toml: the script cannot be read: No such file or directory"
    assert from_text(tmp_path, "#" * SCRIPT_BYTES_MAX)
    with pytest.raises(BadRequest) as caught:
        from_text(tmp_path, "#" * (SCRIPT_BYTES_MAX + 1))
    assert caught.value.detail == "script.toml: the script is longer than 1048576 bytes"
    (tmp_path / "latin.toml").write_bytes(b"# \xff")
    with pytest.raises(BadRequest, match=r"^latin\.toml: the script is not TOML: "):
        Scripted.from_file(tmp_path / "latin.toml", sleep=asyncio.sleep)


async def test_closing_is_harmless() -> None:
    await scripted().close()


async def test_a_prompt_that_must_call_a_tool_takes_no_reply_that_is_not_for_it() -> None:
    titled = ScriptedReply(calls=(ScriptedCall("title_conversation", {"title": "T"}),), times=1)
    named = ScriptedReply(text="I would rather talk.", choice="exit_loop")
    model = scripted(ScriptedReply(text="Hello.", times=1), titled, named)
    forced = [replace(asking("hi"), choice=choice) for choice in ("title_conversation", "exit_loop", "other")]
    calls = (ToolCall(CallId("call_1"), "title_conversation", '{"title":"T"}'),)
    assert (await ask(model, forced[0], stream=False)) == [done("", 1, calls=calls, finish_reason="tool_calls")]
    assert (await ask(model, forced[1], stream=False)) == [done("I would rather talk.", 1)]
    assert (await ask(model, forced[2], stream=False)) == [done("Echo: hi", 1)]
    for text in ("Hello.", "Echo: hi"):
        assert (await ask(model, replace(asking("hi"), choice="auto"), stream=False)) == [done(text, 1)]
