"""`dragoman credentials`: create, ls, rotate, revoke."""

from typing import TYPE_CHECKING, Any

import click

from dragoman.access.minting import EXPIRES_S, OVERLAP_S, Minted
from dragoman.access.ports import Credential
from dragoman.access.projects import check_project_id, ensure_project
from dragoman.access.scopes import parse_scopes
from dragoman.access.texts import Form
from dragoman.cli.opening import in_house
from dragoman.cli.options import global_options, json_option
from dragoman.cli.terminal import dim, note, say, say_json, say_table
from dragoman.cli.times import ago, iso, span
from dragoman.core.errors import BadRequest, NotFound
from dragoman.core.names import ProjectId, Scope
from dragoman.server.quantities import parse_duration, show_duration

if TYPE_CHECKING:
    from dragoman.server.house import House

NEVER = "never"
SCOPES_HELP = (
    f"What it may do, several times for several: {', '.join(Scope)}."
    " Default: what a client needs to chat, read, use tools and cancel."
)


def lifetime(ctx: click.Context, param: click.Parameter, value: str) -> float | None:
    """`90d`, `12h`, … in seconds; None for `never`."""
    if value == NEVER:
        return None
    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error


EXPIRES = click.option(
    "--expires",
    "expires_s",
    callback=lifetime,
    default=show_duration(EXPIRES_S),
    metavar="90d|never",
    help=f"How long it is good for; default {show_duration(EXPIRES_S)}.",
)

FORM = click.option(
    "--form",
    type=click.Choice([Form.DRG.value, Form.GLSA.value]),
    default=Form.DRG.value,
    show_default=True,
    help="How its text is written: our own way, or as Grafana writes those of its service accounts. Both are good"
    " everywhere.",
)


@click.group("credentials", short_help="Credentials: who may call, for what, and until when.")
def command() -> None:
    """Credentials: who may call, for what, and until when.

    A credential's text is shown once, when it is made; kept is only a hash of it.
    """


@command.command("create")
@click.argument("name")
@click.option("--project", default="", metavar="ID", help="The project it belongs to; else the configured default.")
@click.option("--scope", "scopes", multiple=True, metavar="S", help=SCOPES_HELP)
@EXPIRES
@click.option("--rpm", type=click.IntRange(min=0), help="Requests per minute; 0 = unlimited; default as configured.")
@FORM
@json_option
@global_options
def create(
    name: str, project: str, scopes: tuple[str, ...], expires_s: float | None, rpm: int | None, form: str, as_json: bool
) -> None:
    """Make a credential called NAME and print it, this once."""

    async def work(house: "House") -> Minted:
        owner = await project_of(house, project)
        return await house.mint.create(
            name, owner, scopes=parse_scopes(scopes), expires_s=expires_s, rpm=rpm, form=Form(form)
        )

    _show_minted(in_house(work, writer=False), as_json=as_json)


@command.command("ls")
@click.option("--project", default="", metavar="ID", help="Only this project's; else all.")
@json_option
@global_options
def ls(project: str, as_json: bool) -> None:
    """List credentials, oldest first."""

    async def work(house: "House") -> tuple[list[Credential], float]:
        found = await house.access.credentials(await project_of(house, project) if project else None)
        return list(found), house.clock.now()

    found, now = in_house(work, writer=False)
    if as_json:
        say_json([described(credential, now=now) for credential in found])
        return
    rows = [
        (
            credential.id,
            credential.name,
            str(credential.project),
            credential.subject or "itself",
            _state(credential, now),
            "default" if credential.rpm is None else str(credential.rpm),
            ago(credential.last_used_at, now=now),
            " ".join(credential.scopes),
        )
        for credential in found
    ]
    say_table(("ID", "NAME", "PROJECT", "FOR", "STATE", "RPM", "LAST USED", "SCOPES"), rows)
    if not found:
        note("No credential yet. Make one with: dragoman credentials create NAME")


