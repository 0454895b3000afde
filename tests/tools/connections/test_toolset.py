import msgspec
import pytest

from dragoman.core.agents import Repeat
from dragoman.tools.connections.connection import Connection
from dragoman.tools.connections.toolset import register_connections
from dragoman.tools.egress import Egress
from dragoman.tools.registry import Registry
from tests.support import FixedClock
from tests.tools.conftest import Call
from tests.tools.connections.test_elasticsearch_tools import NAMES as ELASTICSEARCH_NAMES

PROM = Connection("prom", "prometheus", "http://127.0.0.1:9090")
LOGS = Connection("logs", "elasticsearch", "http://127.0.0.1:9200")
NAMES = [
    "list_datasources",
    "get_datasource",
    "query_prometheus",
    "list_prometheus_metric_names",
    "list_prometheus_label_names",
    "list_prometheus_label_values",
]


def offered(registry: Registry, *connections: Connection) -> list[str]:
    register_connections(registry, connections, Egress(), FixedClock())
    return [spec.name for spec in registry.specs(["connections.*"])]


def test_the_tools_are_offered_under_their_names_in_order(registry: Registry):
    assert offered(registry, LOGS, PROM) == NAMES + ELASTICSEARCH_NAMES


@pytest.mark.parametrize(("connections", "names"), [((), []), ((LOGS,), ELASTICSEARCH_NAMES), ((PROM,), NAMES[2:])])
def test_tools_on_what_is_not_there_are_not_offered(
    registry: Registry, connections: tuple[Connection, ...], names: list[str]
):
    assert offered(registry, *connections) == ["list_datasources", "get_datasource", *names]


def test_connections_that_cannot_be_used_offer_nothing(registry: Registry):
    with pytest.raises(ValueError, match="is configured twice"):
        offered(registry, PROM, PROM)
    assert registry.specs(["*"]) == ()


@pytest.mark.parametrize("name", NAMES)
def test_a_spec_says_enough_to_choose_and_use_the_tool(registry: Registry, name: str):
    offered(registry, PROM)
    spec = registry.spec(name)
    assert spec is not None
    assert spec.repeat is Repeat.PURE
    assert 100 < len(spec.description) < 600
    assert len(spec.examples) >= 3
    assert len(spec.keywords) >= 5
    assert spec.parameters["additionalProperties"] is False
    assert all("description" in one for one in spec.parameters["properties"].values())


async def test_datasources_can_be_counted_without_arguments(registry: Registry, call: Call):
    offered(registry, PROM, LOGS)
    outcome = await call("list_datasources", "{}")
    assert msgspec.json.decode(outcome.content)["total"] == 2


async def test_the_only_datasource_is_got_without_arguments(registry: Registry, call: Call):
    offered(registry, PROM)
    outcome = await call("get_datasource", "")
    assert msgspec.json.decode(outcome.content) == {
        "uid": "prom",
        "name": "prom",
        "type": "prometheus",
        "host": "127.0.0.1:9090",
    }
