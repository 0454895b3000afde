"""Routes of connectors, of the status and of spaces: requests in, replies out."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from dragoman.core import connectors as con
from dragoman.core.errors import BadRequest
from dragoman.core.names import Scope
from dragoman.core.operations import ReadStatus, Status
from dragoman.dialects.elastic import connectors, status
from dragoman.wire.dialect import Reply, Request, Route

ROUTES = (*connectors.ROUTES, *status.ROUTES)
MADE = con.Connector("ai", ".gen-ai", "My LLM", {"apiUrl": "http://h/", "contextWindowLength": 128000.0}, model=True)
FOUND = Status("1.2", 0.0, "m", (), (), (), "", 0, 0, 25, {})


def request(
    method: str = "GET",
    path: str = "/",
    *,
    params: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
    body: Any = None,
    xsrf: bool = True,
) -> Request:
    headers = {"content-type": "application/json"} if body is not None else {}
    headers |= {"kbn-xsrf": "true"} if xsrf else {}
    sent = b"" if body is None else json.dumps(body).encode()
    return Request(method, path, params or {}, query or {}, headers, sent, "id", "0" * 32, 0.0)


def shown(reply: Reply) -> Any:
    assert (reply.status, reply.media_type) == (200, "application/json")
    return json.loads(reply.body)


def route(method: str, path: str) -> Route[Any]:
    [found] = [each for each in ROUTES if (each.method, each.path) == (method, path)]
    return found


# -- requests ----------------------------------------------------------------------------------------------------------


def test_create_with_an_id_and_without():
    given = {"name": "n", "connector_type_id": ".index", "config": {"index": "i"}, "secrets": {"a": "b"}}
    asked = con.CreateConnector(".index", "n", {"index": "i"}, {"a": "b"})

    assert connectors.create(request("POST", body=given)) == asked
    named = connectors.create(request("POST", params={"id": "mine"}, body=given))
    assert (named.id, named.config, named.secrets) == ("mine", asked.config, asked.secrets)
    for bare in ({}, {"config": None, "secrets": None}):
        body = {"name": "n", "connector_type_id": ".server-log", **bare}
        assert connectors.create(request("POST", body=body)) == con.CreateConnector(".server-log", "n")


def test_replace_execute_read_list_and_delete():
    params = {"id": "x"}
    assert connectors.replace(request("PUT", params=params, body={"name": "n"})) == con.ReplaceConnector("x", "n")
    asked = connectors.execute(request("POST", params=params, body={"params": {"a": 1}}))
    assert asked == con.ExecuteConnector("x", {"a": 1})
    assert connectors.read_one(request(params=params)) == con.ReadConnector("x")
    assert connectors.read_model(request(params={"connectorId": "x"})) == con.ReadConnector("x", models_only=True)
    assert connectors.list_all(request()) == con.ListConnectors()
    assert connectors.list_models(request()) == con.ListConnectors(models_only=True)
    assert connectors.list_types(request()) == con.ListConnectorTypes()
    assert connectors.list_types(request(query={"feature_id": "siem"})) == con.ListConnectorTypes("siem")
    assert connectors.delete(request("DELETE", params=params)) == con.DeleteConnector("x")


@pytest.mark.parametrize(
    ("decode", "body"),
    [
        (connectors.create, {"name": "n", "connector_type_id": ".x", "more": 1}),
        (connectors.create, {"name": "n"}),
        (connectors.create, {"name": "n", "connector_type_id": ".x", "config": []}),
        (connectors.replace, {}),
        (connectors.replace, {"name": "n", "connector_type_id": ".x"}),
        (connectors.execute, {}),
        (connectors.execute, {"params": "x"}),
    ],
)
def test_Q6_Q7_bodies_are_strict(decode: Any, body: Any):
    with pytest.raises(BadRequest, match=r"Failed to validate|Excess keys are not allowed"):
        decode(request("POST", params={"id": "x"}, body=body))


def test_Q7_queries_are_strict():
    for each in ROUTES:
        if each.path in (connectors.CALLBACK, connectors.SCRIPT):
            continue
        asked = request(each.method, params={"id": "x", "connectorId": "x", "space": "x"}, query={"nope": "1"})
        with pytest.raises(BadRequest, match=r"query\.nope"):
            each.decode(asked)


def test_Q10_writes_need_their_header():
    body = {"name": "n", "connector_type_id": ".x", "params": {}}
    for each in ROUTES:
        if each.method != "GET":
            with pytest.raises(BadRequest, match="kbn-xsrf"):
                each.decode(request(each.method, params={"id": "x"}, body=body, xsrf=False))


# -- replies -----------------------------------------------------------------------------------------------------------


def test_Q21_a_connector_as_clients_know_it():
    plain = con.Connector("x", ".server-log", "n")
    assert shown(connectors.shown(plain, request())) == {
        "id": "x",
        "name": "n",
        "connector_type_id": ".server-log",
        "config": {},
        "is_preconfigured": False,
        "is_missing_secrets": False,
        "is_deprecated": False,
        "is_system_action": False,
    }
    [listed] = shown(connectors.listed(con.ConnectorList((MADE,)), request()))
    assert (listed["id"], listed["config"], listed["referenced_by_count"]) == ("ai", MADE.config, 0)
    assert connectors.gone(con.ConnectorGone("x"), request()) == Reply(204, media_type="")


def test_outcomes_of_executing():
    said = connectors.executed(con.Executed("x", True), request())
    assert shown(said) == {"connector_id": "x", "status": "ok"}
    said = connectors.executed(con.Executed("x", True, data={"a": 1}), request())
    assert shown(said) == {"connector_id": "x", "status": "ok", "data": {"a": 1}}
    said = connectors.executed(con.Executed("x", False, message="m", service_message="s", retry=True), request())
    assert shown(said) == {
        "connector_id": "x",
        "status": "error",
        "message": "m",
        "service_message": "s",
        "retry": True,
    }
    said = connectors.executed(con.Executed("x", False, message="m"), request())
    assert shown(said) == {"connector_id": "x", "status": "error", "message": "m", "retry": False}


def test_types_say_what_is_missing():
    can = con.ConnectorType(".a", "A", ("alerting",))
    cannot = con.ConnectorType(".b", "B", (), False, "B: not part of this version.")
    first, second = shown(connectors.types(con.ConnectorTypes((can, cannot)), request()))
    assert first == {
        "id": ".a",
        "name": "A",
        "enabled": True,
        "supported_feature_ids": ["alerting"],
        "enabled_in_config": True,
        "enabled_in_license": True,
        "minimum_license_required": "basic",
        "is_system_action_type": False,
        "is_deprecated": False,
    }
    assert (second["enabled"], second["description"]) == (False, "B: not part of this version.")


def test_N1_N2_the_assistants_own_list():
    endpoint = con.Connector(
        "offline", ".inference", "offline", {"provider": "offline"}, preconfigured=True, model=True
    )
    mine, ours = shown(connectors.assistant_listed(con.ConnectorList((MADE, endpoint)), request()))
    assert mine == {
        "type": ".gen-ai",
        "name": "My LLM",
        "connectorId": "ai",
        "config": MADE.config,
        "capabilities": {"contextWindowSize": 128000},
        "isInferenceEndpoint": False,
        "isPreconfigured": False,
        "isDeprecated": False,
        "isConnectorTypeDeprecated": False,
        "isMissingSecrets": False,
    }
    assert (ours["connectorId"], ours["isInferenceEndpoint"], ours["isPreconfigured"]) == ("offline", True, True)
    assert ours["capabilities"] == {}
    assert shown(connectors.assistant_shown(endpoint, request())) == ours


def test_the_oauth_pages_say_nothing_of_the_request():
    asked = request(query={"error": "<script>", "state": "s"})
    assert connectors.nothing(asked) == ReadStatus(counted=False)
    page, script = connectors.callback_page(FOUND, asked), connectors.callback_script(FOUND, asked)
    assert page.media_type == "text/html; charset=utf-8"
    assert b"<html" in page.body and b"<script>" not in page.body
    assert "script-src 'self'" in dict(page.headers)["content-security-policy"]
    assert script.media_type == "text/javascript; charset=utf-8"
    assert b"oauth_flow_completed" in script.body


# -- the table ---------------------------------------------------------------------------------------------------------


def test_N3_every_route_asks_for_the_scope_of_the_assistant_and_writes_for_more():
    assert all(Scope.CHAT_RUN in each.scopes and not each.open for each in ROUTES)
    for method, path, scope in (
        ("POST", f"{connectors.ACTIONS}/connector", Scope.RESOURCES_WRITE),
        ("POST", connectors.ONE, Scope.RESOURCES_WRITE),
        ("PUT", connectors.ONE, Scope.RESOURCES_WRITE),
        ("DELETE", connectors.ONE, Scope.RESOURCES_WRITE),
        ("POST", f"{connectors.ONE}/_execute", Scope.TOOLS_USE),
    ):
        assert scope in route(method, path).scopes
