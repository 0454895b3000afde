"""A model behind any OpenAI-compatible chat completions API, over aiohttp. Fits `runtime.ports.Model`.

What goes over the wire is in `openai_request.py` and `openai_reply.py`, whereto in `openai_connection.py`; here are the
time limits, and what a status or a broken connection means. A reply goes through these phases, each with its own limit:

    connect ──► first byte ──► reading ──► finish_reason ──► [DONE] ──► end of body
    connect_s   first_s        idle_s      AFTER_FINISH_S    FAREWELL_S       …and all together total_s

Whoever closes the iterator, or is cancelled in it, closes the socket: what comes later is read by nobody.
"""

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any

from aiohttp import (
    ClientError,
    ClientResponse,
    ClientResponseError,
    ClientSession,
    ConnectionTimeoutError,
    StreamReader,
)
from msgspec import Struct

from dragoman.core.errors import BackendFailed
from dragoman.core.names import Clock
from dragoman.models.openai_connection import endpoint, open_session, request_headers
from dragoman.models.openai_faults import Faults
from dragoman.models.openai_reply import Bounds, ReplyFold
from dragoman.models.openai_request import RequestWriter
from dragoman.runtime.counters import Counters
from dragoman.runtime.fuses import blow
from dragoman.runtime.ports import Prompt, ReplyDone, ReplyPiece, TextPiece, ThinkingPiece
from dragoman.wire.sse import LINE_BYTES_MAX, Reader, StreamTooLong

logger = logging.getLogger("dragoman.models")

WHOLE_BYTES_MAX = 12 * 1024 * 1024
"""A reply that comes at once: room for arguments of 10 MB, of which the model is then told that they are too long."""

STREAM_BYTES_MAX = 256 * 1024 * 1024
"""Twice what a million characters take when each comes in a frame of its own: beyond it a server sends frames that hold
nothing, and would for ever."""

REFUSAL_BYTES_MAX = 8 * 1024
"""So much is read of the body of an error, and so long is waited for it."""
REFUSAL_S = 5.0

AFTER_FINISH_S = 5.0
"""Once the finish reason is known only usage and `[DONE]` are missing: without them the reply is still whole."""

FAREWELL_S = 0.1
"""After `[DONE]`: the end of the body, so that the connection can be used again. Else it is closed."""

TIMER_GRAIN_S = 0.002
"""Event loops count in milliseconds: a timer may fire that much early."""


class OpenAIChatOptions(Struct, frozen=True, kw_only=True):
    """One configured model. `url` is the API's base, such as `http://127.0.0.1:11434/v1`, or, `verbatim_url`, where
    questions go. `name` goes on the wire; "" = none does, and the server knows by itself what is asked."""

    url: str
    name: str
    key: str = ""
    verbatim_url: bool = False
    marker_suffices: bool = False
    """A stream that ends with `[DONE]` is whole, also if its server never gave a finish reason."""
    refuses: Callable[[str], bool] | None = None
    """Whether an address that the url's name resolves to is off limits; None = none is."""
    connect_s: float = 5.0
    first_s: float = 60.0
    """From asking to the first byte of a stream. A reply that comes at once says nothing before it is done: it has
    `idle_s`, if that is longer."""
    idle_s: float = 120.0
    """Between two network reads of any bytes: a server's comments and pings show that it is alive."""
    total_s: float = 600.0
    line_bytes_max: int = LINE_BYTES_MAX
    stream_bytes_max: int = STREAM_BYTES_MAX
    text_chars_max: int = 1024 * 1024
    arguments_chars_max: int = 256 * 1024
    calls_max: int = 32
    connections_max: int = 1000
    headers: tuple[tuple[str, str], ...] = ()
    """Sent with each request besides our own; kept out of logs, for they may be secret."""
    params: dict[str, Any] = {}
    """Further fields of the request body, such as `temperature`."""

    def __repr__(self) -> str:
        return f"OpenAIChatOptions(url={self.url!r}, name={self.name!r}, …)"


