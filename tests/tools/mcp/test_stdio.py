"""Programs that are servers: started, spoken to, and gone with everything they started."""

import asyncio
import json
import os
import sys
from pathlib import Path
from time import sleep

import pytest

from dragoman.core.errors import ToolFailed
from dragoman.tools.mcp.servers import Server
from tests import mcp_program
from tests.mcp_program import command
from tests.tools.mcp.conftest import Make, P

pytest.importorskip("mcp", reason="the MCP SDK is not installed: pip install 'dragoman[mcp]'")

from dragoman.tools.mcp.stdio import STRANGE_LINES_MAX, Program


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """With those that do not go by themselves."""
    monkeypatch.setattr("dragoman.tools.mcp.stdio.EXIT_S", 0.1)
    monkeypatch.setattr("dragoman.tools.mcp.stdio.TERM_S", 0.1)


def program(*words: str, **env: str) -> Server:
    given = {"PATH": os.environ["PATH"]} | env
    return Server("helpdesk", transport="stdio", command=command(*words), env=tuple(given.items()), trusted=True)


def saying(code: str) -> Server:
    """A program that is no server."""
    return Server("helpdesk", transport="stdio", command=(sys.executable, "-c", code), trusted=True)


async def said(make: Make, server: Server, tool: str, *, timeout_s: float = 20.0, **arguments: object) -> str:
    items = json.loads(await make(server).call(P, "helpdesk", tool, arguments, "k", timeout_s))
    return items[0]["text"]


async def failing(make: Make, server: Server, *, timeout_s: float = 20.0) -> ToolFailed:
    with pytest.raises(ToolFailed) as caught:
        await said(make, server, "echo", text="a", timeout_s=timeout_s)
    return caught.value


def alive(pid: int) -> bool:
    """A zombie is not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def pids_of(file: Path) -> tuple[int, int]:
    while not file.exists() or len(file.read_text().split()) < 2:
        await asyncio.sleep(0.02)
    server, child = file.read_text().split()
    return int(server), int(child)


async def none_left(file: Path) -> None:
    pids = await pids_of(file)
    for _ in range(100):
        if not any(map(alive, pids)):
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"still there: {[pid for pid in pids if alive(pid)]}")


async def test_it_is_given_its_variables_and_no_others(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAGOMAN_PEPPER", "ours")
    names = (await said(make, program(HELPDESK_KEY="k"), "environment")).split()

    assert "HELPDESK_KEY" in names
    assert "DRAGOMAN_PEPPER" not in names


@pytest.mark.parametrize("kind", ["leaving", "stubborn"])
async def test_what_it_started_goes_with_it(make: Make, kind: str, tmp_path: Path) -> None:
    assert await said(make, program(kind, PIDS=str(tmp_path / "pids")), "echo", text="a") == "a"

    await none_left(tmp_path / "pids")


async def test_being_cancelled_ends_it(make: Make, tmp_path: Path) -> None:
    server = program("stubborn", PIDS=str(tmp_path / "pids"))
    asked = asyncio.create_task(said(make, server, "wait", seconds=20))
    await pids_of(tmp_path / "pids")
    await asyncio.sleep(0.2)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked

    await none_left(tmp_path / "pids")


async def test_being_cancelled_twice_ends_it_at_once(make: Make, tmp_path: Path) -> None:
    server = program("stubborn", PIDS=str(tmp_path / "pids"))
    asked = asyncio.create_task(said(make, server, "wait", seconds=20))
    await pids_of(tmp_path / "pids")
    asked.cancel()
    await asyncio.sleep(0.1)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked

    await none_left(tmp_path / "pids")


@pytest.mark.parametrize("again", [False, True], ids=["once", "twice"])
@pytest.mark.parametrize("steps", [2, 3, 5, 8])
async def test_being_cancelled_while_it_is_started_ends_it(tmp_path: Path, steps: int, again: bool) -> None:
    """After so many steps of the loop: the program runs, and its pipes are not ours yet."""
    file = tmp_path / "pids"

    async def started() -> None:
        async with Program(program("stubborn", PIDS=str(file)), bytes_max=1).streams():
            await asyncio.sleep(20)

    asked = asyncio.create_task(started())
    for _ in range(steps):
        await asyncio.sleep(0)
    while not file.exists() or len(file.read_text().split()) < 2:
        sleep(0.01)  # the loop stands still
    asked.cancel()
    if again:
        await asyncio.sleep(0)
        asked.cancel()
    async with asyncio.timeout(5):
        await asyncio.wait({asked})

    assert asked.cancelled()
    await none_left(file)


async def test_being_too_slow_ends_it(make: Make, tmp_path: Path) -> None:
    server = program("stubborn", PIDS=str(tmp_path / "pids"))
    with pytest.raises(ToolFailed, match=r"did not answer within 0\.5 s"):
        await said(make, server, "wait", seconds=20, timeout_s=0.5)

    await none_left(tmp_path / "pids")


async def test_a_command_that_is_not_there_is_said(make: Make) -> None:
    server = Server("helpdesk", transport="stdio", command=("no-such-program",), trusted=True)
    error = await failing(make, server)
    assert error.detail == "The MCP server helpdesk could not be started: is its command installed?"


async def test_one_that_ends_at_once_is_said_with_its_complaint_for_the_log(make: Make) -> None:
    error = await failing(make, saying("import sys; sys.exit('no licence')"))

    assert error.detail == "The MCP server helpdesk ended before it had answered."
    assert "no licence" in error.internal
    assert "no licence" not in error.detail


SERVES = f"import runpy; runpy.run_path({mcp_program.__file__!r}, run_name='__main__')"


async def test_what_is_no_message_is_passed_over(make: Make) -> None:
    server = program()
    noisy = Server("helpdesk", transport="stdio", command=noisily(STRANGE_LINES_MAX), env=server.env, trusted=True)
    assert await said(make, noisy, "echo", text="a") == "a"


async def test_one_that_says_nothing_else_is_refused(make: Make) -> None:
    server = program()
    noisy = Server("helpdesk", transport="stdio", command=noisily(STRANGE_LINES_MAX + 1), env=server.env, trusted=True)
    assert (await failing(make, noisy)).detail == "The MCP server helpdesk writes to its stdout what is no MCP."


def noisily(lines: int) -> tuple[str, ...]:
    return (sys.executable, "-c", f"print('hello\\n' * {lines}, end='', flush=True); {SERVES}")


async def test_output_without_end_is_refused(make: Make) -> None:
    error = await failing(make, saying("print('x' * 5_000_000, flush=True); input(); input()"))
    assert error.detail == "The MCP server helpdesk answered with more than 4 MiB. Ask for less at a time."


async def test_messages_without_end_are_refused(make: Make) -> None:
    note = '{"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "' + "x" * 9000
    error = await failing(make, saying(f"print(({note!r} + '\"}}}}\\n') * 600, flush=True); input(); input()"))
    assert error.detail == "The MCP server helpdesk answered with more than 4 MiB. Ask for less at a time."
