"""Managed resources: whose they are, who may change them, and what goes with a turn."""

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Any

import msgspec
import pytest
from msgspec import UNSET
from msgspec.structs import replace

from dragoman.core.errors import BadRequest, Conflict, NotAllowed, NotFound
from dragoman.core.messages import said
from dragoman.core.names import ConversationId, Principal, ProjectId, Scope
from dragoman.core.operations import StartTurn
from dragoman.core.records import Record
from dragoman.core.resources import (
    AcceptTerms,
    ChangeResource,
    CreateResource,
    DeleteResource,
    Feedback,
    GiveFeedback,
    Header,
    Integration,
    IntegrationChange,
    ListResources,
    PromptUsage,
    ReadPromptUsage,
    ReadResource,
    ReadTerms,
    ReadTokenLimits,
    ResourceGone,
    Rule,
    RuleChange,
    Skill,
    SkillChange,
    Terms,
    TokenLimits,
)
from dragoman.runtime.resources import KNOWN_MAX, LOOKED_S, Resources
from dragoman.stores.memory.records import MemoryRecords
from tests.support import FixedClock

P = ProjectId("p")


def person(name: str, *scopes: Scope, project: ProjectId = P) -> Principal:
    return Principal(project, name, name, frozenset(scopes))


ANN, BOB = person("ann"), person("bob")
CHIEF = person("chief", Scope.RESOURCES_WRITE)
ADMIN = person("admin", Scope.ADMIN)
STRANGER = person("ann", Scope.ADMIN, project=ProjectId("q"))
RULE = Rule("Short", "Be short.")
NOVEMBER = 1_793_880_000.0  # 2026-11-05 in UTC


class Seals:
    """Writes down what was sealed where."""

    def __init__(self) -> None:
        self.sealed: list[tuple[bytes, str]] = []

    def seal(self, secret: bytes, context: str) -> str:
        self.sealed.append((secret, context))
        return f"sealed-{len(self.sealed)}"


class Counted:
    def __init__(self) -> None:
        self.asked: list[tuple[ProjectId, float]] = []

    async def turns_since(self, project: ProjectId, *, at: float) -> int:
        self.asked.append((project, at))
        return 7


class CountingRecords(MemoryRecords):
    """`pages` counts lists; `before_put` is called before a write."""

    def __init__(self, clock: FixedClock) -> None:
        super().__init__(clock)
        self.pages = 0
        self.before_put: Callable[[], Any] | None = None
        self.before_page: Callable[[], Any] | None = None

    async def page(self, *args: Any, **options: Any) -> Any:
        self.pages += 1
        found = await super().page(*args, **options)
        if self.before_page is not None:
            await self.before_page()
        return found

    async def put(self, record: Record, *, expect: int | None) -> Record:
        if self.before_put is not None:
            await self.before_put()
        return await super().put(record, expect=expect)


class House:
    def __init__(self) -> None:
        self.clock = FixedClock(NOVEMBER)
        self.records = CountingRecords(self.clock)
        self.seals = Seals()
        self.turns = Counted()
        numbers = count(1)
        self.resources = Resources(
            self.records, self.turns, self.seals, self.clock, new_id=lambda: f"id{next(numbers)}"
        )

    async def make(self, principal: Principal, content: Any, *, wide: bool = False) -> Any:
        return await self.resources.create(principal, CreateResource(content, wide))

    async def names(self, principal: Principal, kind: type[Any] = Rule, **wanted: Any) -> list[str]:
        page = await self.resources.page(principal, ListResources(kind, **wanted))
        return [resource.content.name for resource in page.items]

    async def prepared(self, principal: Principal, text: str = "hello") -> tuple[str, ...]:
        turn = StartTurn(ConversationId("c"), (said("user", text),), instructions=("given",))
        prepared = await self.resources.prepare(principal, turn)
        assert prepared == replace(turn, instructions=prepared.instructions)
        assert prepared.instructions[0] == "given"
        return prepared.instructions[1:]


@pytest.fixture
def house() -> House:
    return House()


