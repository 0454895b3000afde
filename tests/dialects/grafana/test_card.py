"""Agent cards."""

import json
from typing import Any

from dragoman.core.about import AboutServer, ServerAbout
from dragoman.dialects.grafana import card
from dragoman.wire.dialect import Request, Route

ABOUT = ServerAbout("1.2.3", ("assistant", "sre"))


def read(route: Route[Any], origin: str = "https://h/grafana", **params: str) -> dict[str, Any]:
    request = Request("GET", route.path, params, {}, {}, b"", "r", "0" * 32, 0.0, origin)
    assert route.open and route.decode(request) == AboutServer()
    assert route.answer is not None
    reply = route.answer(ABOUT, request)
    assert reply.status == 200
    return json.loads(reply.body)


def test_the_servers_card_names_the_default_agents_address() -> None:
    first, second = card.root_routes("/base/v1")
    assert [first.path, second.path] == ["/.well-known/agent-card.json", "/.well-known/agent.json"]
    told = read(first)
    assert told == read(second)
    assert told["url"] == "https://h/grafana/base/v1/a2a/agents/assistant"
    assert (told["protocolVersion"], told["preferredTransport"], told["version"]) == ("0.3.0", "JSONRPC", "1.2.3")
    assert [skill["id"] for skill in told["skills"]] == ["assistant", "sre"]
    assert told["capabilities"]["streaming"] is True and told["capabilities"]["pushNotifications"] is False
    assert told["security"] == [{"bearer": []}]
    assert told["securitySchemes"]["bearer"]["scheme"] == "bearer"


def test_each_agent_has_a_card_under_its_own_address() -> None:
    first, _ = card.routes("/base/v1")
    assert first.path == "/base/v1/a2a/agents/{agentId}/.well-known/agent-card.json"
    assert [skill["id"] for skill in read(first, agentId="sre")["skills"]] == ["sre"]
    other = read(first, agentId="a b/c")
    assert other["url"] == "https://h/grafana/base/v1/a2a/agents/a%20b%2Fc"
    assert len(other["skills"]) == 2
