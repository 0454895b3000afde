"""What the doctor looks at, one by one."""

import asyncio
import shutil
import socket
import sqlite3
from collections import namedtuple
from pathlib import Path

import pytest

from dragoman.access.ports import Credential
from dragoman.cli import checkup
from dragoman.cli.checkup import Finding
from dragoman.core.errors import BackendFailed
from dragoman.core.names import ProjectId, Scope
from dragoman.server.config_shapes import OfflineModel, OpenAIModel
from dragoman.stores.sqlite.lock import TapeLock

NOW = 1_000_000.0


def credential(name: str, **values) -> Credential:
    return Credential(f"id-{name}", ProjectId("p"), name, (Scope.ADMIN,), b"", "p1", 0.0, **values)


def test_a_home_is_for_its_owner_alone(tmp_path: Path):
    home = tmp_path / "home"
    assert checkup.check_home(home) == Finding(
        "ok", "home", f"{home} does not exist yet; it is made at the first start"
    )
    home.mkdir(mode=0o700)
    assert checkup.check_home(home) == Finding("ok", "home", f"{home}, open to its owner only")
    home.chmod(0o755)
    assert checkup.check_home(home) == Finding(
        "warn", "home", f"others on this machine can look into {home}", f"chmod 700 {home}"
    )


@pytest.mark.parametrize(
    ("free", "state", "what"),
    [(5 * 1024**3, "ok", "5.0 GiB free"), (1024**3 - 1, "warn", "1.0 GiB free"), (1024**2, "fail", "0.0 GiB free")],
)
def test_a_disk_that_runs_full_is_said_in_time(
    free: int, state: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(free))

    finding = checkup.check_disk(tmp_path / "not" / "yet")
    assert (finding.state, finding.what) == (state, what)


def test_a_good_database_is_named_with_its_size(tmp_path: Path):
    path = tmp_path / "dragoman.db"
    assert checkup.check_database(path).what == f"{path} does not exist yet; it is made at the first start"
    with sqlite3.connect(path) as connection:
        connection.execute("create table t (x)")
    connection.close()

    assert checkup.check_database(path) == Finding("ok", "database", "WAL, FULL, integrity ok, 0.0 MiB")


def test_a_database_that_is_none_fails(tmp_path: Path):
    path = tmp_path / "dragoman.db"
    path.write_bytes(b"not a database at all, but long enough to have a header" * 50)

    finding = checkup.check_database(path)
    assert (finding.state, finding.name, finding.fix) == ("fail", "database", "restore it from a backup")


def test_a_damaged_database_fails(tmp_path: Path):
    path = tmp_path / "dragoman.db"
    connection = sqlite3.connect(path)
    connection.execute("create table t (x)")
    connection.execute("create index i on t (x)")
    connection.executemany("insert into t values (?)", [(f"{number:0200}",) for number in range(500)])
    connection.commit()
    connection.close()
    body = bytearray(path.read_bytes())
    body[4096 * 5 : 4096 * 6] = bytes(4096)
    path.write_bytes(body)

    finding = checkup.check_database(path)
    assert (finding.state, finding.name) == ("fail", "database")


def test_a_server_on_this_home_is_named(tmp_path: Path):
    path = tmp_path / "dragoman.db"
    assert checkup.check_server(path) == Finding("ok", "server", "none runs on this home")
    lock = TapeLock.take(path)
    lock.announce("http://127.0.0.1:1")
    finding = checkup.check_server(path)
    lock.release()

    assert finding.what.startswith("process ")
    assert finding.what.endswith(" runs on this home, listening on http://127.0.0.1:1")


def test_a_workspace_must_take_files(tmp_path: Path):
    assert checkup.check_workspace(tmp_path / "w").state == "ok"
    assert checkup.check_workspace(tmp_path) == Finding("ok", "workspace", f"{tmp_path} can be written")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    assert checkup.check_workspace(tmp_path / "file").state == "fail"


