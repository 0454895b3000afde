"""How well the router chooses, on everyday prompts and the tools that a server has by itself.

State of things: of the 133 prompts below 127 are chosen right; MISSES names the others and what becomes of them. Of 30
prompts written before the router had seen them 23 were right at first sight.
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.core.agents import ToolSpec
from dragoman.models.offline_reading import read
from dragoman.models.offline_routing import Index
from dragoman.tools.connections import toolset as connections
from dragoman.tools.workspace import toolset as workspace

WORKSPACE = (
    workspace.LIST_FILES,
    workspace.FIND_FILES,
    workspace.READ_FILE,
    workspace.SEARCH_FILES,
    workspace.WRITE_FILE,
    workspace.EDIT_FILE,
)
DATASOURCES = (connections.LIST_DATASOURCES, connections.GET_DATASOURCE)
PROMETHEUS = (
    connections.QUERY_PROMETHEUS,
    connections.LIST_METRIC_NAMES,
    connections.LIST_LABEL_NAMES,
    connections.LIST_LABEL_VALUES,
)
TOOLS = Index((*WORKSPACE, *DATASOURCES, *PROMETHEUS))

HEALTH = ToolSpec(
    "get_cluster_health",
    "Fetch the current Elasticsearch cluster-health status and key metrics.",
    {"type": "object", "properties": {"includeShardStats": {"type": "boolean", "default": False}}},
)
"""A client's tool, as Elastic documents it: neither examples nor keywords."""


def choose(text: str, index: Index = TOOLS) -> tuple[str, dict[str, Any], tuple[str, ...]] | None:
    """The tool's name, its arguments, and what is missing."""
    choice = index.choose(read(text))
    return None if choice is None else (choice.tool.name, choice.filled.arguments, choice.filled.missing)


