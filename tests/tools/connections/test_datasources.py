import msgspec
import pytest

from dragoman.core.errors import ToolFailed
from dragoman.tools.connections.connection import Connection, Connections
from dragoman.tools.connections.datasources import GetDatasource, ListDatasources, get_datasource, list_datasources

PROM = Connection("prom", "prometheus", "http://10.0.0.5:9090/secret-path", (("Authorization", "Bearer hunter2"),))
LOGS = Connection("logs", "elasticsearch", "https://es.example")
KNOWN = Connections([PROM, LOGS])

PROM_SHOWN = {"uid": "prom", "name": "prom", "type": "prometheus", "host": "10.0.0.5:9090"}
LOGS_SHOWN = {"uid": "logs", "name": "logs", "type": "elasticsearch", "host": "es.example"}


def listed(connections: Connections, **asked: object) -> object:
    return msgspec.json.decode(list_datasources(connections, msgspec.convert(asked, ListDatasources)))


def test_all_are_listed_in_the_configurations_order_with_their_total():
    assert list_datasources(KNOWN, ListDatasources()) == (
        '{"total":2,"datasources":[{"uid":"prom","name":"prom","type":"prometheus","host":"10.0.0.5:9090"},'
        '{"uid":"logs","name":"logs","type":"elasticsearch","host":"es.example"}],"hasMore":false}'
    )


@pytest.mark.parametrize(
    ("kind", "shown"),
    [("prometheus", [PROM_SHOWN]), ("Elastic", [LOGS_SHOWN]), ("loki", []), ("", [PROM_SHOWN, LOGS_SHOWN])],
)
def test_a_type_narrows_the_list_and_the_total(kind: str, shown: list[object]):
    assert listed(KNOWN, type=kind) == {"total": len(shown), "datasources": shown, "hasMore": False}


def test_none_is_zero():
    assert listed(Connections([])) == {"total": 0, "datasources": [], "hasMore": False}


def test_a_page_says_whether_there_is_more():
    assert listed(KNOWN, limit=1) == {"total": 2, "datasources": [PROM_SHOWN], "hasMore": True}
    assert listed(KNOWN, limit=1, offset=1) == {"total": 2, "datasources": [LOGS_SHOWN], "hasMore": False}
    assert listed(KNOWN, offset=5) == {"total": 2, "datasources": [], "hasMore": False}


@pytest.mark.parametrize(
    "asked", [GetDatasource(uid="logs"), GetDatasource(name="logs"), GetDatasource(uid="logs", name="prom")]
)
def test_one_is_found_by_uid_or_name(asked: GetDatasource):
    assert msgspec.json.decode(get_datasource(KNOWN, asked)) == LOGS_SHOWN


def test_the_only_one_need_not_be_named():
    assert msgspec.json.decode(get_datasource(Connections([PROM]), GetDatasource())) == PROM_SHOWN


def test_which_one_must_be_said_when_there_are_more():
    with pytest.raises(ToolFailed) as caught:
        get_datasource(KNOWN, GetDatasource())
    assert caught.value.detail == "Say which datasource with uid or name; list_datasources shows them all."


def test_an_unknown_one_is_told():
    with pytest.raises(ToolFailed) as caught:
        get_datasource(KNOWN, GetDatasource(uid="proms"))
    assert caught.value.detail == "There is no datasource 'proms'. Did you mean prom?"


def test_neither_path_nor_header_is_shown():
    for text in (list_datasources(KNOWN, ListDatasources()), get_datasource(KNOWN, GetDatasource(uid="prom"))):
        assert "secret-path" not in text
        assert "hunter2" not in text
