"""`core.knowledge.Knowledge`, the same for every engine."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from dragoman.access.ports import Project
from dragoman.core.errors import BadRequest, Unavailable
from dragoman.core.knowledge import EntryRole, Found, KnowledgeEntry, Query
from dragoman.core.names import ProjectId
from dragoman.runtime.knowledge_rules import INDEXED_CHARS_MAX
from dragoman.runtime.record_rules import NAME_CHARS_MAX
from tests.stores.conftest import DURABLE, ENGINES, Engine
from tests.support import FixedClock

MINE = ProjectId("mine")
YOURS = ProjectId("yours")
ENTRY = KnowledgeEntry(
    *(MINE, "e1", "The billing service runs in\tFrankfurt. 🦉", 'Größe "of" it', False, EntryRole.ASSISTANT),
    labels={"team": "paymænts", 'k"ey': ""},
    owner="ann",
    owner_name="Änn",
)
NO_LABELS: Mapping[str, str] = {}


def entry(name: str, text: str = "", title: str = "", *, public: bool = True, **other: str) -> KnowledgeEntry:
    labels = {key: value for key, value in other.items() if key not in ("owner", "project")}
    return KnowledgeEntry(
        *(ProjectId(other.get("project", MINE)), name, text, title, public),
        labels=labels,
        owner=other.get("owner", "ann"),
        owner_name=other.get("owner", "ann").title(),
    )


async def search(
    store: Engine, *queries: str | Query, owner: str = "ann", labels: Mapping[str, str] = NO_LABELS, limit: int = 20
) -> Sequence[Found]:
    asked = [query if isinstance(query, Query) else Query(query) for query in queries]
    return await store.knowledge.search(MINE, asked, owner=owner, labels=labels, limit=limit)


async def found(store: Engine, *queries: str | Query, owner: str = "ann", limit: int = 20) -> list[str]:
    """The ids of what is found, best first."""
    hits = await search(store, *queries, owner=owner, limit=limit)
    assert all(hit.score > 0 for hit in hits)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    return [hit.entry.id for hit in hits]


# -- put, get, delete ------------------------------------------------------------------------------------------------


async def test_an_entry_comes_back_as_it_was_put(store: Engine, clock: FixedClock):
    await store.knowledge.put((replace(ENTRY, updated_at=5.0),))
    put = replace(ENTRY, updated_at=clock.at)
    assert await store.knowledge.get(MINE, "e1") == put
    assert list(await store.knowledge.page(MINE, limit=10)) == [put]
    assert [hit.entry for hit in await search(store, "Frankfurt")] == [put]
    assert await store.knowledge.count(MINE) == 1


async def test_ids_are_of_one_project_and_compared_exactly(store: Engine):
    await store.knowledge.put((ENTRY,))
    assert await store.knowledge.get(YOURS, "e1") is None
    for name in ("E1", "e1 ", "", "é1"):
        assert await store.knowledge.get(MINE, name) is None
        assert await store.knowledge.delete(MINE, name) is False
    await store.knowledge.put((replace(ENTRY, project=YOURS, text="theirs"),))
    mine = await store.knowledge.get(MINE, "e1")
    assert mine is not None
    assert mine.text == ENTRY.text
    assert (await store.knowledge.count(MINE), await store.knowledge.count(YOURS)) == (1, 1)


async def test_an_entry_put_over_another_stays_with_who_made_that(store: Engine, clock: FixedClock):
    await store.knowledge.put((ENTRY,))
    clock.move(5.5)
    change = KnowledgeEntry(
        *(MINE, "e1", "new text", "new title", True, EntryRole.PROGRAM), labels={"a": "b"}, owner="bob"
    )
    await store.knowledge.put((change,))
    stands = replace(change, owner="ann", owner_name="Änn", updated_at=clock.at)
    assert await store.knowledge.get(MINE, "e1") == stands
    assert await store.knowledge.count(MINE) == 1
    assert await found(store, "Frankfurt") == await found(store, "Größe") == []
    assert await found(store, "new") == ["e1"]


async def test_several_are_written_at_once_the_last_of_one_id_counts(store: Engine):
    await store.knowledge.put(())
    many = [entry(f"e{number}", f"text {number}") for number in range(250)]
    await store.knowledge.put((*many, entry("e7", "seven", owner="bob")))
    assert await store.knowledge.count(MINE) == 250
    seven = await store.knowledge.get(MINE, "e7")
    assert seven is not None
    assert (seven.text, seven.owner) == ("seven", "ann")


async def test_all_are_written_or_none(store: Engine):
    with pytest.raises(BadRequest):
        await store.knowledge.put((entry("good", "text"), entry("bad", "a\0")))
    with pytest.raises(ValueError, match="several projects"):
        await store.knowledge.put((entry("good"), entry("other", project="yours")))
    assert (await store.knowledge.count(MINE), await store.knowledge.count(YOURS)) == (0, 0)


async def test_many_who_write_the_same_at_once_leave_what_one_wrote(store: Engine):
    names = [f"e{number}" for number in range(20)]
    await asyncio.gather(
        *(store.knowledge.put([entry(name, f"word{who}") for name in names[::step]]) for who, step in ((1, 1), (2, -1)))
    )
    assert await store.knowledge.count(MINE) == 20
    left = {hit.entry.text for word in ("word1", "word2") for hit in await search(store, word)}
    assert len(left) == 1
    assert {each.text for each in await store.knowledge.page(MINE, limit=50)} == left


async def test_what_is_deleted_is_not_found_any_more(store: Engine):
    await store.knowledge.put((ENTRY, replace(ENTRY, id="e2")))
    assert await store.knowledge.delete(YOURS, "e1") is False
    assert await store.knowledge.delete(MINE, "e1") is True
    assert await store.knowledge.delete(MINE, "e1") is False
    assert await store.knowledge.get(MINE, "e1") is None
    assert await found(store, "billing") == ["e2"]
    await store.knowledge.put((entry("e3", "something else"),))
    assert await found(store, "billing") == ["e2"]


async def test_what_was_deleted_once_is_deleted_once(store: Engine):
    await store.knowledge.put((ENTRY,))
    results = await asyncio.gather(*(store.knowledge.delete(MINE, "e1") for _ in range(4)))
    assert sorted(results) == [False, False, False, True]


# -- page ------------------------------------------------------------------------------------------------------------


async def test_a_page_comes_in_the_order_that_was_asked_for_then_by_id(store: Engine, clock: FixedClock):
    for name, title, public, role in (
        ("d", "b", True, EntryRole.USER),
        ("a", "c", False, EntryRole.ASSISTANT),
        ("B", "a", True, EntryRole.PROGRAM),
        ("é", "a", False, EntryRole.USER),
        ("c", "Z", True, EntryRole.USER),
    ):
        await store.knowledge.put((replace(entry(name, title=title, public=public), role=role),))
        clock.move(1)
    orders = {
        ("title", False): "c B é d a",
        ("title", True): "a d B é c",
        ("id", False): "B a c d é",
        ("id", True): "é d c a B",
        ("updated_at", False): "d a B é c",
        ("updated_at", True): "c é B a d",
        ("public", False): "a é B c d",
        ("public", True): "B c d a é",
        ("role", False): "a B c d é",
        ("role", True): "c d é B a",
    }
    for (sort, descending), expected in orders.items():
        page = await store.knowledge.page(MINE, sort=sort, descending=descending, limit=10)
        assert " ".join(each.id for each in page) == expected, (sort, descending)
    assert [each.id for each in await store.knowledge.page(MINE, sort="id", limit=2)] == ["B", "a"]
    assert list(await store.knowledge.page(MINE, limit=0)) == list(await store.knowledge.page(MINE, limit=-1)) == []
    assert len(await store.knowledge.page(MINE, limit=2**70)) == 5
    assert list(await store.knowledge.page(YOURS, limit=10)) == []
    with pytest.raises(BadRequest):
        await store.knowledge.page(MINE, sort="text", limit=10)


async def test_a_page_may_be_of_titles_and_ids_that_contain_something(store: Engine):
    for name, title, text in (
        ("one", "Über ÄPFEL", "plum"),
        ("two", "100% _sure_", "pear"),
        ("Three", "", ""),
        ("4", "a\\b", ""),
    ):
        await store.knowledge.put((entry(name, text, title, public=False, owner="bob"),))
    expected = {
        "über": ["one"],
        "äpfel": ["one"],
        "THREE": ["Three"],
        "%": ["two"],
        "_": ["two"],
        "\\": ["4"],
        "o": ["two", "one"],
        "plum": [],
        "e2": [],
        "": ["Three", "two", "4", "one"],
    }
    for containing, names in expected.items():
        page = await store.knowledge.page(MINE, containing=containing, limit=10)
        assert [each.id for each in page] == names, containing


# -- search ----------------------------------------------------------------------------------------------------------


async def test_an_entry_with_the_word_in_its_title_comes_first(store: Engine):
    await store.knowledge.put(
        (
            entry("text", "Restart the kafka brokers one by one and wait."),
            entry("title", "Restart the brokers one by one, then wait.", "How to run kafka"),
            entry("twice", "kafka is a log; kafka has brokers and more of it all."),
            *(entry(f"other{number}", "Nothing of that is in here at all, is it?") for number in range(8)),
        )
    )
    assert (await found(store, "kafka"))[0] == "title"
    assert sorted(await found(store, "kafka")) == ["text", "title", "twice"]
    assert len(await found(store, "kafka", limit=2)) == 2
    assert await found(store, "kafka", limit=0) == await found(store, "kafka", limit=-1) == []
    assert len(await found(store, "kafka", limit=2**70)) == 3


async def test_any_word_will_do_and_a_rare_one_counts_more_than_a_common_one(store: Engine):
    await store.knowledge.put([entry(f"disk{number}", "the disk is full") for number in range(9)])
    await store.knowledge.put((entry("rare", "the quokka sleeps"), entry("none", "entirely unrelated")))
    names = await found(store, "is the disk of the quokka full?", limit=50)
    assert "none" not in names
    assert len(names) == 10
    assert (await found(store, "disk quokka"))[0] == "rare"


async def test_what_several_queries_find_is_taken_together_each_by_its_boost(store: Engine):
    await store.knowledge.put((entry("a", "apples grow"), entry("b", "pears grow"), entry("both", "apples pears too")))
    await store.knowledge.put([entry(f"o{number}", "something else") for number in range(5)])
    assert await found(store, Query("apples"), Query("pears", 5.0)) == ["both", "b", "a"]
    assert await found(store, Query("apples", 5.0), Query("pears")) == ["both", "a", "b"]
    plain = {hit.entry.id: hit.score for hit in await search(store, "apples")}
    boosted = {hit.entry.id: hit.score for hit in await search(store, Query("apples", 3.0))}
    assert boosted == pytest.approx({name: score * 3 for name, score in plain.items()}, rel=1e-5)
    assert await found(store, Query("apples", 0.0), Query("pears", -1.0)) == []


async def test_no_query_finds_everything_the_newest_first(store: Engine, clock: FixedClock):
    for name in ("b", "a", "c"):
        await store.knowledge.put((entry(name), entry(f"{name}2")))
        clock.move(1)
    assert await found(store) == ["c", "c2", "a", "a2", "b", "b2"]
    assert await found(store, limit=3) == ["c", "c2", "a"]


@pytest.mark.parametrize("text", ["", "   ", "?!", "🦉", "-", '"', "*", "()", "\n", "\\", "'"])
async def test_a_query_without_a_word_finds_nothing(store: Engine, text: str):
    await store.knowledge.put((entry("e", text or "x", text),))
    assert await found(store, text) == []


@pytest.mark.parametrize(
    "text",
    [
        'disk" OR "secret',
        "title:disk AND NOT full",
        "disk*",
        "NEAR(disk full)",
        "^disk - full",
        "(disk",
        "disk & full | !x <-> y:*A",
        "disk'); drop table knowledge; --",
        "{disk} : +full\\",
        "'disk':3A",
        "disk\tfull\u2028%s ?1 $1 :p1",
        "disk " * 5000,
        "x" * 100_000 + " disk",
        " ".join(f"w{number}" for number in range(90)) + " disk",
    ],
)
async def test_no_text_is_an_operator(store: Engine, text: str):
    await store.knowledge.put((entry("e", "the disk is full"), entry("o", "zzz", "qqq"), entry("hid", "NOT", "scope")))
    assert (await found(store, text))[0] == "e"
    assert "o" not in await found(store, text)


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("Queries are cached", "query"),
        ("Queries are cached", "CACHING"),
        ("restarted the databases", "restart database"),
        ("The Äpfel of Ünter", "apfel"),
        ("The apfel", "ÄPFEL"),
        ("cafe\u0301", "CAFÉ"),
        ("Straße", "strasse"),
        ("logs.nginx-access@host/path_to/file", "nginx"),
        ("logs.nginx-access@host/path_to/file", "file access"),
        ("error 0x1F at 10.0.0.1", "0x1f"),
        ("株式会社の売上データ", "売上"),
        ("株式会社の売上データ", "社"),
        ("ｶﾀｶﾅ", "カタカナ"),
        ("서버가 멈췄다", "서버"),
        ("ระบบล่ม", "ล่ม"),
        ("данные сервера", "СЕРВЕРА"),
        ("हिन्दी में", "हिन्दी"),
        ("מסד נתונים", "נתונים"),
        ("x" * 200, "x" * 150),
    ],
)
async def test_a_word_is_found_in_its_other_forms(store: Engine, text: str, asked: str):
    await store.knowledge.put((entry("in text", text), entry("other", "nothing of it"), entry("in title", "-", text)))
    assert sorted(await found(store, asked)) == ["in text", "in title"]


async def test_only_the_beginning_of_a_very_long_text_is_searched(store: Engine):
    long = "word " * (INDEXED_CHARS_MAX // 4 + 1) + "needle"
    kanji = "".join(chr(0x4E00 + number % 20_000) for number in range(300_000))
    await store.knowledge.put((entry("long", long, "hay"), entry("kanji", kanji)))
    assert await found(store, "needle") == []
    assert await found(store, "word") == await found(store, "hay") == ["long"]
    assert await found(store, kanji[:2]) == ["kanji"]
    kept = await store.knowledge.get(MINE, "long")
    assert kept is not None
    assert kept.text == long


async def test_what_is_private_is_found_by_its_owner_only(store: Engine):
    for name, public, owner in (("a", True, "ann"), ("b", False, "ann"), ("c", False, "bob"), ("d", False, "")):
        await store.knowledge.put((entry(name, "the same text", "title", public=public, owner=owner),))
    await store.knowledge.put((entry("x", "the same text", project="yours"),))
    for asked in (("text",), ("title", "same"), ()):
        assert sorted(await found(store, *asked, owner="ann")) == ["a", "b"]
        assert sorted(await found(store, *asked, owner="bob")) == ["a", "c"]
        assert sorted(await found(store, *asked, owner="Bob")) == ["a"]
        assert sorted(await found(store, *asked, owner="")) == ["a", "d"]
    assert [each.id for each in await store.knowledge.page(MINE, sort="id", limit=9)] == ["a", "b", "c", "d"]


async def test_a_search_may_be_of_what_carries_some_labels(store: Engine):
    await store.knowledge.put(
        (
            entry("none", "text"),
            entry("one", "text", a="1"),
            entry("both", "text", a="1", b='"2"'),
            entry("else", "text", a="2", b="1"),
        )
    )
    expected: list[tuple[dict[str, str], list[str]]] = [
        ({}, ["both", "else", "none", "one"]),
        ({"a": "1"}, ["both", "one"]),
        ({"a": "1", "b": '"2"'}, ["both"]),
        ({"a": "2"}, ["else"]),
        ({"b": "2"}, []),
        ({"A": "1"}, []),
        ({"": ""}, []),
    ]
    for labels, names in expected:
        for asked in (("text",), ()):
            hits = await search(store, *asked, labels=labels)
            assert sorted(hit.entry.id for hit in hits) == names, labels


# -- the rest --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["\ud800", "a\0"])
async def test_texts_that_not_every_engine_keeps_are_refused(store: Engine, bad: str):
    for field in ("project", "id", "text", "title", "owner", "owner_name"):
        with pytest.raises(BadRequest) as refused:
            await store.knowledge.put((replace(ENTRY, **{field: bad}),))
        assert refused.value.faults[0].field == field
    for labels in ({bad: "x"}, {"x": bad}):
        with pytest.raises(BadRequest):
            await store.knowledge.put((replace(ENTRY, labels=labels),))
    for call in (
        store.knowledge.get(MINE, bad),
        store.knowledge.delete(MINE, bad),
        store.knowledge.count(ProjectId(bad)),
        store.knowledge.page(ProjectId(bad), limit=1),
        store.knowledge.page(MINE, containing=bad, limit=1),
        search(store, bad),
        search(store, "x", owner=bad),
        search(store, "x", labels={bad: ""}),
        store.knowledge.search(ProjectId(bad), (), owner="", labels={}, limit=1),
    ):
        with pytest.raises(BadRequest):
            await call


async def test_an_id_has_a_greatest_length(store: Engine):
    longest = "🦉" * NAME_CHARS_MAX
    await store.knowledge.put((replace(ENTRY, id=longest),))
    assert await store.knowledge.delete(MINE, longest) is True
    with pytest.raises(BadRequest):
        await store.knowledge.put((replace(ENTRY, id=longest + "x"),))


async def test_a_deleted_project_is_gone_with_its_knowledge(store: Engine):
    await store.put_project(Project(MINE, "Mine", 1.0))
    await store.knowledge.put((ENTRY, replace(ENTRY, id="e2")))
    await store.knowledge.put((replace(ENTRY, project=YOURS),))
    assert await store.delete_project(MINE) is True
    assert await store.knowledge.count(MINE) == 0
    assert await found(store, "billing") == await found(store) == []
    assert await store.knowledge.count(YOURS) == 1


@pytest.mark.parametrize("engine", DURABLE)
async def test_knowledge_outlives_the_process_and_is_seen_and_written_beside_it(
    engine: str, tmp_path: Path, clock: FixedClock
):
    async with ENGINES[engine](tmp_path, clock) as store:
        await store.knowledge.put((ENTRY,))
        async with DURABLE[engine](tmp_path, clock) as beside:
            assert await beside.knowledge.get(MINE, "e1") == replace(ENTRY, updated_at=clock.at)
            await beside.knowledge.put((replace(ENTRY, text="from beside", owner="bob"), replace(ENTRY, id="e2")))
        assert await found(store, "beside") == ["e1"]
        assert await store.knowledge.delete(MINE, "e2") is True
    async with DURABLE[engine](tmp_path, clock) as beside:
        assert await found(beside, "beside") == await found(beside) == ["e1"]


async def test_a_closed_store_has_no_knowledge(store: Engine):
    await store.knowledge.put((ENTRY,))
    await store.close()
    for call in (
        store.knowledge.get(MINE, "e1"),
        store.knowledge.page(MINE, limit=1),
        store.knowledge.put((ENTRY,)),
        store.knowledge.delete(MINE, "e1"),
        store.knowledge.count(MINE),
        search(store, "billing"),
    ):
        with pytest.raises(Unavailable):
            await call
