import sys
import tomllib
from pathlib import Path

import pytest

from bench import readers, scripted
from bench.crowd import ids_of
from bench.scripted import Row, pour, silence, start, tools
from dragoman.models.scripted import SCRIPT_BYTES_MAX

linux = pytest.mark.skipif(sys.platform != "linux", reason="memory and connections are read from /proc")


@pytest.mark.parametrize("script", [silence(), tools("http://127.0.0.1:1"), pour()], ids=["silence", "tools", "pour"])
def test_a_script_is_written_as_it_is_meant(script: list[Row]) -> None:
    text = "".join(map(scripted._row, script))
    assert tomllib.loads(text) == {"reply": script}
    assert len(text) < SCRIPT_BYTES_MAX


def test_ten_megabytes_are_poured() -> None:
    assert scripted.POUR_REPLIES * scripted.POUR_PIECES * len(scripted.POUR_PIECE) > 10_000_000


@linux
async def test_a_run_pours_and_can_be_read_whole_and_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("POUR_REPLIES", 2), ("POUR_PIECES", 3), ("POUR_WAIT_S", 0.1)):
        monkeypatch.setattr(scripted, name, value)
    async with start(tmp_path, "home", pour()) as server:
        run = await server.begin("pour", "p")
        await server.all_ended()
        whole_s, stuck_s = await server.poured_s(run)
        assert whole_s >= stuck_s > 0
        seqs = await server.seqs(run)
        assert ids_of(await server.read(run, after=seqs[-2])) == seqs[-1:]
        assert (await server.settled_mib()) > 10
        assert server.faults() == []
        server.terminate()
        await server.exited()


@linux
async def test_who_is_in_a_tool_is_known_by_the_tape(tmp_path: Path) -> None:
    async with (
        readers._silent_server() as slow,
        start(tmp_path, "home", tools(slow), drain_s=0.1, slow=slow) as server,
    ):
        waits, works = await server.begin("wait", "w"), await server.begin("slow", "s")
        await server.in_tool(works)
        last = [(await server.timeline(run))["entries"][-1]["event"]["kind"] for run in (waits, works)]
    assert last == ["run_claimed", "tool_started"]
