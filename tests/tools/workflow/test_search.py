"""The search of an agent in its sources: what it may find, and how it is told."""

import json

import pytest
from msgspec.structs import replace

from dragoman.core.sources import Document
from dragoman.core.workflows import SEARCH, Member, Staging
from dragoman.runtime.workflow import SEARCH_TOOL
from dragoman.tools.workflow.search import CONTENT_CHARS_MAX, CUT
from tests.tools.workflow.staging import MEMBER, Asked, Bench, P

TEXT = "Money goes back to the card within five days."


async def filled(bench: Bench, *documents: Document) -> Member:
    made = await bench.sources.create(P, "handbook")
    await bench.sources.add(P, made.id, documents or (Document("Refunds", TEXT, "refunds.md"),))
    return replace(MEMBER, sources=(made.id,))


async def results(bench: Bench, member: Member, query: str = "money") -> list[dict[str, str]]:
    outcome = await bench.call(
        None, json.dumps({"query": query}), name=SEARCH, spec=SEARCH_TOOL, member=member, staging=Staging("v")
    )
    assert not outcome.is_error, outcome.content
    return json.loads(outcome.content)["results"]


async def test_what_is_found_is_told_as_upstream_tells_it(bench: Bench):
    member = await filled(bench)
    (found,) = await results(bench, member)
    assert list(found) == ["title", "name", "content", "docId", "sourceId"]
    assert (found["title"], found["name"], found["content"]) == ("Refunds", "refunds.md", TEXT)
    assert (found["sourceId"],) == member.sources and len(found["docId"]) == 24


async def test_nothing_found_is_an_empty_list(bench: Bench):
    assert await results(bench, await filled(bench), "astronomy") == []
    assert await results(bench, replace(MEMBER, sources=("0" * 24,))) == []


async def test_a_member_searches_in_its_own_sources_as_many_as_it_says(bench: Bench):
    member = await filled(bench, *(Document(f"D{number}", f"money {number}") for number in range(9)))
    assert len(await results(bench, member)) == 3
    assert len(await results(bench, replace(member, found_max=7))) == 7
    assert await results(bench, replace(member, sources=())) == []


async def test_whole_documents_are_told_up_to_what_a_model_can_take(bench: Bench):
    most = ("money " * CONTENT_CHARS_MAX)[:CONTENT_CHARS_MAX]
    whole = replace(await filled(bench, Document("Long", most)), whole_documents=True)
    (found,) = await results(bench, whole)
    assert found["content"] == most

    more = await bench.sources.create(P, "more")
    await bench.sources.add(P, more.id, [Document("Longer", most + "x")])
    (found,) = await results(bench, replace(whole, sources=(more.id,)))
    assert len(found["content"]) == CONTENT_CHARS_MAX and found["content"].endswith(CUT)
    both = await results(bench, replace(whole, sources=(*whole.sources, more.id)))
    assert [len(each["content"]) for each in both] == [CONTENT_CHARS_MAX // 2] * 2


@pytest.mark.parametrize("arguments", ["{}", '{"query": ""}', '{"query": "  "}', '{"query": 1}', "[]", "{"])
async def test_a_search_without_a_query_is_refused(bench: Bench, arguments: str):
    outcome = await bench.call(None, arguments, name=SEARCH, spec=SEARCH_TOOL, member=await filled(bench))
    assert (outcome.is_error, outcome.code) == (True, "bad_arguments")


async def test_a_test_profile_mocks_no_search_and_a_request_does(bench: Bench):
    member = await filled(bench)
    ask = Asked("nothing on file")
    for staging, content in (
        (Staging("v", mock_all=True, mock_prompt="Say no."), TEXT),
        (Staging("v", mocks={SEARCH: "Find nothing."}), "nothing on file"),
    ):
        outcome = await bench.call(
            None, '{"query": "money"}', name=SEARCH, spec=SEARCH_TOOL, member=member, staging=staging, ask=ask
        )
        assert content in outcome.content
    assert [plain for _, plain in ask.asked] == ["Find nothing."]
