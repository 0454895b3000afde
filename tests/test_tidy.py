"""House rules no linter has. Each rule is a function from a file to its faults, and is shown one that it must catch."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.checkout import ROOT, SOURCE, TESTS, checked_in, expect_none, name_of, sources, text_of

MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
LINT_IMPORTS_S = 60.0

PURE = ("core", "wire", "dialects")
"""Layers that neither wait nor ask what time it is."""

IMPURE_MODULES = {"asyncio", "threading", "time", "random", "secrets", "uuid", "subprocess", "socket"}

VAGUE_NAMES = {
    *("util", "utils", "common", "misc", "base", "legacy"),
    *(word + ending for word in ("manager", "service", "handler", "helper") for ending in ("", "s")),
}
NUMBERED_NAME = re.compile(r"_v\d+\Z")

UNTESTED: dict[str, str] = {
    "src/dragoman/stores/sqlite/access.py": "tests/stores/test_access.py holds it, with every other engine",
    "src/dragoman/stores/sqlite/tapes.py": "tests/stores/test_log.py holds it, with every other engine",
}
"""Sources without a test file of their own, each with the reason. The list may only shrink: an entry whose test exists,
or whose source is gone, fails."""

# -- sizes and shapes of the source ----------------------------------------------------------------------------------


def long_module(path: Path, tree: ast.Module, text: str) -> Iterator[str]:
    if (lines := len(text.splitlines())) > MODULE_LINES_MAX:
        yield f"has {lines} lines, {MODULE_LINES_MAX} at most: find the second idea in it"


def long_functions(path: Path, tree: ast.Module, text: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield f"line {node.lineno}: {node.name} has {lines} lines, {FUNCTION_LINES_MAX} at most"


def _promises(tree: ast.Module) -> Iterator[ast.AST]:
    """What a Protocol says that others do: waiting is theirs."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "Protocol" for base in node.bases):
            yield from node.body


def waiting_in_pure_layers(path: Path, tree: ast.Module, text: str) -> Iterator[str]:
    if path.relative_to(SOURCE).parts[0] not in PURE:
        return
    promised = set(_promises(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef) and node not in promised:
            yield f"line {node.lineno}: async def {node.name}; this layer cannot wait, a port in runtime/ports.py can"
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for module in modules:
            if module.split(".")[0] in IMPURE_MODULES:
                yield f"line {node.lineno}: imports {module}; times, ids and randomness are handed in"


def missing_docstring(path: Path, tree: ast.Module, text: str) -> Iterator[str]:
    if not (ast.get_docstring(tree) or "").strip():
        yield "does not begin by saying what it is"


def vague_name(path: Path, tree: ast.Module, text: str) -> Iterator[str]:
    for name in (path.stem, *path.relative_to(SOURCE).parts[:-1]):
        if name.strip("_") in VAGUE_NAMES or NUMBERED_NAME.search(name):
            yield f"{name} says nothing about what is in it"


Rule = Callable[[Path, ast.Module, str], Iterator[str]]

SOURCE_RULES: tuple[Rule, ...] = (
    long_module,
    long_functions,
    waiting_in_pure_layers,
    missing_docstring,
    vague_name,
)


def faults_of(rule: Rule, path: Path, text: str) -> list[str]:
    return [f"{name_of(path)}: {fault}" for fault in rule(path, ast.parse(text), text)]


@pytest.mark.parametrize("rule", SOURCE_RULES, ids=lambda rule: rule.__name__)
def test_every_module_keeps_the_rule(rule: Rule) -> None:
    expect_none([fault for path in sources() for fault in faults_of(rule, path, path.read_text())])


LONG_FUNCTION = "def f():\n" + "    pass\n" * FUNCTION_LINES_MAX


@pytest.mark.parametrize(
    ("rule", "path", "text", "fault"),
    [
        (long_module, "core/x.py", "x = 1\n" * 401, "has 401 lines, 400 at most: find the second idea in it"),
        (long_functions, "core/x.py", LONG_FUNCTION, "line 1: f has 61 lines, 60 at most"),
        (
            waiting_in_pure_layers,
            "dialects/a/x.py",
            "async def f(): ...",
            "line 1: async def f; this layer cannot wait, a port in runtime/ports.py can",
        ),
        (
            waiting_in_pure_layers,
            "wire/x.py",
            "from uuid import uuid4",
            "line 1: imports uuid; times, ids and randomness are handed in",
        ),
        (missing_docstring, "core/x.py", '""" """\nx = 1', "does not begin by saying what it is"),
        (vague_name, "edge/handlers.py", "", "handlers says nothing about what is in it"),
        (vague_name, "common/x.py", "", "common says nothing about what is in it"),
        (vague_name, "edge/asgi_v2.py", "", "asgi_v2 says nothing about what is in it"),
    ],
)
def test_the_rule_catches_what_breaks_it(rule: Rule, path: str, text: str, fault: str) -> None:
    assert faults_of(rule, SOURCE / path, text) == [f"src/dragoman/{path}: {fault}"]


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (long_module, "core/x.py", "x = 1\n" * 400),
        (long_functions, "core/x.py", LONG_FUNCTION.removesuffix("    pass\n")),
        (waiting_in_pure_layers, "edge/x.py", "import asyncio\nasync def f(): ..."),
        (waiting_in_pure_layers, "core/x.py", "class Kept(Protocol):\n    async def get(self) -> str: ..."),
        (vague_name, "edge/baseline.py", ""),
    ],
)
def test_the_rule_lets_pass_what_keeps_it(rule: Rule, path: str, text: str) -> None:
    assert faults_of(rule, SOURCE / path, text) == []


