"""The demo: what it sends, how it judges, and that the whole of it goes well."""

import io
from pathlib import Path

import pytest

from dragoman.core.errors import NotAuthenticated, Unavailable
from dragoman.dialects import installed
from dragoman.server import demo
from dragoman.server.demo import (
    Answer,
    authorization_for,
    closing_words,
    curl_line,
    filled,
    found_in,
    judge,
    run_demo,
)
from dragoman.wire.dialect import Dialect, Example, Reply


def found(scheme: str):
    def credential(headers) -> str:
        name, _, text = headers["authorization"].partition(" ")
        if name != scheme:
            raise NotAuthenticated("no")
        return text

    return credential


def dialect(scheme: str) -> Dialect:
    return Dialect("toy", "Toy", (), (), found(scheme), lambda error, request: Reply(500))


def test_the_credential_goes_where_the_dialect_looks_for_it():
    assert authorization_for(dialect("Bearer"), "drg_x") == "Bearer drg_x"
    assert authorization_for(dialect("ApiKey"), "drg_x") == "ApiKey drg_x"
    with pytest.raises(Unavailable):
        authorization_for(dialect("Digest"), "drg_x")


def test_a_curl_line_can_be_pasted():
    post = Example("t", "POST", "/a/b", {"message": "it's"})
    assert curl_line(post, "http://h:1", "Bearer $CREDENTIAL") == (
        'curl http://h:1/a/b \\\n  -H "Authorization: Bearer $CREDENTIAL"'
        " \\\n  -H 'Content-Type: application/json'"
        """ \\\n  -d '{"message": "it'"'"'s"}'"""
    )
    assert curl_line(Example("t", "GET", "/a?x=1&y=2"), "http://h:1", "Bearer $C") == (
        "curl 'http://h:1/a?x=1&y=2' \\\n  -H \"Authorization: Bearer $C\""
    )
    assert curl_line(post, "http://h:1", "B", streamed=True).startswith("curl -N http://h:1/a/b ")
    assert curl_line(Example("t", "DELETE", "/a"), "http://h:1", "B").splitlines()[1] == "  -X DELETE \\"
    assert curl_line(Example("t", "POST", "/a"), "http://h:1", "B").splitlines()[1] == "  -X POST \\"


@pytest.mark.parametrize(
    ("status", "body", "fault"),
    [(200, "a b", ""), (201, "b a", ""), (200, "a", "the answer lacks 'b'"), (404, "a b", "status 404")],
)
def test_an_answer_is_judged_by_its_status_and_what_must_stand_in_it(status: int, body: str, fault: str):
    example = Example("t", "GET", "/", expect=("a", "b"))
    assert judge(example, Answer(status, body, 0.0, 0.0)) == fault


def test_a_later_example_can_name_what_an_earlier_answer_said():
    body = '{"data": {"chatId": "a/b", "list": [1], "deeper": {"chatId": "no", "number": 5}}}'
    assert found_in(body, ("chatId", "number", "absent")) == {"chatId": "a/b"}
    assert found_in("id: 1\n", ("chatId",)) == found_in(body, ()) == found_in("[]", ("chatId",)) == {}
    assert filled("/chats/{chatId}/{other}", {"chatId": "a/b"}) == "/chats/a%2Fb/{other}"


def test_systems_whose_dialect_is_not_installed_are_named():
    words = closing_words([], "http://h:1", Path("/tmp/c"), stays=True)
    assert words.rstrip().splitlines()[-1] == (
        "Not part of this version: Grafana Assistant, Elastic Observability AI Assistant, Grip AI, Rowboat."
    )


def test_what_to_try_next_says_so_when_the_server_does_not_stay():
    line = "This is no terminal, so the server stops now; start one that stays with: dragoman serve"

    assert line in closing_words([], "http://h:1", Path("/tmp/c"), stays=False).splitlines()
    assert line not in closing_words([], "http://h:1", Path("/tmp/c"), stays=True)


def test_the_whole_demo_goes_well_and_sends_every_example(tmp_path: Path):
    out = io.StringIO()
    code = run_demo(tmp_path / "home", out)

    text = out.getvalue()
    assert code == 0, text
    assert [line for line in text.splitlines() if line.startswith("FAILED")] == []
    for each in installed():
        assert f"== {each.title} ==" in text
        for example in each.examples:
            assert f"\n{example.title}\ncurl" in text
    assert text.count("[status 200, ") >= sum(len(each.examples) for each in installed())
    assert text.splitlines()[-1].startswith("All steps went well, in ")


def test_a_step_that_does_not_go_as_documented_is_named_and_the_code_is_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (first, *_) = installed()
    wrong = Example("Ask for what is not there", "GET", first.prefixes[0] + "nothing-of-that-name")
    toy = Dialect("toy", "Toy", (), (), first.credential, first.fail, examples=(wrong,))
    monkeypatch.setattr(demo, "installed", lambda: (toy,))
    out = io.StringIO()

    assert run_demo(tmp_path / "home", out) == 1
    assert out.getvalue().splitlines()[-1] == "FAILED: toy, Ask for what is not there: status 404"


def test_a_server_that_does_not_start_is_shown_with_the_end_of_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(demo, "CONFIG", "[sever]\n")
    with pytest.raises(Unavailable) as caught:
        run_demo(tmp_path / "home", io.StringIO())
    assert caught.value.detail.splitlines()[0] == "The demo's server did not start. Its log ends with:"
    assert 'sever: is not a key of the file; did you mean "server"?' in caught.value.detail
