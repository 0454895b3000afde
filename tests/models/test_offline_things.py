import pytest

from dragoman.models.offline_reading import read, split_name
from dragoman.models.offline_things import Parameter, Taking, thing_for

FOLDER = "folder, relative to the workspace"
FOLDER_OR_FILE = "folder or file, relative to the workspace"
GLOB = "glob: *.py is about the name"
ONLY = "only files that fit this glob"


def thing(name: str, text: str, about: str = "", *, required: bool = False) -> str | None:
    words = frozenset(split_name(name).lower().split())
    return thing_for(Parameter(name, words, about), Taking(read(text)), required=required)


@pytest.mark.parametrize(
    ("name", "about", "text", "value"),
    [
        ("path", "", "read src/main.py", "src/main.py"),
        ("filename", "", "write a file called notes", "notes"),
        ("path", "", "read it", None),
        ("path", FOLDER, "list the folder src", "src"),
        ("path", FOLDER, "list README.md", None),
        ("directory", "", "list tests/", "tests"),
        ("path", FOLDER_OR_FILE, "search app.log", "app.log"),
        ("pattern", GLOB, "find *.toml", "*.toml"),
        ("pattern", GLOB, "find all markdown files", "*.md"),
        ("pattern", GLOB, "where is the Dockerfile", "Dockerfile"),
        ("pattern", GLOB, "find files named settings", "settings"),
        ("files", ONLY, "search for x in *.py", "*.py"),
        ("files", ONLY, "search for x in main.py", None),
        ("query", "", "search for TODO", "TODO"),
        ("query", "", "search the code for the word banana, please", "banana"),
        ("query", "", "grep import", "import"),
        ("query", "", "which files mention timeout in the docs?", "timeout"),
        ("query", "", "where is the function parse_args used?", "parse_args"),
        ("query", "", "where do we use aiohttp?", "aiohttp"),
        ("query", "", "look for 'a b' in src/", "a b"),
        ("query", "", "any TODO comments?", "TODO"),
        ("query", "", "search", None),
        ("content", "", "write a.txt that says hello world", "hello world"),
        ("content", "", "write 'hi' to a.txt", "hi"),
        ("content", "", "write a.txt", None),
        ("old", "", "replace foo with bar in a.py", "foo"),
        ("new", "", "replace foo with bar in a.py", "bar"),
        ("new", "", 'change "a b" to "c d"', "c d"),
        ("old", "", "fix the typo", None),
        ("expr", "", 'what is up{job="x"}', 'up{job="x"}'),
        ("expr", "", "query prometheus for up", "up"),
        ("expr", "", "which targets are up?", "up"),
        ("expr", "", "is any instance down?", "up == 0"),
        ("expr", "", "show `rate(x[1m])`", "rate(x[1m])"),
        ("expr", "", "query prometheus for metrics", None),
        ("expr", "", "what is the CPU usage", None),
        ("match", "", 'labels of up{job="x"}', 'up{job="x"}'),
        ("match", "", "labels of rate(x[1m])", None),
        ("startTime", "rfc 3339", "over the last hour", "now-1h"),
        ("startTime", "rfc 3339", "in the past 30 minutes", "now-30m"),
        ("startTime", "rfc 3339", "now", None),
        ("endTime", "rfc 3339", "over the last hour", None),
        ("labelName", "", "list the values of the label job", "job"),
        ("labelName", "", "label values of job", "job"),
        ("labelName", "", "which namespaces are there", "namespace"),
        ("labelName", "", "which colours are there", None),
        ("type", "", "do I have a Prometheus datasource", "prometheus"),
        ("type", "", "which datasources are there", None),
        ("name", "", "the datasource called metrics", "metrics"),
        ("name", "", "show the datasource prom", "prom"),
        ("name", "", "how many datasources are configured", None),
        ("uid", "", "show the datasource prom", None),
        ("datasourceUid", "", "query the datasource prom", "prom"),
        ("colour", "", "paint it 'red'", None),
    ],
)
def test_a_parameter_gets_what_its_kind_asks_for(name: str, about: str, text: str, value: str | None) -> None:
    assert thing(name, text, about) == value


def test_a_lone_quotation_fits_whatever_is_required() -> None:
    assert thing("colour", "paint it 'red'", required=True) == "red"
    assert thing("colour", "paint 'it' 'red'", required=True) is None


def test_each_thing_is_handed_out_once() -> None:
    taking = Taking(read("copy a.txt b.txt"))
    path = Parameter("path", frozenset({"path"}), "")
    assert [thing_for(path, taking, required=True) for _ in range(3)] == ["a.txt", "b.txt", None]


def test_what_became_a_value_counts_as_understood() -> None:
    taking = Taking(read("search for banana bread in main.py"))
    thing_for(Parameter("query", frozenset({"query"}), ""), taking, required=True)
    thing_for(Parameter("path", frozenset({"path"}), ""), taking, required=False)
    assert {"banana", "bread", "§file"} <= taking.used
