"""K1-K8 of the Elastic spec (7.7): the knowledge base and the instructions that people keep."""

from typing import Any

import pytest

from tests.dialects.elastic.conformance.kit import INTERNAL, Kibana, added, settle, user
from tests.dialects.elastic.conformance.llm import Llm

KB = f"{INTERNAL}/kb"


def entry(title: str, **more: Any) -> dict[str, Any]:
    return {"id": f"id-{title}", "title": title, "text": f"The text of {title}", **more}


async def entries(
    kibana: Kibana, *, query: str = "", direction: str = "asc", who: str = "editor", space: str = ""
) -> Any:
    path = f"{space}{KB}/entries?query={query}&sortBy=title&sortDirection={direction}"
    answer = await kibana.get(path, who=who)
    assert answer.status == 200, answer.body
    return answer.json["entries"]


async def instruct(kibana: Kibana, key: str, text: str, *, public: bool, who: str = "editor") -> None:
    body = {"id": key, "text": text, "public": public}
    answer = await kibana.send("PUT", f"{KB}/user_instructions", body, who=who)
    assert (answer.status, answer.json) == (200, {})


async def instructions(kibana: Kibana, *, who: str = "editor") -> list[dict[str, Any]]:
    return (await kibana.get(f"{KB}/user_instructions", who=who)).json["userInstructions"]


async def test_K1_an_entry_is_saved_and_listed_and_deleted_once(kibana: Kibana) -> None:
    saved = await kibana.send("POST", f"{KB}/entries/save", entry("one", public=False))
    assert (saved.status, saved.json) == (200, {})
    (kept,) = await entries(kibana)
    assert (kept["id"], kept["title"], kept["text"]) == ("id-one", "one", "The text of one")
    assert (kept["role"], kept["public"], kept["user"]["name"]) == ("user_entry", False, "editor")
    gone = await kibana.send("DELETE", f"{KB}/entries/id-one")
    assert (gone.status, gone.json) == (200, {})
    assert await entries(kibana) == []
    assert (await kibana.send("DELETE", f"{KB}/entries/id-one")).status == 500


async def test_K2_imported_entries_are_sorted_and_searched(kibana: Kibana) -> None:
    body = {"entries": [entry("My title b"), entry("My title a"), entry("My title c")]}
    imported = await kibana.send("POST", f"{KB}/entries/import", body)
    assert (imported.status, imported.json) == (200, {})
    titles = [f"My title {letter}" for letter in "abc"]
    assert [each["title"] for each in await entries(kibana)] == titles
    assert [each["title"] for each in await entries(kibana, direction="desc")] == titles[::-1]
    found = await entries(kibana, query="b")
    assert [each["title"] for each in found] == ["My title b"]


async def test_K3_entries_belong_to_their_space_and_all_in_it_list_them(kibana: Kibana) -> None:
    await settle(kibana, "elsewhere", "editor")
    theirs = "editor@elsewhere"
    await kibana.send("POST", f"{KB}/entries/save", entry("ours", public=False))
    await kibana.send("POST", f"/s/elsewhere{KB}/entries/save", entry("theirs"), who=theirs)
    assert [each["title"] for each in await entries(kibana, who="other")] == ["ours"]
    assert [each["title"] for each in await entries(kibana, who=theirs, space="/s/elsewhere")] == ["theirs"]


async def test_K4_deprecated_fields_are_not_shown(kibana: Kibana) -> None:
    await kibana.send("POST", f"{KB}/entries/save", entry("one"))
    (kept,) = await entries(kibana)
    allowed = {"@timestamp", "id", "title", "text", "type", "public", "labels", "role", "user"}
    assert {"@timestamp", "id", "text", "public", "role"} <= kept.keys() <= allowed


async def test_K5_each_sees_their_own_instructions_and_those_that_are_public(kibana: Kibana) -> None:
    for who in ("editor", "other"):
        for public in (True, False):
            await instruct(kibana, f"{who}-{public}", f"{who} {public}", public=public, who=who)
    for who, stranger in (("editor", "other"), ("other", "editor")):
        seen = {each["id"]: each["text"] for each in await instructions(kibana, who=who)}
        assert seen == {
            f"{who}-True": f"{who} True",
            f"{who}-False": f"{who} False",
            f"{stranger}-True": f"{stranger} True",
        }


async def test_K5_a_second_one_takes_the_place_of_the_first(kibana: Kibana) -> None:
    await instruct(kibana, "first", "old text", public=False)
    await instruct(kibana, "second", "new text", public=False)
    assert await instructions(kibana) == [{"id": "first", "text": "new text", "public": False}]
    await instruct(kibana, "first", "for everybody", public=True)
    assert await instructions(kibana) == [{"id": "first", "text": "for everybody", "public": True}]
    assert [each["text"] for each in await instructions(kibana, who="other")] == ["for everybody"]


async def test_K6_an_instruction_is_in_the_system_message_of_whom_it_is_for(kibana: Kibana, llm: Llm) -> None:
    text = "Be polite and use language that is easy to understand."
    await instruct(kibana, "private-to-editor", text, public=False)
    for who in ("editor", "other"):
        llm.titles("My Title")
        llm.says("Hello")
        events = await kibana.complete([user("hello")], persist=True, who=who)
        document = await kibana.conversation(events[-1]["conversation"]["id"], who=who)
        mine = who == "editor"
        assert (text in llm.turns[-1]["messages"][0]["content"]) == mine
        assert (text in document["systemMessage"]) == mine
        context = added(events)[1]
        assert context["name"] == "context" and text not in context["content"] + context.get("data", "")


async def test_K7_the_knowledge_base_is_always_ready(kibana: Kibana) -> None:
    """Ours is the store's own search: there is no model to be set up, so that it has only one of the states."""
    status = (await kibana.get(f"{KB}/status")).json
    assert (status["enabled"], status["inferenceModelState"]) == (True, "READY")
    assert {"concreteWriteIndex", "isReIndexing", "productDocStatus"} <= status.keys()
    setup = await kibana.send("POST", f"{KB}/setup?inference_id=.elser-2-elasticsearch")
    assert (setup.status, setup.json.keys()) == (200, {"reindex", "currentInferenceId", "nextInferenceId"})
    warm = await kibana.send("POST", f"{KB}/warmup_model?inference_id=.elser-2-elasticsearch")
    assert (warm.status, warm.json) == (200, {})
    reindexed = await kibana.send("POST", f"{KB}/reindex")
    assert (reindexed.status, reindexed.json["success"]) == (200, True)
    assert (await kibana.get(f"{KB}/status")).json == status


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/status", None),
        ("POST", "/setup?inference_id=x", None),
        ("POST", "/reindex", None),
        ("GET", "/entries?query=&sortBy=title&sortDirection=asc", None),
        ("POST", "/entries/save", entry("one")),
        ("POST", "/entries/import", {"entries": []}),
        ("DELETE", "/entries/one", None),
        ("GET", "/user_instructions", None),
        ("PUT", "/user_instructions", {"id": "x", "text": "y", "public": False}),
    ],
)
async def test_K8_a_viewer_may_nothing(kibana: Kibana, method: str, path: str, body: Any) -> None:
    assert (await kibana.send(method, KB + path, body, who="viewer")).status == 403
