"""Connectors: set up, changed, listed and used. Models of the configuration file stand among them, preconfigured.

    record {type, name, config, secrets: sealed} ─► Kept ─┬─► Connector          what callers see: no secrets
                                                          └─ opened ─► Opened    for who uses it, in memory only

They belong to the whole project: everybody in it sees them, who may `resources:write` changes them. Every use reads the
record anew, so that what another process changed holds from the next use on.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from dragoman.core.connectors import (
    Connector,
    ConnectorGone,
    ConnectorList,
    ConnectorTypes,
    CreateConnector,
    DeleteConnector,
    ExecuteConnector,
    Executed,
    ListConnectors,
    ListConnectorTypes,
    ReadConnector,
    ReplaceConnector,
)
from dragoman.core.errors import BadRequest, Conflict, NotAllowed, NotFound, NotOffered, Unavailable
from dragoman.core.names import Principal, ProjectId, Scope
from dragoman.core.operations import Operation
from dragoman.core.records import Record, Records
from dragoman.runtime.connector_checks import (
    CONNECTORS_MAX,
    ID_CHARS_MAX,
    KINDS,
    Kind,
    answers,
    check,
    kind_of,
    lacks_secrets,
    meant_as_model,
    shown_type,
)
from dragoman.runtime.crossing import uncrossed
from dragoman.runtime.ports import Sealer
from dragoman.runtime.reach import Reach

RECORDS = "connector"

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Body(Struct, frozen=True):
    """What a record holds. `secrets` is sealed JSON, "" = it has none."""

    type: str
    name: str
    config: dict[str, Any]
    secrets: str = ""

    def __repr__(self) -> str:
        return f"Body({self.type!r}, {self.name!r})"


class Kept(Struct, frozen=True):
    """A connector as it stands in the store. Two are equal only if nothing was written in between: sealing the same
    secrets twice does not give the same text."""

    project: ProjectId
    id: str
    version: int
    body: Body
    created_at: float
    updated_at: float

    @property
    def kind(self) -> Kind:
        return KINDS[self.body.type]


class Opened(Struct, frozen=True):
    """One about to be used. Not to be kept longer than what is made of it, and never shown."""

    id: str
    type: str
    config: dict[str, Any]
    secrets: dict[str, Any]

    def __repr__(self) -> str:
        return f"Opened({self.id!r}, {self.type!r})"


class Executor(Protocol):
    """Has outside systems do things."""

    def lacking(self, type_id: str) -> str:
        """What is not set up here for connectors of that type, as the end of a sentence; "" = nothing."""
        ...

    async def execute(self, connector: Opened, params: Mapping[str, Any], *, key: str) -> Executed:
        """`key` makes a repeat recognisable. What the outside system refuses is a result that is not `ok`. Raises
        BadRequest if the parameters are not the type's."""
        ...


