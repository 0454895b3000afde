import pytest

from dragoman.core.agents import Offered, Repeat
from dragoman.models.offline_reading import read
from dragoman.models.offline_routing import Index
from dragoman.tools.connections.connection import Connection, Connections
from dragoman.tools.connections.elasticsearch_tools import LOOK_S, register_elasticsearch
from dragoman.tools.connections.toolset import register_connections
from dragoman.tools.egress import TOTAL_S, Egress
from dragoman.tools.registry import Registry
from tests.support import FixedClock

PROM = Connection("prom", "prometheus", "http://127.0.0.1:9090")
LOGS = Connection("logs", "elasticsearch", "http://127.0.0.1:9200")
NAMES = [
    "elasticsearch",
    "get_dataset_info",
    "execute_query",
    "visualize_query",
    "query_elasticsearch",
    "get_cluster_health",
]


@pytest.fixture
def offered(registry: Registry) -> Registry:
    register_elasticsearch(registry, Connections([LOGS]), Egress(), FixedClock())
    return registry


def test_the_tools_are_offered_under_their_names_in_order(offered: Registry):
    assert [spec.name for spec in offered.specs(["connections.*"])] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_spec_says_enough_to_choose_and_use_the_tool(offered: Registry, name: str):
    spec = offered.spec(name)
    assert spec is not None
    assert (spec.repeat, spec.offered) == (Repeat.PURE, Offered.ALWAYS)
    assert 100 < len(spec.description) < 600
    assert len(spec.examples) >= 3
    assert len(spec.keywords) >= 5
    assert spec.parameters["additionalProperties"] is False
    assert all("description" in one for one in spec.parameters["properties"].values())
    assert spec.timeout_s > TOTAL_S


@pytest.mark.parametrize(
    ("name", "required"),
    [
        ("elasticsearch", ["method", "path"]),
        ("get_dataset_info", ["index"]),
        ("execute_query", ["query"]),
        ("visualize_query", ["query", "intention"]),
        ("query_elasticsearch", None),
        ("get_cluster_health", None),
    ],
)
def test_no_more_is_required_than_callers_know_of(offered: Registry, name: str, required: list[str] | None):
    spec = offered.spec(name)
    assert spec is not None
    assert spec.parameters.get("required") == required


def test_looking_into_a_dataset_has_time_for_all_that_it_asks():
    assert LOOK_S > 2 * TOTAL_S


@pytest.mark.parametrize(
    ("text", "tool", "arguments"),
    [
        ("Is my Elasticsearch cluster healthy right now?", "get_cluster_health", {}),
        ("What is the health of the cluster?", "get_cluster_health", {}),
        ("Are any shards unassigned?", "get_cluster_health", {}),
        ("Search Elasticsearch for timeout", "query_elasticsearch", {"query": "timeout"}),
        ("Show me the error logs of the last hour", "query_elasticsearch", {"startTime": "now-1h"}),
        ("Which fields does logs-* have?", "get_dataset_info", {"index": "logs-*"}),
        ("How many datasources do I have?", "list_datasources", {}),
        ("Which targets are down?", "query_prometheus", {"expr": "up == 0"}),
    ],
)
def test_everyday_questions_find_their_tool_without_a_language_model(
    registry: Registry, text: str, tool: str, arguments: dict[str, str]
):
    register_connections(registry, [PROM, LOGS], Egress(), FixedClock())
    choice = Index(registry.specs(["*"])).choose(read(text))
    assert choice is not None
    assert (choice.tool.name, choice.filled.arguments, choice.filled.missing) == (tool, arguments, ())


@pytest.mark.parametrize("text", ["Hello, can you help me?", "Write a poem about the sea", "What can you do?"])
def test_small_talk_finds_none(registry: Registry, text: str):
    register_connections(registry, [PROM, LOGS], Egress(), FixedClock())
    assert Index(registry.specs(["*"])).choose(read(text)) is None
