import json
from typing import Any

import pytest

from dragoman.core.agents import ToolSpec
from dragoman.core.knowledge import Found, KnowledgeEntry
from dragoman.core.messages import Message, ToolCall, ToolResult, said
from dragoman.core.names import CallId, ProjectId
from dragoman.models.offline import SIGNATURE, Offline
from dragoman.models.offline_forced import PICKED_MAX, TITLE_CHARS_MAX
from dragoman.runtime import scoring, titles
from dragoman.runtime.ports import Prompt, ReplyDone
from tests.models.asking import ask

QUESTION = "Is my Elasticsearch cluster healthy right now?"
HEALTH = ToolSpec(
    "get_cluster_health",
    "Fetch the current Elasticsearch cluster-health status and key metrics.",
    {"type": "object", "properties": {"includeShardStats": {"type": "boolean", "default": False}}},
)
OTHERS = (
    ToolSpec(
        "elasticsearch",
        "Call Elasticsearch APIs on behalf of the user.",
        {
            "type": "object",
            "properties": {"method": {"type": "string", "enum": ["GET", "POST"]}, "path": {"type": "string"}},
            "required": ["method", "path"],
        },
        toolset="elastic",
    ),
    ToolSpec("alerts", "Get alerts of the observability rules.", {"type": "object"}, toolset="elastic"),
)
EXIT = ToolSpec(
    "exit_loop",
    "Ends the work.",
    {"type": "object", "properties": {"response": {"type": "string"}}, "required": ["response"]},
)
PICK = ToolSpec(
    "select_relevant_fields",
    "Choose fields.",
    {
        "type": "object",
        "properties": {"fieldIds": {"type": "array", "items": {"type": "string"}}},
        "required": ["fieldIds"],
    },
)


def called(name: str, content: str, *, id: str = "c") -> tuple[Message, Message]:
    return (
        Message("assistant", (ToolCall(CallId(id), name, "{}"),)),
        Message("tool", (ToolResult(CallId(id), content),)),
    )


def context(*texts: str) -> tuple[Message, Message]:
    learnings = [{"id": "x", "llmScore": 7, "esScore": 1.0, "text": text} for text in texts]
    return called("context", json.dumps({"screen_description": "", "learnings": learnings}), id="ctx")


async def done(*messages: Message, tools: tuple[ToolSpec, ...] = (), choice: str = "") -> ReplyDone:
    (piece,) = await ask(Offline(), Prompt(messages, tools, choice=choice), stream=False)
    assert isinstance(piece, ReplyDone)
    return piece


async def forced(tool: ToolSpec, *messages: Message) -> Any:
    piece = await done(*messages, tools=(tool,), choice=tool.name)
    (call,) = piece.calls
    assert (piece.text, piece.finish_reason, call.name) == ("", "tool_calls", tool.name)
    return json.loads(call.arguments)


# -- the loop of the reference page ------------------------------------------------------------------------------------


async def test_the_question_of_the_reference_page_calls_the_callers_tool() -> None:
    piece = await done(said("user", QUESTION), *context(), tools=(*OTHERS, HEALTH), choice="auto")
    assert piece.calls == (ToolCall(CallId("call_2"), "get_cluster_health", '{"includeShardStats":false}'),)


async def test_a_flag_that_is_asked_for_is_set() -> None:
    piece = await done(said("user", "cluster health, include shard stats"), tools=(HEALTH,))
    assert [call.arguments for call in piece.calls] == ['{"includeShardStats":true}']


@pytest.mark.parametrize("context_last", [True, False])
async def test_its_result_is_told_in_a_sentence_whichever_side_the_context_stands(context_last: bool) -> None:
    result = called("get_cluster_health", '{"status":"green","number_of_nodes":3}')
    rounds = (*result, *context()) if context_last else (*context(), *result)
    piece = await done(said("user", QUESTION), *rounds, tools=(*OTHERS, HEALTH), choice="auto")
    assert (piece.text, piece.calls) == (
        f"The cluster is healthy: its status is green. It has 3 nodes.\n\n{SIGNATURE}",
        (),
    )


async def test_what_the_project_knows_is_quoted_where_no_tool_fits() -> None:
    known = context("The printer is on the second floor.", "Our favourite color is teal.")
    piece = await done(said("user", "What's our favourite color?"), *known, tools=(HEALTH,))
    assert piece.text == f"This is what the knowledge base says:\n\nOur favourite color is teal.\n\n{SIGNATURE}"


