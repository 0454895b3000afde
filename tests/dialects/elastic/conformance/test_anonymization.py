"""A1 and A2 of the Elastic spec (7.5): what must not leave is masked, and what came back is not."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.dialects.elastic.conformance.kit import Kibana, kibana_of, message, sse_in, text_of, user
from tests.dialects.elastic.conformance.llm import Llm

MAIL, PAGE = "claudia@example.com", "http://claudia.is"
RULES = r"""
[[anonymization.rules]]
type = "RegExp"
entity_class = "EMAIL"
pattern = '[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}'

[[anonymization.rules]]
type = "RegExp"
entity_class = "URL"
pattern = '\bhttps?://[^\s]+\b'
"""
HASH = re.compile(r"[0-9a-f]{40}")


@pytest.fixture
async def anonymous(llm: Llm, tmp_path: Path) -> AsyncIterator[Kibana]:
    async with kibana_of(tmp_path, llm, RULES) as scene:
        yield scene


async def test_A1_the_model_is_not_told_what_a_rule_finds(anonymous: Kibana, llm: Llm) -> None:
    llm.titles("My Title")
    llm.says("Hello")
    messages = [user(f"My email is {MAIL}"), message("assistant", "Noted."), user(f"My website is {PAGE}")]
    await anonymous.complete(messages, persist=True)
    for request in llm.requests:
        assert MAIL not in json.dumps(request) and PAGE not in json.dumps(request)
    told = [each["content"] for each in llm.turns[0]["messages"] if each["role"] == "user"]
    assert [len(HASH.findall(text)) for text in told] == [1, 1]
    assert told[0].startswith("My email is ") and told[1].startswith("My website is ")


async def test_A2_what_is_kept_is_as_it_was_said(anonymous: Kibana, llm: Llm) -> None:
    llm.titles("My Title")
    llm.says("Hello")
    messages = [user(f"My email is {MAIL}"), message("assistant", "Noted."), user(f"My website is {PAGE}")]
    events = await anonymous.complete(messages, persist=True)
    document = await anonymous.conversation(events[-1]["conversation"]["id"])
    asked = [each["message"] for each in document["messages"]]
    mine = [each for each in asked if each["role"] == "user" and "name" not in each]
    assert [each["content"] for each in mine] == [f"My email is {MAIL}", f"My website is {PAGE}"]
    for each, (value, kind) in zip(mine, ((MAIL, "EMAIL"), (PAGE, "URL")), strict=True):
        (found,) = each["deanonymizations"]
        assert (found["entity"]["value"], found["entity"]["class_name"]) == (value, kind)
        assert each["content"][found["start"] : found["end"]] == value
        assert HASH.search(found["entity"]["mask"])


async def test_A2_the_answer_is_given_with_what_was_masked(anonymous: Kibana, llm: Llm) -> None:
    """Spec 5: also where a mask comes in pieces."""
    llm.says("Hello")
    await anonymous.public([user(f"My email is {MAIL}")])
    (mask,) = re.findall(r"EMAIL_[0-9a-f]{40}", llm.turns[0]["messages"][1]["content"])
    llm.says(f"I write to {mask} at once.")
    answer = await anonymous.public([user(f"Write to {MAIL}")])
    assert text_of(sse_in(answer.body)) == f"I write to {MAIL} at once."
