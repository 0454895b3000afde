"""Keeps a dialect's conversation files up to date: one file per conversation, written whole after each turn.

The database is the store; these files are a copy of it for those who read them, such as the documented
`<workspace>/sessions/<session_key>.json`. A file is written beside its place, synced and renamed: a reader sees the old
or the new one and never half of either. It carries the time of its conversation's last change, so that a start finds
those that a crash left behind without reading any. One thing a crash can leave: the file of a conversation that was
deleted in that very instant, for which nobody had an answer yet.
"""

import asyncio
import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from dragoman.core.errors import NotFound
from dragoman.core.names import ConversationId, ProjectId
from dragoman.core.operations import ConversationInfo, ListConversations
from dragoman.runtime.conversations import Conversations
from dragoman.wire.dialect import ConversationFiles

logger = logging.getLogger("dragoman.server")

RETRY_S = 5.0
"""After this long, what could not be written is tried again."""
PAGE = 500
"""Conversations looked at together at start."""
BESIDE = ".{}.writing"
"""Name of a file while it is written; the process's number stands in it."""

R = TypeVar("R")


class ConversationFileWriter:
    """Writes the files of one project, the default one: the folder has no place for another's."""

    def __init__(
        self,
        files: ConversationFiles,
        workspace: Path,
        conversations: Conversations,
        project: ProjectId,
        *,
        retry_s: float = RETRY_S,
    ) -> None:
        self._files = files
        self._folder = workspace / files.folder
        self._conversations = conversations
        self._project = project
        self._retry_s = retry_s
        self._stale: OrderedDict[ConversationId, asyncio.Event] = OrderedDict()
        """Conversations whose file is out of date; the event happens once it was written, or could not be."""
        self._failed: set[ConversationId] = set()
        self._noted = asyncio.Event()

    async def changed(self, project: ProjectId, conversation: ConversationId) -> None:
        """A conversation came, grew or went: return once its file says so, or could not be written. Needs `keep_up`."""
        if project == self._project:
            written = self._stale.setdefault(conversation, asyncio.Event())
            self._noted.set()
            await written.wait()

    async def keep_up(self) -> None:
        """Write what is out of date, beginning with what nobody wrote while this was not running; until cancelled."""
        loop = asyncio.get_running_loop()
        caught_up = False
        try_at: float | None = loop.time()
        while True:
            try:
                async with asyncio.timeout_at(try_at):
                    await self._noted.wait()
            except TimeoutError:
                caught_up = caught_up or await self._catch_up()
                failed, self._failed = self._failed, set()
                for conversation in failed:
                    await self._write(conversation)
                try_at = None
            self._noted.clear()
            await self._write_noted()
            if try_at is None and (self._failed or not caught_up):
                try_at = loop.time() + self._retry_s

    async def _catch_up(self) -> bool:
        """Whether every file was brought up to date, or noted as one that could not be written."""
        try:
            await _in_thread(lambda: _sweep(self._folder))
            after = ""
            while True:
                page = await self._conversations.page(self._project, ListConversations(after, PAGE))
                for conversation in await _in_thread(lambda items=page.items: self._outdated(items)):
                    await self._write(conversation)
                    await self._write_noted()  # somebody may wait for these
                if not page.next:
                    return True
                after = page.next
        except Exception:
            logger.exception("the files in %s could not be brought up to date", self._folder)
            return False

    async def _write_noted(self) -> None:
        while self._stale:
            conversation, written = self._stale.popitem(last=False)
            try:
                await self._write(conversation)
            finally:
                written.set()

    async def _write(self, conversation: ConversationId) -> None:
        """A file that cannot be written is logged and tried again: it is only a copy, no turn fails for it."""
        try:
            path = self._folder / self._files.name(conversation)
            try:
                view = await self._conversations.whole(self._project, conversation)
            except NotFound:
                await _in_thread(lambda: path.unlink(missing_ok=True))
                return
            body = self._files.dump(view)
            await _in_thread(lambda: write_whole(path, body, at=view.info.updated_at))
        except Exception:
            logger.exception("the file of conversation %r could not be written", conversation)
            self._failed.add(conversation)

    def _outdated(self, infos: Sequence[ConversationInfo]) -> list[ConversationId]:
        return [info.id for info in infos if _time_of(self._folder / self._files.name(info.id)) != _ns(info.updated_at)]


def write_whole(path: Path, body: bytes, *, at: float) -> None:
    """Replace the file's content in one step; synced before it is seen. `at` becomes its time, Unix seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.parent / BESIDE.format(os.getpid())
    try:
        with open(beside, "wb") as file:
            file.write(body)
            file.flush()
            os.utime(file.fileno(), ns=(_ns(at), _ns(at)))
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def _ns(at: float) -> int:
    """Unix nanoseconds. Times are kept in microseconds; what a float has beyond them is noise."""
    return round(at * 1_000_000) * 1000


def _time_of(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _sweep(folder: Path) -> None:
    """Remove what a process that died while writing left behind."""
    for beside in folder.glob(BESIDE.format("*")):
        beside.unlink(missing_ok=True)


async def _in_thread(work: Callable[[], R]) -> R:
    """Work on the disk. It is finished even if we are cancelled: no later write may be overtaken by this one."""
    working = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait([working])
        raise
