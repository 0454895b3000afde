"""`dragoman test-profiles`: create, ls, rm."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from dragoman.cli.opening import in_house, project_of
from dragoman.cli.options import global_options, json_option, project_option
from dragoman.cli.terminal import note, printable, say, say_json, say_table
from dragoman.cli.times import iso, stamp
from dragoman.core.errors import BadRequest
from dragoman.core.simulations import TestProfile

if TYPE_CHECKING:
    from dragoman.server.house import House


@click.group("test-profiles", short_help="Test profiles: who a simulated user is, and which tools are only played.")
def command() -> None:
    """Test profiles: what is known of a user in a test, and whether the results of tools are invented in it."""


@command.command("create", short_help="Keep the test profile in a file.")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True))
@project_option
@json_option
@global_options
def create(file: Path, project: str, as_json: bool) -> None:
    """Keep the test profile in FILE, JSON or TOML: name, context, mockTools, mockPrompt; - = from stdin."""
    from dragoman.server.simulation_files import read_profile  # noqa: PLC0415 keeps the verb's --help fast

    draft = read_profile(read_bounded(file), str(file))

    async def work(house: "House") -> TestProfile:
        return await house.profiles.create(await project_of(house, project), **msgspec.structs.asdict(draft))

    made = in_house(work, writer=False)
    if as_json:
        say_json({"id": made.id, "name": made.name})
        return
    say(f"{made.id}  {printable(made.name)}")
    note(f'name it in a request as "testProfileId": "{made.id}", or as the profile of a simulation')


@command.command("ls", short_help="List test profiles.")
@project_option
@json_option
@global_options
def ls(project: str, as_json: bool) -> None:
    """List those that were created; those that a file of simulations brings along are not among them."""

    async def work(house: "House") -> tuple[TestProfile, ...]:
        return await house.profiles.ls(await project_of(house, project))

    found = in_house(work, writer=False)
    if as_json:
        say_json([_described(profile) for profile in found])
        return
    rows = [
        (profile.id, profile.name, "tools are played" if profile.mock_tools else "", stamp(profile.created_at))
        for profile in found
    ]
    say_table(("ID", "NAME", "TOOLS", "MADE"), rows)
    if not found:
        note("No test profile. Keep one with: dragoman test-profiles create FILE")


@command.command("rm")
@click.argument("profile")
@project_option
@json_option
@global_options
def rm(profile: str, project: str, as_json: bool) -> None:
    """Remove PROFILE, by its id. Requests that name it are then refused."""

    async def work(house: "House") -> None:
        await house.profiles.remove(await project_of(house, project), profile)

    in_house(work, writer=False)
    if as_json:
        say_json({"id": profile, "deleted": True})
        return
    say(f"{profile} is removed.")


def read_bounded(file: Path) -> bytes:
    """As much of a file, or of stdin, as is needed to see that it is too long."""
    from dragoman.server.simulation_files import FILE_BYTES_MAX  # noqa: PLC0415 keeps the verb's --help fast

    if str(file) == "-":
        return sys.stdin.buffer.read(FILE_BYTES_MAX + 1)
    if file.is_dir():
        raise BadRequest(f"{file} is a folder; name a file.")
    with file.open("rb") as opened:
        return opened.read(FILE_BYTES_MAX + 1)


def _described(profile: TestProfile) -> dict[str, Any]:
    return {
        "id": profile.id,
        "name": profile.name,
        "context": profile.context,
        "mockTools": profile.mock_tools,
        "mockPrompt": profile.mock_prompt or None,
        "created_at": iso(profile.created_at),
    }
