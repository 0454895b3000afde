"""Clients that talk to a server whose disk fails, and what they must find afterwards: everything acknowledged, once."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import aiohttp

from tests.crash.storage_image import Disk, integrity, records, user_messages
from tests.crash.storage_server import Answer, Callers
from tests.crash.storage_shim import Shim

GONE = (aiohttp.ClientError, ConnectionError, TimeoutError)
AGAIN_S = 0.02


class Storm:
    """`position` is asked at each acknowledgement: how far the disk had come by then."""

    def __init__(self, callers: Callers, *, seed: int, position: Callable[[], int]) -> None:
        self.acknowledged: dict[str, int] = {}
        """token -> the position when its 200 came."""
        self.keyed: set[str] = set()
        """Tokens that were said with a key."""
        self.refusals: Counter[str] = Counter()
        """By status and sentence."""
        self.strange: list[Answer] = []
        """Neither taken nor refused as a store that is away refuses."""
        self._callers = callers
        self._position = position
        self._rng = random.Random(seed)
        self._over = False

    def stop(self) -> None:
        """Clients end with what they have begun."""
        self._over = True

    async def client(self, conversation: str, *, turns: int) -> None:
        """Say so many turns, each until it is acknowledged; half with a key, the others anew under another token."""
        for number in range(turns):
            if self._over:
                return
            key = f"key-{conversation}-{number}" if self._rng.random() < 0.5 else ""
            attempt = 0
            while True:
                token = f"{conversation}.{number}.{0 if key else attempt}"
                if key:
                    self.keyed.add(token)
                if await self._said(conversation, token, key):
                    break
                attempt += 1
                await asyncio.sleep(AGAIN_S)

    async def _said(self, conversation: str, token: str, key: str) -> bool:
        try:
            answer = await self._callers.say(conversation, token, key=key)
        except GONE:
            self.refusals["gone"] += 1
            return False
        if answer.status == 200:
            self.acknowledged[token] = self._position()
            return True
        self.refusals[f"{answer.status} {answer.body['detail']}"] += 1
        if answer.status not in (409, 503) or "retry-after" not in answer.headers:
            self.strange.append(answer)
        return False

    async def found(self, conversations: list[str]) -> Counter[str]:
        """How often each token stands in the conversations."""
        found: Counter[str] = Counter()
        for conversation in conversations:
            found.update(text for role, text in await self._callers.messages(conversation) if role == "user")
        return found

    def cuts(self, shim: Shim, folder: Path, *, count: int, seed: int) -> tuple[int, list[str]]:
        """Cut the power at `count` of the places where a sync had just succeeded or failed, and right before some; how
        many acknowledged turns were looked for, and what was missing or broken."""
        all_records = list(records(shim.journal.read_bytes(), shim.began_at))
        rng = random.Random(seed)
        syncs = [number for number, record in enumerate(all_records) if record.kind in "SF"]
        chosen = set(rng.sample(syncs, min(count, len(syncs)))) | {syncs[-1]}
        chosen |= {number - 1 for number in rng.sample(sorted(chosen), len(chosen) // 4) if number}
        disk, looked, faults = Disk(), 0, list[str]()
        for number, record in enumerate(all_records):
            disk.add(record)
            if number not in chosen:
                continue
            due = {token for token, position in self.acknowledged.items() if position <= record.end}
            cut = disk.write(folder, rng)
            if due and (said := integrity(cut)) != "ok":
                faults.append(f"cut at {record.end}: {said}")
                continue
            there = Counter(user_messages(cut)) if due else Counter[str]()
            looked += len(due)
            faults += [f"cut at {record.end}: {token} is lost" for token in sorted(due) if not there[token]]
        return looked, faults
