"""V1-V11 of the Elastic spec (7.6): conversations as documents."""

from typing import Any

import pytest

from tests.dialects.elastic.conformance.kit import AT, INTERNAL, UNKNOWN_ID, Kibana, message, user

ONE = f"{INTERNAL}/conversation"
MANY = f"{INTERNAL}/conversations"


def draft(title: str = "My conversation", *, public: bool = False, **more: Any) -> dict[str, Any]:
    """What a client sends to have a conversation made."""
    return {
        "@timestamp": AT,
        "conversation": {"title": title},
        "systemMessage": "this is a system message",
        "messages": [user("My message"), message("assistant", "My answer")],
        "labels": {"kind": "test"},
        "numeric_labels": {"size": 3},
        "public": public,
        **more,
    }


async def made(kibana: Kibana, title: str = "My conversation", *, public: bool = False, who: str = "editor") -> Any:
    answer = await kibana.send("POST", ONE, {"conversation": draft(title, public=public)}, who=who)
    assert answer.status == 200, answer.body
    return answer.json


async def put(kibana: Kibana, document: Any, title: str, *, who: str) -> Any:
    changed = {**document, "conversation": {**document["conversation"], "title": title}}
    place = f"{ONE}/{document['conversation']['id']}"
    return await kibana.send("PUT", place, {"conversation": changed}, who=who)


def id_of(document: Any) -> str:
    return document["conversation"]["id"]


async def test_V1_without_conversations_the_list_is_empty(kibana: Kibana) -> None:
    answer = await kibana.send("POST", MANY)
    assert (answer.status, answer.json) == (200, {"conversations": []})


async def test_V2_an_unknown_id_is_404(kibana: Kibana) -> None:
    document = {**draft(), "conversation": {"id": UNKNOWN_ID, "title": "x"}}
    place = f"{ONE}/{UNKNOWN_ID}"
    for method, path, body in (
        ("GET", place, None),
        ("PUT", place, {"conversation": document}),
        ("PATCH", place, {"public": True}),
        ("POST", f"{place}/duplicate", None),
        ("DELETE", place, None),
    ):
        answer = await kibana.send(method, path, body)
        assert (answer.status, answer.json["error"]) == (404, "Not Found"), method


async def test_V3_what_was_made_is_given_back_and_read_and_listed(kibana: Kibana) -> None:
    document = await made(kibana)
    sent = draft()
    assert document.keys() == {*sent, "user", "namespace", "archived"}
    assert document["conversation"].keys() == {"id", "title", "last_updated"}
    same = ("systemMessage", "messages", "labels", "numeric_labels", "public")
    assert {key: document[key] for key in same} == {key: sent[key] for key in same}
    assert (document["conversation"]["title"], document["namespace"]) == ("My conversation", "default")
    assert (document["user"]["name"], document["archived"]) == ("editor", False)
    assert await kibana.conversation(id_of(document)) == document
    assert await kibana.conversations() == [document]


async def test_V4_put_changes_the_title(kibana: Kibana) -> None:
    document = await made(kibana)
    answer = await put(kibana, document, "My other title", who="editor")
    assert (answer.status, answer.json["conversation"]["title"]) == (200, "My other title")
    kept = await kibana.conversation(id_of(document))
    assert kept == answer.json and kept["messages"] == document["messages"]


async def test_V5_what_was_deleted_is_gone(kibana: Kibana) -> None:
    place = f"{ONE}/{id_of(await made(kibana))}"
    gone = await kibana.send("DELETE", place)
    assert (gone.status, gone.json) == (200, {})
    assert (await kibana.get(place)).status == 404
    assert await kibana.conversations() == []


async def test_V6_a_list_holds_ones_own_and_what_is_public(kibana: Kibana) -> None:
    for who in ("editor", "other"):
        for public in (True, False):
            await made(kibana, f"{who}'s", public=public, who=who)
    for who in ("editor", "other"):
        listed = await kibana.conversations(who=who)
        assert len(listed) == 3
        assert [each["user"]["name"] for each in listed if not each["public"]] == [who]


