"""What a workflow uses that its project does not have: a webhook, MCP servers, sources.

It may be set up later, so that none of it keeps a workflow from being taken in or published. Until then the tools say
so when they are called, and a search finds nothing.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec import Struct

from dragoman.core.errors import Unavailable
from dragoman.core.names import ProjectId
from dragoman.core.workflow_checks import Finding, reachable, warning
from dragoman.core.workflows import ToolKind, Workflow

if TYPE_CHECKING:
    from dragoman.server.house import House


class Has(Struct, frozen=True):
    """What a project has. `servers` and `sources` by the names that workflows call them."""

    project: ProjectId
    webhook: bool
    servers: frozenset[str]
    sources: frozenset[str]


async def needs(house: "House", project: ProjectId, workflow: Workflow) -> tuple[Finding, ...]:
    """A warning for each thing that is not there; none if the settings cannot be read, which is told elsewhere."""
    try:
        has = Has(
            project,
            bool((await house.settings.of(project)).webhook),
            frozenset(found.server.name for found, _ in await house.mcp.all(project)),
            frozenset(source.id for source in await house.sources.page(project)),
        )
    except Unavailable:
        return ()
    return tuple(lacks(has, workflow))


def lacks(has: Has, workflow: Workflow) -> Iterator[Finding]:
    """Of tools and agents that can have a part in a turn."""
    reached = reachable(workflow)
    members = [member for member in workflow.members if member.name in reached]
    used = {name for member in members for name in member.tools}
    for tool in workflow.tools:
        place = f"tools.{tool.spec.name}"
        if tool.spec.name not in used:
            continue
        if tool.kind is ToolKind.WEBHOOK and not has.webhook:
            yield warning(
                place,
                f"a webhook runs it, and the project has none: dragoman projects set {has.project} --webhook URL",
            )
        if tool.kind is ToolKind.MCP and tool.server not in has.servers:
            how = f'dragoman projects mcp add {has.project} "{tool.server}" URL, or a connection of that name'
            yield warning(place, f'the MCP server "{tool.server}" runs it, and there is none of that name: {how}')
    for member in members:
        for source in member.sources:
            if source not in has.sources:
                yield warning(
                    f"agents.{member.name}",
                    f"searches in the source {source}, which is not there: dragoman sources create NAME --id {source}",
                )
