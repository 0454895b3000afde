"""Talks to an agent with the a2a-sdk's own client, given nothing but the server's URL: its card tells the rest.

    a2a_client.py URL CREDENTIAL stream|block|get|cancel|resubscribe PROMPT

One JSON a line: what the client was given, in the spelling of protocol 1.0.
"""

import asyncio
import json
import sys
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
from a2a.client import Client, ClientConfig, create_client
from a2a.types import a2a_pb2 as a2a
from google.protobuf.json_format import MessageToDict


def asking(prompt: str) -> a2a.SendMessageRequest:
    message = a2a.Message(message_id=str(uuid.uuid4()), role=a2a.Role.ROLE_USER, parts=[a2a.Part(text=prompt)])
    return a2a.SendMessageRequest(message=message)


def show(message: Any) -> None:
    print(json.dumps(MessageToDict(message)), flush=True)


def task_of(answer: a2a.StreamResponse) -> str:
    """ "" for an answer that names none."""
    if answer.HasField("task"):
        return answer.task.id
    return answer.status_update.task_id or answer.artifact_update.task_id


async def show_all(answers: AsyncIterator[a2a.StreamResponse]) -> str:
    """The task that they were about."""
    task = ""
    async for answer in answers:
        show(answer)
        task = task_of(answer) or task
    return task


async def first_task(client: Client, prompt: str) -> str:
    """Ask, and hang up as soon as the task has a name."""
    answers = client.send_message(asking(prompt))
    async for answer in answers:
        if task_of(answer):
            return task_of(answer)
    raise RuntimeError("no answer named a task")


async def talk(client: Client, scenario: str, prompt: str) -> None:
    if scenario in ("stream", "block"):
        await show_all(client.send_message(asking(prompt)))
    elif scenario == "get":
        task = await show_all(client.send_message(asking(prompt)))
        show(await client.get_task(a2a.GetTaskRequest(id=task)))
    elif scenario == "cancel":
        task = await first_task(client, prompt)
        show(await client.cancel_task(a2a.CancelTaskRequest(id=task)))
        show(await client.get_task(a2a.GetTaskRequest(id=task)))
    elif scenario == "resubscribe":
        task = await first_task(client, prompt)
        await show_all(client.subscribe(a2a.SubscribeToTaskRequest(id=task)))


async def main(url: str, credential: str, scenario: str, prompt: str) -> None:
    headers = {"Authorization": f"Bearer {credential}"}
    async with httpx.AsyncClient(headers=headers, timeout=20, trust_env=False) as http:
        config = ClientConfig(streaming=scenario != "block", httpx_client=http)
        await talk(await create_client(url, config), scenario, prompt)


asyncio.run(main(*sys.argv[1:]))
