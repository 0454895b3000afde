"""A stop with a hundred live runs, a thousand readers and five tools at work (R49); only the time for runs is short.

`python -m bench readers --only drain` does it with the real 25 s.
"""

import sys
from pathlib import Path

import pytest

from bench import readers
from bench.crowd import allow_files


@pytest.mark.skipif(sys.platform != "linux", reason="memory and connections are read from /proc")
async def test_a_stop_in_the_midst_of_it_is_in_time_and_in_order(tmp_path: Path) -> None:
    """That every reader was told when to come back, that the exit code is 0 and the log clean, the scene sees to."""
    said: list[str] = []
    assert (readers.RUNS, readers.READERS, readers.LONG_TOOLS) == (100, 1000, 5)
    allow_files(readers.READERS)
    (exit_s,) = await readers.drain(tmp_path, drain_s=0.5, say=said.append)
    print("\n".join(said))
    assert exit_s.median <= 0.5 + 5.0
