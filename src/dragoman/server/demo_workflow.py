"""The demo's workflow: what answers the requests of Rowboat's reference page, which leaves the workflow to its reader.

    MainAgent ── talks with the user ──► Researcher ── internal ──► list_services    a tool that is only played
        └──────────────────────────────────────────────────────────► introduce       another

Every part of a turn shows in the second request: the hand-over to an internal agent, a tool that runs, the way back,
and the answer. It is written as Rowboat's own JSON, taken in and published as `dragoman workflows import` does it.
"""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dragoman.core.names import ProjectId
from dragoman.core.versions import Version
from dragoman.dialects.rowboat.workflow_json import compile_workflow
from dragoman.server.assemble import open_house
from dragoman.server.config import load

DIALECT = "rowboat"
"""The dialect whose examples need a workflow."""

_NOTHING: Mapping[str, Any] = {"type": "object", "properties": {}}

WORKFLOW: Mapping[str, Any] = {
    "name": "Harbour help desk",
    "agents": [
        {
            "name": "MainAgent",
            "type": "conversation",
            "description": "Talks with the people who come to the desk.",
            "instructions": "You are the help desk of a small harbour. Who says hello is told what you can do: call "
            "[@tool:introduce](#mention). What the harbour offers, [@agent:Researcher](#mention) finds out for you.",
            "outputVisibility": "user_facing",
            "controlType": "retain",
        },
        {
            "name": "Researcher",
            "type": "conversation",
            "description": "Finds out which services we offer, and at what price.",
            "instructions": "Call [@tool:list_services](#mention) and report what it says.",
            "outputVisibility": "internal",
            "controlType": "relinquish_to_parent",
        },
    ],
    "tools": [
        {
            "name": "introduce",
            "description": "Says hello, and with what this desk can help you.",
            "mockTool": True,
            "mockInstructions": "Hello! Yes: ask me which services the harbour offers.",
            "parameters": _NOTHING,
        },
        {
            "name": "list_services",
            "description": "Lists the services that we offer, each with its price.",
            "mockTool": True,
            "mockInstructions": '{"services": ["berth, 14 a night", "crane, 60 a lift", "ferry, 3 a head"]}',
            "parameters": _NOTHING,
        },
    ],
    "prompts": [{"name": "Greeting", "type": "greeting", "prompt": "Ahoy! What can I do for you?"}],
    "pipelines": [],
    "startAgent": "MainAgent",
}


def publish(home: Path) -> Version:
    """Take it in and publish it in the default project of the home, also beside the server that runs on it. Raises
    BadConfig, and errors of the store."""
    config = load(home, file=home / "dragoman.toml", env={}).config
    source = json.dumps(WORKFLOW, indent=2)

    async def work() -> Version:
        async with open_house(config, home, writer=False) as house:
            project = ProjectId(config.defaults.project)
            return await house.workflows.add(project, compile_workflow(source.encode()), source=source, publish=True)

    return asyncio.run(work())