CALLS: list[tuple[str, str, dict[str, Any]]] = [
    ("List all files in the workspace", "list_files", {"recursive": True}),
    ("what files are there", "list_files", {}),
    ("ls", "list_files", {}),
    ("tree", "list_files", {"recursive": True}),
    ("Analyze this codebase", "list_files", {"recursive": True}),
    ("Give me an overview of this project", "list_files", {"recursive": True}),
    ("Show me everything in this repo", "list_files", {"recursive": True}),
    ("Explore the repository", "list_files", {}),
    ("list the directory tree", "list_files", {"recursive": True}),
    ("What's in this workspace?", "list_files", {}),
    ("What is in the folder src?", "list_files", {"path": "src"}),
    ("What's inside the docs folder?", "list_files", {"path": "docs"}),
    ("List the files under tests/", "list_files", {"path": "tests"}),
    ("find all python files", "find_files", {"pattern": "*.py"}),
    ("Which python modules do we have?", "find_files", {"pattern": "*.py"}),
    ("Give me all markdown documents", "find_files", {"pattern": "*.md"}),
    ("Which files end in .md?", "find_files", {"pattern": "*.md"}),
    ("Which files are JSON?", "find_files", {"pattern": "*.json"}),
    ("are there any yaml files?", "find_files", {"pattern": "*.{yaml,yml}"}),
    ("find *.toml", "find_files", {"pattern": "*.toml"}),
    ("Where is the Dockerfile?", "find_files", {"pattern": "Dockerfile"}),
    ("find files called settings.ini", "find_files", {"pattern": "settings.ini"}),
    ("read README.md", "read_file", {"path": "README.md"}),
    ("show me config.toml", "read_file", {"path": "config.toml"}),
    ("What does main.py do?", "read_file", {"path": "main.py"}),
    ("Open the file docs/intro.md", "read_file", {"path": "docs/intro.md"}),
    ("Can you display the contents of package.json", "read_file", {"path": "package.json"}),
    ("Can you open LICENSE for me?", "read_file", {"path": "LICENSE"}),
    ("print setup.cfg", "read_file", {"path": "setup.cfg"}),
    ("cat Makefile", "read_file", {"path": "Makefile"}),
    ("head of CHANGELOG.md", "read_file", {"path": "CHANGELOG.md"}),
    ("I need to see the contents of docs/setup.md", "read_file", {"path": "docs/setup.md"}),
    ("show the first 20 lines of src/app.py", "read_file", {"path": "src/app.py", "limit": 20}),
    ("search for TODO", "search_files", {"query": "TODO"}),
    ("any TODO comments in the code?", "search_files", {"query": "TODO"}),
    ("grep for import asyncio", "search_files", {"query": "import asyncio"}),
    ("search the workspace for banana", "search_files", {"query": "banana"}),
    ("where is parse_args used?", "search_files", {"query": "parse_args"}),
    ("Find where DEFAULT_TIMEOUT is defined", "search_files", {"query": "DEFAULT_TIMEOUT"}),
    ("where do we use aiohttp?", "search_files", {"query": "aiohttp"}),
    ("Does any file mention asyncio?", "search_files", {"query": "asyncio"}),
    ("how many lines mention password?", "search_files", {"query": "password"}),
    ("Search the code for 'def main'", "search_files", {"query": "def main"}),
    ("Look for errors in app.log", "search_files", {"query": "errors", "path": "app.log"}),
    (
        "look for 'connection refused' in the logs folder",
        "search_files",
        {"query": "connection refused", "path": "logs"},
    ),
    ("Create a file hello.txt that says hello world", "write_file", {"path": "hello.txt", "content": "hello world"}),
    ("Make a new file notes.txt containing 'buy milk'", "write_file", {"path": "notes.txt", "content": "buy milk"}),
    ("Write 'hello' to greeting.txt", "write_file", {"path": "greeting.txt", "content": "hello"}),
    ("replace foo with bar in main.py", "edit_file", {"path": "main.py", "old": "foo", "new": "bar"}),
    (
        'In app.py change "port = 80" to "port = 8080"',
        "edit_file",
        {"path": "app.py", "old": "port = 80", "new": "port = 8080"},
    ),
    (
        'Please replace "colour" with "color" in style.css',
        "edit_file",
        {"path": "style.css", "old": "colour", "new": "color"},
    ),
    ("How many datasources do I have?", "list_datasources", {}),
    ("count my datasources", "list_datasources", {}),
    ("What data sources are available?", "list_datasources", {}),
    ("Which connections are configured?", "list_datasources", {}),
    ("which systems are you connected to?", "list_datasources", {}),
    ("Which datasources can I query?", "list_datasources", {}),
    ("Do I have a Prometheus datasource?", "list_datasources", {"type": "prometheus"}),
    ("show me the datasource prom", "get_datasource", {"name": "prom"}),
    ("Describe the datasource named metrics", "get_datasource", {"name": "metrics"}),
    ("tell me about the datasource named prod", "get_datasource", {"name": "prod"}),
    ('what is up{job="x"} right now', "query_prometheus", {"expr": 'up{job="x"}'}),
    ("Query prometheus for up", "query_prometheus", {"expr": "up"}),
    ("Which targets are up?", "query_prometheus", {"expr": "up"}),
    ("Are all targets up?", "query_prometheus", {"expr": "up"}),
    ("which instances are down", "query_prometheus", {"expr": "up == 0"}),
    ("Show http_requests_total", "query_prometheus", {"expr": "http_requests_total"}),
    ("node_memory_MemFree_bytes", "query_prometheus", {"expr": "node_memory_MemFree_bytes"}),
    (
        "sum(rate(http_requests_total[5m])) by (job)",
        "query_prometheus",
        {"expr": "sum(rate(http_requests_total[5m])) by (job)"},
    ),
    (
        "Run rate(http_requests_total[5m]) over the last hour",
        "query_prometheus",
        {"expr": "rate(http_requests_total[5m])", "startTime": "now-1h"},
    ),
    (
        "What is the value of process_cpu_seconds_total over the last 5 minutes?",
        "query_prometheus",
        {"expr": "process_cpu_seconds_total", "startTime": "now-5m"},
    ),
    ("What metrics are there?", "list_prometheus_metric_names", {}),
    ("List the label values of job", "list_prometheus_label_values", {"labelName": "job"}),
]

ASKS_BACK: list[tuple[str, str, tuple[str, ...]]] = [
    ("what's the CPU usage", "query_prometheus", ("expr",)),
    ("which pods restart?", "query_prometheus", ("expr",)),
    ("read the file", "read_file", ("path",)),
    ("search", "search_files", ("query",)),
    ("Locate the license file", "find_files", ("pattern",)),
    ("Fix the typo in README.md", "edit_file", ("old", "new")),
]
"""The tool is clear, and what it needs is not."""

