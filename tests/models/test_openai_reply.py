import json
from itertools import groupby, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.core.errors import BackendFailed
from dragoman.core.messages import ToolCall, Usage
from dragoman.core.names import CallId
from dragoman.models.openai_faults import Faults
from dragoman.models.openai_reply import CALL_ID_CHARS_MAX, NAME_CHARS_MAX, REASON_CHARS_MAX, Bounds, ReplyFold
from dragoman.runtime.ports import ReplyDone, TextPiece, ThinkingPiece
from dragoman.wire.sse import Reader, SseFrame, frame
from tests.support import FixedClock

STOP = {"choices": [{"delta": {}, "finish_reason": "stop"}]}


def fold(
    *, text_chars: int = 1000, arguments_chars: int = 1000, calls: int = 32, stream_bytes: int = 10**6
) -> ReplyFold:
    faults = Faults(secrets=("secret-key",), clock=FixedClock())
    return ReplyFold(Bounds(text_chars, arguments_chars, calls, stream_bytes), faults, model_name="gpt-x")


def frames(*chunks: Any) -> list[SseFrame]:
    return [SseFrame(chunk if isinstance(chunk, bytes) else json.dumps(chunk).encode()) for chunk in chunks]


def delta(**fields: Any) -> Any:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


def call(index: int | None = None, id: Any = None, name: str | None = None, arguments: Any = None) -> Any:
    fields = {"index": index, "id": id, "function": {"name": name, "arguments": arguments}}
    return {key: value for key, value in fields.items() if value is not None}


def streamed(*chunks: Any, **bounds: int) -> ReplyDone:
    folded = fold(**bounds)
    folded.take(frames(*chunks))
    return folded.done()


def calls_of(*deltas: list[Any], **bounds: int) -> list[tuple[str, str, str]]:
    done = streamed(*(delta(tool_calls=each) for each in deltas), STOP, **bounds)
    return [(each.id, each.name, each.arguments) for each in done.calls]


def whole(message: Any, **fields: Any) -> ReplyDone:
    folded = fold()
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], **fields}
    folded.take_whole(json.dumps(body).encode())
    return folded.done()


def fault(*chunks: Any, **bounds: int) -> BackendFailed:
    with pytest.raises(BackendFailed) as caught:
        streamed(*chunks, **bounds)
    return caught.value


# -- text ----------------------------------------------------------------------------------------------------------


def test_neighbouring_text_of_one_read_is_one_piece() -> None:
    folded = fold()
    assert folded.take(frames(delta(role="assistant", content=""), delta(content="Hel"), delta(content="lo"))) == [
        TextPiece("Hello")
    ]
    assert folded.take(frames(delta(content=" you"), STOP)) == [TextPiece(" you")]
    assert folded.done() == ReplyDone("Hello you", finish_reason="stop", model_name="gpt-x")


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thinking_is_a_piece_of_its_own_in_its_order(field: str) -> None:
    folded = fold()
    pieces = folded.take(
        frames(delta(**{field: "h"}), delta(**{field: "m"}), delta(content="Yes", **{field: None}), delta(content="."))
    )
    assert pieces == [ThinkingPiece("hm"), TextPiece("Yes.")]
    folded.take(frames(STOP))
    assert folded.done() == ReplyDone("Yes.", thinking="hm", finish_reason="stop", model_name="gpt-x")


def test_content_may_be_a_list_of_parts() -> None:
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "Yes"}, "!"]
    assert whole({"content": [*parts, {"type": "audio"}, 7]}) == ReplyDone(
        "Yes!", thinking="hm", finish_reason="stop", model_name="gpt-x"
    )


def test_a_refusal_is_text_when_there_is_no_other() -> None:
    assert whole({"content": None, "refusal": "I will not."}).text == "I will not."
    assert whole({"content": "Well.", "refusal": "I will not."}).text == "Well."


def test_unknown_fields_empty_choices_and_null_everything_are_ignored() -> None:
    done = streamed(
        {"choices": [], "x": {"y": [1]}},
        {"choices": None, "usage": None, "model": None, "error": None},
        {"choices": [{"delta": None, "finish_reason": None}]},
        delta(content=None, tool_calls=None, reasoning={"odd": 1}, refusal=None),
        delta(content="a"),
        STOP,
    )
    assert done == ReplyDone("a", finish_reason="stop", model_name="gpt-x")


def test_only_the_first_choice_counts() -> None:
    second = {"index": 1, "delta": {"content": "other"}, "finish_reason": "length"}
    assert streamed({"choices": [second]}, delta(content="a"), STOP).text == "a"