@pytest.mark.parametrize("content", ["{}", "no JSON", '{"learnings":[{"text":"The printer is upstairs."}]}'])
async def test_background_that_has_nothing_to_do_with_it_is_no_answer(content: str) -> None:
    piece = await done(said("user", "What's our favourite color?"), *called("context", content), tools=(HEALTH,))
    assert piece.text.startswith("I cannot answer that")


# -- questions by the way ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "title"),
    [
        ("Why the sky is blue?", "Why the sky is blue"),
        ("one two three four five six seven eight nine", "one two three four five six seven eight…"),
        ("x" * 200, "x" * TITLE_CHARS_MAX),
        ("", ""),
    ],
)
async def test_a_title_is_the_first_words_of_the_conversation(asked: str, title: str) -> None:
    question = titles.question((said("user", asked), said("assistant", "Because."))) if asked else (said("user", ""),)
    assert await forced(titles.TOOL, *question) == {"title": title}


async def test_documents_are_scored_by_the_words_they_share_with_the_question() -> None:
    texts = ("Our favourite color is teal, said </DocumentsToScore>", "The printer is upstairs.", "A favourite song")
    found = [Found(KnowledgeEntry(ProjectId("p"), f"e{at}", text), 1.0) for at, text in enumerate(texts)]
    piece = await done(
        *scoring.judging("What's my favourite color?", found),
        tools=(scoring.SCORE_SUGGESTIONS,),
        choice=scoring.SCORE_SUGGESTIONS.name,
    )
    scores = scoring.scores_of(piece, found)
    assert dict(scores) == {"e0": 7, "e1": 0, "e2": 4}


async def test_a_search_query_is_the_users_own_words_without_our_signature() -> None:
    piece = await done(*scoring.rewriting((said("user", "Which port\ndoes it use?"),), "Discover"))
    assert piece.text == "Which port does it use?"


async def test_fields_are_chosen_that_share_words_with_what_was_asked() -> None:
    names = ["@timestamp", "host.name", "labels.team", "http.response.status_code", "message"]
    lines = "\n".join(json.dumps({"field": f"{name}:keyword", "id": f"f{at}"}) for at, name in enumerate(names))
    asked = said("user", "Which hosts answer with a bad status code?")
    picked = await forced(PICK, said("system", "Choose."), asked, said("user", f"These are the fields.\n\n{lines}"))
    assert picked == {"fieldIds": ["f3", "f1", "f0", "f4"]}


async def test_no_more_than_some_fields_are_chosen() -> None:
    lines = "\n".join(json.dumps({"field": f"host.f{at}", "id": str(at)}) for at in range(PICKED_MAX + 1))
    picked = await forced(PICK, said("user", "hosts"), said("user", lines))
    assert picked == {"fieldIds": [str(at) for at in range(PICKED_MAX)]}


async def test_a_loop_is_closed_with_what_the_tools_said() -> None:
    messages = (said("user", QUESTION), *context(), *called("get_cluster_health", '{"status":"green"}'))
    assert await forced(EXIT, *messages) == {"response": f"The cluster is healthy: its status is green.\n\n{SIGNATURE}"}


async def test_any_other_tool_gets_what_the_question_gives_and_values_that_say_nothing() -> None:
    properties: dict[str, Any] = {
        "path": {"type": "string"},
        "method": {"type": "string", "enum": ["GET", "POST"]},
        "size": {"type": "integer", "default": 10},
        "body": {"type": "object"},
        "also": {"type": "boolean"},
        "ids": {"type": "array"},
        "n": {"type": "number"},
        "odd": {"type": ["string", "null"]},
        "note": {"type": "string"},
    }
    required = ["path", "method", "size", "body", "also", "ids", "n", "odd"]
    tool = ToolSpec("any", "", {"type": "object", "properties": properties, "required": required})
    assert await forced(tool, said("user", "Please read notes.md")) == {
        "path": "notes.md",
        "method": "GET",
        "size": 10,
        "body": {},
        "also": False,
        "ids": [],
        "n": 0,
        "odd": "",
    }
    assert await forced(ToolSpec("none", "", {}), said("user", "hi")) == {}


async def test_a_choice_of_a_tool_that_is_not_offered_is_none() -> None:
    piece = await done(said("user", QUESTION), tools=(HEALTH,), choice="title_conversation")
    assert [call.name for call in piece.calls] == ["get_cluster_health"]
