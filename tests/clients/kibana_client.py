"""Talks to a server with kibana-py: makes a connector of a chat server, asks through it, and takes it away again.

    kibana_client.py URL CREDENTIAL CHAT_URL sync|async

One JSON: the status and media type of the answer, its body, and the connector as it was shown.
"""

import asyncio
import inspect
import json
import sys
from typing import Any

from kibana import AsyncKibana, Kibana

MESSAGES = [{"@timestamp": "2026-07-03T00:00:00.000Z", "message": {"role": "user", "content": "Is my cluster green?"}}]


async def told(answer: Any) -> Any:
    """What a call gave, of either client."""
    return await answer if inspect.isawaitable(answer) else answer


async def main(url: str, credential: str, chat_url: str, kind: str) -> None:
    client: Any = (AsyncKibana if kind == "async" else Kibana)(url, api_key=credential)
    config = {"apiProvider": "OpenAI", "apiUrl": chat_url, "defaultModel": "some-model"}
    made = await told(
        client.connectors.create(
            name="chat server", connector_type_id=".gen-ai", config=config, secrets={"apiKey": "the-key"}
        )
    )
    connector = made.body
    try:
        answer = await told(
            client.observability_ai_assistant.chat_complete(
                messages=MESSAGES, connector_id=connector["id"], persist=False, instructions=["Answer concisely."]
            )
        )
    finally:
        await told(client.connectors.delete(id=connector["id"]))
        await told(client.close())
    body = answer.body.decode()
    print(json.dumps({"status": answer.meta.status, "headers": dict(answer.meta.headers), "body": body, **made.body}))


asyncio.run(main(*sys.argv[1:]))