class OpenAIChat:
    """Asks one server. Connections are opened in the running loop when they are needed, kept, and closed by `close`."""

    def __init__(self, options: OpenAIChatOptions, *, clock: Clock, counters: Counters | None = None) -> None:
        """Raises BadRequest if the url, a header or a parameter cannot be used."""
        key = options.key.strip()
        self._options = options
        self._url = endpoint(options.url, verbatim=options.verbatim_url)
        secrets = (key, *(value for _, value in options.headers), *self._url.query.values())
        self._faults = Faults(secrets=secrets, clock=clock)
        self._counters = counters or Counters()
        self._writer = RequestWriter(options.name, options.params)
        self._bounds = Bounds(
            options.text_chars_max, options.arguments_chars_max, options.calls_max, options.stream_bytes_max
        )
        self._key_is_sendable = key.isascii() and key.isprintable()
        self._headers = request_headers(options.headers, key if self._key_is_sendable else "")
        self._session: ClientSession | None = None
        self._closed = False

    async def reply(self, prompt: Prompt, *, stream: bool) -> AsyncGenerator[ReplyPiece]:
        """See the port."""
        body = self._writer.body(prompt, stream=stream)
        watch = _Watch(self._options, self._faults)
        response: ClientResponse | None = None
        waited_for = True
        try:
            blow("model.before_connect")
            response = await self._post(body, stream=stream)
            blow("model.after_headers")
            if response.status != 200:
                raise await self._refusal(response)
            fold = ReplyFold(
                self._bounds,
                self._faults,
                model_name=prompt.model_name or self._options.name,
                marker_suffices=self._options.marker_suffices,
            )
            media_type = response.headers.get("Content-Type", "").lower()
            if _is_stream(media_type, asked=stream):
                reader = Reader(line_bytes_max=self._options.line_bytes_max)
                point = "model.delta_first"
                while not fold.ended and (chunk := await self._read(response, watch, fold)):
                    pieces = self._take(fold, reader, chunk)
                    if stream:
                        for piece in pieces:
                            blow(point)
                            point = "model.delta_mid"
                            yield piece
            else:
                self._take_whole(fold, media_type, await self._read_whole(response, watch, fold))
            done = self._done(fold)
            await _farewell(response.content)
            blow("model.before_finish")
            waited_for = False
            try:
                yield done
            finally:
                blow("model.after_finish")
        except (asyncio.CancelledError, GeneratorExit):
            self._counters.replies_abandoned += waited_for
            raise
        finally:
            watch.end()
            if response is not None and not response.content.is_eof():
                response.close()

    async def close(self) -> None:
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # -- asking ----------------------------------------------------------------------------------------------------

    def _open(self) -> ClientSession:
        if self._closed:
            raise self._faults.unreachable("closed", detail="The server is stopping. Ask again in a moment.")
        if not self._key_is_sendable:
            raise BackendFailed(
                "The model's key holds characters that no key can have. Check the model's key in the configuration.",
                code="upstream_refused",
            )
        self._session = open_session(
            self._headers,
            connect_s=self._options.connect_s,
            connections_max=self._options.connections_max,
            counters=self._counters,
            refuses=self._options.refuses,
        )
        return self._session

    async def _post(self, body: bytes, *, stream: bool) -> ClientResponse:
        """The reply as far as its head. Raises BackendFailed."""
        options = self._options
        session = self._session or self._open()
        first_s = min(options.first_s if stream else max(options.first_s, options.idle_s), options.total_s)
        try:
            async with asyncio.timeout(first_s):
                # A redirect is not followed: it would carry the key and the conversation to who knows where.
                return await session.post(self._url, data=body, allow_redirects=False)
        except ConnectionTimeoutError:
            raise self._faults.unreachable(
                "connect timeout",
                detail=f"The model server could not be reached within {_seconds(options.connect_s)}. "
                "Check that it runs and that the model's url is right.",
            ) from None
        except TimeoutError:
            raise self._faults.idle(_too_long_to_answer(first_s)) from None
        except ClientResponseError as error:
            raise self._faults.no_chat(f"no HTTP: {error.message}", b"") from None
        except (ClientError, OSError) as error:
            raise self._faults.unreachable(f"{type(error).__name__}: {error}") from None

    async def _refusal(self, response: ClientResponse) -> BackendFailed:
        """What a status other than 200 means."""
        said = b""
        with suppress(TimeoutError, ClientError, OSError):
            async with asyncio.timeout(REFUSAL_S):
                while len(said) < REFUSAL_BYTES_MAX and (chunk := await response.content.readany()):
                    said += chunk
        said = said[:REFUSAL_BYTES_MAX]
        status = response.status
        if status < 300:
            return self._faults.no_chat(f"status {status}", said)
        if status < 400:
            said = b"location " + response.headers.get("Location", "").encode("utf-8", "replace")
        return self._faults.status(status, response.headers.get("Retry-After", ""), said)

    # -- reading ---------------------------------------------------------------------------------------------------

    async def _read(self, response: ClientResponse, watch: "_Watch", fold: ReplyFold) -> bytes:
        """The next bytes, b"" at the end. Raises BackendFailed."""
        content = response.content
        try:
            if content.is_eof():
                return content.read_nowait(-1)
            watch.wait(response, finished=bool(fold.finish_reason))
            return await content.readany()
        except (ClientError, OSError) as error:
            if fold.finish_reason:
                return b""
            if watch.fault is not None:
                raise watch.fault from None
            raise self._faults.truncated(f"{type(error).__name__}: {error}") from None
        finally:
            watch.rest()

    async def _read_whole(self, response: ClientResponse, watch: "_Watch", fold: ReplyFold) -> bytes | bytearray:
        chunk = await self._read(response, watch, fold)
        if response.content.at_eof():
            return chunk
        body = bytearray()
        while chunk:
            body += chunk
            if len(body) > WHOLE_BYTES_MAX:
                raise self._faults.too_long("reply", most=WHOLE_BYTES_MAX, unit="bytes")
            chunk = await self._read(response, watch, fold)
        return body

    def _take(self, fold: ReplyFold, reader: Reader, chunk: bytes) -> list[TextPiece | ThinkingPiece]:
        try:
            return fold.take(reader.feed(chunk), bytes_read=len(chunk))
        except StreamTooLong as error:
            pieces = fold.take(error.frames)
            fold.break_off(self._faults.too_long("line", most=error.bytes_max, unit="bytes"))
            return pieces

    def _take_whole(self, fold: ReplyFold, media_type: str, body: bytes | bytearray) -> None:
        if not body or body.isspace():
            raise self._faults.malformed("an empty body", b"")
        if "html" in media_type:
            raise self._faults.no_chat(media_type, body)
        fold.take_whole(body)

    def _done(self, fold: ReplyFold) -> ReplyDone:
        if not (fold.anything or fold.ended):
            raise self._faults.malformed("a stream without a chunk", b"")
        done = fold.done()
        if fold.calls_left_out:
            most = self._options.calls_max
            logger.warning("a model asked for %d calls more than the %d of one reply", fold.calls_left_out, most)
        return done


