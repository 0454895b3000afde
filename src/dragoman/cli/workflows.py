"""`dragoman workflows`: import, publish, unpublish, ls, show, export, check, graph.

Files are Rowboat's workflow JSON of either generation, or our TOML. Everything works beside a running server, whose
next turn goes by what was published.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dragoman.cli.conversations import write_whole
from dragoman.cli.failing import USAGE
from dragoman.cli.opening import in_house, project_of
from dragoman.cli.options import global_options, json_option, project_option
from dragoman.cli.terminal import dim, note, printable, say, say_json, say_table, warn
from dragoman.cli.times import iso, stamp
from dragoman.cli.workflow_drawing import svg
from dragoman.cli.workflow_graph import mermaid
from dragoman.cli.workflow_needs import needs
from dragoman.core.errors import BadRequest, NotFound, TooLarge
from dragoman.core.names import ProjectId
from dragoman.core.versions import SOURCE_BYTES_MAX, VersionLine
from dragoman.core.workflow_checks import Finding, Severity, check, error, errors
from dragoman.core.workflow_drafts import Compiled
from dragoman.core.workflows import Member, Workflow

if TYPE_CHECKING:
    from dragoman.core.versions import Version
    from dragoman.server.house import House

FILE = click.Path(path_type=Path, exists=True, allow_dash=True)


@click.group("workflows", short_help="Workflows: import, check, publish, draw those of a project.")
def command() -> None:
    """Workflows: agents that hand the conversation to each other. A version never changes; one is published."""


@command.command("import", short_help="Take a workflow in from a file, as a new version.")
@click.argument("file", type=FILE)
@click.option("--publish", is_flag=True, help="From its next turn on the project is answered by it.")
@click.option("--name", default="", metavar="TEXT", help="What to call it; else its own name, or its number.")
@project_option
@json_option
@global_options
def import_(file: Path, publish: bool, name: str, project: str, as_json: bool) -> None:
    """Take a workflow in from FILE, Rowboat's JSON or TOML, as a new version; - = from stdin."""
    source = _read(file)
    compiled = _compiled(source, name)

    async def work(house: "House") -> tuple["Version", tuple[Finding, ...]]:
        where = await project_of(house, project)
        made = await house.workflows.add(
            where, compiled.workflow, source=source.decode("utf-8-sig"), publish=publish, name=name
        )
        return made, await needs(house, where, compiled.workflow)

    version, lacking = in_house(work, writer=False)
    for each in (*compiled.notes, *check(compiled.workflow), *lacking):
        warn(printable(str(each)))
    if as_json:
        say_json({"id": version.id, "name": version.name, "published": version.published})
        return
    count = len(compiled.workflow.members)
    say(f"{version.id}  {printable(version.name)}  {count} agents{'  published' if publish else ''}")
    if not publish:
        note(f"publish it with: dragoman workflows publish {version.id}")


@command.command("publish", short_help="Have the project answered by a version.")
@click.argument("version")
@project_option
@json_option
@global_options
def publish(version: str, project: str, as_json: bool) -> None:
    """Have the project answered by VERSION from its next turn on, in place of the one published before."""

    async def work(house: "House") -> tuple["Version", tuple[Finding, ...]]:
        where = await project_of(house, project)
        found = await house.workflows.publish(where, version)
        return found, await needs(house, where, found.workflow)

    found, lacking = in_house(work, writer=False)
    for each in lacking:
        warn(printable(str(each)))
    if as_json:
        say_json({"id": found.id, "name": found.name, "published": True})
        return
    say(f"{found.id}  {printable(found.name)}  published")


@command.command("unpublish", short_help="Have no version published.")
@click.argument("version", default="")
@project_option
@json_option
@global_options
def unpublish(version: str, project: str, as_json: bool) -> None:
    """Have no version published in the project; with VERSION only if it is that one."""

    async def work(house: "House") -> str:
        return await house.workflows.unpublish(await project_of(house, project), version)

    before = in_house(work, writer=False)
    if as_json:
        say_json({"id": before or None, "published": False})
        return
    say(f"{before} is no longer published." if before else "No version was published.")


