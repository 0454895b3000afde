"""`dragoman serve`: bind, serve, and stop in order.

SIGTERM or SIGINT -> /ready says 503, new requests get 503 -> live runs get `[server] drain` to end -> who still waits
for an answer is told to come back -> what is left of runs is handed back, to be taken up at once by another process or
at the next start, and meanwhile connections are closed -> exit 0.   A second signal skips the waiting.
"""

import asyncio
import gc
import logging
import os
import resource
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
from dragoman.edge.http import HttpProtocol, prepare_listener
from dragoman.server.assemble import open_house
from dragoman.server.config import BadConfig, Config
from dragoman.server.config_shapes import OfflineModel
from dragoman.server.house import NO_PARTS, House, Parts
from dragoman.server.lifespan import drained
from dragoman.server.quantities import parse_address
from dragoman.server.safe_start import prepare

logger = logging.getLogger("dragoman.server")

BACKLOG = 2048
KEEP_ALIVE_S = 75
"""Longer than the usual proxy's 60 s, so that the proxy is the one to close an idle connection."""
CLOSE_S = 3
"""Connections get this long to take the rest of their answers once runs are done, and the store to take runs back."""
PATIENCE_S = 2.0
"""With connections, of that time: the rest is for telling those that are left."""
LET_GO_S = 0.1
"""For those who wrote to a connection that was cut, to end by themselves."""
CHECK_EVERY_S = 1.0
GC_THRESHOLDS = (10_000, 20, 50)
FILES_MAX = 65_536
"""Open files, and with them connections, that we allow ourselves if we may. Shells and systemd give 1,024 at first, for
the sake of programs that use select(2)."""


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
            prepare_listener(listener)
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

    def __init__(self, house: House, listener: socket.socket) -> None:
        self._house = house
        self._listener = listener
        self._drain_s = float(house.config.server.drain_s)
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
            serving = group.create_task(self._server.serve(sockets=[self._listener]))
            check = group.create_task(self._check_connections())
            await self._stop.wait()
            self._house.app.draining = True
            for runs in self._house.runs:
                runs.close()
            self._drain = group.create_task(drained(self._house.runs, within_s=self._drain_s))
            await asyncio.wait([self._drain])
            for runs in self._house.runs:
                runs.hang_up()
            self._server.should_exit = True
            ending = group.create_task(self._end_requests())
            await self._hand_back()
            await asyncio.wait([serving])
            check.cancel()
            ending.cancel()

    async def _end_requests(self) -> None:
        """Who has not taken its answer by now is cut off, and who still waits for one is refused."""
        await asyncio.sleep(PATIENCE_S)
        for protocol in self._connections:
            if protocol.transport.get_write_buffer_size():
                protocol.cut()
        await asyncio.sleep(LET_GO_S)
        for task in list(self._server.server_state.tasks):
            task.cancel()

    async def _hand_back(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_S):
                for runs in self._house.runs:
                    await runs.hand_back()
        except TimeoutError:
            logger.warning("runs could not be handed back in %g s; their leases will run out", CLOSE_S)

    @property
    def _connections(self) -> list[HttpProtocol]:
        return cast("list[HttpProtocol]", list(self._server.server_state.connections))  # it makes no others

    async def _check_connections(self) -> None:
        """End those whose request does not arrive or whose answer is not taken: they hold a socket for nothing."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            now = loop.time()
            for protocol in self._connections:
                if protocol.stuck(now):
                    protocol.cut()
                elif protocol.late(now):
                    protocol.transport.close()


async def _serve(config: Config, home: Path, listen: str, parts: Parts) -> None:
    # What can keep us from serving comes first: runs that are taken up only to be dropped again lose what they began.
    async with open_house(config, home, take_up=False, parts=parts) as house:
        made = await prepare(
            house.access, house.mint, listen=listen, home=home, project=house.project, at=house.clock.now()
        )
        listener = bind(listen)
        try:
            await house.take_up()
            house.announce(url_of(listener))
            _greet(house, made)
            _calm_garbage_collection()
            await Serving(house, listener).run()
        finally:
            listener.close()


def _calm_garbage_collection() -> None:
    """What was loaded by now stays; and what a request makes is mostly gone with it, without cycles. Python's default
    thresholds go through the whole heap every few hundred requests: about a tenth of a chat's CPU (`make bench`)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _allow_many_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, FILES_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _greet(house: House, made: Path | None) -> None:
    """What an operator should know before the first request; on stderr, like all that is not an answer."""
    config = house.config
    names = " ".join(dialect.name for dialect in house.dialects)
    workflows = f"  workflows: {' '.join(config.workflows)}" if config.workflows else ""
    lines = [
        f"dragoman {__version__}  {config.store.url}  models: {' '.join(config.models)}"
        f"  agents: {' '.join(config.agents)}{workflows}  dialects: {names}"
    ]
    if isinstance(config.models[config.defaults.model], OfflineModel):
        lines.append(
            '! the model "offline" is a deterministic router: no key, no network, no LLM. '
            "To use a real one, add a [models.main] table to dragoman.toml."
        )
    if made is not None:
        lines.append(f"! no credential yet: listening on loopback only; a first admin credential is in {made}")
    lines.extend(f"! {warning}" for warning in house.warnings)
    if house.recovered:
        lines.append(f"! {house.recovered} unfinished runs taken up again")
    sys.stderr.write("\n".join(lines) + "\n")


def serve(config: Config, home: Path, *, listen: str | None = None, parts: Parts = NO_PARTS) -> int:
    """Serve until asked to stop; the process's exit code. Raises errors of the tree when it cannot start."""
    _allow_many_files()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(config, home, listen or config.server.listen, parts))
    return os.EX_OK