ABSTAINS = [
    "What's the current weather?",
    "Summarize this document",
    "Hello, can you help me?",
    "What services do you offer?",
    "Continue from our previous conversation",
    "This requires advanced reasoning",
    "Is my Elasticsearch cluster healthy right now?",
    "Write a poem about the sea",
    "Write me an essay on Rome",
    "Tell me a joke",
    "What is the capital of France?",
    "thanks!",
    "Good morning",
    "Explain quantum computing",
    "Explain how TCP works",
    "who are you?",
    "Who am I?",
    "What can you do?",
    "help",
    "ok",
    "Translate this to German",
    "what did I ask before?",
    "What is my name?",
    "Remember that my name is Ada",
    "How do I bake bread?",
    "Book me a flight to Paris",
    "Can you book a meeting room?",
    "Send an email to Bob",
    "Draft a reply to my boss",
    "Plan my holiday",
    "Delete all files",
    "what is 2+2",
    "What time is it?",
    "Why is checkout slow?",
    "What's the status of my deployment?",
    "Convert 5 miles to km",
    "Find me a good restaurant",
    "Show me the money",
    "open the door",
    "list the planets",
    "where is my car",
    "Let's play chess",
    "What's your favourite colour?",
    "How old is the universe?",
    "Summarise the meeting",
    "Do we have any dashboards?",
    "What is Kubernetes?",
    "who won the world cup?",
]

MISSES: list[tuple[str, str | None]] = [
    ("Is everything up?", None),
    ("is there a makefile?", None),
    ("Which file defines the class Registry?", None),
    ("How big is the file data.csv?", "read_file"),
    ("Restart the server", "query_prometheus"),
    ("list my todos", "search_files"),
]
"""What a person would have chosen otherwise. None of it may write."""


@pytest.mark.parametrize(("text", "tool", "arguments"), CALLS)
def test_the_tool_that_is_meant_is_called_with_what_was_said(text: str, tool: str, arguments: dict[str, Any]) -> None:
    assert choose(text) == (tool, arguments, ())


@pytest.mark.parametrize(("text", "tool", "missing"), ASKS_BACK)
def test_what_a_tool_still_needs_is_told(text: str, tool: str, missing: tuple[str, ...]) -> None:
    chosen = choose(text)
    assert chosen is not None
    assert (chosen[0], chosen[2]) == (tool, missing)


@pytest.mark.parametrize("text", ABSTAINS)
def test_it_abstains_when_no_tool_fits(text: str) -> None:
    assert choose(text) is None


@pytest.mark.parametrize(("text", "tool"), MISSES)
def test_known_misses_do_no_harm(text: str, tool: str | None) -> None:
    chosen = choose(text)
    assert (chosen[0] if chosen else None) == tool


@pytest.mark.parametrize(
    "text", ["List all files in the workspace", "How many datasources do I have?", "read README.md", "find *.toml"]
)
def test_fewer_tools_change_nothing_about_a_clear_question(text: str) -> None:
    assert choose(text, Index((*WORKSPACE, *DATASOURCES))) == choose(text)


@pytest.mark.parametrize("index", [Index((HEALTH,)), Index((*WORKSPACE, *DATASOURCES, *PROMETHEUS, HEALTH))])
def test_a_clients_tool_is_found_by_its_description(index: Index) -> None:
    chosen = ("get_cluster_health", {}, ())
    assert choose("Is my Elasticsearch cluster healthy right now?", index) == chosen
    assert choose("get_cluster_health", index) == chosen
    assert choose("Please run get_cluster_health for me", index) == chosen
    assert choose("Hello, can you help me?", index) is None


def test_a_tool_that_says_nothing_of_itself_is_never_chosen_but_by_its_name() -> None:
    index = Index((ToolSpec("do", "", {"type": "object", "properties": {}}),))
    assert choose("List all files in the workspace", index) is None
    assert choose("do", index) == ("do", {}, ())


tokens = st.sampled_from(
    (
        "list find read search replace with for files file folder called README.md *.py src/ up{job= rate( sum by ) } "
        "] [5m] ' \" ` “ ” . ? = : the last 5 hours first 20 lines limit path= value <context> </context> http://x 😀 "
        "§ \0"
    ).split(" ")
)


@given(st.lists(tokens | st.text(max_size=8), max_size=40).map(" ".join))
def test_no_text_breaks_it(text: str) -> None:
    chosen = choose(text)
    assert chosen is None or chosen[0] in {tool.name for tool in (*WORKSPACE, *DATASOURCES, *PROMETHEUS)}


def test_without_tools_there_is_nothing_to_choose() -> None:
    assert choose("List all files in the workspace", Index(())) is None
    assert choose("", TOOLS) is None