@command.command("ls", short_help="List versions and configured workflows.")
@project_option
@json_option
@global_options
def ls(project: str, as_json: bool) -> None:
    """List the project's versions and the workflows of the configuration."""

    async def work(house: "House") -> tuple[tuple[VersionLine, ...], list[str], str]:
        where = await project_of(house, project)
        listed, configured = await house.workflows.versions(where), list(house.workflows.configured)
        return listed, configured, await house.workflows.live(where)

    found, configured, live = in_house(work, writer=False)
    if as_json:
        ours = [{"id": name, "name": name, "published": name == live, "configured": True} for name in configured]
        say_json([*map(_listed, found), *ours])
        return
    rows = [
        (line.id, str(line.number), line.name, "published" if line.published else "", stamp(line.created_at))
        for line in found
    ]
    rows += [(name, "", name, "published" if name == live else "", "configuration") for name in configured]
    say_table(("ID", "NO", "NAME", "STATE", "MADE"), rows)
    if not rows:
        note("No workflow. Take one in with: dragoman workflows import FILE")


@command.command("show", short_help="Show who is in a version, and who hands over to whom.")
@click.argument("version")
@project_option
@json_option
@global_options
def show(version: str, project: str, as_json: bool) -> None:
    """Show who is in VERSION, an id or a name of the configuration, and to whom they hand over."""

    async def work(house: "House") -> tuple[Workflow, "Version | None", bool, tuple[Finding, ...]]:
        where = await project_of(house, project)
        workflow, found = await _workflow(house, where, version), await house.workflows.version(where, version)
        return workflow, found, await house.workflows.live(where) == version, await needs(house, where, workflow)

    workflow, found, live, lacking = in_house(work, writer=False)
    findings = (*check(workflow), *lacking)
    if as_json:
        line = _listed(found) if found else {"id": version, "name": version, "configured": True}
        say_json({**line, "published": live, **_described(workflow), "findings": _told(findings)})
        return
    name = found.name if found else workflow.name
    say(f"{printable(name)}  {version}{'  published' if live else ''}")
    say(dim(f"  begins with {printable(workflow.start)}"))
    for member in workflow.members:
        say(f"  {printable(member.name)}  {dim(_role(member))}")
    for pipeline in workflow.pipelines:
        say(f"  {printable(pipeline.name)}  {dim('pipeline: ' + printable(' > '.join(pipeline.steps)))}")
    for tool in workflow.tools:
        say(f"  {printable(tool.spec.name)}  {dim(f'tool: {tool.kind}')}")
    for finding in findings:
        warn(printable(str(finding)))