async def test_what_is_made_is_read_back(house: House):
    made = await house.make(ANN, RULE)
    assert (made.id, made.content, made.owner, made.wide, made.version) == ("id1", RULE, "ann", False, 1)
    assert (made.created_at, made.updated_at, made.created_by, made.updated_by) == (NOVEMBER, NOVEMBER, "ann", "ann")
    assert await house.resources.read(ANN, ReadResource(Rule, "id1")) == made


async def test_everybody_sees_the_projects_and_their_own(house: House):
    await house.make(ANN, replace(RULE, name="anns"))
    await house.make(BOB, replace(RULE, name="bobs"))
    await house.make(CHIEF, replace(RULE, name="all"), wide=True)
    assert await house.names(ANN) == ["anns", "all"]
    assert await house.names(BOB) == ["bobs", "all"]
    assert await house.names(ADMIN) == ["all"]
    assert await house.names(ANN, wide=True) == ["all"]
    assert await house.names(ANN, wide=False) == ["anns"]
    assert await house.names(STRANGER) == []
    page = await house.resources.page(ANN, ListResources(Rule, limit=1, offset=1))
    assert ([each.id for each in page.items], page.total, page.limit, page.offset) == (["id3"], 2, 1, 1)


async def test_to_others_what_somebody_owns_is_not_there(house: House):
    made = await house.make(ANN, RULE)
    for principal in (BOB, ADMIN, STRANGER):
        for attempt in (
            house.resources.read(principal, ReadResource(Rule, made.id)),
            house.resources.change(principal, ChangeResource(Rule, made.id, RuleChange(name="x"))),
            house.resources.delete(principal, DeleteResource(Rule, made.id)),
        ):
            with pytest.raises(NotFound) as missing:
                await attempt
            assert (missing.value.what, missing.value.detail) == ("rule", "There is no rule id1.")
    with pytest.raises(NotFound):
        await house.resources.read(ANN, ReadResource(Skill, made.id))


async def test_only_who_may_changes_what_belongs_to_the_project(house: House):
    with pytest.raises(NotAllowed, match="resources:write"):
        await house.make(ANN, RULE, wide=True)
    made = await house.make(CHIEF, RULE, wide=True)
    own = await house.make(ANN, RULE)
    for attempt in (
        house.resources.change(ANN, ChangeResource(Rule, made.id, RuleChange(name="x"))),
        house.resources.change(ANN, ChangeResource(Rule, made.id, RuleChange(), wide=False)),
        house.resources.change(ANN, ChangeResource(Rule, own.id, RuleChange(), wide=True)),
        house.resources.delete(ANN, DeleteResource(Rule, made.id)),
    ):
        with pytest.raises(NotAllowed):
            await attempt
    assert await house.resources.read(ANN, ReadResource(Rule, made.id)) == made
    for principal in (CHIEF, ADMIN):
        changed = await house.resources.change(
            principal, ChangeResource(Rule, made.id, RuleChange(name=principal.name))
        )
        assert (changed.content.name, changed.updated_by) == (principal.name, principal.name)
    assert await house.resources.delete(ADMIN, DeleteResource(Rule, made.id)) == ResourceGone(made.id)
    with pytest.raises(NotFound):
        await house.resources.delete(ADMIN, DeleteResource(Rule, made.id))


async def test_a_change_counts_on_and_says_who_and_when(house: House):
    made = await house.make(ANN, RULE)
    house.clock.move(5)
    changed = await house.resources.change(ANN, ChangeResource(Rule, made.id, RuleChange(enabled=False)))
    assert changed == replace(made, content=replace(RULE, enabled=False), version=2, updated_at=NOVEMBER + 5)


async def test_what_has_another_scope_is_not_the_one_that_is_meant(house: House):
    made = await house.make(ANN, RULE)
    with pytest.raises(NotFound) as missing:
        await house.resources.change(ANN, ChangeResource(Rule, made.id, RuleChange(), was_wide=True))
    assert missing.value.detail == "There is no rule id1 of scope tenant; its scope is user."
    with pytest.raises(NotFound):
        await house.resources.delete(ANN, DeleteResource(Rule, made.id, was_wide=True))
    await house.resources.delete(ANN, DeleteResource(Rule, made.id, was_wide=False))


