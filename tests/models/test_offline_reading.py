import pytest

from dragoman.models.offline_reading import TEXT_CHARS_MAX, Reading, read, split_name, stems


@pytest.mark.parametrize(
    ("text", "reading"),
    [
        ("List all files in the workspace", Reading("", ("list", "file", "workspac"))),
        ("read README.md.", Reading("", ("read", "§file"), files=("README.md",))),
        ("Where is the Dockerfile?", Reading("", ("wher", "§file"), files=("Dockerfile",))),
        ("open ./src/app.test.ts", Reading("", ("open", "§file"), files=("./src/app.test.ts",))),
        ("find *.py and test_*", Reading("", ("find", "§glob"), globs=("*.py", "test_*"))),
        ("list src/**/*.{ts,tsx}", Reading("", ("list", "§glob"), globs=("src/**/*.{ts,tsx}",))),
        ("find all python files", Reading("", ("find", "python", "file", "§glob"), globs=("*.py",))),
        ("Which files are JSON?", Reading("", ("file", "json", "§glob"), globs=("*.json",))),
        ("Which files end in .md?", Reading("", ("file", "end", "§glob"), globs=("*.md",))),
        ("what is in the folder src", Reading("", ("folder", "src"), folders=("src",))),
        ("what is in the docs directory", Reading("", ("doc", "director"), folders=("docs",))),
        ("list src/app", Reading("", ("list", "src", "app"), folders=("src/app",))),
        ('what is up{job="x"} right now', Reading("", ("§promql",), expressions=('up{job="x"}',))),
        (
            "sum by (pod) (increase(restarts[1h])) > 0, please",
            Reading("", ("§promql",), expressions=("sum by (pod) (increase(restarts[1h])) > 0",)),
        ),
        (
            'rate(a[5m]) / on(x) rate(b{c="d"}[5m])',
            Reading("", ("§promql",), expressions=('rate(a[5m]) / on(x) rate(b{c="d"}[5m])',)),
        ),
        ("sum(rate(x[5m])", Reading("", ("§promql",), expressions=("sum(rate(x[5m])",))),
        ("show http_requests_total", Reading("", ("show", "§promql"), expressions=("http_requests_total",))),
        ("search for 'connection refused'", Reading("", ("search", "§quoted"), quoted=("connection refused",))),
        ("replace “a b” with `c`", Reading("", ("replac", "§quoted"), quoted=("a b", "c"))),
        ("What's the user's mood?", Reading("", ("user", "mood"))),
        ("where is parse_args or FooBar", Reading("", ("wher", "§name"), names=("parse_args", "FooBar"))),
        ("run some PromQL on GitHub", Reading("", ("run", "promql", "github"))),
        ("see https://example.com/a.html please", Reading("", ("see",))),
        ("", Reading("", ())),
    ],
)
def test_words_and_things_are_told_apart(text: str, reading: Reading) -> None:
    found = read(text)
    assert {name: getattr(found, name) for name in found.__struct_fields__ if name != "text"} == {
        name: getattr(reading, name) for name in reading.__struct_fields__ if name != "text"
    }


@pytest.mark.parametrize("block", ["<context><time>now</time></context>", "<context>never closed"])
def test_what_a_client_appends_about_its_screen_is_not_read(block: str) -> None:
    assert read(f"Read README.md {block}").text == "Read README.md"


def test_only_the_beginning_of_a_long_text_is_read() -> None:
    assert read("read it " + "x" * TEXT_CHARS_MAX + " README.md").files == ()


def test_a_thing_leaves_its_marker() -> None:
    reading = read("put 'hello' into a.txt")
    assert reading.markers_of("a.txt") == ["§file"]
    assert reading.markers_of("'hello' into a.txt") == ["§file", "§quoted"]
    assert reading.markers_of("nothing") == []


def test_stop_words_are_left_out_and_data_source_is_one_word() -> None:
    assert stems("What are the data sources and data-sources that I have?") == ["datasourc", "datasourc"]


@pytest.mark.parametrize("name", ["list_all_files", "listAllFiles", "list-all.files"])
def test_names_are_split_into_words(name: str) -> None:
    assert split_name(name).lower() == "list all files"
