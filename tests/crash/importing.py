"""Takes in and publishes one edition of the workflow after the other, as `dragoman workflows import --publish` does it,
until it is killed. Each id is printed once it was acknowledged; `conflict` where somebody else was faster all the time.

python -m tests.crash.importing HOME PROJECT
"""

import asyncio
import sys
from pathlib import Path

from dragoman.core.errors import Conflict
from dragoman.core.names import ProjectId
from tests.crash.homes import opened
from tests.crash.relay import take_in
from tests.crash.serve import die_with_parent


async def main(home: Path, project: ProjectId) -> None:
    async with opened(home, writer=False) as house:
        print("ready", flush=True)
        edition = 1
        while True:
            edition += 1
            try:
                print(await take_in(house, project, edition), flush=True)
            except Conflict:
                print("conflict", flush=True)


if __name__ == "__main__":
    die_with_parent()
    asyncio.run(main(Path(sys.argv[1]), ProjectId(sys.argv[2])))