async def test_a_resource_can_become_the_projects_and_somebodys_again(house: House):
    made = await house.make(CHIEF, RULE)
    wide = await house.resources.change(CHIEF, ChangeResource(Rule, made.id, RuleChange(), wide=True))
    assert (wide.wide, wide.owner) == (True, "chief")
    assert await house.names(ANN) == ["Short"]
    own = await house.resources.change(ADMIN, ChangeResource(Rule, made.id, RuleChange(), wide=False))
    assert (own.wide, own.owner, own.created_by) == (False, "admin", "chief")
    assert await house.names(ADMIN) == ["Short"]
    assert await house.names(CHIEF) == []


async def test_a_hundred_rules_each_and_a_hundred_for_all(house: House):
    for _ in range(100):
        last = await house.make(CHIEF, RULE)
        await house.make(CHIEF, RULE, wide=True)
    with pytest.raises(Conflict, match="You have 100 rules, which is as many as may be; delete one first"):
        await house.make(CHIEF, RULE)
    with pytest.raises(Conflict, match="The project has 100 rules"):
        await house.make(ADMIN, RULE, wide=True)
    with pytest.raises(Conflict, match="The project has 100 rules"):
        await house.resources.change(CHIEF, ChangeResource(Rule, last.id, RuleChange(), wide=True))
    await house.resources.change(CHIEF, ChangeResource(Rule, last.id, RuleChange(name="New"), wide=False))
    await house.make(ANN, RULE)


async def test_changes_that_cross_are_both_made(house: House):
    made = await house.make(ANN, RULE)
    crossing = iter((RuleChange(priority=3), RuleChange(description="d")))

    async def cross() -> None:
        change = next(crossing, None)
        if change is not None:
            await house.resources.change(ANN, ChangeResource(Rule, made.id, change))

    house.records.before_put = cross
    changed = await house.resources.change(ANN, ChangeResource(Rule, made.id, RuleChange(name="New")))
    assert changed.content == replace(RULE, name="New", priority=3, description="d")
    assert changed.version == 4


async def test_a_change_that_is_always_crossed_is_refused(house: House):
    made = await house.make(ANN, RULE)

    async def cross() -> None:
        record = await house.records.get(P, "rule", made.id)
        assert record is not None
        await MemoryRecords.put(house.records, record, expect=None)

    house.records.before_put = cross
    with pytest.raises(Conflict, match="changed by somebody else meanwhile"):
        await house.resources.change(ANN, ChangeResource(Rule, made.id, RuleChange(name="New")))


async def test_a_command_is_taken_once_where_it_is_seen(house: House):
    first = await house.make(ANN, Skill("A", "a"))
    second = await house.make(ANN, Skill("B", "b"))
    bobs = await house.make(BOB, Skill("C", "c"))
    wide = await house.make(CHIEF, Skill("D", "d"), wide=True)
    change = SkillChange(command="deploy")
    done = await house.resources.change(ANN, ChangeResource(Skill, first.id, change))
    assert (done.content.command_since, done.content.command_by) == (NOVEMBER, "ann")
    with pytest.raises(Conflict, match="There is another skill with that command already"):
        await house.resources.change(ANN, ChangeResource(Skill, second.id, SkillChange(command="DEPLOY")))
    await house.resources.change(BOB, ChangeResource(Skill, bobs.id, change))
    await house.resources.change(CHIEF, ChangeResource(Skill, wide.id, change))
    with pytest.raises(Conflict):
        await house.make(ANN, Skill("E", "e", command="deploy"))
    await house.resources.change(ANN, ChangeResource(Skill, first.id, SkillChange(command="")))
    made = await house.make(ANN, Skill("E", "e", command="deploy"))
    assert (made.content.command_since, made.content.command_by) == (NOVEMBER, "ann")


async def test_what_may_not_be_is_not_kept(house: House):
    with pytest.raises(BadRequest):
        await house.make(ANN, replace(RULE, content=""))
    made = await house.make(ANN, RULE)
    with pytest.raises(BadRequest):
        await house.resources.change(ANN, ChangeResource(Rule, made.id, RuleChange(content="")))
    assert (await house.resources.read(ANN, ReadResource(Rule, made.id))).content == RULE


# -- secrets ---------------------------------------------------------------------------------------------------------

