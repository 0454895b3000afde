"""The server under test: `dragoman serve` with tools whose effects are counted elsewhere, and the harness's own wire.

python -m tests.crash.serve HOME HOST:PORT EFFECTS_URL
"""

import ctypes
import logging
import signal
import sys
from pathlib import Path

import aiohttp
import msgspec

from dragoman.core.agents import NO_ARGUMENTS, Offered, Repeat, ToolSpec
from dragoman.core.errors import ToolFailed
from dragoman.dialects import installed
from dragoman.runtime.tool_ports import CallContext
from dragoman.server.assemble import Parts
from dragoman.server.config import load
from dragoman.server.serve import serve
from dragoman.tools.arguments import Arguments, Run
from dragoman.tools.registry import Registry
from tests.crash.scripts import ASKED, OPENING
from tests.crash.waits import WAITS

PR_SET_PDEATHSIG = 1
TOOLSET = "crash"
REPEATS = {
    "look": Repeat.PURE,
    "count_once": Repeat.ONCE,
    "count_again": Repeat.IDEMPOTENT,
    ASKED: Repeat.ONCE,
}
PARAMETERS = {
    "type": "object",
    "properties": {"token": {"type": "string"}, "place": {"type": "string"}, "ms": {"type": "integer"}},
    "required": ["token", "place", "ms"],
}


def registry(effects: str) -> Registry:
    """The tools, each an HTTP POST to the server of effects, with the call's key."""
    tools = Registry()
    for name, repeat in REPEATS.items():
        spec = ToolSpec(name, f"The {name} tool.", PARAMETERS, repeat=repeat, toolset=TOOLSET, timeout_s=20.0)
        tools.register(spec, _effect(name, effects))
    tools.register(
        ToolSpec(OPENING, "Looks around.", NO_ARGUMENTS, repeat=Repeat.PURE, offered=Offered.NEVER), _look_around
    )
    return tools


async def _look_around(arguments: Arguments, context: CallContext) -> str:
    return '{"screen_description":"","learnings":[]}'


def _effect(name: str, effects: str) -> Run:
    async def run(arguments: Arguments, context: CallContext) -> str:
        body = {"tool": name, "arguments": msgspec.json.encode(arguments).decode()}
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.post(f"{effects}/effect", json=body, headers={"Idempotency-Key": context.key}) as answer,
            ):
                return await answer.text()
        except aiohttp.ClientError as error:
            raise ToolFailed(f"The effect is unknown: {type(error).__name__}.") from error

    return run


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Where the kernel can: no server outlives a harness that was killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def main(home: Path, listen: str, effects: str) -> int:
    die_with_parent()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    config = load(home, file=home / "dragoman.toml").config
    return serve(config, home, listen=listen, parts=Parts(tools=registry(effects), dialects=(*installed(), WAITS)))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