def test_the_model_that_answered_is_named() -> None:
    assert streamed({"model": "gpt-x-2026", **delta(content="a")}, STOP).model_name == "gpt-x-2026"


# -- the end -------------------------------------------------------------------------------------------------------


def test_usage_comes_with_or_without_choices_and_the_last_counts() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    early = {**delta(content="a"), "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
    assert streamed(early, STOP, {"choices": [], "usage": usage}).usage == Usage(3, 4)
    assert streamed(delta(content="a"), {**STOP, "usage": {"prompt_tokens": 5}}).usage == Usage(5, 0)


@pytest.mark.parametrize(
    ("told", "taken"),
    [(3.0, 3), (True, 1), (-1, 0), (1e300, 0), (2**53, 2**53), (2**53 + 1, 0), ("3", 0), (None, 0), ([3], 0)],
)
def test_a_number_of_tokens_that_is_none_counts_for_nothing(told: Any, taken: int) -> None:
    ending = {**STOP, "usage": {"prompt_tokens": told, "completion_tokens": 4}}
    assert streamed(delta(content="a"), ending).usage == Usage(taken, 4)


def test_done_is_told_from_its_marker_and_what_follows_is_not_read() -> None:
    folded = fold()
    folded.take(frames(delta(content="a"), STOP, b"[DONE]", b"[DONE]", b"garbage"))
    assert (folded.ended, folded.done().text) == (True, "a")


def test_a_missing_marker_is_tolerated() -> None:
    assert streamed(delta(content="a"), STOP).text == "a"


@pytest.mark.parametrize("chunks", [[], [delta(content="a")], [delta(content="a"), b"[DONE]"]])
def test_a_reply_without_finish_reason_was_cut_off(chunks: list[Any]) -> None:
    error = fault(*chunks)
    assert (error.code, error.retryable) == ("upstream_truncated", True)


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [([delta(content="a"), b"[DONE]"], "stop"), ([delta(content="a")], ""), ([b"[DONE]"], ""), ([], "")],
)
def test_where_the_marker_suffices_it_must_be_there_and_stand_behind_something(chunks: list[Any], reason: str) -> None:
    faults = Faults(secrets=(), clock=FixedClock())
    folded = ReplyFold(Bounds(100, 100, 1, 1000), faults, model_name="gpt-x", marker_suffices=True)
    folded.take(frames(*chunks))
    if reason:
        assert folded.done().finish_reason == reason
    else:
        with pytest.raises(BackendFailed):
            folded.done()


def test_a_whole_reply_without_finish_reason_was_cut_off() -> None:
    folded = fold()
    folded.take_whole(b'{"choices":[{"message":{"content":"half"}}]}')
    with pytest.raises(BackendFailed) as caught:
        folded.done()
    assert (caught.value.code, caught.value.retryable) == ("upstream_truncated", True)


@pytest.mark.parametrize(
    "chunk",
    [
        b"{",
        b"",
        b"not json",
        b'{"choices":[{"delta":{"content":"a}}]}',
        b'{"choices":[{"delta":{"content":"a\xff"}}]}',
        b'{"choices":"none"}',
        b'{"choices":[{"delta":{"content":"\\ud800"}}]}',
        b'{"choices":[],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"usage":{"prompt_tokens":' + b"9" * 5000 + b"}}",
    ],
)
def test_a_chunk_that_cannot_be_read_is_a_fault_and_never_skipped(chunk: bytes) -> None:
    error = fault(delta(content="a"), chunk, STOP)
    assert (error.code, error.retryable) == ("upstream_malformed", True)


def test_a_fault_quotes_the_chunk_without_our_secrets() -> None:
    error = fault(b"{secret-key")
    assert error.internal.endswith(": {[secret]")


@pytest.mark.parametrize(
    "chunk", [b'{"error":{"message":"overloaded"}}', b'{"error":"overloaded"}', b'{"choices":[],"error":{"code":500}}']
)
def test_an_error_chunk_is_a_failure(chunk: bytes) -> None:
    error = fault(delta(content="a"), chunk)
    assert (error.code, error.retryable) == ("upstream_failed", True)


def test_an_error_event_is_a_failure_whatever_it_holds() -> None:
    folded = fold()
    folded.take([SseFrame(b"out of memory", "error")])
    with pytest.raises(BackendFailed) as caught:
        folded.done()
    assert (folded.ended, caught.value.code) == (True, "upstream_failed")


