"""R43: the database goes away. A PostgreSQL instance of our own is stopped for a while again and again, and its clients
are cut off, while two servers are under load."""

import asyncio
import os
import pwd
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.crash.homes import PROJECTS, Template, execute, template
from tests.crash.random_kills import CANCELLED, FOLLOWED, PAUSE_S
from tests.crash.report import quantile
from tests.crash.scene import Order, Result, Scene, Trial, scene
from tests.crash.scripts import draw
from tests.crash.serve import die_with_parent
from tests.crash.servers import free_port

TRIALS = {"P": 1, "N": 3}
SECONDS = {"P": 20, "N": 90}
EVERY_S = {"P": (2.0, 5.0), "N": (5.0, 20.0)}
DOWN_S = (0.0, 5.0)
CLIENTS = 8
RECOVER_S = 2.0
"""99 of 100 times: from when the database answers until a turn is acknowledged."""
TOOL_S = 30.0
CONNECTIONS_MAX = 300
"""Two servers take thirty, and several trials run at a time."""
USER = "nobody"
"""Who runs the instance if we are root, whom PostgreSQL refuses."""
PLACES = ("/usr/lib/postgresql", "/usr/local/lib/postgresql")


def plan(order: Order) -> list[Trial]:
    options = {"seconds": SECONDS[order.tier], "every_s": list(EVERY_S[order.tier])}
    return [Trial("R43", order.rng.getrandbits(32), options=options) for _ in range(order.count or TRIALS[order.tier])]


def programs() -> Path | None:
    """The folder of `initdb` and `postgres`, the newest one; None if there is none."""
    found = shutil.which("initdb")
    if found is not None and (folder := Path(found).resolve().parent / "postgres").exists():
        return folder.parent
    for place in PLACES:
        versions = sorted(Path(place).glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
        if versions:
            return versions[-1].parent
    return None


def lacks() -> str:
    return "" if programs() else "no initdb of PostgreSQL on this machine"


class Instance:
    """A PostgreSQL server of our own, on a free port, with a data folder that only it can read."""

    def __init__(self, bin: Path, folder: Path, port: int) -> None:
        self._bin = bin
        self._folder = folder
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"postgresql://postgres@127.0.0.1:{port}"

    async def make(self) -> None:
        words = ("-D", str(self._folder / "data"), "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8")
        making = self._spawn("initdb", *words)
        if await asyncio.to_thread(making.wait, TOOL_S):
            raise RuntimeError(f"initdb: {self._log.read_text(errors='replace')[-1000:]}")

    async def start(self) -> None:
        """Until it answers."""
        settings = (
            *(f"port={self._port}", f"max_connections={CONNECTIONS_MAX}"),
            *("listen_addresses=127.0.0.1", "unix_socket_directories="),
        )
        words = (word for setting in settings for word in ("-c", setting))
        self._process = self._spawn("postgres", "-D", str(self._folder / "data"), *words)
        async with asyncio.timeout(TOOL_S):
            while True:
                try:
                    await execute(self.url, "select 1")
                    return
                except Exception:
                    if self._process.poll() is not None:
                        raise
                    await asyncio.sleep(0.02)

    async def stop(self, number: int) -> None:
        """By a signal: SIGINT cuts its clients off and ends in order, SIGQUIT ends at once and has to recover."""
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(number)
            await asyncio.to_thread(process.wait, TOOL_S)

    async def cut(self) -> None:
        """Every session but our own is ended."""
        others = "pg_stat_activity where pid <> pg_backend_pid() and datname <> ''"
        await execute(self.url, f"select pg_terminate_backend(pid) from {others}")

    @property
    def _log(self) -> Path:
        return self._folder / "postgres.log"

    def _spawn(self, program: str, *words: str) -> "subprocess.Popen[bytes]":
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [str(self._bin / program), *words],
                cwd=self._folder,
                stdout=log,
                stderr=log,
                preexec_fn=partial(die_with_parent, signal.SIGQUIT),
                **_as_user(),
            )


def _as_user() -> dict[str, Any]:
    if os.geteuid():
        return {}
    user = pwd.getpwnam(USER)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": ()}


@asynccontextmanager
async def instance(rng: random.Random) -> AsyncIterator[Instance]:
    """Made, running, and gone afterwards."""
    bin = programs()
    if bin is None:
        raise RuntimeError(lacks())
    with tempfile.TemporaryDirectory(prefix="crash-pg-") as name:
        folder = Path(name)
        if user := _as_user():
            os.chown(folder, user["user"], user["group"])
        made = Instance(bin, folder, free_port(rng))
        await made.make()
        await made.start()
        try:
            yield made
        finally:
            await made.stop(signal.SIGQUIT)


async def run(trial: Trial, folder: Path, _: Template) -> Result:
    async with (
        instance(random.Random(trial.seed)) as postgres,
        template("postgres", folder, postgres=postgres.url) as made,
        scene(trial, folder, made, replicas=2) as stage,
    ):
        await asyncio.gather(*map(stage.start, stage.servers))
        for number in range(CLIENTS):
            client = stage.client(f"c{number}", PROJECTS[number % 2], [f"own-{number}", f"shared-{number // 4}"])
            stage.begin(client.live(partial(draw), followed=FOLLOWED, cancelled=CANCELLED, pause_s=PAUSE_S))
        recovered: list[float] = []
        until = time.monotonic() + trial.options["seconds"]
        while time.monotonic() < until:
            await asyncio.sleep(stage.rng.uniform(*trial.options["every_s"]))
            recovered.append(await _fault(stage, postgres))
        stage.result.measured["recovered"] = recovered
        if (p99 := quantile(sorted(recovered), 0.99)) > RECOVER_S:
            stage.violated("R43", f"turns were acknowledged {p99:.2f} s after the database was back (p99)")
    return stage.result


async def _fault(stage: Scene, postgres: Instance) -> float:
    """Cut all sessions, or stop the instance for a while; seconds until a turn is acknowledged after it is back."""
    stage.result.kills += 1
    stage.history.add("note", "cut", who=postgres.url)
    if stage.rng.random() < 0.3:
        await postgres.cut()
    else:
        await postgres.stop(stage.rng.choice((signal.SIGINT, signal.SIGQUIT)))
        await asyncio.sleep(stage.rng.uniform(*DOWN_S))
        await postgres.start()
    back = time.monotonic()
    stage.history.add("note", "back", who=postgres.url)
    seen = len(stage.history.records)
    while not any(each.op == "append" and each.kind == "ok" for each in stage.history.records[seen:]):
        await asyncio.sleep(0.01)
        if time.monotonic() - back > 30:
            break
    return time.monotonic() - back
