"""Sources: filled, cut into passages, searched by whoever names them and by nobody else."""

from itertools import count, pairwise

import pytest
from msgspec.structs import replace

from dragoman.core.errors import BadRequest, Conflict, NotFound
from dragoman.core.knowledge import KnowledgeEntry, Query
from dragoman.core.names import ProjectId
from dragoman.core.sources import Document, Source
from dragoman.runtime import sources as limits
from dragoman.runtime.sources import DOCUMENTS, OVERLAP_CHARS, PASSAGE_CHARS, Sources, passages_of
from dragoman.stores.memory.knowledge import MemoryKnowledge
from dragoman.stores.memory.records import MemoryRecords
from tests.support import FixedClock

P, Q = ProjectId("p"), ProjectId("q")
REFUNDS = Document("Refunds", "Money goes back to the card within five days.", "refunds.md")
SHIPPING = Document("Shipping", "Parcels leave the warehouse every morning.")


class Library:
    def __init__(self) -> None:
        clock = FixedClock()
        numbers = count(1)
        self.knowledge = MemoryKnowledge(clock)
        self.records = MemoryRecords(clock)
        self.sources = Sources(self.records, self.knowledge, new_id=lambda: f"{next(numbers):024x}")

    async def make(self, name: str, *documents: Document, project: ProjectId = P) -> Source:
        made = await self.sources.create(project, name)
        await self.sources.add(project, made.id, documents)
        found = await self.sources.get(project, made.id)
        assert found is not None
        return found

    async def titles(
        self, *ids: str, query: str = "money parcels", found_max: int = 3, whole: bool = False
    ) -> list[str]:
        found = await self.sources.search(P, ids, query, found_max=found_max, whole=whole)
        return [each.title for each in found]


@pytest.fixture
def library() -> Library:
    return Library()


# -- kept --------------------------------------------------------------------------------------------------------------


async def test_a_source_is_made_filled_listed_and_removed(library: Library):
    made = await library.sources.create(P, " Handbook ", "All of it.")
    assert (made.name, made.description, made.documents, made.active) == ("Handbook", "All of it.", 0, True)
    ids = await library.sources.add(P, made.id, [REFUNDS, SHIPPING])
    assert len(set(ids)) == 2
    (listed,) = await library.sources.page(P)
    assert listed == replace(made, documents=2) == await library.sources.get(P, made.id)
    assert await library.knowledge.count(P) == 2
    await library.sources.remove(P, made.id)
    assert await library.sources.page(P) == ()
    assert await library.knowledge.count(P) == 0
    assert (await library.records.page(P, DOCUMENTS, limit=0, offset=0)).total == 0


@pytest.mark.parametrize("source_id", ["", "x", "0" * 24, "../" + "0" * 21, "A" * 24])
async def test_what_is_not_there_is_not_found(library: Library, source_id: str):
    assert await library.sources.get(P, source_id) is None
    for change in (
        library.sources.add(P, source_id, [REFUNDS]),
        library.sources.remove(P, source_id),
        library.sources.set_active(P, source_id, active=False),
    ):
        with pytest.raises(NotFound):
            await change


async def test_names_are_there_once_and_in_each_project(library: Library):
    await library.make("Handbook")
    with pytest.raises(Conflict):
        await library.sources.create(P, "Handbook")
    await library.make("Handbook", project=Q)


@pytest.mark.parametrize(
    ("name", "description"), [("", ""), (" ", ""), ("a\nb", ""), ("n" * 101, ""), ("n", "d" * 1001)]
)
async def test_a_name_or_description_that_cannot_be_is_refused(library: Library, name: str, description: str):
    with pytest.raises(BadRequest):
        await library.sources.create(P, name, description)


async def test_names_and_descriptions_may_be_so_long(library: Library):
    made = await library.sources.create(P, "n" * limits.NAME_CHARS_MAX, "d" * limits.DESCRIPTION_CHARS_MAX)
    assert await library.sources.get(P, made.id) == made


