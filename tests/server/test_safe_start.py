"""The first admin credential, and addresses nobody may listen on without one."""

import random
import stat
from pathlib import Path

import pytest

from dragoman.access.credentials import Authenticator
from dragoman.access.minting import DAY_S, Mint
from dragoman.access.pepper import Pepper
from dragoman.core.errors import Unavailable
from dragoman.core.names import ProjectId, Scope
from dragoman.server.config import BadConfig
from dragoman.server.safe_start import prepare
from tests.access_memory import MemoryAccess
from tests.support import FixedClock

PEPPER = Pepper("p", b"k" * 32)


class Start:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.store = MemoryAccess()
        self.clock = FixedClock(1000.0)
        self.mint = Mint(self.store, PEPPER, self.clock, random.Random(1).randbytes)

    async def prepare(self, listen: str) -> Path | None:
        return await prepare(
            self.store, self.mint, listen=listen, home=self.home, project=ProjectId("default"), at=self.clock.now()
        )


@pytest.fixture
def start(tmp_path: Path) -> Start:
    return Start(tmp_path)


@pytest.mark.parametrize("listen", ["127.0.0.1:8080", "localhost:0", "[::1]:1"])
async def test_a_first_start_writes_an_admin_credential_that_works_and_only_its_owner_reads(start: Start, listen: str):
    path = await start.prepare(listen)

    assert path == start.home / "admin-credential"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in start.home.iterdir()] == ["admin-credential"]
    principal = await Authenticator(start.store, PEPPER, start.clock).prove(path.read_text().strip())
    assert (principal.project, principal.name, principal.scopes) == ("default", "first admin", {Scope.ADMIN})
    (kept,) = start.store.kept.values()
    assert kept.expires_at == 1000.0 + 90 * DAY_S


async def test_a_later_start_makes_none_and_may_listen_anywhere(start: Start):
    await start.prepare("127.0.0.1:8080")

    assert await start.prepare("127.0.0.1:8080") is None
    assert await start.prepare("0.0.0.0:8080") is None
    assert len(start.store.kept) == 1


async def test_the_default_project_is_there_after_any_start(start: Start):
    await start.prepare("127.0.0.1:8080")
    assert [project.id for project in await start.store.projects()] == ["default"]


@pytest.mark.parametrize("listen", ["0.0.0.0:8080", "[::]:8080", "10.1.2.3:8080", "dragoman.internal:8080"])
async def test_an_address_others_can_reach_is_refused_while_there_is_no_credential(start: Start, listen: str):
    with pytest.raises(BadConfig) as caught:
        await start.prepare(listen)

    assert caught.value.detail == (
        f"Others could reach {listen}, and there is no credential yet to tell them apart. Make one first:\n"
        "  dragoman credentials create admin --scope admin\n"
        "or let only this machine connect:\n"
        "  dragoman serve --listen 127.0.0.1:8080"
    )
    assert start.store.kept == {}


async def test_what_is_no_address_is_refused(start: Start):
    with pytest.raises(BadConfig):
        await start.prepare("8080")


async def test_a_stale_file_is_replaced(start: Start):
    (start.home / "admin-credential").write_text("old")
    path = await start.prepare("127.0.0.1:1")

    assert path is not None
    assert path.read_text().startswith("drg_")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_no_file_is_left_behind_when_the_store_cannot_take_the_credential(start: Start):
    class Full(MemoryAccess):
        async def put_credential(self, credential) -> None:
            raise Unavailable("The disk is full.")

    start.store = Full()
    start.mint = Mint(start.store, PEPPER, start.clock, random.Random(1).randbytes)
    with pytest.raises(Unavailable):
        await start.prepare("127.0.0.1:8080")
    assert list(start.home.iterdir()) == []


async def test_no_credential_is_made_when_its_file_cannot_be_written(start: Start):
    start.home = start.home / "nowhere"
    with pytest.raises(FileNotFoundError):
        await start.prepare("127.0.0.1:8080")
    assert start.store.kept == {}
