"""Whichever release of `rowboat` is installed, unmodified: what its users do with it, told as one line of JSON.

    rowboat_client.py URL PROJECT KEY TEXT TEXT

`turns`: a turn for each text, with the whole history, or with the conversation's id where the release knows those.
`stateful`: the same texts through `StatefulChat`, where there is one. `played`: the first text with a tool that is only
played, where the release knows those. `refused`: what a wrong key raises.
"""

import importlib.metadata
import inspect
import json
import sys
from typing import Any

import rowboat
from rowboat.schema import UserMessage


def by_history(client: Any, texts: list[str]) -> dict[str, Any]:
    """The caller keeps the history and hands the state on."""
    history: list[Any] = []
    state: Any = None
    answers: list[list[Any]] = []
    for text in texts:
        history.append(UserMessage(role="user", content=text))
        answer = client.chat(list(history), state=state)
        messages, state = answer if isinstance(answer, tuple) else (answer.messages, answer.state)
        history += messages
        answers.append(messages)
    last = [messages[-1] for messages in answers]
    return {
        "texts": [message.content for message in last],
        "counts": [len(messages) for messages in answers],
        "tools": [tool_of(each) for messages in answers for each in messages if each.role == "tool"],
        "senders": [getattr(message, "agenticSender", None) for message in last],
        "state": state,
    }


def by_conversation(client: Any, texts: list[str]) -> dict[str, Any]:
    """The server keeps the history."""
    conversation = None
    answers: list[Any] = []
    for text in texts:
        answer = client.run_turn([UserMessage(role="user", content=text)], conversationId=conversation)
        answers.append(answer)
        conversation = answer.conversationId
    return {
        "texts": [answer.turn.output[-1].content for answer in answers],
        "counts": [len(answer.turn.output) for answer in answers],
        "tools": [tool_of(each) for answer in answers for each in answer.turn.output if each.role == "tool"],
        "conversations": [answer.conversationId for answer in answers],
        "ids": [answer.turn.id for answer in answers],
    }


PLAYED = {"get_order": "It was lost at sea."}


def played(client: Any, text: str) -> dict[str, Any]:
    asked = [UserMessage(role="user", content=text)]
    if hasattr(client, "run_turn"):
        messages = client.run_turn(asked, mockTools=PLAYED).turn.output
    else:
        messages = client.chat(asked, mock_tools=PLAYED).messages
    return {"tools": [tool_of(each) for each in messages if each.role == "tool"], "text": messages[-1].content}


def tool_of(message: Any) -> str:
    return getattr(message, "tool_name", None) or message.toolName


def main(url: str, project: str, key: str, *texts: str) -> dict[str, Any]:
    talk = by_conversation if hasattr(rowboat.Client, "run_turn") else by_history
    client = rowboat.Client(url, project, key)
    told: dict[str, Any] = {"version": importlib.metadata.version("rowboat"), "turns": talk(client, list(texts))}
    if hasattr(rowboat, "StatefulChat"):
        chat = rowboat.StatefulChat(client)
        told["stateful"] = [chat.run(text) for text in texts]
    if {"mock_tools", "mockTools"} & set(
        inspect.signature(getattr(client, "run_turn", None) or client.chat).parameters
    ):
        told["played"] = played(client, texts[0])
    try:
        talk(rowboat.Client(url, project, "0" * 64), list(texts))
    except ValueError as error:
        told["refused"] = str(error)
    return told


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
