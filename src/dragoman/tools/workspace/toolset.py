"""The workspace tools as models see them."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from dragoman.core.agents import Repeat, ToolSpec
from dragoman.core.names import ProjectId
from dragoman.runtime.tool_ports import CallContext
from dragoman.tools.arguments import schema_of, typed
from dragoman.tools.registry import Registry
from dragoman.tools.workspace.deadline import Deadline, in_worker
from dragoman.tools.workspace.jail import Jail
from dragoman.tools.workspace.reading import FindFiles, ListFiles, ReadFile, find_files, list_files, read_file
from dragoman.tools.workspace.searching import SearchFiles, search_files
from dragoman.tools.workspace.writing import EditFile, WriteFile, edit_file, write_file

TOOLSET = "workspace"
CALL_S = 20.0
"""Above the deadline of the work itself: that one still answers with what was found."""

S = TypeVar("S", bound=Struct)

LIST_FILES = ToolSpec(
    "list_files",
    "List the files and folders of the workspace, one path per line, folders with a trailing slash. Without arguments "
    "it lists the top level; set recursive to see everything below, or path to see one folder. Paths are relative to "
    "the workspace and can be passed to the other tools as they are. Links are shown but not followed.",
    schema_of(ListFiles),
    repeat=Repeat.PURE,
    toolset=TOOLSET,
    timeout_s=CALL_S,
    examples=(
        "List all files in the workspace",
        "What files are there?",
        "Show me the contents of the folder",
        "What is in the workspace?",
        "ls",
        "Which folders do I have?",
        "Show the directory tree",
    ),
    keywords=("list", "files", "folders", "directory", "directories", "workspace", "ls", "dir", "tree", "contents"),
)
FIND_FILES = ToolSpec(
    "find_files",
    "Find files by name with a glob. A pattern without a slash, such as *.py, is matched against the names of files in "
    "every folder; one with a slash, such as src/**/*.{ts,tsx}, against whole paths. Returns one path per line. Use it "
    "when you know what a file is called but not where it is; to look inside files use search_files.",
    schema_of(FindFiles),
    repeat=Repeat.PURE,
    toolset=TOOLSET,
    timeout_s=CALL_S,
    examples=(
        "Find all Python files",
        "Where is the file config.toml?",
        "Which files end in .md?",
        "Find files named test_*",
        "Is there a Dockerfile anywhere?",
        "Locate the README",
    ),
    keywords=("find", "locate", "where", "glob", "named", "name", "extension", "file", "pattern", "ending"),
)
READ_FILE = ToolSpec(
    "read_file",
    "Read a text file of the workspace. Returns its text exactly as it stands, up to 2,000 lines unless limit says "
    "otherwise; when there is more, the last line in brackets gives the offset to go on with. Use offset and limit to "
    "read part of a long file. Binary files are refused.",
    schema_of(ReadFile),
    repeat=Repeat.PURE,
    toolset=TOOLSET,
    timeout_s=CALL_S,
    examples=(
        "Read README.md",
        "Show me the file src/main.py",
        "What does config.toml say?",
        "Open notes.txt",
        "Print the contents of package.json",
        "cat setup.cfg",
    ),
    keywords=("read", "open", "show", "print", "cat", "view", "display", "file", "contents", "text"),
)
SEARCH_FILES = ToolSpec(
    "search_files",
    "Search inside the text files of the workspace, line by line, for plain text or, with regex set, for a regular "
    "expression (no look-around or back-references). Returns path:line: text for each matching line, at most 200. "
    "Narrow it with path (a folder or file) and files (a glob). To look for files by name use find_files.",
    schema_of(SearchFiles),
    repeat=Repeat.PURE,
    toolset=TOOLSET,
    timeout_s=CALL_S,
    examples=(
        "Search for TODO",
        "Where is the function parse_args used?",
        "Which files mention timeout?",
        "grep for import asyncio",
        "Find every line that contains password",
        "Look for the text 'connection refused' in the logs",
    ),
    keywords=("search", "grep", "contain", "contains", "mention", "occurrences", "used", "text", "inside", "regex"),
)
WRITE_FILE = ToolSpec(
    "write_file",
    "Create a text file in the workspace, or overwrite it with new content. The file is replaced as a whole, and "
    "folders on the way are made. To change part of an existing file use edit_file, which cannot lose the rest.",
    schema_of(WriteFile),
    repeat=Repeat.IDEMPOTENT,
    toolset=TOOLSET,
    timeout_s=CALL_S,
    examples=(
        "Write a file hello.txt that says hello",
        "Create a new file notes.md",
        "Save this to report.md",
        "Make a file with a to-do list",
        "Overwrite config.json with this",
    ),
    keywords=("write", "create", "save", "new", "make", "overwrite", "store", "file"),
)
EDIT_FILE = ToolSpec(
    "edit_file",
    "Change part of a text file in the workspace: replace the exact text old by new. old must stand in the file just "
    "once, or set replace_all to change every occurrence; copy it from read_file with its spaces and line ends, and "
    "include enough of what surrounds it. Nothing is changed when it is not found.",
    schema_of(EditFile),
    repeat=Repeat.ONCE,
    toolset=TOOLSET,
    timeout_s=CALL_S,
    examples=(
        "Replace foo with bar in main.py",
        "Change the port to 9090 in config.toml",
        "Rename the variable x to count in the file",
        "Fix the typo in README.md",
        "Delete the line about logging from setup.py",
    ),
    keywords=("edit", "change", "replace", "modify", "update", "fix", "rename", "typo", "delete", "line"),
)


RootOf = Callable[[ProjectId], Path]
"""The folder of a project's workspace: one project's agents never see another's files."""


def register_workspace(registry: Registry, root_of: RootOf) -> None:
    """Offer the workspace tools. A project's folder is made when a tool first needs it."""
    jails: dict[ProjectId, Jail] = {}

    def jail_of(project: ProjectId) -> Jail:
        jail = jails.get(project)
        if jail is None:
            jail = jails[project] = Jail(root_of(project))
        return jail

    def offer(spec: ToolSpec, struct_type: type[S], work: Callable[[Jail, S, Deadline], str]) -> None:
        async def run(asked: S, context: CallContext) -> str:
            jail = jail_of(context.project)
            return await in_worker(lambda deadline: work(jail, asked, deadline))

        registry.register(spec, typed(struct_type, run))

    offer(LIST_FILES, ListFiles, list_files)
    offer(FIND_FILES, FindFiles, find_files)
    offer(READ_FILE, ReadFile, read_file)
    offer(SEARCH_FILES, SearchFiles, search_files)
    offer(WRITE_FILE, WriteFile, write_file)
    offer(EDIT_FILE, EditFile, edit_file)
