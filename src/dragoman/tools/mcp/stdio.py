"""A program that is an MCP server: started for a call, spoken to over its stdin and stdout, and gone afterwards.

The SDK has such a transport too. This one never reads a line without end, keeps what the program complains about for
the log, and ends the whole process group however the call ended: the SDK leaves what the program started if the program
itself goes in time. A program that makes a session of its own is beyond both.
"""

import asyncio
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client._transport import TransportStreams
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from dragoman.core.errors import ToolFailed
from dragoman.tools.mcp.servers import Server

STRANGE_LINES_MAX = 1_000
"""Many programs greet on their stdout, and few mean it; so many lines that are no messages are passed over."""
COMPLAINT_BYTES_MAX = 2_000
"""So much of the end of its stderr is kept."""
EXIT_S = 1.0
"""After its stdin was closed, until SIGTERM."""
TERM_S = 1.0
"""From SIGTERM to SIGKILL."""
LOOK_S = 0.01


class Program:
    """What is known of one that runs. It may write `bytes_max` to its stdout, all in all; `failure` is what went wrong
    first."""

    def __init__(self, server: Server, *, bytes_max: int) -> None:
        self._server = server
        self._bytes_max = bytes_max
        self.failure: ToolFailed | None = None
        self.complaint = b""

    @asynccontextmanager
    async def streams(self) -> AsyncGenerator[TransportStreams]:
        """What the SDK speaks over. Raises ToolFailed if it cannot be started."""
        process = await self._started()
        try:
            to_us, from_it = anyio.create_memory_object_stream[SessionMessage | Exception](0)
            to_it, from_us = anyio.create_memory_object_stream[SessionMessage](0)
            async with to_us, from_it, to_it, from_us, anyio.create_task_group() as tasks:
                tasks.start_soon(self._read, process, to_us)
                tasks.start_soon(self._write, process, from_us)
                tasks.start_soon(self._listen_to_complaints, process)
                try:
                    yield from_it, to_it
                finally:
                    tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await _end(process)

    async def _started(self) -> Process:
        """Cancelled meanwhile, it is started all the same, and ended as ever: asyncio would kill the program and leave
        what that had started, and would wait for it as long as it holds the pipes."""
        starting = asyncio.ensure_future(self._start())  # noqa: TID251 - it is waited for right here
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            while not starting.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait((starting,))
            if starting.exception() is None:
                await _end(starting.result())
            raise

    async def _start(self) -> Process:
        try:
            return await asyncio.create_subprocess_exec(
                *self._server.command,
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                env=dict(self._server.env),
                start_new_session=True,
                limit=self._bytes_max,
            )
        except (OSError, ValueError) as error:
            raise ToolFailed(
                f"The MCP server {self._server.name} could not be started: is its command installed?",
                internal=f"{self._server.command[0]!a}: {error}",
            ) from None

    async def _read(self, process: Process, to_us: MemoryObjectSendStream[SessionMessage | Exception]) -> None:
        assert process.stdout is not None
        left = self._bytes_max
        strange = 0
        with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
            async with to_us:
                while line := await self._line(process.stdout):
                    left -= len(line)
                    if left < 0:
                        self._too_much()
                        return
                    try:
                        message = jsonrpc_message_adapter.validate_json(line, by_name=False)
                    except ValueError:
                        strange += 1
                        if strange > STRANGE_LINES_MAX:
                            self._fail("writes to its stdout what is no MCP.")
                            return
                    else:
                        await to_us.send(SessionMessage(message))

    async def _line(self, stdout: asyncio.StreamReader) -> bytes:
        try:
            return await stdout.readline()
        except ValueError:
            self._too_much()
            return b""

    def _too_much(self) -> None:
        self._fail(f"answered with more than {self._bytes_max / (1024 * 1024):g} MiB. Ask for less at a time.")

    def _fail(self, sentence: str) -> None:
        self.failure = self.failure or ToolFailed(f"The MCP server {self._server.name} {sentence}")

    async def _write(self, process: Process, from_us: MemoryObjectReceiveStream[SessionMessage]) -> None:
        assert process.stdin is not None
        with suppress(OSError, anyio.ClosedResourceError):
            async for sent in from_us:
                body = sent.message.model_dump_json(by_alias=True, exclude_unset=True)
                process.stdin.write(body.encode() + b"\n")
                await process.stdin.drain()

    async def _listen_to_complaints(self, process: Process) -> None:
        assert process.stderr is not None
        while piece := await process.stderr.read(COMPLAINT_BYTES_MAX):
            self.complaint = (self.complaint + piece)[-COMPLAINT_BYTES_MAX:]


async def _end(process: Process) -> None:
    """Ask, insist, make sure: the order of MCP's lifecycle, for the whole group."""
    left = True
    try:
        if process.stdin is not None:
            process.stdin.close()
        left = not await _gone(process, EXIT_S)
        if left and _signalled(process.pid, signal.SIGTERM):
            left = not await _gone(process, TERM_S)
    finally:
        # Also if we are cancelled a second time: this does not wait.
        if left:
            _signalled(process.pid, signal.SIGKILL)
    await process.wait()


async def _gone(process: Process, within_s: float) -> bool:
    """Wait until nothing of the group is left; whether that came about. Its leader is reaped by the event loop."""
    with anyio.move_on_after(within_s):
        while _signalled(process.pid, 0):  # noqa: ASYNC110 nobody tells us when a group is empty
            await asyncio.sleep(LOOK_S)
        return True
    return False


def _signalled(group: int, number: int) -> bool:
    """Whether there is anybody in it."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
