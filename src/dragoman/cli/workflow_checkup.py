"""What `dragoman doctor` looks at of workflows: whether a project's next turn would find what it needs.

Nothing is asked over the network. A model's name that is not known here is no fault: the default model's server is
asked for it, as many imported workflows want it; it is told, since that server may not know it either.
"""

import os
import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

from dragoman.access.ports import Project
from dragoman.cli.checkup import Finding
from dragoman.cli.workflow_needs import needs
from dragoman.core.errors import DragomanError
from dragoman.core.names import ProjectId
from dragoman.core.workflow_checks import check
from dragoman.core.workflows import Workflow
from dragoman.server.config_shapes import ConnectionTable

if TYPE_CHECKING:
    from dragoman.server.house import House

PROJECTS_MAX = 200
"""So many projects are looked at."""
FAULTS_SHOWN_MAX = 5
"""Of one workflow."""


async def check_workflows(house: "House") -> list[Finding]:
    """One finding for each project that has versions or settings to look at, and for each configured workflow."""
    findings = [
        await _look_at(house, f"workflow {name}", "in dragoman.toml", house.project, workflow)
        for name, workflow in house.workflows.configured.items()
    ]
    projects = list(await house.access.projects())
    for project in projects[:PROJECTS_MAX]:
        try:
            found = await _check_project(house, project)
        except DragomanError as error:
            found = Finding("fail", f"project {project.id}", error.detail, "see the sentence")
        findings += [found] if found else []
    if len(projects) > PROJECTS_MAX:
        what = f"{len(projects) - PROJECTS_MAX} more were not looked at"
        findings.append(Finding("ok", "projects", what))
    return findings


async def _check_project(house: "House", project: Project) -> Finding | None:
    """None: it has nothing to do with workflows. Raises what the store says, and Unavailable for settings that cannot
    be unsealed."""
    title = f"project {project.id}"
    live = await house.workflows.live(project.id)
    if not live:
        versions = await house.workflows.versions(project.id)
        if not versions:
            return None
        what = f"{len(versions)} versions of workflows, and none is published: Rowboat's API answers 404"
        return Finding("warn", title, what, f"dragoman workflows publish {versions[-1].id} --project {project.id}")
    await house.settings.of(project.id)  # can they be read? `needs` does not tell
    if live in house.workflows.configured:
        return None  # it is looked at by its own name
    workflow = await house.workflows.workflow(project.id, live)
    if workflow is None:
        return Finding("fail", title, f"{live} is published, and is not there", "publish another version")
    return await _look_at(house, title, f"answered by {live}", project.id, workflow)


async def _look_at(house: "House", title: str, good: str, project: ProjectId, workflow: Workflow) -> Finding:
    faults = [str(finding) for finding in (*check(workflow), *await needs(house, project, workflow))]
    passed_on: list[str] = []
    for name in dict.fromkeys(member.agent.model for member in workflow.members):
        try:
            await house.models.choose(project, name)
        except DragomanError as error:
            faults.append(f"model {name}: {error.detail}")
        if name and not await house.models.knows(project, name):
            passed_on.append(name)
    if not faults:
        hint = f"; the default model's server is asked for {', '.join(passed_on)}" if passed_on else ""
        return Finding("ok", title, good + hint)
    more = f"; and {len(faults) - FAULTS_SHOWN_MAX} more" if len(faults) > FAULTS_SHOWN_MAX else ""
    return Finding("warn", title, "; ".join(faults[:FAULTS_SHOWN_MAX]) + more, "see the sentence")


def check_mcp(name: str, table: ConnectionTable, env: Mapping[str, str] = os.environ) -> Finding:
    """A connection of the kind mcp: whether it could be begun with at all."""
    title = f"connection {name}"
    if find_spec("mcp") is None:
        return Finding("warn", title, "the package mcp is not installed", "pip install 'dragoman[mcp]'")
    if not table.command:
        return Finding("ok", title, f"{table.url} was not asked; add --probe to knock there")
    program = table.command[0]
    if shutil.which(program, path=env.get("PATH")) is None:
        return Finding("warn", title, f"the program {program} is not there", f"install {program}, or write its path")
    unset = [variable for variable in table.env if variable not in env]
    if unset:
        return Finding("warn", title, f"not set, and so not passed on: {', '.join(unset)}", "set them for the server")
    return Finding("ok", title, f"{program} is there")