def test_credentials_of_another_pepper_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("DRAGOMAN_PEPPER", raising=False)
    good, gone = credential("a"), credential("b", revoked_at=1.0)
    assert checkup.check_pepper(tmp_path, "p1", [good]) == Finding("ok", "pepper", f"from {tmp_path / 'pepper'}")
    assert checkup.check_pepper(tmp_path, "p2", [gone]).state == "ok"
    assert checkup.check_pepper(tmp_path, "p2", [good, gone]) == Finding(
        "warn",
        "pepper",
        f"1 credential(s) under another pepper than that of {tmp_path / 'pepper'} and refused: a",
        "bring the old pepper back, or: dragoman credentials rotate id-a",
    )


@pytest.mark.parametrize(
    ("listen", "credentials", "finding"),
    [
        ("127.0.0.1:1", [], Finding("ok", "credentials", "0 good; the first start makes one")),
        (
            "0.0.0.0:1",
            [credential("x", expires_at=NOW - 1), credential("y", revoked_at=1.0)],
            Finding(
                "fail",
                "credentials",
                "none is good, and others can reach 0.0.0.0:1",
                "dragoman credentials create admin --scope admin",
            ),
        ),
        ("0.0.0.0:1", [credential("x")], Finding("ok", "credentials", "1 good")),
        (
            "0.0.0.0:1",
            [credential("x"), credential("y", expires_at=NOW + 2 * 86_400)],
            Finding("warn", "credentials", "2 good; y expires in 2 d", "dragoman credentials rotate id-y"),
        ),
    ],
)
def test_credentials_that_end_soon_or_lack_are_named(listen: str, credentials: list[Credential], finding: Finding):
    assert checkup.check_credentials(listen, credentials, now=NOW) == finding


async def quick() -> float:
    return 0.012


async def failing() -> float:
    raise BackendFailed("It refused the key (401).")


REMOTE = OpenAIModel(url="https://llm.example/v1", model_name="m")


async def test_a_model_of_others_is_asked_only_when_told_to():
    assert await checkup.check_model("m", REMOTE, failing, probe=False) == Finding(
        "ok", "model m", "https://llm.example/v1 was not asked; add --probe to ask it"
    )
    assert await checkup.check_model("m", REMOTE, failing, probe=True) == Finding(
        "fail", "model m", "It refused the key (401).", "dragoman models test m"
    )
    assert await checkup.check_model("m", REMOTE, quick, probe=True) == Finding("ok", "model m", "answered in 12 ms")


async def test_a_model_of_our_own_is_always_asked():
    assert await checkup.check_model("m", OfflineModel(), quick, probe=False) == Finding(
        "ok", "model m", "answered in 12 ms"
    )


async def test_a_model_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checkup, "PROBE_S", 0.0)

    async def never() -> float:
        await asyncio.Event().wait()
        return 0.0

    finding = await checkup.check_model("m", OfflineModel(), never, probe=False)
    assert finding == Finding("fail", "model m", "no answer within 0 s", "dragoman models test m")


async def test_a_model_on_this_machine_is_knocked_at():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        local = OpenAIModel(url=f"http://127.0.0.1:{port}/v1", model_name="m")
        found = await checkup.check_model("m", local, failing, probe=False)
    gone = await checkup.check_model("m", local, failing, probe=False)

    assert found == Finding("ok", "model m", f"somebody listens on 127.0.0.1:{port}")
    assert gone == Finding(
        "warn", "model m", f"127.0.0.1:{port}: Connection refused", f"start what should listen on 127.0.0.1:{port}"
    )


def test_an_address_has_the_port_of_its_scheme():
    assert str(checkup.address_of("https://h/v1")) == "h:443"
    assert str(checkup.address_of("http://h")) == "h:80"
    assert str(checkup.address_of("http://[::1]:9/x")) == "[::1]:9"
