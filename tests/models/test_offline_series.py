from typing import Any

import pytest

from dragoman.models.offline_series import rows_of

UP = {"metric": {"__name__": "up", "job": "a", "instance": "b"}, "value": [1, "1"]}
ROW = 'up{job="a", instance="b"} = 1'


@pytest.mark.parametrize(
    ("value", "rows"),
    [
        ({"resultType": "vector", "result": [UP]}, [ROW]),
        ({"status": "success", "data": {"resultType": "vector", "result": [UP]}}, [ROW]),
        ({"data": [UP], "hints": None}, [ROW]),
        ({"resultType": "vector", "result": []}, []),
        ({"resultType": "scalar", "result": [1, "42"]}, ["42"]),
        ({"resultType": "vector", "result": [{"metric": {}, "value": [1, "7"]}]}, ["all together = 7"]),
        ({"resultType": "vector", "result": [{"metric": {"job": "a"}, "value": [1, "7"]}]}, ['{job="a"} = 7']),
        (
            {
                "resultType": "matrix",
                "result": [{"metric": {"__name__": "x"}, "values": [[1, "3"], [2, "9"], [3, "5"]]}],
            },
            ["x: from 3 to 5, least 3, most 9 (3 points)"],
        ),
        (
            {"resultType": "matrix", "result": [{"metric": {"__name__": "x"}, "values": [[1, "NaN"], [2, None]]}]},
            ["x: from NaN to None (2 points)"],
        ),
        ({"resultType": "matrix", "result": [{"metric": {"__name__": "x"}, "values": []}]}, ["x: no samples"]),
        ({"resultType": "matrix", "result": [{"metric": {"__name__": "x"}, "values": [1]}]}, ["x: no samples"]),
    ],
)
def test_results_become_rows(value: Any, rows: list[str]) -> None:
    assert rows_of(value) == rows


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"data": []},
        {"data": "x"},
        {"data": [1]},
        {"total": 1, "names": ["up"]},
        {"resultType": "scalar", "result": 7},
        {"resultType": "vector", "result": [{"metric": "up"}]},
    ],
)
def test_what_is_no_result_has_no_rows(value: Any) -> None:
    assert rows_of(value) is None