async def test_a_source_may_have_the_id_that_a_workflow_calls_it(library: Library):
    wanted = "6650f0c2a1b2c3d4e5f60718"
    assert (await library.sources.create(P, "Handbook", source_id=wanted)).id == wanted
    await library.sources.add(P, wanted, [REFUNDS])
    assert await library.titles(wanted) == ["Refunds"]
    assert (await library.sources.create(Q, "Handbook", source_id=wanted)).documents == 0
    with pytest.raises(Conflict, match=f"the id {wanted} already"):
        await library.sources.create(P, "Other", source_id=wanted)
    for bad in (wanted[:-1], wanted + "0", wanted.upper(), "handbook"):
        with pytest.raises(BadRequest, match="24 hex digits"):
            await library.sources.create(P, "Other", source_id=bad)
    assert len(await library.sources.page(P)) == 1


async def test_a_project_has_so_many_sources_and_no_more(library: Library, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "SOURCES_MAX", 2)
    await library.make("a")
    await library.make("b")
    with pytest.raises(Conflict):
        await library.make("c")
    await library.make("c", project=Q)


async def test_a_source_has_so_many_documents_and_no_more(library: Library, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "DOCUMENTS_MAX", 2)
    made = await library.make("a", REFUNDS, SHIPPING)
    with pytest.raises(Conflict) as refused:
        await library.sources.add(P, made.id, [REFUNDS])
    assert refused.value.detail.startswith("The source has 2 documents and 1 more were to be added; 2 is as many")


async def test_a_project_knows_so_much_and_no_more(library: Library, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "ENTRIES_MAX", 3)
    made = await library.make("a", REFUNDS, SHIPPING)
    with pytest.raises(Conflict):
        await library.sources.add(P, made.id, [Document("Long", "word " * 400)])
    await library.sources.add(P, made.id, [REFUNDS])
    assert await library.knowledge.count(P) == 3


@pytest.mark.parametrize(
    "document",
    [
        Document("t", ""),
        Document("t", " \n"),
        Document("", "x"),
        Document("t" * 301, "x"),
        Document("t", "x", "n" * 301),
        Document("t", "x" * (limits.DOCUMENT_CHARS_MAX + 1)),
    ],
)
async def test_a_document_that_cannot_be_is_refused_and_none_is_added(library: Library, document: Document):
    made = await library.make("a")
    with pytest.raises(BadRequest):
        await library.sources.add(P, made.id, [REFUNDS, document])
    assert await library.knowledge.count(P) == 0


