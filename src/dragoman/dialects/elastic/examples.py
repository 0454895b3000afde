"""The requests of the reference page, as they stand there but for host, credential and connector; the second one is the
page's own round trip gone on with: what the action found is sent back, and the answer comes (elastic spec 4.3)."""

from typing import Any

from dragoman.dialects.elastic.requests import PUBLIC
from dragoman.wire.dialect import Example

PATH = f"{PUBLIC}/chat/complete"
HEADERS = (("kbn-xsrf", "true"),)
ARGUMENTS = '{"includeShardStats":true}'
HEALTH = '{"cluster_name":"demo","status":"green","number_of_nodes":3,"active_shards":42,"unassigned_shards":0}'


def _said(**message: Any) -> dict[str, Any]:
    return {"@timestamp": "2025-06-25T23:45:00.000Z", "message": message}


QUESTION = _said(role="user", content="Is my Elasticsearch cluster healthy right now?")
CALL = {"name": "get_cluster_health", "arguments": ARGUMENTS, "trigger": "assistant"}
BODY: dict[str, Any] = {
    "connectorId": "offline",
    "disableFunctions": False,
    "messages": [QUESTION],
    "persist": False,
    "actions": [
        {
            "name": "get_cluster_health",
            "description": "Fetch the current Elasticsearch cluster-health status and key metrics.",
            "parameters": {
                "type": "object",
                "properties": {"includeShardStats": {"type": "boolean", "default": False}},
            },
        }
    ],
    "instructions": [
        "When the user asks about Elasticsearch cluster health, use the get_cluster_health tool to retrieve cluster"
        " health, then summarize the response in plain English."
    ],
}
ROUND_TRIP = BODY | {
    "messages": [
        QUESTION,
        _said(role="assistant", content="", function_call=CALL),
        _said(role="user", name="get_cluster_health", content=HEALTH),
    ]
}

EXAMPLES = (
    Example(
        "The reference page's question: the assistant asks the caller to run its action",
        "POST",
        PATH,
        BODY,
        expect=('"function_call":{"name":"get_cluster_health"', "data: [DONE]"),
        headers=HEADERS,
    ),
    Example(
        "What the action found goes back, and the answer comes",
        "POST",
        PATH,
        ROUND_TRIP,
        expect=("green", "data: [DONE]"),
        headers=HEADERS,
    ),
)
