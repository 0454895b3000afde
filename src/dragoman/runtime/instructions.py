"""Standing instructions: what people want of every answer, kept until they say otherwise (elastic spec 3.4, K5).

Everybody has at most one of their own that is private and one that is public: a second replaces the text of the first
and keeps its id. An id that is given anew with the other visibility moves to it. Ids are each person's own: two people
may use the same one.
"""

import hashlib
from functools import partial

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from dragoman.core.errors import BadRequest, Conflict, NotAllowed, NotFound
from dragoman.core.knowledge import KeptInstruction, PutInstruction
from dragoman.core.names import Principal, Scope
from dragoman.core.records import Record, Records
from dragoman.runtime.crossing import uncrossed

KIND = "instruction"
TEXT_CHARS_MAX = 16_000
"""More than a turn has room for (`briefing.INSTRUCTIONS_TOKENS_MAX`): what does not fit there is left out there."""
ID_CHARS_MAX = 512
PUBLIC_MAX = 100
"""Public ones of a project: each turn reads them all."""


class _Body(Struct, frozen=True):
    id: str
    text: str


_bodies = msgspec.json.Decoder(_Body)


class Instructions:
    def __init__(self, records: Records) -> None:
        self._records = records

    async def of(self, principal: Principal) -> tuple[KeptInstruction, ...]:
        """The principal's own, the private one first, then the public ones of others, the oldest first."""
        page = await self._records.page(principal.project, KIND, owner=principal.owner, limit=0, offset=0)
        ordered = sorted(page.items, key=lambda record: (record.owner != principal.owner, record.wide))
        return tuple(map(_instruction, ordered))

    async def put(self, principal: Principal, operation: PutInstruction) -> KeptInstruction:
        """Raises BadRequest, NotAllowed, Conflict (also if there are PUBLIC_MAX public ones)."""
        _check(operation)
        if operation.public:
            _check_public(principal)
        # One's other request may come in between: this one is then put over what stands there.
        return await uncrossed(partial(self._put, principal, operation), crossed=(Conflict, NotFound))

    async def forget(self, principal: Principal, instruction_id: str) -> bool:
        """Delete the principal's own of that id; False if there is none. Raises NotAllowed."""
        record_id = _record_id(principal.owner, instruction_id)
        record = await self._records.get(principal.project, KIND, record_id)
        if record is None:
            return False
        if record.wide:
            _check_public(principal)
        return await self._records.delete(principal.project, KIND, record_id)

    async def _put(self, principal: Principal, operation: PutInstruction) -> KeptInstruction:
        project, owner = principal.project, principal.owner
        key = f"{'public' if operation.public else 'private'} of {owner}"
        record_id = _record_id(owner, operation.id)
        there = await self._records.find(project, KIND, key) or await self._records.get(project, KIND, record_id)
        if there is not None and there.wide:
            _check_public(principal)
        if operation.public and (there is None or not there.wide):
            await self._check_room(principal)
        instruction_id = operation.id if there is None else _bodies.decode(there.body).id
        record = there or Record(project, KIND, record_id, "", owner=owner, created_by=owner)
        body = msgspec.json.encode(_Body(instruction_id, operation.text)).decode()
        changed = replace(record, body=body, wide=operation.public, key=key, updated_by=owner)
        return _instruction(await self._records.put(changed, expect=0 if there is None else there.version))

    async def _check_room(self, principal: Principal) -> None:
        """Raises Conflict; that it is then tried again does no harm."""
        there = await self._records.page(principal.project, KIND, wide=True, limit=1, offset=0)
        if there.total >= PUBLIC_MAX:
            raise Conflict(
                f"The project has {there.total} public instructions, which is as many as may be; somebody must delete"
                " theirs first."
            )


def _check(operation: PutInstruction) -> None:
    if not operation.id or len(operation.id) > ID_CHARS_MAX:
        raise BadRequest(f"An instruction's id has 1 to {ID_CHARS_MAX} characters.")
    if not operation.text.strip():
        raise BadRequest("The instruction has no text.")
    if len(operation.text) > TEXT_CHARS_MAX:
        raise BadRequest(
            f"The instruction has {len(operation.text)} characters; at most {TEXT_CHARS_MAX} are taken. Keep long texts"
            " as knowledge entries."
        )


def _check_public(principal: Principal) -> None:
    if not principal.may(Scope.RESOURCES_WRITE):
        raise NotAllowed(
            f"Only a credential with the scope {Scope.RESOURCES_WRITE} may set an instruction for everybody; make it"
            " private instead."
        )


def _record_id(owner: str, instruction_id: str) -> str:
    return hashlib.sha256(msgspec.json.encode((owner, instruction_id))).hexdigest()[:32]


def _instruction(record: Record) -> KeptInstruction:
    body = _bodies.decode(record.body)
    return KeptInstruction(body.id, body.text, record.wide)
