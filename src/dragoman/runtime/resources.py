"""Managed resources: who may see and change which, and what goes with a turn.

Everybody sees the project's wide ones and their own. Own ones everybody may change; wide ones only who may
`resources:write`. Secrets are sealed before they reach the store, and never leave it again through here.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import replace

from dragoman.core.errors import Conflict, NotAllowed, NotFound
from dragoman.core.names import Clock, Principal, ProjectId, Scope
from dragoman.core.operations import Operation, StartTurn
from dragoman.core.records import Record, Records
from dragoman.core.resources import (
    AcceptTerms,
    ChangeResource,
    CreateResource,
    DeleteResource,
    FeedbackKept,
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
    Resource,
    ResourceGone,
    ResourcePage,
    Rule,
    Skill,
    Terms,
    TokenLimits,
)
from dragoman.runtime.crossing import uncrossed
from dragoman.runtime.ports import Sealer
from dragoman.runtime.resource_checks import (
    KINDS,
    changed,
    check,
    check_feedback,
    check_headers,
    command_key,
    key_of,
)
from dragoman.runtime.standing import called, rules_text, skill_text, skills_text

LOOKED_S = 5.0
"""What other processes change is gone by after this long at the latest; what this one changes, at once."""
KNOWN_MAX = 500
"""Owners whose instructions are remembered for that time."""

C = TypeVar("C")
S = TypeVar("S", bound=Struct)


class Turns(Protocol):
    async def turns_since(self, project: ProjectId, *, at: float) -> int: ...


class _Known(Struct, frozen=True):
    """What goes with an owner's turns, and when that was looked up (monotonic seconds)."""

    instructions: tuple[str, ...]
    looked_at: float


