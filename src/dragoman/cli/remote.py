"""A running server, as the command line talks to it: over the same API as everybody else."""

import json
from pathlib import Path
from time import monotonic
from typing import Any, cast
from urllib.parse import urlsplit

import aiohttp

from dragoman.cli.report import Report
from dragoman.core.errors import (
    BackendFailed,
    BadRequest,
    DragomanError,
    LimitReached,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    Unavailable,
)
from dragoman.server.safe_start import ADMIN_FILE
from dragoman.wire.sse import Reader

CHAT_STREAM_PATH = "/api/v1/chat/stream"
RUN_HEADER = "x-run-id"
CONNECT_S = 5.0
SILENCE_S = 60.0
"""A server sends a sign of life every 15 s; after this long without one it is taken for dead."""
ERROR_BYTES_MAX = 64 * 1024
SENTENCE_CHARS_MAX = 300


def find_credential(given: str | None, home: Path) -> str:
    """The credential to send: the one given, else the first admin's of this home. Raises NotAuthenticated."""
    if given:
        return given.strip()
    path = home / ADMIN_FILE
    if path.is_file():
        return path.read_text().strip()
    raise NotAuthenticated(f"A running server wants a credential: give --credential TEXT; there is none in {path}.")


class Remote:
    """`url` is the server's, without a path. Raises BadRequest if it is none."""

    def __init__(self, url: str, credential: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadRequest(f"{url} is not a URL; write one such as http://127.0.0.1:8080")
        if not credential.isascii() or not credential.isprintable():
            raise NotAuthenticated("A credential is one line of ASCII characters.")
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {credential}"}

    def _session(self) -> aiohttp.ClientSession:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
        return aiohttp.ClientSession(headers=self._headers, timeout=timeout)

    async def chat(self, text: str, conversation: str, model: str, report: Report) -> None:
        """One streamed turn. Raises errors of the tree, also when the stream ends without saying how."""
        body: dict[str, str] = {"message": text, "session_key": conversation}
        if model:
            body["model"] = model
        reader = Reader()
        try:
            async with self._session() as session, session.post(self._url + CHAT_STREAM_PATH, json=body) as response:
                await _refuse(response)
                report.run = response.headers.get(RUN_HEADER, "")
                async for chunk in response.content.iter_any():
                    for frame in reader.feed(chunk):
                        report.frame(frame.event, _table(frame.data), now=monotonic())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error) from error
        if not report.status:
            raise BackendFailed(f"{self._url} broke the answer off; ask again in conversation {conversation}.")

    async def get(self, path: str) -> dict[str, Any]:
        """A GET that answers with a JSON object."""
        return await self._ask("GET", path, None)

    async def post(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """A POST that answers with a JSON object; None = without a body."""
        return await self._ask("POST", path, body)

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        try:
            async with self._session() as session, session.request(method, self._url + path, json=body) as response:
                await _refuse(response)
                return _table(await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> Unavailable:
        return Unavailable(
            f"{self._url} does not answer; is a server running there? Start one with: dragoman serve",
            internal=f"{type(error).__name__}: {error}",
        )


async def _refuse(response: aiohttp.ClientResponse) -> None:
    """Raises what a status other than 2xx means, in the server's own words where it has some."""
    if response.ok:
        return
    body = await response.content.read(ERROR_BYTES_MAX)
    raise refusal(response.status, _sentence(body), retry_after=response.headers.get("retry-after", ""))


def refusal(status: int, sentence: str, *, retry_after: str = "") -> DragomanError:
    said = f" ({sentence})" if sentence else ""
    if status == 401:
        return NotAuthenticated(f"The server does not know this credential{said}; give another with --credential.")
    if status == 403:
        return NotAllowed(f"This credential may not do that{said}.")
    if status == 404:
        return NotFound(f"The server has no such thing{said}.", what="route")
    if status == 429:
        wait = f" Try again in {retry_after} s." if retry_after.isdigit() else ""
        return LimitReached(f"The server asks to wait{said}.{wait}", limit="server")
    if status == 503:
        return Unavailable(f"The server cannot take requests now{said}; try again in a moment.")
    if status >= 500:
        return BackendFailed(f"The server failed with status {status}{said}.")
    return BadRequest(f"The server refused this with status {status}{said}.")


def _sentence(body: bytes) -> str:
    """What an error body says: `detail`, or `error.message`; "" if it is none we know."""
    table = _table(body)
    error = table.get("error")
    inner = cast("dict[str, Any]", error).get("message") if isinstance(error, dict) else error
    found = table.get("detail") or inner or table.get("message")
    return found[:SENTENCE_CHARS_MAX] if isinstance(found, str) else ""


def _table(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
