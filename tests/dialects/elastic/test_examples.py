"""The documented requests: they are the reference page's, and what they say hangs together."""

import json
from typing import Any

from dragoman.core.messages import ToolResult
from dragoman.core.operations import StartTurn
from dragoman.dialects.elastic import examples
from dragoman.dialects.elastic.chat import public_complete
from dragoman.wire.dialect import Request

PAGE: dict[str, Any] = json.loads("""
{
"connectorId": "<connectorId>",
"disableFunctions": false,
  "messages": [
    {
      "@timestamp": "2025-06-25T23:45:00.000Z",
      "message": {
        "role": "user",
        "content": "Is my Elasticsearch cluster healthy right now?"
      }
    }
  ],
"persist": false,
"actions": [
  {
    "name": "get_cluster_health",
    "description": "Fetch the current Elasticsearch cluster-health status and key metrics.",
    "parameters": {
      "type": "object",
      "properties": {
        "includeShardStats": {
          "type": "boolean",
          "default": false
        }
      }
    }
  }
],
"instructions": ["When the user asks about Elasticsearch cluster health, use the get_cluster_health tool to retrieve \
cluster health, then summarize the response in plain English."]
}
""")
"""Its request as it stands there."""


def understood(body: dict[str, Any]) -> StartTurn:
    headers = {"content-type": "application/json", **dict(examples.HEADERS)}
    return public_complete(
        Request("POST", examples.PATH, {}, {}, headers, json.dumps(body).encode(), "id", "0" * 32, 0.0)
    )


def test_the_first_is_the_pages_own_but_for_the_connector():
    assert examples.EXAMPLES[0].body == PAGE | {"connectorId": "offline"}
    turn = understood(examples.BODY)
    assert [tool.name for tool in turn.client_tools] == ["get_cluster_health"]


def test_the_second_goes_on_with_it_and_answers_the_call():
    turn = understood(examples.ROUND_TRIP)
    question, call, result = (message for message in turn.messages if message.role != "system")

    assert question.text == PAGE["messages"][0]["message"]["content"]
    [made] = call.calls
    assert (made.name, json.loads(made.arguments)) == ("get_cluster_health", {"includeShardStats": True})
    [part] = result.parts
    assert isinstance(part, ToolResult)
    assert part.call_id == made.id
    assert json.loads(part.content)["status"] == "green"


def test_making_the_second_leaves_the_first_as_it_is():
    assert len(examples.BODY["messages"]) == 1
    assert len(examples.ROUND_TRIP["messages"]) == 3