# -- one test file per source file -----------------------------------------------------------------------------------


def only_declares(text: str) -> bool:
    """Whether a module has nothing to run: names, shapes, and functions without a body such as a Protocol's."""
    return not any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not all(map(_says_nothing, node.body))
        for node in ast.walk(ast.parse(text))
    )


def _says_nothing(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def places_of_test(path: Path) -> tuple[Path, ...]:
    """Where a source's test may stand: `a/b.py` in `tests/a/test_b.py`; a package in or beside its folder of tests."""
    inside = TESTS / path.relative_to(SOURCE).parent
    if path.name == "__init__.py":
        return inside / f"test_{path.parent.name}.py", inside.parent / f"test_{path.parent.name}.py"
    return (inside / f"test_{path.stem}.py",)


def untested() -> set[str]:
    return {
        name_of(path)
        for path in sources()
        if not only_declares(path.read_text()) and not any(candidate.exists() for candidate in places_of_test(path))
    }


def test_every_source_has_its_test_file_or_a_reason() -> None:
    expect_none(sorted(untested() - UNTESTED.keys()))


def test_the_list_of_exceptions_only_shrinks() -> None:
    expect_none(sorted(UNTESTED.keys() - untested()))


def test_a_module_of_shapes_and_protocols_needs_no_test_of_its_own() -> None:
    assert only_declares('class P(Protocol):\n    def f(self) -> int:\n        """What it gives."""\n        ...\n')
    assert not only_declares("class C:\n    def f(self) -> int:\n        return 1\n")


def test_every_exception_has_a_reason() -> None:
    assert [name for name, reason in UNTESTED.items() if len(reason) < 20] == []


# -- what must not stand in any file ---------------------------------------------------------------------------------

# The forbidden texts are put together here from pieces, so that this file may be checked like all others.
MACHINE_PATH = re.compile(r"(?<![\w.~$}/-])/(?:" + "wo" + r"rk|ro" + r"ot|ho" + r"me/\w+)(?![\w-])")
PACKAGE_INDEX = re.compile(
    "|".join(
        (
            "pypi" + r"\.org",
            "python" + "hosted",
            "registry" + r"\.npm",
            r"--index" + r"-url[ =]\S*/",
            r"--find" + r"-links[ =]\S*/",
        )
    )
)
LOCAL_FILE_URL = re.compile("file:" + "///(?!etc/)")  # what lies in /etc is the customary loot in tests of attacks


def places(pattern: re.Pattern[str], text: str) -> list[str]:
    return [
        f"line {number}: {match[0]}"
        for number, line in enumerate(text.splitlines(), start=1)
        for match in pattern.finditer(line)
    ]


@pytest.mark.parametrize(
    "pattern", [MACHINE_PATH, PACKAGE_INDEX, LOCAL_FILE_URL], ids=["machine-path", "package-index", "local-file-url"]
)
def test_no_file_names_a_place_on_one_machine_or_a_package_index(pattern: re.Pattern[str]) -> None:
    expect_none(
        f"{name_of(path)}: {place}"
        for path in checked_in()
        if (text := text_of(path))
        for place in places(pattern, text)
    )


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (MACHINE_PATH, "cd " + "/wo" + "rk/main"),
        (MACHINE_PATH, '"' + "/ro" + 'ot"'),
        (MACHINE_PATH, "in " + "/ho" + "me/ada/src"),
        (PACKAGE_INDEX, "https://files.python" + "hosted.org/packages/x"),
        (PACKAGE_INDEX, "--index" + "-url https://example.net"),
        (LOCAL_FILE_URL, "file:" + "///opt/wheels"),
    ],
)
def test_the_forbidden_text_would_be_found(pattern: re.Pattern[str], text: str) -> None:
    assert len(places(pattern, f"first line\n{text}")) == 1


def test_the_loot_in_tests_of_attacks_passes() -> None:
    assert places(LOCAL_FILE_URL, "file:" + "///etc/passwd") == []


@pytest.mark.parametrize("text", ["/workspace/a.txt", "http://host/root", "HOME/admin-credential", "/home", "rooted"])
def test_a_path_of_no_machine_passes(text: str) -> None:
    assert places(MACHINE_PATH, text) == []


# -- arrows ----------------------------------------------------------------------------------------------------------


def test_the_import_contracts_hold() -> None:
    lint_imports = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    if lint_imports is None:
        pytest.skip("import-linter is not installed (make test installs it)")
    done = subprocess.run(
        [lint_imports, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=LINT_IMPORTS_S, check=False
    )
    assert (done.returncode, done.stdout if done.returncode else "") == (0, "")