SERVER = Integration("Files", headers=(Header("Authorization", "Bearer s3cret"), Header("X-Two", "t0p")))


async def test_a_headers_value_is_sealed_for_its_place_and_never_comes_back(house: House):
    made = await house.make(ANN, SERVER)
    assert house.seals.sealed == [
        (b"Bearer s3cret", "integration p id1 authorization"),
        (b"t0p", "integration p id1 x-two"),
    ]
    hidden = (Header("Authorization"), Header("X-Two"))
    page = await house.resources.page(ANN, ListResources(Integration))
    read = await house.resources.read(ANN, ReadResource(Integration, made.id))
    changed = await house.resources.change(ANN, ChangeResource(Integration, made.id, IntegrationChange(name="New")))
    assert [each.content.headers for each in (made, *page.items, read, changed)] == [hidden] * 4
    record = await house.records.get(P, "integration", made.id)
    assert record is not None
    assert "s3cret" not in record.body
    kept = msgspec.json.decode(record.body, type=Integration)
    assert kept.headers == (Header("Authorization", "sealed-1"), Header("X-Two", "sealed-2"))


async def test_headers_are_replaced_but_for_those_without_a_value(house: House):
    made = await house.make(ANN, SERVER)
    headers = (Header("authorization"), Header("X-New", "n3w"))
    await house.resources.change(ANN, ChangeResource(Integration, made.id, IntegrationChange(headers=headers)))
    record = await house.records.get(P, "integration", made.id)
    assert record is not None
    kept = msgspec.json.decode(record.body, type=Integration)
    assert kept.headers == (Header("Authorization", "sealed-1"), Header("X-New", "sealed-3"))
    with pytest.raises(BadRequest, match="X-Three has no value, and none is kept"):
        change = IntegrationChange(headers=(Header("X-Three"),))
        await house.resources.change(ANN, ChangeResource(Integration, made.id, change))


async def test_a_value_that_is_no_headers_is_refused_before_it_is_sealed(house: House):
    with pytest.raises(BadRequest):
        await house.make(ANN, replace(SERVER, headers=(Header("A", "x\r\ny: z"),)))
    assert house.seals.sealed == []
    assert IntegrationChange().headers is UNSET


# -- what goes with a turn -------------------------------------------------------------------------------------------


async def test_a_turn_goes_by_ones_own_rules_and_the_projects(house: House):
    assert await house.prepared(ANN) == ()
    await house.make(CHIEF, Rule("All", "Speak English.", priority=5), wide=True)
    await house.make(ANN, Rule("Mine", "Be short."))
    await house.make(BOB, Rule("His", "Be long."))
    await house.make(ANN, Skill("Deploy", "How to deploy"))
    rules, skills = await house.prepared(ANN)
    assert rules.endswith("## Mine\nBe short.\n\n## All (set for the whole project)\nSpeak English.")
    assert "His" not in rules
    assert skills.endswith("- Deploy: How to deploy")
    assert len(await house.prepared(BOB)) == 1
    assert await house.prepared(STRANGER) == ()


async def test_the_skill_that_is_called_comes_too_ones_own_before_the_projects(house: House):
    await house.make(CHIEF, Skill("All", "for all", known=False, command="deploy"), wide=True)
    assert await house.prepared(ANN, "/deploy now") == (
        "# Skill: All\nThe user called this skill with /deploy. Go by it.\n\nfor all",
    )
    await house.make(ANN, Skill("Mine", "for me", known=False, command="Deploy"))
    assert await house.prepared(ANN, "/DEPLOY") == (
        "# Skill: Mine\nThe user called this skill with /Deploy. Go by it.\n\nfor me",
    )
    assert (await house.prepared(BOB, "/deploy"))[0].endswith("for all")
    assert await house.prepared(ANN, "/nothing") == ()
    assert await house.prepared(ANN, "deploy") == ()


async def test_what_was_looked_up_is_remembered_for_a_while(house: House):
    await house.make(ANN, RULE)
    house.records.pages = 0
    for _ in range(10):
        assert len(await house.prepared(ANN)) == 1
    assert house.records.pages == 2
    house.clock.move(LOOKED_S)
    await house.prepared(ANN)
    assert house.records.pages == 4


