import pytest

from dragoman.core.errors import ToolFailed
from dragoman.tools.connections.connection import Connection, Connections
from dragoman.tools.egress import Allowed

PROM = Connection("prom", "prometheus", "http://10.0.0.5:9090/base", (("Authorization", "Bearer hunter2"),))
LOGS = Connection("logs", "elasticsearch", "https://es.example")
ALLOW = (Allowed("GET", "/api"),)


def test_a_connection_shows_neither_headers_nor_path():
    assert repr(PROM) == "Connection('prom', 'prometheus')"
    assert PROM.host == "10.0.0.5:9090"
    assert LOGS.host == "es.example"
    assert Connection("c", "x", "http://[::1]:80/y").host == "[::1]"


def test_a_target_has_the_paths_of_the_kind_unless_the_configuration_gives_others():
    target = PROM.target(ALLOW)
    assert (target.name, target.url, target.allow, target.headers) == ("prom", PROM.url, ALLOW, PROM.headers)
    own = Connection("p", "prometheus", "http://h", allow=(Allowed("GET", "/own"),))
    assert own.target(ALLOW).allow == own.allow


@pytest.mark.parametrize(
    ("connections", "sentence"),
    [
        ([PROM, PROM], "connection 'prom' is configured twice"),
        (
            [Connection("x", "prometheus", "prom:9090")],
            "connection 'x': its url must look like http://host:port or https://host",
        ),
        (
            [Connection("x", "prometheus", "http://h", (("A", "b\r\nC: d"),))],
            "connection 'x': a header may not contain a line end",
        ),
    ],
)
def test_what_cannot_be_used_is_told_at_the_start(connections: list[Connection], sentence: str):
    with pytest.raises(ValueError) as caught:
        Connections(connections)
    assert str(caught.value) == sentence


def told(connections: Connections, kind: str, uid: str) -> str:
    with pytest.raises(ToolFailed) as caught:
        connections.only(kind, uid=uid)
    return caught.value.detail


def test_the_only_one_of_a_kind_need_not_be_named():
    known = Connections([LOGS, PROM])
    assert known.only("prometheus", uid="") is PROM
    assert known.only("prometheus", uid="prom") is PROM


def test_which_one_is_asked_for_when_there_is_a_choice():
    other = Connection("other", "prometheus", "http://h")
    assert told(Connections([PROM, LOGS, other]), "prometheus", "") == "Say which one with datasourceUid: prom, other."


def test_what_is_not_there_is_told_with_what_is():
    known = Connections([PROM, LOGS])
    assert told(known, "prometheus", "porm") == "There is no datasource 'porm'. Did you mean prom?"
    assert told(known, "prometheus", "zzz") == "There is no datasource 'zzz'. There are: prom, logs."
    assert told(known, "prometheus", "logs") == "logs is a datasource of type elasticsearch, not prometheus."
    assert told(Connections([LOGS]), "prometheus", "") == "No prometheus datasource is configured."
    assert told(Connections([]), "prometheus", "x") == "There is no datasource 'x'. None is configured."
