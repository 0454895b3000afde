import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.models.offline_answers import CHARS_MAX, FILE_LINES_MAX, ITEMS_MAX, Result, answer


def said(tool: str, content: Any, *, is_error: bool = False, **arguments: Any) -> str:
    text = content if isinstance(content, str) else json.dumps(content)
    return answer([Result(tool, arguments, text, is_error)])


# -- lines ---------------------------------------------------------------------------------------------------------


def test_listed_files_are_counted_and_shown_as_bullets() -> None:
    assert said("list_files", "a.py\nb.py\nsrc/") == (
        "There are 2 files and 1 folder in the workspace:\n\n- a.py\n- b.py\n- src/"
    )


def test_a_longer_list_says_what_is_common_in_it() -> None:
    assert said("list_files", "a.py\nb.py\nc.py (7 bytes)\nx.md\ny.md\n.env", path="src").splitlines()[0] == (
        "There are 6 files in src (3 py, 2 md):"
    )


def test_found_files_are_told_with_their_pattern() -> None:
    assert said("find_files", "src/a.py", pattern="*.py") == (
        "There is 1 file in the workspace that fit *.py:\n\n- src/a.py"
    )


def test_a_tools_own_notice_is_kept_and_not_counted() -> None:
    assert said("list_files", "a\nb\n[Not everything: only 2 are shown.]") == (
        "There are 2 files in the workspace:\n\n- a\n- b\n[Not everything: only 2 are shown.]"
    )


@pytest.mark.parametrize(
    ("tool", "content"),
    [
        ("list_files", "The workspace is empty."),
        ("find_files", "No file's name fits '*.rs'."),
        ("search_files", "No line matches 'x'."),
        ("write_file", "Created hello.txt (5 bytes)."),
    ],
)
def test_a_single_sentence_is_the_answer(tool: str, content: str) -> None:
    assert said(tool, content) == content


def test_matching_lines_are_counted_by_file() -> None:
    assert said("search_files", "a.py:3: # TODO\na.py:9: TODO\nb.md:1: TODO", query="TODO") == (
        "Found 3 matching lines for 'TODO' in 2 files:\n\n- a.py:3: # TODO\n- a.py:9: TODO\n- b.md:1: TODO"
    )


def test_one_matching_line_is_a_match_too() -> None:
    assert said("search_files", "a.py:3: # TODO") == "Found 1 matching line in 1 file:\n\n- a.py:3: # TODO"


def test_a_file_is_shown_in_a_fence_longer_than_any_inside() -> None:
    assert said("read_file", "# T\n```py\nx\n```\n", path="a.md") == ("Here is a.md:\n\n````\n# T\n```py\nx\n```\n````")


def test_a_file_of_json_is_shown_as_a_file() -> None:
    assert said("read_file", '{"a": [1]}', path="a.json") == 'Here is a.json:\n\n```\n{"a": [1]}\n```'


def test_lines_of_an_unknown_tool_are_shown_as_they_are() -> None:
    assert said("weather_report", "sunny\nwarm") == "weather_report says:\n\n```\nsunny\nwarm\n```"


def test_a_tool_that_said_nothing_is_done() -> None:
    assert said("write_file", " \n") == "write_file is done and said nothing."


def test_an_error_is_said_plainly() -> None:
    assert said("read_file", "There is no file a.md.", is_error=True, path="a.md") == (
        "read_file could not do it: There is no file a.md."
    )


# -- JSON ----------------------------------------------------------------------------------------------------------


def test_a_short_list_is_told_in_one_sentence() -> None:
    names = [{"uid": "prom", "name": "prom", "type": "prometheus"}, {"uid": "b", "name": "logs", "type": "loki"}]
    assert said("list_datasources", {"total": 2, "datasources": names, "hasMore": False}) == (
        "You have 2 datasources: prom (prometheus), logs (uid b, loki)."
    )


def test_one_and_none_are_told_as_such() -> None:
    assert said("list_datasources", {"datasources": [{"name": "prom"}]}) == "You have 1 datasource: prom."
    assert said("list_datasources", {"datasources": []}) == "You have no datasources."
    assert said("list_datasources", []) == "You have no datasources."


def test_a_long_list_is_counted_by_its_total_and_shown_as_bullets() -> None:
    assert said("list_prometheus_metric_names", {"total": 40, "names": ["up", "down"], "hasMore": True}) == (
        "You have 40 prometheus metric names:\n\n- up\n- down\n[38 more are not on this page.]"
    )


def test_items_without_a_name_are_shown_as_json() -> None:
    assert said("things", [{"x": 1}, [2]]) == 'You have 2 results: {"x":1}, [2].'


def test_an_object_is_told_field_by_field() -> None:
    assert said("get_cluster", {"status": "green", "nodes": 3, "shards": {"a": 1}}) == (
        'get_cluster says:\n\n- status: green\n- nodes: 3\n- shards: {"a":1}'
    )


