"""The composition root's part for workflows: where they are kept, what runs their tools, what tests them."""

import asyncio
import base64
import os
import secrets
from collections.abc import Mapping, Sequence

from dragoman.core.agents import AgentSpec
from dragoman.core.names import ProjectId
from dragoman.core.workflows import Workflow
from dragoman.runtime.project_settings import McpServer, ProjectSettings
from dragoman.runtime.simulating import Simulator, Take
from dragoman.runtime.simulation_runs import SimulationRuns
from dragoman.runtime.sources import Sources
from dragoman.runtime.staging import Stagings
from dragoman.runtime.test_profiles import TestProfiles
from dragoman.runtime.workflows import Workflows
from dragoman.server.config_shapes import Config
from dragoman.server.house import House
from dragoman.server.mcp_servers import mcp_servers
from dragoman.server.workflow_tables import configured_workflows
from dragoman.tools.connections.connection import Connection
from dragoman.tools.egress import Egress
from dragoman.tools.mcp.caller import McpCaller
from dragoman.tools.mcp.pins import Pins
from dragoman.tools.workflow.dispatch import WorkflowToolbox
from dragoman.tools.workflow.webhook import Webhooks

CLIENT_ID_BYTES = 16


def new_object_id() -> str:
    """24 hex digits: the ids of workflows, test profiles and sources (rowboat spec 1.3)."""
    return secrets.token_hex(12)


def equip_workflows(house: House, egress: Egress, connections: tuple[Connection, ...]) -> None:
    """Open all of it; the house must have its records and its sealer. Raises BadConfig."""
    config, records = house.config, house.records
    webhooks = [each.name for each in connections if each.kind == "webhook"]
    house.settings = ProjectSettings(
        records,
        house.sealer,
        lambda: secrets.token_hex(32),
        lambda: base64.urlsafe_b64encode(secrets.token_bytes(CLIENT_ID_BYTES)).rstrip(b"=").decode(),
        clock=house.clock,
        webhooks=webhooks,
    )
    house.sources = Sources(records, house.store.knowledge, new_id=new_object_id)
    house.workflows = Workflows(
        records, configured_workflows(config), default=config.defaults.workflow, new_id=new_object_id
    )
    house.profiles = TestProfiles(records, new_id=new_object_id)
    house.stagings = Stagings(house.workflows, house.profiles, house.store)
    settings = house.settings

    async def servers_of(project: ProjectId) -> Sequence[McpServer]:
        return (await settings.of(project)).mcp_servers

    house.mcp = McpCaller(servers_of, mcp_servers(config, os.environ), Pins(records), house.clock)
    hooks = Webhooks(egress, settings, connections, clock=house.clock, sleep=asyncio.sleep)
    house.workflow_tools = WorkflowToolbox(webhooks=hooks, mcp=house.mcp, sources=house.sources)


def agents_of(config: Config, workflows: Mapping[str, Workflow]) -> dict[str, AgentSpec]:
    """All that can be asked for by an agent's name. A workflow is told to its own agents, and has nothing to say for
    itself; it holds what they hold of the server's tools."""
    agents = {name: table.spec(name) for name, table in config.agents.items()}
    for name, workflow in workflows.items():
        held = dict.fromkeys(pattern for member in workflow.members for pattern in member.agent.tools)
        agents[name] = AgentSpec(name, "", tools=tuple(held))
    return agents


def simulator(house: House, take: Take) -> Simulator:
    """What plays simulations, taking its turns by way of the desk."""
    return Simulator(
        take,
        house.models,
        house.profiles,
        SimulationRuns(house.records, house.clock),
        house.clock,
        new_id=new_object_id,
    )
