"""Shapes of the connectors' routes: what they hide, and what they leave away on the wire."""

import msgspec
import pytest

from dragoman.dialects.elastic.connector_shapes import (
    ConnectorBody,
    ConnectorReplacement,
    ConnectorTypeBody,
    ExecutionResult,
    NewConnector,
    Space,
)

HUSH = {"apiKey": "hush"}


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (NewConnector("n", ".gen-ai", {"headers": {"Authorization": "hush"}}, HUSH), "NewConnector('.gen-ai')"),
        (ConnectorReplacement("n", {"apiUrl": "http://u:hush@h/"}, HUSH), "ConnectorReplacement(…)"),
    ],
)
def test_bodies_with_secrets_are_not_shown(body: NewConnector | ConnectorReplacement, shown: str):
    assert repr(body) == shown
    assert "hush" not in repr([body])
    assert body.secrets == HUSH


def test_an_error_about_a_body_does_not_repeat_its_secrets():
    sent = b'{"name":"n","connector_type_id":".slack","secrets":{"webhookUrl":"hush"},"hush":1,"config":"hush"}'
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.json.decode(sent.replace(b'"hush":1,', b""), type=NewConnector)
    assert "hush" not in str(refused.value)


def keys(body: object) -> list[str]:
    return list(msgspec.json.decode(msgspec.json.encode(body)))


def test_Q21_what_is_not_there_is_left_away():
    connector = ConnectorBody("x", ".index", ".index", {}, False, False)
    assert "referenced_by_count" not in keys(connector)
    assert keys(msgspec.structs.replace(connector, referenced_by_count=0))[-1] == "referenced_by_count"
    assert keys(ExecutionResult("x", "ok")) == ["connector_id", "status"]
    assert keys(ExecutionResult("x", "ok", data=None)) == ["connector_id", "status", "data"]
    assert "description" not in keys(ConnectorTypeBody("x", "n", True, (), True))
    assert keys(Space("x", "n", "", ())) == ["id", "name", "description", "disabledFeatures"]
    assert keys(Space("x", "n", "", (), True))[-1] == "_reserved"