async def _farewell(content: StreamReader) -> None:
    """Read the little that follows `[DONE]`, if it comes at once."""
    if not content.is_eof():
        with suppress(TimeoutError, ClientError, OSError):
            async with asyncio.timeout(FAREWELL_S):
                while await content.readany():
                    pass


class _Watch:
    """Closes a response that is silent too long while we wait for it, or that takes too long in all.

    One timer for the whole reply: it looks when it fires, instead of being set anew for each read.
    """

    __slots__ = ("_ends_at", "_faults", "_limit_s", "_loop", "_response", "_since", "_timer", "_total_s", "fault")

    def __init__(self, options: OpenAIChatOptions, faults: Faults) -> None:
        self._loop = asyncio.get_running_loop()
        self._faults = faults
        self._total_s = options.total_s
        self._ends_at = self._loop.time() + options.total_s
        self._limit_s = options.idle_s
        self._since = math.inf
        """When we began to wait; never, while the reader of the reply is busy with what it has."""
        self._response: ClientResponse | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.fault: BackendFailed | None = None
        """Why it was closed."""

    def wait(self, response: ClientResponse, *, finished: bool) -> None:
        self._since = self._loop.time()
        if finished and self._limit_s > AFTER_FINISH_S:
            self._limit_s = AFTER_FINISH_S
            self.end()
        if self._timer is None:
            self._response = response
            self._timer = self._loop.call_at(self._due(), self._look)

    def rest(self) -> None:
        self._since = math.inf

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> float:
        return min(self._ends_at, self._since + self._limit_s)

    def _look(self) -> None:
        now = self._loop.time()
        due = self._due()
        if now + TIMER_GRAIN_S < due:
            self._timer = self._loop.call_at(min(due, now + self._limit_s), self._look)
            return
        self._timer = None
        if due >= self._ends_at:
            self.fault = self._faults.endless(
                f"The model took too long to answer (over {_seconds(self._total_s)} in all). Ask for less at once."
            )
        else:
            self.fault = self._faults.idle(_too_long_to_answer(self._limit_s))
        if self._response is not None:
            self._response.close()


def _is_stream(media_type: str, *, asked: bool) -> bool:
    """Servers that stream do not all say so; those that answer at once, or with a web page, do."""
    return "event-stream" in media_type or (asked and "json" not in media_type and "html" not in media_type)


def _too_long_to_answer(silent_s: float) -> str:
    return f"The model took too long to answer ({_seconds(silent_s)} without a byte). Ask again."


def _seconds(value: float) -> str:
    return f"{value:g} s"
