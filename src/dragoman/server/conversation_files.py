"""Keeps a dialect's conversation files up to date: one file per conversation, written whole after each turn.

The database is the store; these files are a copy of it for those who read them, such as the documented
`<workspace>/sessions/<session_key>.json`. A file is written beside its place, synced and renamed: a reader sees the old
or the new one and never half of either. Files are brought up to date after the turn was committed, and all of them at
start, so that a crash in between leaves none behind.
"""

import asyncio
import logging
import os
from pathlib import Path

from dragoman.core.errors import DragomanError, NotFound
from dragoman.core.names import ConversationId, ProjectId
from dragoman.core.operations import ListConversations, ReadConversation
from dragoman.runtime.conversations import Conversations
from dragoman.wire.dialect import ConversationFiles

logger = logging.getLogger("dragoman.server")


class ConversationFileWriter:
    """Writes the files of one project, the default one: the folder has no place for another's."""

    def __init__(
        self, files: ConversationFiles, workspace: Path, conversations: Conversations, project: ProjectId
    ) -> None:
        self._files = files
        self._folder = workspace / files.folder
        self._conversations = conversations
        self._project = project
        self._stale: set[ConversationId] = set()
        self._waiting = asyncio.Event()

    def changed(self, project: ProjectId, conversation: ConversationId) -> None:
        """Note that a conversation's file is out of date. Returns at once."""
        if project == self._project:
            self._stale.add(conversation)
            self._waiting.set()

    async def keep_up(self) -> None:
        """Write what is out of date, beginning with everything; until cancelled."""
        page = await self._conversations.page(self._project, ListConversations())
        self._stale.update(info.id for info in page.items)
        while True:
            await self.flush()
            await self._waiting.wait()

    async def flush(self) -> None:
        self._waiting.clear()
        while self._stale:
            conversation = self._stale.pop()
            try:
                await self._write(conversation)
            except (OSError, DragomanError):
                logger.exception("the file of conversation %r could not be written", conversation)

    async def _write(self, conversation: ConversationId) -> None:
        path = self._folder / self._files.name(conversation)
        try:
            view = await self._conversations.read(self._project, ReadConversation(conversation))
        except NotFound:
            await asyncio.to_thread(path.unlink, missing_ok=True)
            return
        await asyncio.to_thread(write_whole, path, self._files.dump(view))


def write_whole(path: Path, body: bytes) -> None:
    """Replace the file's content in one step; synced before it is seen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.parent / f".{os.getpid()}.writing"
    try:
        with open(beside, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
