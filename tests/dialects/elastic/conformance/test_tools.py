"""F1-F3, F10 and F11 of the Elastic spec (7.4): what is known, remembered and on the screen; F4-F9 search."""

import json
from typing import Any

from tests.dialects.elastic.conformance.kit import (
    INTERNAL,
    Kibana,
    added,
    called,
    of_type,
    user,
)
from tests.dialects.elastic.conformance.llm import Llm, choice_of, forced, of, rewriting

ENTRIES = f"{INTERNAL}/kb/entries"
COLOURS = ("My favourite colour is blue.", "I dislike the colour orange.", "The colour of the sky is blue.")


async def know(kibana: Kibana, *texts: str) -> None:
    body = {"entries": [{"id": f"doc-{at}", "title": f"Doc {at}", "text": text} for at, text in enumerate(texts)]}
    assert (await kibana.send("POST", f"{ENTRIES}/import", body)).status == 200


def tools_of(asked: dict[str, Any]) -> list[str]:
    return [tool["function"]["name"] for tool in asked.get("tools", ())]


async def test_F1_what_is_known_is_found_and_told(kibana: Kibana, llm: Llm) -> None:
    await know(kibana, *COLOURS)
    llm.says("favourite colour", when=rewriting)
    llm.must_call("score_suggestions", {"scores": "\n".join(f"doc-{at},7" for at in range(3))})
    llm.says("It is blue.")
    screen = {"screenDescription": "The user is viewing a page", "data": [_item("trees", "Tree data", ["oak"])]}
    events = await kibana.complete([user("What's my favourite color?")], screenContexts=[screen])
    rewrite, scoring, main = llm.requests
    _rewrites(rewrite)
    assert choice_of(scoring) == "score_suggestions" and tools_of(scoring) == ["score_suggestions"]
    assert len(scoring["messages"]) == 2
    listed = scoring["messages"][0]["content"].partition("<DocumentsToScore>")[2]
    assert all(text in listed for text in COLOURS)
    assert [each["role"] for each in main["messages"]] == ["system", "user", "assistant", "tool"]
    assert main["tool_choice"] == "auto"
    (call,) = main["messages"][2]["tool_calls"]
    assert (call["function"]["name"], main["messages"][3]["tool_call_id"]) == ("context", call["id"])
    told = json.loads(main["messages"][3]["content"])
    assert {each["text"] for each in told["learnings"]} == set(COLOURS)
    assert len(of_type("messageAdd", events)) == 3
    shown = added(events)[1]
    assert "The user is viewing a page" in json.loads(shown["content"])["screen_description"]
    suggestions = json.loads(shown["data"])["suggestions"]
    assert len(suggestions) == 3 and all({"id", "text", "esScore"} <= each.keys() for each in suggestions)


def _item(name: str, description: str, value: Any) -> dict[str, Any]:
    return {"name": name, "description": description, "value": value}


def _rewrites(asked: dict[str, Any]) -> None:
    system, prompt = asked["messages"]
    assert "<ConversationHistory>" in system["content"] and "<ScreenDescription>" in system["content"]
    assert "The user is viewing a page" in system["content"]
    assert (prompt["role"], "What's my favourite color?" in prompt["content"]) == ("user", True)


async def test_F2_the_title_is_thought_of_and_kept(kibana: Kibana, llm: Llm) -> None:
    llm.titles("My Title")
    llm.says("It scatters light.")
    events = await kibana.complete([user("Why the sky is blue?")], persist=True)
    assert len(llm.requests) == 2
    (asked,) = of(forced("title_conversation"), llm.requests)
    system, prompt = asked["messages"]
    assert (system["role"], prompt["role"]) == ("system", "user")
    assert "Why the sky is blue?" in prompt["content"]
    assert tools_of(asked) == ["title_conversation"]
    document = await kibana.conversation(events[-1]["conversation"]["id"])
    assert document["conversation"]["title"] == "My Title"


async def test_F3_a_summary_is_kept_as_an_entry(kibana: Kibana, llm: Llm) -> None:
    llm.says("Noted.", times=3)
    summary = {"title": "My Title", "text": "Hello world", "public": False}
    await kibana.complete([user("Please summarize"), called("summarize", summary, trigger="user")])
    kept = (await kibana.get(f"{ENTRIES}?query=&sortBy=title&sortDirection=asc")).json["entries"]
    (entry,) = kept
    assert (entry["role"], entry["public"], entry["text"]) == ("assistant_summarization", False, "Hello world")
    assert (entry["type"], entry["user"]["name"], entry["title"]) == ("contextual", "editor", "My Title")


async def test_F10_product_documentation_is_not_offered(kibana: Kibana, llm: Llm) -> None:
    """A divergence beyond the first half of the case: there is none to be installed."""
    llm.says("Hello")
    await kibana.complete()
    (asked,) = llm.requests
    assert "retrieve_elastic_doc" not in tools_of(asked)
    status = (await kibana.get(f"{INTERNAL}/kb/status")).json
    assert status["productDocStatus"] != "installed"


async def test_F11_recall_ranks_by_what_is_asked(kibana: Kibana) -> None:
    """Eight entries of one source; the system's own case has three more in an index of a search connector."""
    animals = ("Cats purr loudly", "Dogs bark at cats", "Horses run", "The moon orbits", "Stars shine", "Planets turn")
    await know(kibana, *animals, "Animals such as cats and dogs", "The sky at night holds stars and planets")
    first = await recalled(kibana, "cats dogs animals")
    second = await recalled(kibana, "stars planets sky")
    assert first[0]["text"] == "Animals such as cats and dogs"
    assert second[0]["text"] == "The sky at night holds stars and planets"
    assert len({each["esScore"] for each in first}) > 1
    assert all(each.keys() >= {"id", "text", "esScore"} for each in first)
    scores = [each["esScore"] for each in first]
    assert scores == sorted(scores, reverse=True)


async def recalled(kibana: Kibana, text: str) -> list[dict[str, Any]]:
    answer = await kibana.send("POST", f"{INTERNAL}/functions/recall", {"queries": [{"text": text}]})
    assert answer.status == 200, answer.body
    return answer.json["entries"]


async def test_what_is_on_the_screen_may_be_asked_for(kibana: Kibana, llm: Llm) -> None:
    """Spec 4.5: get_data_on_screen, offered only where there is such data."""
    llm.calls("get_data_on_screen", {"data": ["trees"]})
    llm.says("An oak.")
    screen = {"data": [_item("trees", "Tree data", ["oak"]), _item("cars", "Car data", ["van"])]}
    events = await kibana.complete(screenContexts=[screen])
    assert "get_data_on_screen" in tools_of(llm.requests[0])
    shown = added(events)[-2]["content"]
    assert "oak" in shown and "van" not in shown
    llm.says("Hello")
    await kibana.complete()
    assert "get_data_on_screen" not in tools_of(llm.requests[-1])
