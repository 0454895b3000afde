"""The demo: a real server in a process of its own, and each system's documented examples sent to it over HTTP.

a home of its own, a seeded workspace, the offline model -> serve on a free loopback port -> a workflow published in it
-> every installed dialect's examples, one after the other -> on a terminal keep serving until Ctrl-C, else stop
"""

import codecs
import http.client
import json
import os
import queue
import shlex
import subprocess
import sys
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, TextIO, cast
from urllib.parse import quote, urlsplit

from msgspec import Struct
from msgspec.structs import replace

from dragoman.core.errors import DragomanError, NotAuthenticated, Unavailable
from dragoman.dialects import installed
from dragoman.edge.routes import RouteTable
from dragoman.server import demo_workflow
from dragoman.server.config_checks import SYSTEMS
from dragoman.server.config_sources import PREFIX
from dragoman.server.safe_start import ADMIN_FILE
from dragoman.server.shortened import ANSWER_CHARS_MAX, Frames, cut
from dragoman.wire.dialect import Dialect, Example

START_S = 20.0
"""The server gets this long until it accepts."""
ANSWER_S = 60.0
STOP_S = 30.0
CHUNK_BYTES = 65_536
LOG_LINES_SHOWN = 20

CONFIG = """\
[server]
listen = "127.0.0.1:0"
[models.offline]
kind = "offline"
"""

WORKSPACE: Mapping[str, str] = {
    "README.md": "# Checkout service\n\nTakes orders and hands them to payment. Runs as two replicas behind a proxy.\n",
    "src/checkout.py": 'def total(prices: list[float]) -> float:\n    """TODO: round half up, as the law asks."""\n'
    "    return sum(prices)\n",
    "src/payment.py": "RETRIES = 3  # TODO: make this a setting\n",
    "docs/runbook.md": "# When checkout is slow\n\n1. Look at the queue length.\n2. Restart one replica at a time.\n",
    "config/limits.json": '{"orders_per_minute": 600, "timeout_s": 5}\n',
}
"""What lies in the demo's workspace: enough for the file tools to find something."""


class Answer(Struct, frozen=True):
    status: int
    body: str
    first_s: float
    took_s: float


class Server:
    """A server in a process of its own, from its start to its stop."""

    def __init__(self, home: Path) -> None:
        self._log = home / "server.log"
        self._url: queue.Queue[str] = queue.Queue()
        environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        command = [
            sys.executable,
            "-m",
            "dragoman",
            "serve",
            "--home",
            str(home),
            "--config",
            str(home / "dragoman.toml"),
        ]
        # A session of its own: Ctrl-C is for us, and we stop the server in order.
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def _read_log(self) -> None:
        stream = self._process.stderr
        if stream is None:
            return
        with self._log.open("w") as log:
            for line in stream:
                log.write(line)
                log.flush()
                if line.startswith("listening on "):
                    self._url.put(line.removeprefix("listening on ").strip())
        self._url.put("")

    def url(self) -> str:
        """Where it listens, once it does. Raises Unavailable with the end of its log if it does not come up."""
        try:
            url = self._url.get(timeout=START_S)
        except queue.Empty:
            url = ""
        if not url:
            self.stop()
            lines = self._log.read_text().splitlines()[-LOG_LINES_SHOWN:] if self._log.exists() else []
            raise Unavailable("\n  ".join(("The demo's server did not start. Its log ends with:", *lines)))
        return url

    def wait(self) -> None:
        self._process.wait()

    def stop(self) -> int:
        """Ask it to drain and stop; its exit code."""
        self._process.terminate()
        try:
            code = self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._reader.join(STOP_S)
        if self._process.stderr is not None:
            self._process.stderr.close()
        return code


@contextmanager
def serving(home: Path) -> Generator[Server]:
    server = Server(home)
    try:
        yield server
    finally:
        server.stop()


def seed(home: Path) -> None:
    """The demo's config and workspace."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    (home / "dragoman.toml").write_text(CONFIG)
    for name, text in WORKSPACE.items():
        path = home / "workspace" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def run_demo(home: Path, out: TextIO) -> int:
    """Run it in `home`, printing to `out`; 0 if every step went well, else 1. Raises Unavailable if nothing starts."""
    began_s = monotonic()
    seed(home)
    with serving(home) as server:
        url = server.url()
        out.write(
            f"A server listens on {url}: SQLite, the offline model (no LLM), ready in {monotonic() - began_s:.1f} s\n"
        )
        credential_file = home / ADMIN_FILE
        credential = credential_file.read_text().strip()
        out.write(f"CREDENTIAL=$(cat {shlex.quote(str(credential_file))})\n")
        dialects = installed()
        if any(dialect.name == demo_workflow.DIALECT for dialect in dialects):
            version = demo_workflow.publish(home)
            out.write(f"The workflow {version.name} answers in its project\n")
        failed = [fault for dialect in dialects for fault in show_dialect(dialect, url, credential, out)]
        stays = out.isatty() and not failed
        out.write(closing_words(dialects, url, credential_file, stays=stays))
        for fault in failed:
            out.write(f"FAILED: {fault}\n")
        if not failed:
            out.write(f"All steps went well, in {monotonic() - began_s:.1f} s.\n")
        out.flush()
        if stays:
            _keep_serving(server, out)
    return 1 if failed else 0


def show_dialect(dialect: Dialect, url: str, credential: str, out: TextIO) -> list[str]:
    """Send a dialect's examples and print what comes; a sentence for each that did not go as documented."""
    out.write(f"\n== {dialect.title} ==\n")
    authorization = authorization_for(dialect, credential)
    faults: list[str] = []
    kept: dict[str, str] = {}
    routes = RouteTable((dialect,))
    for each in dialect.examples:
        example = replace(each, path=filled(each.path, kept))
        line = curl_line(
            example, url, authorization.replace(credential, "$CREDENTIAL"), streamed=_streams(routes, example)
        )
        out.write(f"\n{example.title}\n{line}\n\n")
        out.flush()
        try:
            answer = send(example, url, authorization, out)
        except (OSError, http.client.HTTPException) as error:
            faults.append(f"{dialect.name}, {example.title}: {type(error).__name__}: {error}")
            continue
        first = f", first byte after {answer.first_s * 1000:.0f} ms" if answer.took_s - answer.first_s > 0.001 else ""
        out.write(f"[status {answer.status}, {answer.took_s * 1000:.0f} ms{first}]\n")
        kept |= found_in(answer.body, example.keeps)
        fault = judge(example, answer)
        if fault:
            faults.append(f"{dialect.name}, {example.title}: {fault}")
    return faults