@command.command("rotate")
@click.argument("credential")
@click.option(
    "--overlap",
    "overlap_s",
    callback=lifetime,
    default=show_duration(OVERLAP_S),
    metavar="1d",
    help=f"How long the old text stays good: 0s to 7d; default {show_duration(OVERLAP_S)}.",
)
@EXPIRES
@FORM
@json_option
@global_options
def rotate(credential: str, overlap_s: float | None, expires_s: float | None, form: str, as_json: bool) -> None:
    """Give CREDENTIAL (an id, or a name only one has) a new secret and print it, this once."""
    if overlap_s is None:
        raise BadRequest("The overlap of a rotation ends; give a duration of 0s to 7d.")

    async def work(house: "House") -> Minted:
        return await house.mint.rotate(
            await _id_of(house, credential), overlap_s=overlap_s, expires_s=expires_s, form=Form(form)
        )

    minted = in_house(work, writer=False)
    _show_minted(minted, as_json=as_json)
    if minted.credential.previous_until is not None:
        note(f"The old text stays good for {span(overlap_s)}.")


@command.command("revoke")
@click.argument("credential")
@json_option
@global_options
def revoke(credential: str, as_json: bool) -> None:
    """End CREDENTIAL (an id, or a name only one has), and the logins made with it. A running server notices within 5
    seconds."""

    async def work(house: "House") -> Credential:
        return await house.mint.revoke(await _id_of(house, credential))

    revoked = in_house(work, writer=False)
    if as_json:
        say_json({"id": revoked.id, "name": revoked.name, "revoked_at": iso(revoked.revoked_at)})
        return
    say(f"{revoked.name} ({revoked.id}) is revoked; running servers refuse it within 5 seconds.")


async def project_of(house: "House", project: str) -> ProjectId:
    """The project a command names. The default one is made if need be; any other must exist. Raises NotFound."""
    default = ProjectId(house.config.defaults.project)
    if not project or project == default:
        await ensure_project(house.access, default, at=house.clock.now())
        return default
    named = check_project_id(project)
    if await house.access.project(named) is None:
        raise NotFound(
            f"There is no project {project}; make it with: dragoman projects create NAME --id {project}", what="project"
        )
    return named


def described(credential: Credential, *, now: float) -> dict[str, Any]:
    """What lists show to programs; never the hash."""
    return {
        "id": credential.id,
        "name": credential.name,
        "project": credential.project,
        "subject": credential.subject,
        "scopes": [str(scope) for scope in credential.scopes],
        "state": _state(credential, now).split(" ")[0],
        "created_at": iso(credential.created_at),
        "expires_at": iso(credential.expires_at),
        "last_used_at": iso(credential.last_used_at),
        "revoked_at": iso(credential.revoked_at),
        "rpm": credential.rpm,
    }


def minted_json(minted: Minted) -> dict[str, Any]:
    credential = minted.credential
    return {
        "id": credential.id,
        "name": credential.name,
        "project": credential.project,
        "credential": minted.text,
        "scopes": [str(scope) for scope in credential.scopes],
        "expires_at": iso(credential.expires_at),
    }


async def _id_of(house: "House", text: str) -> str:
    """The id of the credential a person means: by its id, or by its name if only one in use has it."""
    if await house.access.credential(text) is not None:
        return text
    named = [found for found in await house.access.credentials(None) if found.name == text and found.revoked_at is None]
    if not named:
        raise NotFound(f"There is no credential {text}; list them with: dragoman credentials ls", what="credential")
    if len(named) > 1:
        ids = ", ".join(found.id for found in named)
        raise BadRequest(f"Several credentials are called {text}; say which one by its id: {ids}")
    return named[0].id


def _state(credential: Credential, now: float) -> str:
    if credential.revoked_at is not None:
        return "revoked"
    if credential.expires_at is None:
        return "good for ever"
    if credential.expires_at <= now:
        return f"expired {span(now - credential.expires_at)} ago"
    return f"good for {span(credential.expires_at - now)}"


def _show_minted(minted: Minted, *, as_json: bool) -> None:
    if as_json:
        say_json(minted_json(minted))
        return
    credential = minted.credential
    scopes = " ".join(credential.scopes)
    until = "never expires" if credential.expires_at is None else f"expires {iso(credential.expires_at)}"
    note(dim(f"{credential.name}  id {credential.id}  project {credential.project}  {until}  {scopes}"))
    note("shown once:  ", nl=False)
    say(minted.text)