class Resources:
    def __init__(
        self, records: Records, turns: Turns, sealer: Sealer, clock: Clock, *, new_id: Callable[[], str]
    ) -> None:
        self._records = records
        self._turns = turns
        self._sealer = sealer
        self._clock = clock
        self._new_id = new_id
        self._known: dict[ProjectId, dict[str, _Known]] = {}
        self._changes = 0

    def handlers(self) -> Mapping[type[Operation[Any]], Callable[[Principal, Any], Awaitable[object]]]:
        return {
            ListResources: self.page,
            ReadResource: self.read,
            CreateResource: self.create,
            ChangeResource: self.change,
            DeleteResource: self.delete,
            ReadTerms: self.terms,
            AcceptTerms: self.accept_terms,
            ReadPromptUsage: self.prompt_usage,
            ReadTokenLimits: self.token_limits,
            GiveFeedback: self.give_feedback,
        }

    # -- resources -------------------------------------------------------------------------------------------------

    async def page(self, principal: Principal, operation: ListResources[C]) -> ResourcePage[C]:
        found = await self._records.page(
            principal.project,
            KINDS[operation.kind].name,
            owner=principal.owner,
            wide=operation.wide,
            limit=operation.limit,
            offset=operation.offset,
        )
        items: tuple[Resource[C], ...] = tuple(_resource(record, operation.kind) for record in found.items)
        return ResourcePage(items, found.total, operation.limit, operation.offset)

    async def read(self, principal: Principal, operation: ReadResource[C]) -> Resource[C]:
        return _resource(await self._record(principal, operation.kind, operation.id), operation.kind)

    async def create(self, principal: Principal, operation: CreateResource[C]) -> Resource[C]:
        content: Any = operation.content
        kind: type[Any] = type(operation.content)
        _check_wide(principal, operation.wide)
        if isinstance(content, Skill) and content.command:
            content = replace(content, command_since=self._clock.now(), command_by=principal.owner)
        record_id = self._new_id()
        content = self._sealed(content, principal.project, record_id)
        check(content, wide=operation.wide)
        await self._check_room(principal, kind, operation.wide)
        record = Record(
            principal.project,
            KINDS[kind].name,
            record_id,
            msgspec.json.encode(content).decode(),
            owner=principal.owner,
            wide=operation.wide,
            key=key_of(content, owner=principal.owner, wide=operation.wide),
            created_by=principal.owner,
            updated_by=principal.owner,
        )
        return _resource(await self._put(record, expect=0), kind)

    async def change(self, principal: Principal, operation: ChangeResource[C]) -> Resource[C]:
        try:
            return await uncrossed(partial(self._change, principal, operation), crossed=_Crossed)
        except _Crossed as crossed:
            raise Conflict(crossed.detail) from None

    async def delete(self, principal: Principal, operation: DeleteResource) -> ResourceGone:
        record = await self._record(principal, operation.kind, operation.id, was_wide=operation.was_wide)
        _check_wide(principal, record.wide)
        await self._records.delete(principal.project, record.kind, record.id)
        self._forget(principal.project)
        return ResourceGone(record.id)

    async def _change(self, principal: Principal, operation: ChangeResource[C]) -> Resource[C]:
        kind = operation.kind
        record = await self._record(principal, kind, operation.id, was_wide=operation.was_wide)
        wide = record.wide if operation.wide is None else operation.wide
        _check_wide(principal, wide or record.wide)
        if wide != record.wide:
            await self._check_room(principal, kind, wide)
        change = self._sealed(operation.change, principal.project, record.id)
        content = changed(KINDS[kind].decoder.decode(record.body), change, at=self._clock.now(), by=principal.owner)
        check(content, wide=wide)
        owner = principal.owner if record.wide and not wide else record.owner
        new = replace(
            record,
            body=msgspec.json.encode(content).decode(),
            owner=owner,
            wide=wide,
            key=key_of(content, owner=owner, wide=wide),
            updated_by=principal.owner,
        )
        return _resource(await self._put(new, expect=record.version), kind)

    async def _record(
        self, principal: Principal, kind: type[Any], record_id: str, *, was_wide: bool | None = None
    ) -> Record:
        """Raises NotFound: to anybody else what somebody owns is not there."""
        name = KINDS[kind].name
        record = await self._records.get(principal.project, name, record_id)
        if record is None or not (record.wide or record.owner == principal.owner):
            raise NotFound(f"There is no {name} {record_id}.", what=name)
        if was_wide is not None and record.wide != was_wide:
            scope, other = ("tenant", "user") if was_wide else ("user", "tenant")
            raise NotFound(f"There is no {name} {record_id} of scope {scope}; its scope is {other}.", what=name)
        return record

    async def _put(self, record: Record, *, expect: int) -> Record:
        """Raises _Crossed if it has changed meanwhile, Conflict if its key is taken."""
        try:
            kept = await self._records.put(record, expect=expect)
        except Conflict as refused:
            holder = await self._records.find(record.project, record.kind, record.key) if record.key else None
            if holder is not None and holder.id != record.id:
                raise Conflict("There is another skill with that command already; choose another one.") from None
            raise _Crossed(refused.detail) from None
        finally:
            self._forget(record.project)
        return kept

    async def _check_room(self, principal: Principal, kind: type[Any], wide: bool) -> None:
        """Raises Conflict. Looked at before it is written: a few that come at once may pass it together."""
        limits = KINDS[kind]
        owner = None if wide else principal.owner
        there = await self._records.page(principal.project, limits.name, owner=owner, wide=wide, limit=1, offset=0)
        if there.total >= limits.most:
            whose = "The project has" if wide else "You have"
            raise Conflict(f"{whose} {there.total} {limits.name}s, which is as many as may be; delete one first.")

    def _sealed(self, given: S, project: ProjectId, record_id: str) -> S:
        """The same with the values of its headers sealed, each for its place. Raises BadRequest."""
        if not isinstance(given, Integration | IntegrationChange) or given.headers is UNSET:
            return given
        check_headers(given.headers)
        place = f"integration {project} {record_id}"
        return replace(given, headers=tuple(self._sealed_header(header, place) for header in given.headers))

    def _sealed_header(self, header: Header, place: str) -> Header:
        if header.value is None:
            return header
        return replace(header, value=self._sealer.seal(header.value.encode(), f"{place} {header.name.lower()}"))

    # -- what goes with a turn -------------------------------------------------------------------------------------

    async def prepare(self, principal: Principal, turn: StartTurn) -> StartTurn:
        """The turn with the rules that hold for the principal, the list of skills, and the skill that was called."""
        instructions = await self._instructions(principal)
        if command := called(turn.messages):
            instructions += await self._called_skill(principal, command)
        return replace(turn, instructions=(*turn.instructions, *instructions)) if instructions else turn

    async def _instructions(self, principal: Principal) -> tuple[str, ...]:
        project, owner = principal.project, principal.owner
        now = self._clock.monotonic()
        known = self._known.get(project, {}).get(owner)
        if known is not None and now - known.looked_at < LOOKED_S:
            return known.instructions
        changes = self._changes
        rules, skills = await asyncio.gather(
            self.page(principal, ListResources(Rule, limit=0)), self.page(principal, ListResources(Skill, limit=0))
        )
        texts = (rules_text(rules.items), skills_text(skills.items))
        instructions = tuple(text for text in texts if text)
        if changes == self._changes:  # else what was read may be from before
            self._remember(project, owner, _Known(instructions, now))
        return instructions

    async def _called_skill(self, principal: Principal, command: str) -> tuple[str, ...]:
        """One's own comes before the project's of the same command. Nothing for a command that nobody gave."""
        for wide in (False, True):
            key = command_key(command, owner=principal.owner, wide=wide)
            record = await self._records.find(principal.project, KINDS[Skill].name, key)
            if record is not None:
                return (skill_text(KINDS[Skill].decoder.decode(record.body)),)
        return ()

    def _remember(self, project: ProjectId, owner: str, known: _Known) -> None:
        if sum(map(len, self._known.values())) >= KNOWN_MAX:
            self._known = {}
        self._known.setdefault(project, {})[owner] = known

    def _forget(self, project: ProjectId) -> None:
        self._changes += 1
        self._known.pop(project, None)

    # -- the project's own -----------------------------------------------------------------------------------------

    async def terms(self, principal: Principal, _operation: ReadTerms) -> Terms:
        """As long as nobody said otherwise they count as accepted: there are none to be read first."""
        record = await self._records.get(principal.project, "terms", "terms")
        return Terms(True) if record is None else msgspec.json.decode(record.body, type=Terms)

    async def accept_terms(self, principal: Principal, operation: AcceptTerms) -> Terms:
        _check_wide(principal, True)
        terms = Terms(operation.accepted)
        body = msgspec.json.encode(terms).decode()
        record = Record(principal.project, "terms", "terms", body, owner=principal.owner, wide=True)
        who = principal.owner
        await self._records.put(replace(record, created_by=who, updated_by=who), expect=None)
        return terms

    async def prompt_usage(self, principal: Principal, _operation: ReadPromptUsage) -> PromptUsage:
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        begins = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        turns = await self._turns.turns_since(principal.project, at=begins.timestamp())
        return PromptUsage(turns, 0, f"{now:%Y-%m}")

    async def token_limits(self, principal: Principal, _operation: ReadTokenLimits) -> TokenLimits:
        """None is set anywhere: how much a turn may use is limited, how many there are is not."""
        return TokenLimits()

    async def give_feedback(self, principal: Principal, operation: GiveFeedback) -> FeedbackKept:
        given = operation.feedback
        check_feedback(given)
        about = msgspec.json.encode((principal.owner, given.target_kind, given.target_id))
        record_id = hashlib.sha256(about).hexdigest()[:32]
        body = msgspec.json.encode(given).decode()
        who = principal.owner
        record = Record(principal.project, "feedback", record_id, body, owner=who, created_by=who, updated_by=who)
        await self._records.put(record, expect=None)
        return FeedbackKept(record_id)


class _Crossed(Conflict):
    """The resource was changed between reading and writing it."""


def _check_wide(principal: Principal, wide: bool) -> None:
    if wide and not principal.may(Scope.RESOURCES_WRITE):
        raise NotAllowed(
            f"Only a credential with the scope {Scope.RESOURCES_WRITE} may change what belongs to the whole project."
        )


def _resource(record: Record, kind: type[C]) -> Resource[C]:
    content: Any = KINDS[kind].decoder.decode(record.body)
    if isinstance(content, Integration):
        content = replace(content, headers=tuple(replace(header, value=None) for header in content.headers))
    return Resource(
        record.id,
        content,
        record.owner,
        record.wide,
        record.version,
        record.created_at,
        record.updated_at,
        record.created_by,
        record.updated_by,
    )
