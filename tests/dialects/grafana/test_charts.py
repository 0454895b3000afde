"""Time series become charts that fit into a line."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.core.messages import ToolCall
from dragoman.core.names import CallId
from dragoman.dialects.grafana.charts import CHART_BYTES_MAX, Chart, chart_of

QUERY = ToolCall(CallId("c1"), "query_prometheus", '{"expr":"rate(http_requests_total[5m])\\n  by (job)"}')


def matrix(*series: tuple[dict[str, str], list[list[Any]]]) -> str:
    result = [{"metric": metric, "values": values} for metric, values in series]
    return json.dumps({"resultType": "matrix", "result": result})


def chart(content: str, call: ToolCall | None = QUERY) -> Chart:
    made = chart_of(call, content)
    assert made is not None
    return made


def test_a_matrix_is_a_line_chart_in_milliseconds() -> None:
    metric = {"__name__": "up", "job": "api", "zone": "eu"}
    made = chart(matrix((metric, [[1_700_000_000.5, "1"], [1_700_000_060.5, "0.25"]]), ({}, [[1_700_000_000, "7"]])))
    assert json.loads(msgspec.json.encode(made)) == {
        "chartType": "line",
        "title": "rate(http_requests_total[5m]) by (job)",
        "timeRange": {"start": 1_700_000_000_000, "end": 1_700_000_060_500},
        "series": [
            {
                "name": 'up{job="api", zone="eu"}',
                "labels": metric,
                "points": [{"ts": 1_700_000_000_500, "v": 1.0}, {"ts": 1_700_000_060_500, "v": 0.25}],
            },
            {
                "name": "rate(http_requests_total[5m]) by (job)",
                "labels": {},
                "points": [{"ts": 1_700_000_000_000, "v": 7.0}],
            },
        ],
    }


def test_points_that_no_axis_holds_are_left_out() -> None:
    values = [[1, "NaN"], [2, "+Inf"], [3, "-Inf"], [4, "x"], [5, "1e3"], [1e12, "1"]]
    made = chart(matrix(({"a": "b"}, values), ({"a": "c"}, [[1, "NaN"]])))
    assert [(each.name, [(point.ts, point.v) for point in each.points]) for each in made.series] == [
        ('{a="b"}', [(5000, 1000.0)])
    ]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "seen",
        '{"resultType":"vector","result":[{"metric":{},"value":[1,"1"]}]}',
        '{"resultType":"matrix","result":[]}',
        matrix(({"a": "b"}, [])),
        matrix(({"a": "b"}, [[1, "NaN"]])),
        '{"resultType":"matrix","result":[{"metric":{"a":1},"values":[[1,"1"]]}]}',
        '{"resultType":"matrix","result":',
        '"matrix"',
        "\ud800" + matrix(({}, [[1, "1"]])),
        " " * 300 + matrix(({}, [[1, "1"]])),
    ],
)
def test_anything_else_is_no_chart(content: str) -> None:
    assert chart_of(QUERY, content) is None


@pytest.mark.parametrize(
    ("arguments", "title"),
    [
        ("no json", "query_prometheus"),
        ('{"expr":7}', "query_prometheus"),
        ("{}", "query_prometheus"),
        ('{"expr":" "}', "query_prometheus"),
        ('{"expr":"' + "x" * 300 + '"}', "x" * 199 + "…"),
    ],
)
def test_a_title_is_the_question_or_the_tool(arguments: str, title: str) -> None:
    assert chart(matrix(({}, [[1, "1"]])), ToolCall(CallId("c"), "query_prometheus", arguments)).title == title
    assert chart(matrix(({}, [[1, "1"]])), None).title == "Time series"


def size(made: Chart) -> int:
    return len(msgspec.json.encode(made))


def test_many_points_are_thinned_and_the_last_one_stays() -> None:
    values = [[1_700_000_000 + at, str(at / 7)] for at in range(1000)]
    made = chart(matrix(*(({"n": str(n)}, values) for n in range(50))))
    assert size(made) <= CHART_BYTES_MAX
    assert len(made.series) == 50
    assert 100 < len(made.series[0].points) < 1000
    assert all(each.points[-1].ts == 1_700_000_999_000 for each in made.series)


def test_labels_that_are_too_long_cost_series() -> None:
    wide = [({"n": str(n), "path": "x" * 20_000}, [[1, "1"], [2, "2"]]) for n in range(50)]
    made = chart(matrix(*wide))
    assert size(made) <= CHART_BYTES_MAX
    assert 10 < len(made.series) < 50
    assert chart_of(QUERY, matrix(({"path": "x" * CHART_BYTES_MAX}, [[1, "1"]]))) is None


values = st.lists(st.tuples(st.floats(0, 2e9), st.floats().map(str)), max_size=30)


@given(st.lists(st.tuples(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3), values), max_size=5))
def test_every_finite_point_of_a_small_matrix_is_drawn(series: list[Any]) -> None:
    made = chart_of(QUERY, matrix(*series))
    finite = [[v for _, v in values if v not in ("nan", "inf", "-inf")] for _, values in series]
    drawn = [len(each.points) for each in made.series] if made else []
    assert drawn == [len(each) for each in finite if each]