def test_a_finish_reason_that_says_error_is_a_failure() -> None:
    """OpenRouter ends a stream so when the provider behind it broke off."""
    folded = fold()
    ending = {"choices": [{"delta": {"content": "b"}, "finish_reason": "error"}]}
    assert folded.take(frames(delta(content="a"), ending)) == [TextPiece("ab")]
    with pytest.raises(BackendFailed) as caught:
        folded.done()
    assert (caught.value.code, caught.value.retryable) == ("upstream_failed", True)


def test_an_error_that_is_empty_is_none() -> None:
    assert streamed({"error": "", **delta(content="a")}, {"error": {}, **STOP}).text == "a"


def test_what_stands_before_a_fault_is_handed_out() -> None:
    folded = fold()
    assert folded.take(frames(delta(content="a"), b"{", delta(content="b"), STOP)) == [TextPiece("a")]
    assert folded.ended
    with pytest.raises(BackendFailed):
        folded.done()


def test_a_fault_after_the_end_is_none() -> None:
    folded = fold()
    folded.take(frames(delta(content="a"), STOP, b"[DONE]"))
    folded.break_off(BackendFailed("too late"))
    assert folded.done().text == "a"


# -- calls ---------------------------------------------------------------------------------------------------------


def test_a_call_is_put_together_from_fragments() -> None:
    assert calls_of([call(0, "c1", "read_file", "")], [call(0, arguments='{"pa')], [call(0, arguments='th":"a"}')]) == [
        ("c1", "read_file", '{"path":"a"}')
    ]


def test_fragments_of_several_calls_may_interleave_and_indexes_may_leave_gaps() -> None:
    assert calls_of(
        [call(5, "c5", "b", "{"), call(2, "c2", "a", "[")], [call(5, arguments="}"), call(2, arguments="]")]
    ) == [("c2", "a", "[]"), ("c5", "b", "{}")]


def test_without_an_index_an_id_tells_calls_apart() -> None:
    assert calls_of(
        [call(id="c1", name="a", arguments="{")], [call(arguments="}")], [call(id="c2", name="a", arguments="{}")]
    ) == [("c1", "a", "{}"), ("c2", "a", "{}")]


def test_without_an_index_or_an_id_a_name_begins_a_call() -> None:
    assert calls_of([call(name="a", arguments="{}"), call(name="b", arguments="{}")]) == [
        ("call_1", "a", "{}"),
        ("call_2", "b", "{}"),
    ]


def test_calls_that_all_claim_the_same_index_are_told_apart_by_their_ids() -> None:
    assert calls_of([call(0, "c1", "a", "{}")], [call(0, "c2", "b", "{")], [call(0, arguments="}")]) == [
        ("c1", "a", "{}"),
        ("c2", "b", "{}"),
    ]


def test_an_id_that_changes_with_each_fragment_does_not_begin_a_call() -> None:
    assert calls_of([call(0, "x1", "a", "{")], [call(0, "x2", arguments="}")]) == [("x1", "a", "{}")]


def test_a_name_repeated_in_each_fragment_is_one_name() -> None:
    assert calls_of([call(0, "c", "a", "{")], [call(0, "c", "a", "}")]) == [("c", "a", "{}")]


def test_a_name_may_come_in_fragments() -> None:
    assert calls_of([call(0, "c", "read_")], [call(0, name="file", arguments="{}")]) == [("c", "read_file", "{}")]


@pytest.mark.parametrize("id", [None, "", 7, "x" * (CALL_ID_CHARS_MAX + 1), "a\0b"])
def test_an_id_that_cannot_be_used_is_made_from_the_position(id: Any) -> None:
    assert calls_of([call(0, "c1", "a", "{}"), call(1, id, "b", "{}")])[1] == ("call_2", "b", "{}")


def test_duplicate_ids_are_made_unique() -> None:
    made = calls_of([call(0, "c", "a", "{}"), call(1, "c", "b", "{}"), call(2, "c-2", "d", "{}")])
    assert made == [("c", "a", "{}"), ("c-2", "b", "{}"), ("c-2-3", "d", "{}")]


def test_whole_calls_stand_apart_even_with_one_id_and_no_index() -> None:
    message = {"content": None, "tool_calls": [call(id="c", name="a", arguments="{}")] * 2}
    assert whole(message).calls == (ToolCall(CallId("c"), "a", "{}"), ToolCall(CallId("c-2"), "a", "{}"))


def test_arguments_sent_as_an_object_become_json_and_none_becomes_an_empty_object() -> None:
    message = {"tool_calls": [call(name="a", arguments={"p": [1]}), call(name="b"), call(name="c", arguments=" ")]}
    assert [each.arguments for each in whole(message).calls] == ['{"p":[1]}', "{}", "{}"]


