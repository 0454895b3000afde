"""The composition root's part for what turns use: models, connectors, tools, knowledge."""

import asyncio
import os
import random
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from uuid import uuid4

from dragoman.access.pepper import Pepper
from dragoman.access.sealing import load_sealer
from dragoman.core.connectors import Connector
from dragoman.core.errors import BadRequest
from dragoman.core.masking import Masker
from dragoman.core.names import Clock, ProjectId
from dragoman.models.anonymizing import anonymized
from dragoman.models.catalogue import Catalogue
from dragoman.models.connected import ConnectedModels
from dragoman.models.fallback import chained
from dragoman.models.openai_chat import OpenAIChat, OpenAIChatOptions
from dragoman.runtime.connector_checks import preconfigured
from dragoman.runtime.connectors import Connectors
from dragoman.runtime.context import ContextStep
from dragoman.runtime.counters import Counters
from dragoman.runtime.knowledge import KnowledgeBase
from dragoman.runtime.ports import Model
from dragoman.runtime.reach import Reach
from dragoman.server.config import BadConfig, workspace_folder
from dragoman.server.config_shapes import Config, ConnectionTable, ModelTable, OfflineModel, OpenAIModel, ScriptedModel
from dragoman.server.house import House, Parts
from dragoman.server.masking_rules import masker as masker_of
from dragoman.server.staging_parts import equip_workflows
from dragoman.tools.connections.connection import Connection
from dragoman.tools.connections.dataset_info import DatasetHandlers
from dragoman.tools.connections.toolset import register_connections
from dragoman.tools.connectors.execute import ConnectorExecutor
from dragoman.tools.connectors.toolset import register_connectors
from dragoman.tools.egress import Egress
from dragoman.tools.knowledge import register_knowledge
from dragoman.tools.registry import Registry
from dragoman.tools.workspace.toolset import register_workspace

OF_WORKFLOWS = ("mcp", "webhook")
"""Kinds of connections that are asked by way of tools of their own."""


def equip(house: House, stack: AsyncExitStack, parts: Parts, counters: Counters, pepper: Pepper) -> None:
    """Open all of it; the house must have its stores. Raises BadConfig."""
    config = house.config
    house.sealer = load_sealer(house.home, env=os.environ, random_bytes=os.urandom)
    egress = Egress()
    stack.push_async_callback(egress.close)
    connections = tuple(_connection(name, table) for name, table in config.connections.items())
    equip_workflows(house, egress, connections)
    connections = tuple(each for each in connections if each.kind not in OF_WORKFLOWS)
    reach = Reach(config.connectors.hosts)
    executor = ConnectorExecutor(
        reach=reach,
        clock=house.clock,
        egress=egress,
        connections=connections,
        email_domains=config.connectors.email_domains,
    )
    stack.push_async_callback(executor.close)
    house.connectors = Connectors(
        house.records,
        house.sealer,
        executor,
        configured=[_preconfigured(name, table) for name, table in config.models.items()],
        reach=reach,
        new_id=lambda: str(uuid4()),
    )
    masker = masker_of(config.anonymization.rules, key=pepper.digest(b"masks"))
    _open_models(house, stack, parts, counters, reach, masker)
    house.knowledge = KnowledgeBase(house.store.knowledge, house.records)
    house.context = ContextStep(house.knowledge, house.models)
    try:
        house.datasets = DatasetHandlers(connections, egress, house.clock, house.models)
        house.tools = parts.tools or _tools(house, connections, egress)
    except ValueError as error:
        raise BadConfig(str(error)) from error


def _open_models(
    house: House, stack: AsyncExitStack, parts: Parts, counters: Counters, reach: Reach, masker: Masker | None
) -> None:
    def wrap(model: Model) -> Model:
        return anonymized(model, masker, clock=house.clock)

    models = {name: wrap(model) for name, model in (parts.models or {}).items()}
    for name in house.config.models if parts.models is None else ():
        try:
            models[name] = wrap(_model(house.config, name, house.clock, counters))
        except BadRequest as error:
            raise BadConfig(f"models.{name}: {error.detail}") from error
    house.models = ConnectedModels(
        Catalogue(models, house.config.defaults.model),
        house.connectors,
        reach,
        clock=house.clock,
        sleep=asyncio.sleep,
        random=random.random,
        counters=counters,
        wrap=wrap,
    )
    stack.push_async_callback(house.models.close)


def _tools(house: House, connections: tuple[Connection, ...], egress: Egress) -> Registry:
    registry = Registry()
    register_workspace(registry, partial(_workspace_of, house))
    register_connections(registry, connections, egress, house.clock)
    register_knowledge(registry, house.knowledge, house.context)
    register_connectors(registry, house.connectors)
    return registry


def _workspace_of(house: House, project: ProjectId) -> Path:
    """The default project's workspace is the configured folder; any other project has one of its own."""
    if project == house.project:
        return workspace_folder(house.config, house.home)
    return house.home / "workspaces" / project


def _connection(name: str, table: ConnectionTable) -> Connection:
    return Connection(name, table.kind, table.url, table.request_headers)


def _model(config: Config, name: str, clock: Clock, counters: Counters) -> Model:
    """A configured model with what wraps it: retries around each, then those to fall back on."""
    names = dict.fromkeys((name, *config.models[name].fallback))
    chain = [_bare_model(config.models[each], clock, counters) for each in names]
    return chained(chain, clock=clock, sleep=asyncio.sleep, random=random.random)


def _bare_model(table: ModelTable, clock: Clock, counters: Counters) -> Model:
    match table:
        case OpenAIModel():
            options = OpenAIChatOptions(
                url=table.url,
                name=table.model_name,
                key=str(table.key),
                connect_s=float(table.timeout.connect_s),
                first_s=float(table.timeout.first_s),
                idle_s=float(table.timeout.idle_s),
                total_s=float(table.timeout.total_s),
                headers=tuple((name, str(value)) for name, value in table.headers.items()),
                params=table.params,
            )
            return OpenAIChat(options, clock=clock, counters=counters)
        case OfflineModel():
            from dragoman.models.offline import Offline  # noqa: PLC0415 a twentieth of the start, for those who use it

            return Offline()
        case ScriptedModel(file=file):
            from dragoman.models.scripted import Scripted  # noqa: PLC0415 only for tests and demos

            return Scripted.from_file(Path(file), sleep=asyncio.sleep)


def _preconfigured(name: str, table: ModelTable) -> Connector:
    return preconfigured(name, _KINDS[type(table)], table.model_name if isinstance(table, OpenAIModel) else "")


_KINDS: dict[type[ModelTable], str] = {OpenAIModel: "openai", OfflineModel: "offline", ScriptedModel: "scripted"}
