"""R04: kill the server in each step of its schema, on a new store and on each older one with a run under way in it."""

import re
import sqlite3
from contextlib import closing
from importlib.resources import files
from pathlib import Path

from dragoman.access.projects import ensure_project
from dragoman.core import events as ev
from dragoman.core.events import dump_event
from dragoman.core.messages import said
from dragoman.core.names import ConversationId, ProjectId
from dragoman.stores.sqlite import migrations
from tests.crash.homes import PROJECTS, SCOPES, Home, Template, opened
from tests.crash.scene import Order, Result, Scene, Trial, scene
from tests.crash.scripts import Script

OLD_RUN = "r_old"
RELEASED = {"sqlite": 1, "postgres": 10_000}
"""The oldest schema that a released version wrote; none was on PostgreSQL."""


def plan(order: Order) -> list[Trial]:
    """From each schema, each step that is due."""
    newest = steps(order.engine)
    return [
        Trial("R04", order.rng.getrandbits(32), options={"schema": schema, "step": step})
        for schema in (0, *range(RELEASED[order.engine], newest))
        for step in range(1, newest - schema + 1)
    ]


def steps(engine: str) -> int:
    """The newest schema's number."""
    folder = files(f"dragoman.stores.{engine}") / "migrations"
    return max(int(file.name[:4]) for file in folder.iterdir() if re.fullmatch(r"\d{4}_\w+\.sql", file.name))


async def run(trial: Trial, folder: Path, template: Template) -> Result:
    """The next start goes on where the killed one stopped, and nobody can tell."""
    schema, step = trial.options["schema"], trial.options["step"]
    async with scene(trial, folder, template) as stage:
        home, server = stage.servers[0].home, stage.servers[0]
        if schema:
            _older(stage, home, schema)
        else:
            await template.empty(home)
        stage.result.blown = not await stage.start(server, f"migrate.step=kill@{step}")
        if stage.result.blown:
            stage.died(server)
            await stage.check_database()
            await stage.start(server)
        if not schema:
            await _mint(stage, home)
        for project in PROJECTS:
            client = stage.client(f"c-{project}", project, ["talk"])
            script = Script(client.token(), client.canary, (("count_once", "look"),))
            stage.begin(client.append("talk", script, mode="streaming", followed=True))
    return stage.result


async def _mint(stage: Scene, home: Home) -> None:
    """Credentials for the clients, made beside the server that runs."""
    async with opened(home.path, writer=False) as house:
        for project in map(ProjectId, PROJECTS):
            await ensure_project(house.access, project, at=house.clock.now())
            minted = await house.mint.create(project, project, scopes=SCOPES)
            stage.world.credentials[project] = minted.text


def _older(stage: Scene, home: Home, schema: int) -> None:
    """Put a database of an older schema in place: the credentials of the new one, and a run that a crash cut off."""
    new = home.database.with_name("new.db")
    home.database.rename(new)
    with closing(sqlite3.connect(home.database, isolation_level=None)) as connection:
        connection.execute("pragma journal_mode=wal")
        migrations.migrate(connection, home.database, migrations.steps()[:schema], holds_lock=True)
        connection.execute("attach ? as new", (str(new),))
        for table in ("projects", "credentials"):
            columns = ", ".join(row[1] for row in connection.execute(f"pragma main.table_info({table})"))
            connection.execute(f"insert into main.{table} ({columns}) select {columns} from new.{table}")
        script = Script("old.1", f"canary{PROJECTS[0]}", (("count_again",),))
        _interrupted(connection, script)
        connection.execute("detach new")
    for file in home.path.glob("new.db*"):
        file.unlink()
    number = stage.history.invoke(
        "append", project=PROJECTS[0], conversation="old", token=script.token, text=script.message()
    )
    stage.history.add("info", "append", number, run=OLD_RUN)


def _interrupted(connection: sqlite3.Connection, script: Script) -> None:
    """A conversation whose one run was cut off by a crash, in the words of schema 1."""
    project, conversation = ProjectId(PROJECTS[0]), ConversationId("old")
    tape, now = 1, 1_700_000_000_000_000
    first = (tape << 32) + 2
    events: list[ev.Event] = [
        ev.ConversationCreated(project, conversation),
        ev.TurnReceived((said("user", script.message()),)),
        ev.RunClaimed(1),
    ]
    connection.execute(
        "insert into conversations"
        " (tape, project, id, title, origin, created_at, updated_at, messages, turns, live_run)"
        " values (?, ?, ?, '', 'grip', ?, ?, 0, 0, ?)",
        (tape, project, conversation, now, now, OLD_RUN),
    )
    connection.execute(
        "insert into runs (number, id, project, place, status, epoch, users, started_at, ended, ended_at)"
        " values (1, ?, ?, ?, 'running', 1, 1, ?, 0, 0)",
        (OLD_RUN, project, first, now),
    )
    for seq, event in enumerate(events, start=1):
        of_run = seq >= 2
        connection.execute(
            "insert into entries values (?, ?, ?, ?, ?, 0, ?)",
            (
                (tape << 32) + seq,
                first if of_run else 0,
                OLD_RUN if seq == 2 else "",
                ev.kind_of(event),
                now,
                dump_event(event).decode(),
            ),
        )