def test_arguments_that_are_no_json_are_handed_on_as_they_are() -> None:
    assert calls_of([call(0, "c", "a", '{"x":1,}')]) == [("c", "a", '{"x":1,}')]


def test_a_name_or_a_finish_reason_without_end_is_cut() -> None:
    name = "n" * (NAME_CHARS_MAX + 1)
    ending = {"model": name, "choices": [{"delta": {}, "finish_reason": "x" * (REASON_CHARS_MAX + 1)}]}
    done = streamed(delta(tool_calls=[call(0, "c", name, "{}")]), delta(tool_calls=[call(0, name="m")]), ending)
    assert (done.calls[0].name, done.model_name) == ("n" * NAME_CHARS_MAX, "n" * NAME_CHARS_MAX)
    assert done.finish_reason == "x" * REASON_CHARS_MAX


def test_a_call_without_a_name_is_malformed() -> None:
    error = fault(delta(tool_calls=[call(0, "c", None, "{}")]), STOP)
    assert error.code == "upstream_malformed"


# -- bounds --------------------------------------------------------------------------------------------------------


def test_text_of_exactly_the_bound_is_taken_and_one_character_more_is_not() -> None:
    assert streamed(delta(content="é" * 10), STOP, text_chars=10).text == "é" * 10
    folded = fold(text_chars=10)
    assert folded.take(frames(delta(content="é" * 9))) == [TextPiece("é" * 9)]
    assert folded.take(frames(delta(content="éa"), STOP, b"[DONE]")) == [TextPiece("é")]
    with pytest.raises(BackendFailed):
        folded.done()
    error = fault(delta(content="é" * 11), STOP, text_chars=10)
    assert (error.code, error.retryable) == ("upstream_too_long", False)
    assert error.detail == "The model's answer is over our limit of 10 characters. Ask for less at once."


def test_thinking_has_the_same_bound() -> None:
    assert streamed(delta(reasoning="x" * 10), STOP, text_chars=10).thinking == "x" * 10
    assert fault(delta(reasoning="x" * 11), STOP, text_chars=10).code == "upstream_too_long"


def test_arguments_of_exactly_the_bound_are_whole_and_of_longer_ones_one_character_more_is_kept() -> None:
    """The tools refuse them for that character, and the model hears why."""
    assert calls_of([call(0, "c", "a", "x" * 10)], arguments_chars=10) == [("c", "a", "x" * 10)]
    for fragments in (["x" * 12], ["x" * 10, "y", "z"], ["x"] * 100):
        ((_, _, arguments),) = calls_of(*([call(0, "c", "a", each)] for each in fragments), arguments_chars=10)
        assert arguments == "".join(fragments)[:11]


def test_as_many_calls_as_the_bound_are_taken_and_the_others_are_left_out() -> None:
    many = [call(at, f"c{at}", "a", f'{{"n":{at}}}') for at in range(5)]
    assert len(calls_of(many, calls=5)) == 5
    folded = fold(calls=2)
    folded.take(frames(delta(tool_calls=many), STOP))
    assert (folded.done().calls, folded.calls_left_out) == (
        (ToolCall(CallId("c0"), "a", '{"n":0}'), ToolCall(CallId("c1"), "a", '{"n":1}')),
        3,
    )


@pytest.mark.parametrize(
    "fragments",
    [
        [call(0, "c", "a", "{"), call(1, "d", "b", "["), call(1, arguments="]"), call(0, arguments="}")],
        [call(0, "c", "a", "{"), call(arguments="}"), call(id="d", name="b", arguments="["), call(arguments="]")],
        [call(0, "c", "a", "{}"), call(0, "d", "b", "["), call(0, arguments="]"), call(0, "e", "f", "[]")],
    ],
)
def test_a_fragment_of_a_call_that_is_left_out_goes_nowhere(fragments: list[Any]) -> None:
    assert calls_of(*([each] for each in fragments), calls=1) == [("c", "a", "{}")]


def test_a_stream_over_its_bound_is_broken_off_after_what_it_held() -> None:
    folded = fold(stream_bytes=100)
    assert folded.take(frames(delta(content="a")), bytes_read=100) == [TextPiece("a")]
    assert not folded.ended
    assert folded.take(frames(delta(content="b")), bytes_read=1) == [TextPiece("b")]
    with pytest.raises(BackendFailed) as caught:
        folded.done()
    assert caught.value.detail == "The model's stream is over our limit of 100 bytes. Ask for less at once."


# -- any cut -------------------------------------------------------------------------------------------------------

