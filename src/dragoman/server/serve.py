"""`dragoman serve`: bind, serve, and stop in order.

SIGTERM or SIGINT -> /ready says 503, new requests get 503 -> live runs get DRAIN_S to end -> who still waits for an
answer is told to come back -> connections are closed -> what is left of runs stays on its tape for the next start ->
exit 0.   A second signal skips the waiting.
"""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import uvicorn
import uvloop

from dragoman import __version__
from dragoman.core.errors import Unavailable
from dragoman.edge.http import HttpProtocol
from dragoman.server.assemble import House, open_house
from dragoman.server.config import BadConfig, Config
from dragoman.server.config_shapes import OfflineModel
from dragoman.server.lifespan import DRAIN_S, drained
from dragoman.server.quantities import parse_address
from dragoman.server.safe_start import prepare

logger = logging.getLogger("dragoman.server")

BACKLOG = 2048
KEEP_ALIVE_S = 75
"""Longer than the usual proxy's 60 s, so that the proxy is the one to close an idle connection."""
CLOSE_S = 3
"""Connections get this long to take the rest of their answers once runs are done."""
LATE_CHECK_S = 1.0
GC_THRESHOLDS = (10_000, 20, 50)


class _Server(uvicorn.Server):
    """uvicorn's server without its own signal handling, since ours drains first; says when it accepts."""

    def __init__(self, config: uvicorn.Config, accepting: Callable[[], None]) -> None:
        super().__init__(config)
        self._accepting = accepting

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._accepting()


def bind(listen: str) -> socket.socket:
    """A socket bound to `HOST:PORT`; nobody can connect before the server listens on it.

    Raises BadConfig if that is no address; Unavailable if it cannot be had.
    """
    try:
        address = parse_address(listen)
    except ValueError as error:
        raise BadConfig(str(error)) from error
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address.host, address.port))
            listener.setblocking(False)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise Unavailable(f"Cannot listen on {address}: {error.strerror}. Choose another with --listen.") from error
    return listener


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Serving:
    """One server from its start to its exit."""

    def __init__(self, house: House, listener: socket.socket, *, drain_s: float = DRAIN_S) -> None:
        self._house = house
        self._listener = listener
        self._drain_s = drain_s
        self._stop = asyncio.Event()
        self._server = _Server(
            uvicorn.Config(
                house.app,
                http=HttpProtocol,
                ws="none",
                loop="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=CLOSE_S,
            ),
            self._accepting,
        )
        self._drain: asyncio.Task[bool] | None = None

    def _accepting(self) -> None:
        sys.stderr.write(f"listening on {url_of(self._listener)}\n")
        sys.stderr.flush()

    def ask_to_stop(self) -> None:
        if self._drain is not None:
            logger.warning("asked to stop a second time: not waiting any longer")
            self._server.force_exit = True
            self._drain.cancel()
        self._stop.set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.ask_to_stop)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._server.serve(sockets=[self._listener]))
            late = group.create_task(self._close_late_connections())
            await self._stop.wait()
            self._house.app.draining = True
            self._drain = group.create_task(drained(self._house.runs, within_s=self._drain_s))
            await asyncio.wait([self._drain])
            for runs in self._house.runs:
                runs.hang_up()
            late.cancel()
            self._server.should_exit = True

    async def _close_late_connections(self) -> None:
        """End connections whose request does not arrive (slow heads and bodies hold a socket for nothing)."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LATE_CHECK_S)
            now = loop.time()
            for connection in list(self._server.server_state.connections):
                protocol = cast("HttpProtocol", connection)  # the only protocol this server makes
                if protocol.late(now):
                    protocol.transport.close()


async def _serve(config: Config, home: Path, listen: str, drain_s: float) -> None:
    # What can keep us from serving comes first: runs that are taken up only to be dropped again lose what they began.
    async with open_house(config, home, take_up=False) as house:
        made = await prepare(
            house.access, house.mint, listen=listen, home=home, project=house.project, at=house.clock.now()
        )
        listener = bind(listen)
        try:
            await house.take_up()
            house.announce(url_of(listener))
            _greet(house, made)
            _calm_garbage_collection()
            await Serving(house, listener, drain_s=drain_s).run()
        finally:
            listener.close()


def _calm_garbage_collection() -> None:
    """What was loaded by now stays; and what a request makes is mostly gone with it, without cycles. Python's default
    thresholds go through the whole heap every few hundred requests: about a tenth of a chat's CPU (`make bench`)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _greet(house: House, made: Path | None) -> None:
    """What an operator should know before the first request; on stderr, like all that is not an answer."""
    config = house.config
    names = " ".join(dialect.name for dialect in house.dialects)
    lines = [
        f"dragoman {__version__}  {config.store.url}  models: {' '.join(config.models)}"
        f"  agents: {' '.join(config.agents)}  dialects: {names}"
    ]
    if isinstance(config.models[config.defaults.model], OfflineModel):
        lines.append(
            '! the model "offline" is a deterministic router: no key, no network, no LLM. '
            "To use a real one, add a [models.main] table to dragoman.toml."
        )
    if made is not None:
        lines.append(f"! no credential yet: listening on loopback only; a first admin credential is in {made}")
    if house.recovered:
        lines.append(f"! {house.recovered} unfinished runs taken up again")
    sys.stderr.write("\n".join(lines) + "\n")


def serve(config: Config, home: Path, *, listen: str | None = None, drain_s: float = DRAIN_S) -> int:
    """Serve until asked to stop; the process's exit code. Raises errors of the tree when it cannot start."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(config, home, listen or config.server.listen, drain_s))
    return os.EX_OK