class Connectors:
    """`configured` are the models of the configuration file (`connector_checks.preconfigured`)."""

    def __init__(
        self,
        records: Records,
        sealer: Sealer,
        executor: Executor,
        *,
        configured: Sequence[Connector],
        reach: Reach,
        new_id: Callable[[], str],
    ) -> None:
        self._records = records
        self._sealer = sealer
        self._executor = executor
        self._configured = {connector.id: connector for connector in configured}
        self._reach = reach
        self._new_id = new_id

    def handlers(self) -> Mapping[type[Operation[Any]], Callable[[Principal, Any], Awaitable[object]]]:
        return {
            ListConnectors: self.list,
            ReadConnector: self.read,
            CreateConnector: self.create,
            ReplaceConnector: self.replace,
            DeleteConnector: self.delete,
            ExecuteConnector: self.execute,
            ListConnectorTypes: self.types,
        }

    # -- reading ---------------------------------------------------------------------------------------------------

    async def list(self, principal: Principal, operation: ListConnectors) -> ConnectorList:
        items = [*self._configured.values(), *map(self._shown, await self.all_kept(principal.project))]
        wanted = (item for item in items if item.model or not operation.models_only)
        return ConnectorList(tuple(sorted(wanted, key=lambda item: (item.name, item.id))))

    async def read(self, principal: Principal, operation: ReadConnector) -> Connector:
        found = self._configured.get(operation.id)
        if found is None:
            found = self._shown(await self._found(principal.project, operation.id))
        if operation.models_only and not found.model:
            raise _not_found(operation.id)
        return found

    async def types(self, principal: Principal, operation: ListConnectorTypes) -> ConnectorTypes:
        return ConnectorTypes(
            tuple(
                shown_type(kind, lacking=self._executor.lacking(kind.id))
                for kind in KINDS.values()
                if not operation.feature or operation.feature in kind.features
            )
        )

    # -- changing --------------------------------------------------------------------------------------------------

    async def create(self, principal: Principal, operation: CreateConnector) -> Connector:
        _check_may_change(principal)
        kind = kind_of(operation.type)
        if not kind.made:
            raise NotOffered(f"A connector of type {kind.id} cannot be set up here: {kind.missing}.")
        connector_id = operation.id or self._new_id()
        if len(connector_id) > ID_CHARS_MAX or _ID.fullmatch(connector_id) is None:
            raise BadRequest(
                f"The id of a connector has 1 to {ID_CHARS_MAX} letters, digits, dots, - and _, and begins with a"
                " letter or digit."
            )
        if connector_id in self._configured:
            raise Conflict(f"{connector_id} is a model of the configuration file; choose another id.")
        check(kind, operation.name, operation.config, operation.secrets, self._reach)
        there = await self._records.page(principal.project, RECORDS, limit=1, offset=0)
        if there.total >= CONNECTORS_MAX:
            raise Conflict(f"The project has {there.total} connectors, which is as many as may be; delete one first.")
        body = self._body(principal.project, connector_id, kind, operation)
        return self._shown(await self._put(principal, connector_id, body, expect=0))

    async def replace(self, principal: Principal, operation: ReplaceConnector) -> Connector:
        _check_may_change(principal)
        self._check_not_configured(operation.id)

        async def change() -> Kept:
            # By the second try it may even be another one of the same id, of another type.
            kept = await self._found(principal.project, operation.id)
            check(kept.kind, operation.name, operation.config, operation.secrets, self._reach)
            body = self._body(principal.project, kept.id, kept.kind, operation)
            return await self._put(principal, kept.id, body, expect=kept.version)

        return self._shown(await uncrossed(change))

    async def delete(self, principal: Principal, operation: DeleteConnector) -> ConnectorGone:
        _check_may_change(principal)
        self._check_not_configured(operation.id)

        async def change() -> ConnectorGone:
            kept = await self._found(principal.project, operation.id)
            if not await self._records.delete(principal.project, RECORDS, kept.id, expect=kept.version):
                raise _not_found(kept.id)
            return ConnectorGone(kept.id)

        return await uncrossed(change)

    # -- using -----------------------------------------------------------------------------------------------------

    async def execute(self, principal: Principal, operation: ExecuteConnector) -> Executed:
        if not principal.may(Scope.TOOLS_USE):
            raise NotAllowed(f"Only a credential with the scope {Scope.TOOLS_USE} may execute a connector.")
        return await self.use(principal.project, operation.id, operation.params, key=self._new_id())

    async def use(self, project: ProjectId, connector_id: str, params: Mapping[str, Any], *, key: str) -> Executed:
        """Have it do what it is for; secrets that cannot be opened are an outcome too. Raises NotFound, BadRequest."""
        if connector_id in self._configured:
            raise _answers_turns(connector_id)
        kept = await self._found(project, connector_id)
        if meant_as_model(kept.body.type):
            raise _answers_turns(connector_id)
        try:
            opened = self.opened(kept)
        except Unavailable as error:
            return Executed(kept.id, False, message=f"error using {kept.id}", service_message=error.detail)
        return await self._executor.execute(opened, params, key=key)

    async def all_kept(self, project: ProjectId) -> Sequence[Kept]:
        page = await self._records.page(project, RECORDS, limit=0, offset=0)
        return [kept for record in page.items if (kept := _kept(record)) is not None]

    async def kept(self, project: ProjectId, connector_id: str) -> Kept | None:
        """As it stands now, whoever wrote it; None also for what cannot be an id."""
        if len(connector_id) > ID_CHARS_MAX or _ID.fullmatch(connector_id) is None:
            return None
        record = await self._records.get(project, RECORDS, connector_id)
        return None if record is None else _kept(record)

    def opened(self, kept: Kept) -> Opened:
        """With its secrets. Raises Unavailable if they were sealed with another key."""
        sealed = kept.body.secrets
        plain = self._sealer.open(sealed, _place(kept.project, kept.id)) if sealed else b"{}"
        return Opened(kept.id, kept.body.type, kept.body.config, msgspec.json.decode(plain, type=dict[str, Any]))

    # -- within ----------------------------------------------------------------------------------------------------

    def _shown(self, kept: Kept) -> Connector:
        body = kept.body
        return Connector(
            kept.id,
            body.type,
            body.name,
            body.config,
            missing_secrets=self._misses_secrets(kept),
            model=answers(body.type, body.config),
            created_at=kept.created_at,
            updated_at=kept.updated_at,
        )

    def _misses_secrets(self, kept: Kept) -> bool:
        """What lies there under a key that is gone is as good as nothing: it has to be entered anew."""
        if not kept.body.secrets:
            return lacks_secrets(kept.kind, {})
        try:
            self.opened(kept)
        except Unavailable:
            return True
        return False

    async def _found(self, project: ProjectId, connector_id: str) -> Kept:
        kept = await self.kept(project, connector_id)
        if kept is None:
            raise _not_found(connector_id)
        return kept

    def _check_not_configured(self, connector_id: str) -> None:
        if connector_id in self._configured:
            raise BadRequest(
                f"Preconfigured connector {connector_id} cannot be changed here: it is a model of the configuration"
                " file."
            )

    def _body(
        self, project: ProjectId, connector_id: str, kind: Kind, given: CreateConnector | ReplaceConnector
    ) -> Body:
        secrets = {name: value for name, value in given.secrets.items() if value is not None}
        plain = msgspec.json.encode(secrets)
        sealed = self._sealer.seal(plain, _place(project, connector_id)) if secrets else ""
        return Body(kind.id, given.name, given.config, sealed)

    async def _put(self, principal: Principal, connector_id: str, body: Body, *, expect: int) -> Kept:
        who = principal.owner
        text = msgspec.json.encode(body).decode()
        record = Record(principal.project, RECORDS, connector_id, text, owner=who, wide=True)
        record = msgspec.structs.replace(record, created_by=who, updated_by=who)
        kept = _kept(await self._records.put(record, expect=expect))
        if kept is None:
            raise RuntimeError("a connector was written whose type is not known")
        return kept


_bodies = msgspec.json.Decoder(Body)


def _kept(record: Record) -> Kept | None:
    """None for one of a type that this version does not know: it was written by another one."""
    body = _bodies.decode(record.body)
    if body.type not in KINDS:
        return None
    return Kept(record.project, record.id, record.version, body, record.created_at, record.updated_at)


def _place(project: ProjectId, connector_id: str) -> str:
    return f"connector {project} {connector_id}"


def _not_found(connector_id: str) -> NotFound:
    return NotFound(f"There is no connector {connector_id[:100]}.", what="connector")


def _answers_turns(connector_id: str) -> BadRequest:
    return BadRequest(f"{connector_id} is a model: name it as connectorId of a chat rather than execute it.")


def _check_may_change(principal: Principal) -> None:
    if not principal.may(Scope.RESOURCES_WRITE):
        raise NotAllowed(f"Only a credential with the scope {Scope.RESOURCES_WRITE} may change connectors.")
