"""What is wrong with a workflow, told from the workflow alone. Pure.

    error     it cannot answer as it is meant to: it is not published
    warning   it answers, and most likely otherwise than whoever wrote it thinks

Sources: rowboat spec 4.1 to 4.4, and the checks that 6.1 says upstream defines and does not apply.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from enum import StrEnum

from msgspec import Struct

from dragoman.core.workflows import SEARCH, TRANSFER, Control, ToolKind, Workflow

RESERVED = (TRANSFER, SEARCH)
"""Names that no tool of a workflow can have: agents are offered tools of ours by them."""


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"


class Finding(Struct, frozen=True):
    """One thing that is wrong. `place` names it, such as `agents.Billing Desk`; "" is the whole workflow."""

    severity: Severity
    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


def error(place: str, message: str) -> Finding:
    return Finding(Severity.ERROR, place, message)


def warning(place: str, message: str) -> Finding:
    return Finding(Severity.WARNING, place, message)


def check(workflow: Workflow) -> tuple[Finding, ...]:
    """Everything that is wrong with it, errors first."""
    found = [*_names(workflow), *_edges(workflow), *_pipelines(workflow), *_start(workflow)]
    if not found:  # who can be reached is told only of what hangs together
        reached = reachable(workflow)
        found = [*_reached(workflow, reached), *_members(workflow, reached), *_tools(workflow, reached)]
    return tuple(sorted(found, key=lambda finding: finding.severity is Severity.WARNING))


def errors(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(finding for finding in findings if finding.severity is Severity.ERROR)


def reachable(workflow: Workflow) -> frozenset[str]:
    """Names of the members that can ever have the word."""
    members = {member.name: member for member in workflow.members}
    steps = {pipeline.name: pipeline.steps for pipeline in workflow.pipelines}
    seen: set[str] = set()
    left = list(steps.get(workflow.start, (workflow.start,)))
    while left:
        name = left.pop()
        if name in seen or name not in members:
            continue
        seen.add(name)
        left.extend(members[name].agents)
        for pipeline in members[name].pipelines:
            left.extend(steps.get(pipeline, ()))
    return frozenset(seen)


# -- whether it hangs together ---------------------------------------------------------------------------------------


def _names(workflow: Workflow) -> Iterator[Finding]:
    agents = [member.name for member in workflow.members]
    pipelines = [pipeline.name for pipeline in workflow.pipelines]
    tools = [tool.spec.name for tool in workflow.tools]
    for section, names in (("agents", agents), ("pipelines", pipelines), ("tools", tools)):
        for name, count in Counter(names).items():
            if count > 1:
                yield error(f"{section}.{name}", f"there are {count} of this name; rename all but one")
    for name in sorted(set(agents) & set(pipelines)):
        yield error(f"pipelines.{name}", "an agent has this name too: nobody could tell which one is meant; rename one")
    for name in sorted(set(tools) & set(RESERVED)):
        yield error(f"tools.{name}", "agents are offered a tool of the server's by this name; rename yours")


def _edges(workflow: Workflow) -> Iterator[Finding]:
    members = {member.name: member for member in workflow.members}
    pipelines = {pipeline.name for pipeline in workflow.pipelines}
    tools = {tool.spec.name for tool in workflow.tools}
    for member in workflow.members:
        place = f"agents.{member.name}"
        for what, names, known in (
            ("agent", member.agents, members.keys()),
            ("pipeline", member.pipelines, pipelines),
            ("tool", member.tools, tools),
        ):
            for name in names:
                if name not in known:
                    yield error(place, f'there is no {what} "{name}" in this workflow')
        for name in member.agents:
            if name in members and members[name].step:
                yield error(place, f'hands over to "{name}", which runs only as a step of a pipeline')
        if member.name in member.agents:
            yield error(place, "hands over to itself")
        if member.step and (member.agents or member.pipelines):
            yield error(place, "is a step of a pipeline, and those hand over to nobody")


def _pipelines(workflow: Workflow) -> Iterator[Finding]:
    members = {member.name: member for member in workflow.members}
    for pipeline in workflow.pipelines:
        place = f"pipelines.{pipeline.name}"
        if not pipeline.steps:
            yield error(place, "has no step; name the agents that run in it, or take it out")
        for name in dict.fromkeys(pipeline.steps):
            if name not in members:
                yield error(place, f'there is no agent "{name}" to be a step')
            elif not members[name].step:
                yield error(place, f'its step "{name}" is an agent that does not run as a step')


def _start(workflow: Workflow) -> Iterator[Finding]:
    members = {member.name: member for member in workflow.members}
    if not workflow.members:
        yield error("", "has no agent")
    elif not workflow.start:
        yield error("", "does not say which agent or pipeline begins")
    elif workflow.start in members:
        if members[workflow.start].step:
            yield error("", f'begins with "{workflow.start}", which runs only as a step of a pipeline')
    elif workflow.start not in {pipeline.name for pipeline in workflow.pipelines}:
        yield error("", f'begins with "{workflow.start}", and there is no agent or pipeline of that name')


# -- how it will go --------------------------------------------------------------------------------------------------


def _reached(workflow: Workflow, reached: frozenset[str]) -> Iterator[Finding]:
    for member in workflow.members:
        if member.name not in reached:
            how = (
                "no pipeline that is called has it" if member.step else "no agent that can be reached hands over to it"
            )
            yield warning(f"agents.{member.name}", f"never has the word: {how}")
    callers = {name for member in workflow.members if member.name in reached for name in member.pipelines}
    for pipeline in workflow.pipelines:
        if pipeline.name not in callers and pipeline.name != workflow.start:
            yield warning(f"pipelines.{pipeline.name}", "is never run: no agent that can be reached calls it")
    if all(member.internal for member in workflow.members if member.name in reached):
        yield warning(
            "",
            "no agent that speaks with the user is ever reached: what the last one says to others is said to the user"
            " too. Make one of them user_facing",
        )


def _members(workflow: Workflow, reached: frozenset[str]) -> Iterator[Finding]:
    for member in workflow.members:
        if member.name not in reached:
            continue
        place = f"agents.{member.name}"
        if member.calls_max == 0 and member.name != workflow.start:
            yield warning(place, "may be handed to 0 times in a turn, so it never is; raise the limit or take it out")
        if member.internal and member.control is Control.TO_START and member.name != workflow.start:
            yield warning(
                place,
                f'reports to "{workflow.start}" and not to who called it, which may call it again until no more'
                " calls are allowed; write relinquish_to_parent if that is not meant",
            )
        if not member.agent.instructions.strip():
            yield warning(place, "has no instructions")


def _tools(workflow: Workflow, reached: frozenset[str]) -> Iterator[Finding]:
    users: dict[str, list[str]] = {}
    for member in workflow.members:
        for name in member.tools if member.name in reached else ():
            users.setdefault(name, []).append(member.name)
    for tool in workflow.tools:
        place = f"tools.{tool.spec.name}"
        if tool.spec.name not in users:
            yield warning(place, "is used by no agent that can be reached")
        elif tool.kind is ToolKind.MISSING:
            yield warning(place, f"cannot be run here, and {users[tool.spec.name][0]} will be told so: {tool.why}")