@command.command("export", short_help="Write a version as it was imported.")
@click.argument("version")
@click.option("--to", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Else to stdout.")
@project_option
@json_option
@global_options
def export(version: str, to: Path | None, project: str, as_json: bool) -> None:
    """Write VERSION as it was imported, JSON or TOML; `import` reads it."""

    async def work(house: "House") -> str:
        found = await house.workflows.version(await project_of(house, project), version)
        if found is None:
            raise _not_found(version)
        return found.source

    body = in_house(work, writer=False).encode()
    if to is None:
        sys.stdout.buffer.write(body)
        return
    write_whole(to, body)
    if as_json:
        say_json({"file": str(to), "bytes": len(body)})
        return
    say(f"{version} is in {to}")


@command.command("check", short_help="Name everything that is wrong in a file.")
@click.argument("file", type=FILE)
@json_option
@global_options
def check_(file: Path, as_json: bool) -> int:
    """Name everything that is wrong with the workflow in FILE; exit code 2 if it could not be published."""
    source = _read(file)
    workflow: Workflow | None = None
    try:
        compiled = _compiled(source, "")
        workflow, findings = compiled.workflow, (*compiled.notes, *check(compiled.workflow))
    except BadRequest as fault:
        findings = tuple(error(each.field, each.message) for each in fault.faults) or (error("", fault.detail),)
    findings = tuple(sorted(findings, key=lambda finding: finding.severity is Severity.WARNING))
    bad = bool(errors(findings))
    if as_json:
        say_json({"ok": not bad, "findings": _told(findings)})
        return USAGE if bad else 0
    for finding in findings:
        say(f"{finding.severity.ljust(7)}  {printable(str(finding))}")
    if workflow is not None and not bad:
        say(f"ok  {len(workflow.members)} agents, {len(workflow.tools)} tools, {len(workflow.pipelines)} pipelines")
    return USAGE if bad else 0


@command.command("graph", short_help="Draw a workflow, for Mermaid or as SVG.")
@click.argument("what", metavar="ID|FILE")
@click.option("--format", "form", type=click.Choice(("svg", "mermaid")), default="mermaid", help="Default: mermaid.")
@click.option("--tools", is_flag=True, help="With each agent's tools.")
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Else to stdout.")
@project_option
@json_option
@global_options
def graph(what: str, form: str, tools: bool, output: Path | None, project: str, as_json: bool) -> None:
    """Draw a workflow: a version by its ID, one of the configuration by its name, or a FILE; - = from stdin."""

    async def work(house: "House") -> Workflow:
        return await _workflow(house, await project_of(house, project), what)

    if what == "-" or Path(what).is_file():
        workflow = _compiled(_read(Path(what)), "").workflow
    elif Path(what).suffix in (".json", ".toml") or "/" in what:
        raise NotFound(f"There is no file {what[:200]}.", what="file")
    else:
        workflow = in_house(work, writer=False)
    drawn = svg(workflow, tools=tools) if form == "svg" else mermaid(workflow, tools=tools)
    if output is not None:
        write_whole(output, drawn.encode())
    if as_json:
        say_json({"format": form, "graph": drawn} if output is None else {"format": form, "file": str(output)})
        return
    if output is None:
        say(drawn, nl=False)
        return
    say(f"{printable(workflow.name or 'the workflow')} is in {output}")


# -- within ------------------------------------------------------------------------------------------------------------


async def _workflow(house: "House", project: ProjectId, what: str) -> Workflow:
    found = await house.workflows.workflow(project, what)
    if found is None:
        raise _not_found(what)
    return found


def _not_found(what: str) -> NotFound:
    return NotFound(f"There is no workflow {what[:100]}; list them with: dragoman workflows ls", what="workflow")


def _compiled(source: bytes, name: str) -> Compiled:
    from dragoman.server.workflow_files import workflow_from_file  # noqa: PLC0415 keeps the verb's --help fast

    return workflow_from_file(source, name=name)


def _read(file: Path) -> bytes:
    if str(file) == "-":
        body = sys.stdin.buffer.read(SOURCE_BYTES_MAX + 1)
    elif file.is_dir():
        raise BadRequest(f"{file} is a folder; name a file.")
    else:
        with file.open("rb") as opened:
            body = opened.read(SOURCE_BYTES_MAX + 1)
    if len(body) > SOURCE_BYTES_MAX:
        raise TooLarge(f"{file} has more than {SOURCE_BYTES_MAX} bytes.", bytes_max=SOURCE_BYTES_MAX)
    return body


def _listed(line: VersionLine) -> dict[str, Any]:
    return {
        "id": line.id,
        "name": line.name,
        "number": line.number,
        "published": line.published,
        "created_at": iso(line.created_at),
    }


def _described(workflow: Workflow) -> dict[str, Any]:
    return {
        "start": workflow.start,
        "greeting": workflow.greeting,
        "agents": [
            {
                "name": member.name,
                "description": member.description,
                "control": member.control,
                "visibility": member.visibility,
                "step": member.step,
                "model": member.agent.model,
                "agents": list(member.agents),
                "pipelines": list(member.pipelines),
                "tools": [*member.tools, *member.agent.tools],
                "sources": list(member.sources),
            }
            for member in workflow.members
        ],
        "pipelines": [{"name": pipeline.name, "steps": list(pipeline.steps)} for pipeline in workflow.pipelines],
        "tools": [{"name": tool.spec.name, "kind": tool.kind} for tool in workflow.tools],
    }


def _told(findings: tuple[Finding, ...]) -> list[dict[str, str]]:
    return [{"severity": each.severity, "place": each.place, "message": each.message} for each in findings]


def _role(member: Member) -> str:
    """What an agent is and whom it has, in one line."""
    said = ["step" if member.step else "internal" if member.internal else "speaks with the user"]
    for what, names in (("agents", member.agents), ("pipelines", member.pipelines), ("tools", member.tools)):
        if names:
            said.append(f"{what}: {printable(', '.join(names))}")
    return "; ".join(said)