async def test_a_change_of_ones_own_process_holds_at_once(house: House):
    made = await house.make(ANN, RULE)
    assert len(await house.prepared(ANN)) == 1
    await house.resources.change(ANN, ChangeResource(Rule, made.id, RuleChange(content="Be long.")))
    assert (await house.prepared(ANN))[0].endswith("Be long.")
    await house.resources.delete(ANN, DeleteResource(Rule, made.id))
    assert await house.prepared(ANN) == ()
    await house.make(CHIEF, RULE, wide=True)
    assert len(await house.prepared(ANN)) == 1


async def test_what_was_read_before_a_change_is_not_remembered_after_it(house: House):
    made = await house.make(ANN, RULE)

    async def change() -> None:
        house.records.before_page = None
        await house.resources.change(ANN, ChangeResource(Rule, made.id, RuleChange(content="Be long.")))

    house.records.before_page = change
    await house.prepared(ANN)
    assert (await house.prepared(ANN))[0].endswith("Be long.")


async def test_what_another_process_changed_holds_after_a_while(house: House):
    assert await house.prepared(ANN) == ()
    other = Resources(house.records, house.turns, house.seals, house.clock, new_id=lambda: "other")
    await other.create(ANN, CreateResource(RULE, False))
    assert await house.prepared(ANN) == ()
    house.clock.move(LOOKED_S)
    assert len(await house.prepared(ANN)) == 1


async def test_only_so_many_owners_are_remembered(house: House):
    await asyncio.gather(*(house.prepared(person(f"p{n}")) for n in range(KNOWN_MAX)))
    house.records.pages = 0
    await house.prepared(person("p0"))
    assert house.records.pages == 0
    await house.prepared(person("one more"))
    await house.prepared(person("p0"))
    assert house.records.pages == 4


# -- the project's own -----------------------------------------------------------------------------------------------


async def test_terms_count_as_accepted_until_somebody_who_may_says_otherwise(house: House):
    assert await house.resources.terms(ANN, ReadTerms()) == Terms(True)
    with pytest.raises(NotAllowed):
        await house.resources.accept_terms(ANN, AcceptTerms(False))
    for accepted in (False, True):
        assert await house.resources.accept_terms(CHIEF, AcceptTerms(accepted)) == Terms(accepted)
        assert await house.resources.terms(ANN, ReadTerms()) == Terms(accepted)
    assert await house.resources.terms(STRANGER, ReadTerms()) == Terms(True)


async def test_the_turns_of_this_month_are_counted(house: House):
    assert await house.resources.prompt_usage(ANN, ReadPromptUsage()) == PromptUsage(7, 0, "2026-11")
    assert house.turns.asked == [(P, 1_793_491_200.0)]
    assert await house.resources.token_limits(ANN, ReadTokenLimits()) == TokenLimits(0, 0, 0)


async def test_feedback_is_kept_once_for_each_who_gives_it(house: House):
    kept = [
        await house.resources.give_feedback(who, GiveFeedback(Feedback("chat", target, rating, "so", '{"a":1}')))
        for who, target, rating in ((ANN, "c1", 1), (ANN, "c1", -1), (BOB, "c1", 1), (ANN, "c2", 1))
    ]
    assert len({each.id for each in kept}) == 3
    page = await house.records.page(P, "feedback", limit=0, offset=0)
    assert page.total == 3
    record = await house.records.get(P, "feedback", kept[0].id)
    assert record is not None
    assert msgspec.json.decode(record.body, type=Feedback) == Feedback("chat", "c1", -1, "so", '{"a":1}')
    with pytest.raises(BadRequest):
        await house.resources.give_feedback(ANN, GiveFeedback(Feedback("chat", "c1", 2)))


async def test_every_operation_has_somebody_who_answers_it(house: House):
    handlers = house.resources.handlers()
    assert await handlers[ReadTerms](ANN, ReadTerms()) == Terms(True)
    made: Any = await handlers[CreateResource](ANN, CreateResource(RULE, False))
    assert await handlers[ReadResource](ANN, ReadResource(Rule, made.id)) == made
    assert {type(each) for each in (ListResources(Rule), GiveFeedback(Feedback("a", "b", 1)))} <= handlers.keys()
    assert len(handlers) == 10
