from typing import Any

import msgspec
import pytest

from dragoman.core.errors import ToolFailed
from dragoman.tools.connections.elasticsearch_answers import (
    CHARS_MAX,
    REASON_CHARS_MAX,
    Fault,
    fault,
    opened,
    shortened,
    value_of,
    without_secrets,
)
from dragoman.tools.egress import Answer


def answered(value: Any, status: int = 400) -> Answer:
    return Answer(status, "application/json", msgspec.json.encode(value))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("plain text", Fault("", "plain text")),
        ({"type": "t", "reason": "r"}, Fault("t", "r")),
        ({"type": "t", "reason": None}, Fault("t", "it gave no reason")),
        ({"type": "t", "reason": "r", "root_cause": [{"type": "t", "reason": "r"}]}, Fault("t", "r")),
        (
            {
                "type": "search_phase_execution_exception",
                "reason": "all shards failed",
                "root_cause": [{"type": "q", "reason": "Failed to parse query [a:]"}],
                "caused_by": {"type": "p", "reason": "Cannot parse", "caused_by": {"reason": "Encountered EOF"}},
            },
            Fault(
                "search_phase_execution_exception",
                "all shards failed: Failed to parse query [a:]: Cannot parse: Encountered EOF",
            ),
        ),
        ({"type": "t", "reason": "x" * 2_000}, Fault("t", "x" * REASON_CHARS_MAX + "…")),
    ],
)
def test_a_failure_is_told_by_its_whole_chain(error: Any, told: Fault) -> None:
    assert fault(answered({"error": error, "status": 400})) == told


@pytest.mark.parametrize("body", [b"", b"<h1>", b"[]", b"{}", b'{"error":7}', b'{"error":{"type":7}}', b"\xff"])
def test_what_tells_of_no_failure(body: bytes) -> None:
    assert fault(Answer(400, "application/json", body)) is None


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (answered({"error": "no"}, 401), "es did not accept this server's credentials (status 401)."),
        (Answer(403, "text/html", b"<h1>"), "es did not accept this server's credentials (status 403)."),
        (
            answered({"error": {"type": "security_exception", "reason": "action [x] is unauthorized"}}, 403),
            "es refused (security_exception): action [x] is unauthorized",
        ),
        (answered({"error": "no handler"}, 400), "es refused: no handler"),
        (Answer(404, "text/html", b"<h1>"), "es failed with status 404 and no error text."),
        (Answer(502, "text/html", b"<h1>"), "es failed with status 502 and no error text."),
    ],
)
def test_a_failure_says_whose_move_it_is(answer: Answer, sentence: str) -> None:
    with pytest.raises(ToolFailed) as caught:
        opened("es", answer)
    assert caught.value.detail.startswith(sentence)


@pytest.mark.parametrize("answer", [answered({"error": "odd, and fine"}, 200), answered({"found": False}, 404)])
def test_what_is_no_failure_passes(answer: Answer) -> None:
    assert opened("es", answer) is answer


def test_secrets_are_struck_out_in_every_spelling() -> None:
    headers = (("Authorization", "ApiKey abcdef=="), ("X-Short", "yes"), ("X-Key", "longer-secret"))
    answer = Answer(200, "text/plain", b"ApiKey abcdef== abcdef== yes longer-secret")
    assert without_secrets(answer, headers).body == b"*** *** yes ***"
    clean = Answer(200, "text/plain", b"nothing")
    assert without_secrets(clean, headers) == clean


@pytest.mark.parametrize(
    ("media_type", "body", "value"),
    [
        ("application/json", b'{"a":1}', {"a": 1}),
        ("application/vnd.elasticsearch+json", b"[1]", [1]),
        ("application/json", b'{"a"', '{"a"'),
        ("text/plain", b'{"a":1}', '{"a":1}'),
        ("text/plain", b"\xff", "\ufffd"),
    ],
)
def test_a_value_is_json_or_text(media_type: str, body: bytes, value: Any) -> None:
    assert value_of(Answer(200, media_type, body)) == value


def test_what_fits_is_not_cut() -> None:
    for value in ({"a": list(range(1_000))}, "x" * CHARS_MAX, None):
        assert shortened(value) == (value, "")


def test_arrays_are_cut_no_further_than_needed() -> None:
    value, notice = shortened({"a": [{"b": ["x" * 100] * 200}] * 5, "c": [1] * 101})
    assert (len(value["a"]), len(value["a"][0]["b"]), len(value["c"])) == (5, 100, 100)
    assert notice == "Only the first 100 items of each array are shown: ask for fewer, or for fewer fields."


@pytest.mark.parametrize("value", ["x" * 70_000, {"a": "x" * 69_992}])
def test_long_texts_are_cut_last(value: Any) -> None:
    shown, notice = shortened(value)
    assert len(shown) == CHARS_MAX
    assert notice.startswith("Only the first 60,000 of 70,")