def test_many_fields_are_cut_and_counted() -> None:
    assert said("get_x", {f"f{at}": at for at in range(31)}).endswith("- f29: 29\n[1 more field left out.]")


@pytest.mark.parametrize(("value", "text"), [(3, "3"), (True, "true"), (None, "null"), ('"hi"', "hi")])
def test_a_single_value_is_said(value: Any, text: str) -> None:
    assert said("count_things", value) == f"count_things says: {text}"


def test_a_measurement_is_shown_row_by_row() -> None:
    result = [{"metric": {"__name__": "up", "job": job}, "value": [1, "1"]} for job in "ab"]
    assert said("query_prometheus", {"resultType": "vector", "result": result}, expr="up") == (
        '2 series for `up`:\n\n- up{job="a"} = 1\n- up{job="b"} = 1'
    )


def test_an_empty_measurement_says_so_with_its_notice() -> None:
    assert said("query_prometheus", {"resultType": "vector", "result": [], "notice": "Look elsewhere."}, expr="x") == (
        "There is no value for `x`. Look elsewhere."
    )


# -- bounds --------------------------------------------------------------------------------------------------------


def test_bullets_beyond_the_bound_are_counted() -> None:
    text = said("list_files", "\n".join(f"f{at}" for at in range(ITEMS_MAX + 5)))
    assert text.splitlines()[-2:] == [f"- f{ITEMS_MAX - 1}", "[5 more lines left out.]"]


def test_lines_of_a_file_beyond_the_bound_are_counted() -> None:
    text = said("read_file", "\n".join(map(str, range(FILE_LINES_MAX + 1))), path="a")
    assert text.splitlines()[-3:] == [str(FILE_LINES_MAX - 1), "```", "[1 more line left out.]"]


@pytest.mark.parametrize(
    "content", ["x" * 1_000_000, "x" * 900_000 + "\ny", json.dumps("x" * 1_000_000), json.dumps({"a": "x" * 1_000_000})]
)
@pytest.mark.parametrize("tool", ["read_file", "list_files", "search_files", "get_x"])
@pytest.mark.parametrize("is_error", [True, False])
def test_no_answer_is_much_longer_than_the_bound(content: str, tool: str, is_error: bool) -> None:
    assert len(said(tool, content, is_error=is_error)) < CHARS_MAX + 200


values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["name", "data", "result", "resultType", "metric", "value", "values", "total", "x"]), inner
        )
    ),
    max_leaves=12,
)


@given(
    st.text(max_size=60) | values.map(json.dumps),
    st.sampled_from(["read_file", "list_files", "search_files", "query_prometheus", "x"]),
    st.booleans(),
)
def test_no_result_breaks_it(content: str, tool: str, is_error: bool) -> None:
    assert answer([Result(tool, {"path": 7, "query": None, "expr": []}, content, is_error)]) != ""


def test_json_nested_too_deep_is_shown_as_text() -> None:
    assert said("get_x", "[" * 5000) == "[" * 5000


def test_several_results_are_told_one_after_the_other() -> None:
    results = [Result("write_file", {}, "Created a.", False), Result("write_file", {}, "Created b.", False)]
    assert answer(results) == "Created a.\n\nCreated b."


@pytest.mark.parametrize("response", ["a.py\nb.py", ["a.py", "b.py"], 7, "{not json", {"total": 0, "items": []}])
def test_a_result_in_an_object_of_its_own_is_told_like_the_result_itself(response: Any) -> None:
    text = response if isinstance(response, str) else json.dumps(response, separators=(",", ":"))
    for tool in ("list_files", "read_file"):
        assert said(tool, {"response": response}) == said(tool, text)


def test_a_response_that_is_one_field_of_several_is_told_as_a_field() -> None:
    assert "- response: yes" in said("get_x", {"response": "yes", "status": 3})


def test_the_health_of_a_cluster_is_told_in_a_sentence() -> None:
    whole = {"cluster_name": "prod", "status": "yellow", "number_of_nodes": 1, "active_shards": 20, "timed_out": False}
    told = "The cluster prod works, but not all copies of its data are in place: its status is yellow."
    assert said("elasticsearch", {"response": whole}) == (
        f"{told} It has 1 node and 20 active shards.\n\n- timed_out: false"
    )
    assert said("get_cluster_health", {"status": "green"}) == "The cluster is healthy: its status is green."
    full = {"status": "red", "number_of_nodes": 3, "active_shards": 7, "unassigned_shards": 2}
    assert said("get_cluster_health", full) == (
        "The cluster is in trouble, some of its data cannot be reached: its status is red."
        " It has 3 nodes, 7 active shards and 2 unassigned shards."
    )


def test_a_status_that_is_no_health_is_told_as_any_field() -> None:
    assert said("get_light", {"status": "green"}) == "get_light says:\n\n- status: green"
    assert said("get_cluster_health", {"status": {"green": 1}}) == ('get_cluster_health says:\n\n- status: {"green":1}')
