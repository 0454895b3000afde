from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.core.errors import ToolFailed
from dragoman.tools.connections.series import (
    POINTS_MAX,
    POINTS_TOTAL_MAX,
    SERIES_MAX,
    TEXT_CHARS_MAX,
    WARNINGS_MAX,
    names,
    query_result,
)
from dragoman.tools.egress import Answer


def answer(data: object, *, status: int = 200, **more: object) -> Answer:
    body = msgspec.json.encode({"status": "success" if status < 300 else "error", "data": data, **more})
    return Answer(status, "application/json", body)


def result(kind: str, series: object, **more: Any) -> dict[str, object]:
    return msgspec.json.decode(query_result("prom", answer({"resultType": kind, "result": series}, **more)))


def vector(count: int) -> list[dict[str, object]]:
    return [{"metric": {"__name__": "up", "n": str(number)}, "value": [1.5, "1"]} for number in range(count)]


def matrix(series: int, points: int) -> list[dict[str, object]]:
    values = [[float(at), str(at)] for at in range(points)]
    return [{"metric": {"n": str(number)}, "values": values} for number in range(series)]


def failed(given: Answer) -> str:
    with pytest.raises(ToolFailed) as caught:
        query_result("prom", given)
    return caught.value.detail


def test_a_result_is_passed_on_as_prometheus_spells_it():
    data = '{"resultType":"vector","result":[{"metric":{"a":"é"},"value":[1.25,"NaN"]}]}'
    body = f'{{"status":"success","data":{data}}}'.encode()
    assert query_result("prom", Answer(200, "application/json", body)) == data


@pytest.mark.parametrize(("kind", "value"), [("scalar", [1.5, "3"]), ("string", [1.5, "text"])])
def test_single_values_are_passed_on(kind: str, value: object):
    assert result(kind, value) == {"resultType": kind, "result": value}


def test_a_range_is_passed_on():
    assert result("matrix", matrix(2, 3)) == {"resultType": "matrix", "result": matrix(2, 3)}


def test_histograms_are_passed_on():
    series: list[dict[str, object]] = [{"metric": {}, "histograms": [[1.0, {"count": "1", "sum": "2"}]]}]
    assert result("matrix", series) == {"resultType": "matrix", "result": series}


def test_the_most_series_are_passed_on_whole_and_one_more_is_cut():
    assert result("vector", vector(SERIES_MAX)) == {"resultType": "vector", "result": vector(SERIES_MAX)}
    assert result("vector", vector(SERIES_MAX + 1)) == {
        "resultType": "vector",
        "result": vector(SERIES_MAX),
        "notice": "Only the first 50 of 51 series are shown: aggregate, or match fewer.",
    }


def test_the_most_points_are_passed_on_whole_and_of_one_more_the_newest_stay():
    assert result("matrix", matrix(1, POINTS_MAX)) == {"resultType": "matrix", "result": matrix(1, POINTS_MAX)}
    cut = result("matrix", matrix(1, POINTS_MAX + 1))
    (series,) = msgspec.convert(cut["result"], list[dict[str, object]])
    assert series["values"] == [[float(at), str(at)] for at in range(1, POINTS_MAX + 1)]
    assert cut["notice"] == "Only the newest 1,000 points of each series are shown: take a larger stepSeconds."


def test_many_series_of_many_points_share_the_bound():
    cut = result("matrix", matrix(SERIES_MAX + 5, 500))
    shown = msgspec.convert(cut["result"], list[dict[str, Any]])
    assert [len(series["values"]) for series in shown] == [POINTS_TOTAL_MAX // SERIES_MAX] * SERIES_MAX
    assert cut["notice"] == (
        "Only the first 50 of 55 series are shown: aggregate, or match fewer. "
        "Only the newest 200 points of each series are shown: take a larger stepSeconds."
    )


@pytest.mark.parametrize("kind", ["vector", "matrix"])
def test_nothing_found_says_where_to_look(kind: str):
    assert result(kind, []) == {
        "resultType": kind,
        "result": [],
        "notice": "Nothing matched there and then. list_prometheus_metric_names shows which metrics there are.",
    }


def test_warnings_are_passed_on_within_bounds():
    told = result("vector", vector(1), warnings=["w" * 10_000] * 10)["warnings"]
    assert told == ["w" * TEXT_CHARS_MAX + "…"] * WARNINGS_MAX


def test_a_refusal_is_told_in_prometheuss_words():
    refused = answer(None, status=400, errorType="bad_data", error='invalid parameter "query": 1:4: parse error: oops')
    assert failed(refused) == 'prom refused (bad_data): invalid parameter "query": 1:4: parse error: oops'


def test_a_refusal_under_a_good_status_is_one_too():
    body = b'{"status":"error","error":"not now","data":{"resultType":"vector","result":[]}}'
    assert failed(Answer(200, "application/json", body)) == "prom refused: not now"


def test_a_long_refusal_is_clipped():
    assert failed(answer(None, status=422, error="e" * 10_000)) == "prom refused: " + "e" * TEXT_CHARS_MAX + "…"


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("body", [b"", b'{"status":"error","error":"token hunter2 is bad"}'])
def test_credentials_refused_are_the_operators_matter(status: int, body: bytes):
    assert failed(Answer(status, "application/json", body)) == (
        f"prom did not accept this server's credentials (status {status}). "
        "Whoever runs the server must check the connection's headers."
    )


@pytest.mark.parametrize("body", [b"", b"<html>Bad gateway at 10.0.0.5</html>", b"\xff", b"[]", b'{"status":"error"}'])
def test_a_failure_without_an_error_text_does_not_pass_the_page_on(body: bytes):
    assert failed(Answer(502, "text/html", body)) == "prom failed with status 502 and no error text. Try again later."


NOT_PROMETHEUS = "prom did not answer as Prometheus does. Whoever runs the server must check its url."


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html></html>",
        b"{}",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"status":"success"}',
        b'{"status":"success","data":[]}',
        b'{"status":"success","data":{"resultType":"vector"}}',
        b'{"status":"success","data":{"resultType":"vector","result":{}}}',
        b'{"status":"success","data":{"resultType":"matrix","result":[1]}}',
        b'{"status":"success","data":{"resultType":"vector","result":[',
    ],
)
def test_an_answer_of_something_else_is_the_operators_matter(body: bytes):
    assert failed(Answer(200, "application/json", body)) == NOT_PROMETHEUS


def test_names_are_a_list_or_not_prometheus():
    assert names("prom", answer(["a", "b"])) == ["a", "b"]
    with pytest.raises(ToolFailed) as caught:
        names("prom", answer({"a": 1}))
    assert caught.value.detail == NOT_PROMETHEUS


@given(st.binary(), st.integers(100, 599))
def test_no_bytes_make_it_fail_otherwise(body: bytes, status: int):
    for read in (query_result, names):
        try:
            read("prom", Answer(status, "", body))
        except ToolFailed as error:
            assert error.detail.startswith("prom ")