def _streams(routes: RouteTable, example: Example) -> bool:
    """Whether the answer comes in frames, so that a person's curl had better not hold it back."""
    try:
        mounted, _ = routes.find(example.method, example.path.partition("?")[0])
    except DragomanError:
        return False
    return mounted.route.stream is not None


def filled(path: str, kept: Mapping[str, str]) -> str:
    """The path of an example with what earlier answers said in the place of `{name}`."""
    for name, value in kept.items():
        path = path.replace(f"{{{name}}}", quote(value, safe=""))
    return path


def found_in(body: str, names: Sequence[str]) -> dict[str, str]:
    """The texts under these names in an answer of JSON, the outermost first; none if it is something else."""
    try:
        level: list[Any] = [json.loads(body)] if names else []
    except ValueError:
        return {}
    found: dict[str, str] = {}
    while level:
        objects = [cast("dict[str, Any]", value) for value in level if isinstance(value, dict)]
        for each in objects:
            found = {name: each[name] for name in names if isinstance(each.get(name), str)} | found
        level = [value for each in objects for value in each.values()]
    return found


def authorization_for(dialect: Dialect, credential: str) -> str:
    """The Authorization header under which this dialect finds the credential."""
    for scheme in ("Bearer", "ApiKey"):
        header = f"{scheme} {credential}"
        try:
            if dialect.credential({"authorization": header}) == credential:
                return header
        except NotAuthenticated:
            continue
    raise Unavailable(f"The dialect {dialect.name} takes no Authorization header that the demo knows.")


def curl_line(example: Example, url: str, authorization: str, *, streamed: bool = False) -> str:
    """What a person would type. The credential stands there as a variable of the shell."""
    parts = [f"{'curl -N' if streamed else 'curl'} {shlex.quote(url + example.path)}"]
    if example.method not in ("GET", "POST") or (example.method == "POST" and example.body is None):
        parts.append(f"-X {example.method}")
    parts.append(f'-H "Authorization: {authorization}"')
    parts.extend(f"-H {shlex.quote(f'{name}: {value}')}" for name, value in example.headers)
    if example.body is not None:
        parts.append("-H 'Content-Type: application/json'")
        parts.append(f"-d {shlex.quote(json.dumps(example.body, ensure_ascii=False))}")
    return " \\\n  ".join(parts)


def send(example: Example, url: str, authorization: str, out: TextIO) -> Answer:
    """Send one request; a stream is printed as it comes, anything else once it is whole."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=ANSWER_S)
    body = None if example.body is None else json.dumps(example.body, ensure_ascii=False).encode()
    headers = {"Authorization": authorization} | dict(example.headers)
    if body is not None:
        headers["Content-Type"] = "application/json"
    began_s = monotonic()
    try:
        connection.request(example.method, example.path, body, headers)
        response = connection.getresponse()
        streamed = response.headers.get_content_type() in ("text/event-stream", "application/octet-stream")
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        text = ""
        first_s = 0.0
        frames = Frames(out)
        while chunk := response.read1(CHUNK_BYTES):
            first_s = first_s or monotonic() - began_s
            part = decoder.decode(chunk)
            text += part
            if streamed:
                frames.add(part)
    finally:
        connection.close()
    took_s = monotonic() - began_s
    if streamed:
        frames.end()
    else:
        out.write(f"{cut(text, chars_max=ANSWER_CHARS_MAX)}\n")
    return Answer(response.status, text, first_s, took_s)


def judge(example: Example, answer: Answer) -> str:
    """Why an answer is not the documented one; "" if it is."""
    if not 200 <= answer.status < 300:
        return f"status {answer.status}"
    missing = next((text for text in example.expect if text not in answer.body), None)
    return "" if missing is None else f"the answer lacks {missing!r}"


def closing_words(dialects: Sequence[Dialect], url: str, credential_file: Path, *, stays: bool) -> str:
    """What can be tried next, and which of the four systems this version does not speak."""
    names = {dialect.name for dialect in dialects}
    absent = [title for name, title in SYSTEMS.items() if name not in names]
    lines = [
        "",
        f"Try next, with CREDENTIAL=$(cat {shlex.quote(str(credential_file))}):",
        f'  dragoman ask "Search the workspace for TODO" --url {url} --credential "$CREDENTIAL"',
        f"  {url}/docs in a browser",
        f"  curl {url}/metrics",
        f'  curl {url}/api/server -H "Authorization: Bearer $CREDENTIAL"',
    ]
    if not stays:
        lines.append("This is no terminal, so the server stops now; start one that stays with: dragoman serve")
    if absent:
        lines.append(f"Not part of this version: {', '.join(absent)}.")
    return "\n".join((*lines, "", ""))


def _keep_serving(server: Server, out: TextIO) -> None:
    out.write("Still serving, for you to try; Ctrl-C stops.\n")
    out.flush()
    try:
        server.wait()
    except KeyboardInterrupt:
        out.write("\n")
