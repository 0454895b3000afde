"""The requests of the reference page, as they stand there but for host, project and credential."""

from typing import Any

from dragoman.wire.dialect import Example

PATH = "/api/v1/default/chat"
"""The page leaves the project open; `default` is the one that every server has."""

_QUESTION = {"role": "user", "content": "Hello, can you help me?"}
_ANSWER = {
    "role": "assistant",
    "content": "Hello! Yes, I'd be happy to help you. What can I assist you with today?",
    "agenticResponseType": "external",
}
_NEXT = {"role": "user", "content": "What services do you offer?"}

FIRST: dict[str, Any] = {"messages": [_QUESTION], "state": None}
SUBSEQUENT: dict[str, Any] = {
    "messages": [_QUESTION, _ANSWER, _NEXT],
    "state": {"last_agent_name": "MainAgent"},
}

_EXPECTED = ('"role":"assistant"', '"agenticResponseType":"external"', '"state":{"last_agent_name":"')

EXAMPLES = (
    Example("First turn", "POST", PATH, FIRST, expect=_EXPECTED),
    Example("Subsequent turn: the history and the state go back", "POST", PATH, SUBSEQUENT, expect=_EXPECTED),
)