async def test_V7_only_the_owner_changes_a_conversation(kibana: Kibana) -> None:
    public, private = await made(kibana, public=True), await made(kibana)
    assert (await put(kibana, public, "New", who="editor")).status == 200
    assert (await put(kibana, public, "Theirs", who="other")).status == 403
    assert (await put(kibana, private, "Theirs", who="other")).status == 404
    assert (await kibana.conversation(id_of(public)))["conversation"]["title"] == "New"
    assert (await kibana.conversation(id_of(private)))["conversation"]["title"] == "My conversation"


@pytest.mark.parametrize("public", [True, False])
async def test_V8_the_owner_may_duplicate(kibana: Kibana, public: bool) -> None:
    document = await made(kibana, public=public)
    answer = await kibana.send("POST", f"{ONE}/{id_of(document)}/duplicate")
    assert (answer.status, id_of(answer.json) != id_of(document)) == (200, True)
    assert (answer.json["user"], answer.json["public"]) == (document["user"], False)
    assert answer.json["messages"] == document["messages"]


async def test_V8_others_may_duplicate_what_is_public(kibana: Kibana) -> None:
    public, private = await made(kibana, public=True), await made(kibana)
    answer = await kibana.send("POST", f"{ONE}/{id_of(public)}/duplicate", who="other")
    assert (answer.status, answer.json["user"]["name"], answer.json["archived"]) == (200, "other", False)
    assert (await put(kibana, answer.json, "Mine now", who="other")).status == 200
    assert (await kibana.send("POST", f"{ONE}/{id_of(private)}/duplicate", who="other")).status == 404


async def test_V9_the_owner_shares_and_archives(kibana: Kibana) -> None:
    place = f"{ONE}/{id_of(await made(kibana))}"
    shared = await kibana.send("PATCH", place, {"public": True})
    assert (shared.status, shared.json["public"], shared.json["archived"]) == (200, True, False)
    assert (await kibana.send("PATCH", place, {"archived": True}, who="other")).status == 403
    archived = await kibana.send("PATCH", place, {"archived": True})
    assert (archived.status, archived.json["public"], archived.json["archived"]) == (200, True, True)
    assert (await kibana.conversations())[0]["archived"] is True
    assert (await kibana.send("PATCH", place, {"access": "public"})).status == 400


async def test_V10_others_do_not_delete(kibana: Kibana) -> None:
    private, public = await made(kibana), await made(kibana, public=True)
    assert (await kibana.send("DELETE", f"{ONE}/{id_of(private)}", who="other")).status == 404
    refused = await kibana.send("DELETE", f"{ONE}/{id_of(public)}", who="other")
    sentence = "Deleting a conversation is only allowed for the owner of the conversation."
    assert (refused.status, refused.json["message"]) == (403, sentence)
    for document in (private, public):
        assert (await kibana.send("DELETE", f"{ONE}/{id_of(document)}")).status == 200


async def test_V11_a_viewer_may_nothing(kibana: Kibana) -> None:
    place = f"{ONE}/{id_of(await made(kibana, public=True))}"
    for method, path, body in (
        ("GET", place, None),
        ("POST", ONE, {"conversation": draft()}),
        ("POST", MANY, None),
        ("PUT", place, {"conversation": {**draft(), "conversation": {"id": UNKNOWN_ID, "title": "x"}}}),
        ("PATCH", place, {"public": True}),
        ("POST", f"{place}/duplicate", None),
        ("DELETE", place, None),
    ):
        assert (await kibana.send(method, path, body, who="viewer")).status == 403, method


async def test_another_project_is_not_there(kibana: Kibana) -> None:
    """Q11: a path names the caller's own space, or one that is not found."""
    document = await made(kibana)
    assert (await kibana.get(f"/s/default{ONE}/{id_of(document)}")).json == document
    assert (await kibana.get(f"/s/elsewhere{ONE}/{id_of(document)}")).status == 404