WORDS = [
    f"{word}{at} " for at, word in enumerate(("Grüße", "an", "😀", "naïve", '"quoted"', "tab\t", "line\r\n", "ß") * 2)
]
ANSWER = b"".join(
    frame(json.dumps(chunk, ensure_ascii=False))
    for chunk in (
        delta(role="assistant", content=""),
        delta(reasoning_content="héé"),
        *(delta(content=word) for word in WORDS),
        delta(tool_calls=[call(0, "c", "a", '{"x":')]),
        delta(tool_calls=[call(0, arguments='"ü😀"}')]),
        STOP,
        {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}, "padding": "x" * 1000},
    )
) + frame("[DONE]")
EXPECTED = ReplyDone(
    "".join(WORDS), (ToolCall(CallId("c"), "a", '{"x":"ü😀"}'),), Usage(1, 2), "stop", "héé", model_name="gpt-x"
)
NEWLINES = (b"\n", b"\r\n", b"\r")


def read(*parts: bytes, **bounds: int) -> tuple[list[tuple[bool, str]], ReplyDone | str]:
    """What was handed out, neighbouring pieces of a kind joined, and how it ended."""
    folded, reader = fold(**bounds), Reader(line_bytes_max=bounds.get("stream_bytes", 10**6))
    pieces = [piece for part in parts if not folded.ended for piece in folded.take(reader.feed(part))]
    told = [
        (thinks, "".join(piece.text for piece in run))
        for thinks, run in groupby(pieces, lambda piece: isinstance(piece, ThinkingPiece))
    ]
    try:
        return told, folded.done()
    except BackendFailed as error:
        return told, error.code


def test_the_answer_is_three_kilobytes_long() -> None:
    assert len(ANSWER) > 3000


@pytest.mark.parametrize("newline", NEWLINES)
@pytest.mark.parametrize("opening", [b"", b"\xef\xbb\xbf"])
def test_the_reply_is_the_same_cut_at_every_byte_and_in_single_bytes(newline: bytes, opening: bytes) -> None:
    stream = opening + ANSWER.replace(b"\n", newline)
    expected = ([(True, "héé"), (False, EXPECTED.text)], EXPECTED)
    assert read(stream) == expected
    assert read(*(stream[at : at + 1] for at in range(len(stream)))) == expected
    assert [at for at in range(len(stream)) if read(stream[:at], stream[at:]) != expected] == []


CHUNKS = st.sampled_from(
    [
        *(frame(json.dumps(each, ensure_ascii=False)) for each in (delta(content="aé"), delta(content="😀"), STOP)),
        frame(json.dumps(delta(reasoning="hm"))),
        frame(json.dumps(delta(tool_calls=[call(0, "c", "a", "{")]))),
        frame(json.dumps(delta(tool_calls=[call(arguments="}")]))),
        frame(json.dumps({"choices": [], "usage": {"prompt_tokens": 1}})),
        b": ping\n\n",
        b"data: {\n\n",
        b"data: \xff\n\n",
        b"data:" + json.dumps(delta(content="b")).encode() + b"\n\n",
        b'data: {"error":{"message":"out"}}\n\n',
        b"event: error\ndata: out\n\n",
        frame("[DONE]"),
    ]
)


@given(st.lists(CHUNKS, max_size=12), st.lists(st.integers(0, 1500), max_size=12), st.sampled_from(NEWLINES))
def test_good_or_bad_no_stream_depends_on_where_the_network_cuts(
    chunks: list[bytes], places: list[int], newline: bytes
) -> None:
    stream = b"".join(chunks).replace(b"\n", newline)
    edges = sorted({0, len(stream), *(place for place in places if place < len(stream))})
    whole = read(stream, text_chars=7)
    assert read(*(stream[start:end] for start, end in pairwise(edges)), text_chars=7) == whole
    assert read(*(stream[at : at + 1] for at in range(len(stream))), text_chars=7) == whole


@pytest.mark.parametrize("newline", NEWLINES)
def test_a_stream_cut_anywhere_is_either_whole_or_a_fault(newline: bytes) -> None:
    stream = ANSWER.replace(b"\n", newline)
    # A frame is read once its empty line begins: what ends a line may be one byte or two.
    finished = stream.index(newline * 2, stream.index(b'"finish_reason": "stop"')) + len(newline) + 1
    for at in range(len(stream)):
        told, ended = read(stream[:at])
        assert EXPECTED.text.startswith("".join(text for thinks, text in told if not thinks))
        if at < finished:
            assert ended == "upstream_truncated"
        else:
            assert isinstance(ended, ReplyDone)
            assert ended.text == EXPECTED.text