async def test_a_document_of_the_largest_size_is_taken_whole(library: Library):
    text = ("word " * (limits.DOCUMENT_CHARS_MAX // 5)).ljust(limits.DOCUMENT_CHARS_MAX, "x")
    made = await library.make("a", Document("t" * 300, text, "n" * 300))
    (found,) = await library.sources.search(P, [made.id], "word", found_max=1, whole=True)
    assert found.text == text


async def test_so_much_is_added_at_once_and_no_more(library: Library, monkeypatch: pytest.MonkeyPatch):
    most = len(REFUNDS.text) + len(SHIPPING.text)
    monkeypatch.setattr(limits, "ADDED_CHARS_MAX", most)
    made = await library.make("a", REFUNDS, SHIPPING)
    with pytest.raises(BadRequest):
        await library.sources.add(P, made.id, [REFUNDS, replace(SHIPPING, text=SHIPPING.text + "!")])


# -- searched ----------------------------------------------------------------------------------------------------------


async def test_what_is_found_says_where_it_is_from(library: Library):
    made = await library.make("a", REFUNDS, SHIPPING)
    (found,) = await library.sources.search(P, [made.id], "money on a card?", found_max=3)
    assert (found.source, found.title, found.name, found.text) == (made.id, "Refunds", "refunds.md", REFUNDS.text)
    (other,) = await library.sources.search(P, [made.id], "parcels", found_max=3)
    assert (other.title, other.name) == ("Shipping", "Shipping")
    assert other.document != found.document


async def test_only_the_sources_that_are_named_active_and_of_the_project_are_searched(library: Library):
    one, two = await library.make("a", REFUNDS), await library.make("b", SHIPPING)
    elsewhere = await library.make("a", REFUNDS, project=Q)
    assert await library.titles(one.id) == ["Refunds"]
    assert await library.titles(one.id, two.id) == ["Refunds", "Shipping"]
    assert await library.titles(elsewhere.id, "nonsense", "") == []
    await library.sources.set_active(P, one.id, active=False)
    assert await library.titles(one.id, two.id) == ["Shipping"]
    await library.sources.set_active(P, one.id, active=True)
    assert await library.titles(one.id) == ["Refunds"]
    await library.sources.remove(P, one.id)
    assert await library.titles(one.id, two.id) == ["Shipping"]


async def test_nobody_else_recalls_what_is_in_a_source(library: Library):
    await library.make("a", REFUNDS)
    for owner in ("", "ann", "source", "local"):
        assert await library.knowledge.search(P, [Query("money")], owner=owner, labels={}, limit=10) == ()


async def test_so_many_sources_are_searched_and_no_more(library: Library, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "SOURCES_MAX", 2)
    one, two = await library.make("a", REFUNDS), await library.make("b", SHIPPING)
    assert await library.titles(one.id, two.id) == ["Refunds", "Shipping"]
    assert await library.titles(one.id, one.id, two.id) == ["Refunds"]


async def test_what_others_label_as_a_sources_is_not_in_it(library: Library):
    made = await library.make("a", REFUNDS)
    labels = {"source": made.id, "document": "d", "chunk": "0", "name": "n"}
    planted = KnowledgeEntry(P, "planted", "money money money", "Planted", public=True, labels=labels, owner="eve")
    await library.knowledge.put([planted])
    assert await library.titles(made.id) == ["Refunds"]


async def test_of_several_sources_the_best_of_each_come_first(library: Library):
    many = await library.make("a", *(Document(f"A{number}", "money " * (9 - number)) for number in range(4)))
    few = await library.make("b", Document("B", "a word on money"))
    titles = await library.titles(many.id, few.id, query="money", found_max=3)
    assert len(titles) == 3 and titles[1] == "B"
    assert await library.titles(many.id, many.id, query="money", found_max=20) == await library.titles(
        many.id, query="money", found_max=20
    )


@pytest.mark.parametrize(("found_max", "found"), [(-1, 1), (0, 1), (1, 1), (20, 20), (21, 20)])
async def test_so_many_are_found_and_no_more(library: Library, found_max: int, found: int):
    made = await library.make("a", *(Document(f"D{number}", f"money {number}") for number in range(25)))
    for whole in (False, True):
        assert len(await library.titles(made.id, query="money", found_max=found_max, whole=whole)) == found


async def test_a_whole_document_is_given_once(library: Library):
    text = " ".join(f"Sentence {number} speaks of money." for number in range(200))
    made = await library.make("a", Document("Long", text), REFUNDS)
    found = await library.sources.search(P, [made.id], "money", found_max=3, whole=True)
    assert sorted(each.title for each in found) == ["Long", "Refunds"]
    assert next(each.text for each in found if each.title == "Long") == text
    passages = await library.sources.search(P, [made.id], "money", found_max=3)
    assert all(len(each.text) <= PASSAGE_CHARS for each in passages) and len(passages) == 3


# -- cut ---------------------------------------------------------------------------------------------------------------


def test_a_short_text_is_one_passage():
    assert passages_of("one") == ["one"]
    assert passages_of("x" * PASSAGE_CHARS) == ["x" * PASSAGE_CHARS]
    assert passages_of("") == passages_of(" \n ") == []


def test_a_passage_ends_with_a_sentence_and_the_next_begins_before_its_end():
    text = " ".join(f"This is sentence number {number}." for number in range(100))
    pieces = passages_of(text)
    assert len(pieces) > 2
    assert all(len(piece) <= PASSAGE_CHARS for piece in pieces)
    assert all(piece.endswith(".") for piece in pieces)
    for one, two in pairwise(pieces):
        shared = max(length for length in range(OVERLAP_CHARS + 1) if one.endswith(two[:length]))
        assert 0 < shared <= OVERLAP_CHARS


def test_without_sentences_words_stay_whole():
    pieces = passages_of("wordword " * 500)
    assert {word for piece in pieces for word in piece.split()} == {"wordword"}


@pytest.mark.parametrize("text", ["x" * 5000, "知" * 5000, "知道。" * 2000, "\n" * 3000 + "x", "a\n" * 3000])
def test_every_character_that_is_none_of_the_spaces_is_in_a_passage(text: str):
    pieces = passages_of(text)
    assert all(0 < len(piece) <= PASSAGE_CHARS for piece in pieces)
    assert sum(map(len, pieces)) >= len(text.strip().replace("\n", ""))
    at = 0
    for piece in pieces:  # they follow each other without a gap
        found = text.find(piece, max(0, at - OVERLAP_CHARS))
        assert found >= 0 and not text[at:found].strip()
        at = found + len(piece)
    assert not text[at:].strip()
