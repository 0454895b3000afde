"""Session files: what released servers wrote is read, and what is written they can read."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.core import events as ev
from dragoman.core.errors import BadRequest
from dragoman.core.messages import Message, Text, ToolCall, ToolResult, said
from dragoman.core.names import CallId, ConversationId, RunId, Tape
from dragoman.core.operations import ConversationInfo, ConversationView, TurnView
from dragoman.dialects.grip import session_files
from dragoman.dialects.grip.session_files import SESSION_FILES
from dragoman.wire.dialect import LoadedConversation

keys = st.text(min_size=1, max_size=128).map(ConversationId)
CALL = ToolCall(CallId("c1"), "list_files", "{}")


def view(*turns: TurnView, key: str = "s1") -> ConversationView:
    info = ConversationInfo(
        ConversationId(key),
        Tape(1),
        "",
        "grip",
        1_700_000_000.0,
        1_700_000_060.25,
        messages=2,
        turns=len(turns),
        head=9,
    )
    return ConversationView(info, turns)


def turn(asked: tuple[Message, ...], answered: tuple[Message, ...], end: Any) -> TurnView:
    return TurnView(RunId("r"), 2, 1_700_000_000.0, asked, answered, end)


def plain(question: str, answer: str) -> TurnView:
    return turn((said("user", question),), (said("assistant", answer),), ev.RunCompleted())


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("my-session", "my-session.json"),
        ("user:bob", "user:bob.json"),
        ("user_bob", "user_bob.json"),
        ("user@bob", "user@bob.json"),
        ("..", "...json"),
        ("ключ", "ключ.json"),
        ("a/b c", "a%2Fb%20c.json"),
        ("../../etc/passwd", "..%2F..%2Fetc%2Fpasswd.json"),
        ("a%2Fb", "a%252Fb.json"),
        ("😀", "%F0%9F%98%80.json"),
        ("é" * 125, "é" * 125 + ".json"),
    ],
)
def test_a_file_has_the_name_of_its_key(key: str, name: str) -> None:
    assert session_files.name(ConversationId(key)) == name


def test_a_name_longer_than_a_file_system_takes_is_cut_and_gets_a_digest() -> None:
    name = session_files.name(ConversationId("é" * 126))
    assert name == "é" * 108 + "~" + "aa86acc8d5f4d890124c2f1ab67d7a5e" + ".json"
    assert len(name.encode()) <= 255


def test_long_keys_that_begin_alike_have_files_of_their_own() -> None:
    longest = ["日" * 127 + last for last in "本語"]
    names = {session_files.name(ConversationId(key)) for key in longest}
    assert len(names) == 2


@given(one=keys, other=keys)
def test_different_keys_have_different_names_that_stay_in_their_folder(
    one: ConversationId, other: ConversationId
) -> None:
    names = [session_files.name(key) for key in (one, other)]
    assert (names[0] == names[1]) is (one == other)
    for name in names:
        assert len(name.encode()) <= 255
        assert not set(name) & set("/\\\0")
        assert name.endswith(".json")


# -- write -------------------------------------------------------------------------------------------------------------


def test_a_turn_is_written_as_two_messages_on_one_line() -> None:
    assert (
        session_files.dump(view(plain("Hi é", "Hello.")))
        == (
            '{"key":"s1","messages":[{"role":"user","content":"Hi é"},{"role":"assistant","content":"Hello."}],'
            '"summary":null,"created_at":1700000000.0,"updated_at":1700000060.25}'
        ).encode()
    )


def test_only_questions_and_final_answers_of_turns_that_ended_well_are_written() -> None:
    written = msgspec.json.decode(
        session_files.dump(
            view(
                turn(
                    (said("system", "Be brief."), said("user", "look")),
                    (
                        Message("assistant", (Text("Let me look."), CALL)),
                        Message("tool", (ToolResult(CALL.id, "a.txt"),)),
                        said("assistant", "One file."),
                    ),
                    ev.RunCompleted(),
                ),
                turn((said("user", "fails"),), (said("assistant", "half"),), ev.RunFailed("x", "y")),
                turn((said("user", "runs"),), (said("assistant", "so f"),), None),
                turn((said("user", "empty"),), (Message("assistant", ()),), ev.RunCompleted()),
                turn((said("user", "stopped"),), (Message("assistant", (CALL,)),), ev.RunCancelled()),
            )
        )
    )
    assert written["messages"] == [
        {"role": "user", "content": "look"},
        {"role": "assistant", "content": "One file."},
        {"role": "user", "content": "empty"},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "stopped"},
    ]


# -- read --------------------------------------------------------------------------------------------------------------

LIVE = (
    '{"key":"user:bob","messages":[{"role":"user","content":"secret é"},'
    '{"role":"assistant","content":"Echo: secret é"}],'
    '"summary":null,"created_at":1763697600.5,"updated_at":1763697601.25}'
)


def test_a_file_of_a_released_server_is_read_under_the_key_inside_it() -> None:
    loaded = session_files.load(LIVE.encode())
    messages = (said("user", "secret é"), said("assistant", "Echo: secret é"))
    assert loaded == LoadedConversation(
        ConversationId("user:bob"), ev.MessagesImported(messages, source="grip"), 1763697600.5, 1763697601.25
    )


def test_a_summary_becomes_a_message_that_a_model_sees() -> None:
    loaded = session_files.load(LIVE.replace("null", '"Bob likes zebras."').encode())
    assert loaded.imported.messages[0] == said(
        "system", "Summary of this conversation before its first message here:\nBob likes zebras."
    )


def imported_view(loaded: LoadedConversation) -> ConversationView:
    info = ConversationInfo(
        loaded.id, Tape(1), "", "grip", loaded.created_at, loaded.updated_at, messages=2, turns=1, head=2
    )
    return ConversationView(info, (turn(loaded.imported.messages, (), loaded.imported),))


@given(
    key=st.text("abc:.@-é", min_size=1, max_size=128),
    said_=st.lists(st.tuples(st.sampled_from(["user", "assistant"]), st.text(max_size=30)), max_size=6),
    summary=st.none() | st.text(min_size=1, max_size=30),
)
def test_what_is_read_is_written_again_as_it_was(key: str, said_: list[tuple[str, str]], summary: str | None) -> None:
    file = {
        "key": key,
        "messages": [{"role": role, "content": content} for role, content in said_],
        "summary": summary,
        "created_at": 1.5,
        "updated_at": 2.0,
    }
    content = msgspec.json.encode(file)
    assert session_files.dump(imported_view(session_files.load(content))) == content


def test_messages_of_tools_and_without_a_text_are_left_out() -> None:
    messages = (
        '[{"role":"system","content":"S"},{"role":"assistant","tool_calls":[{"id":"1","function_name":"f","arguments":{}}]},'
        '{"role":"tool","content":"x","tool_call_id":"1"},{"role":"user","content":""}]'
    )
    file = f'{{"key":"k","messages":{messages},"summary":"","created_at":1,"updated_at":2}}'
    assert session_files.load(file.encode()) == LoadedConversation(
        ConversationId("k"), ev.MessagesImported((said("system", "S"), Message("user", ())), source="grip"), 1.0, 2.0
    )


def test_a_session_of_many_thousand_messages_is_read_whole() -> None:
    message = '{"role":"user","content":"hi"}'
    file = f'{{"key":"k","messages":[{",".join([message] * 20_000)}],"created_at":1,"updated_at":2}}'
    assert len(session_files.load(file.encode()).imported.messages) == 20_000


def changed(**changes: Any) -> bytes:
    return msgspec.json.encode(msgspec.json.decode(LIVE) | changes)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "The body is empty."),
        (LIVE[:40].encode(), "The body is not valid JSON (byte 38)."),
        (b"[]", "Expected object, got array"),
        (b'{"messages":[]}', "Object missing required field key"),
        (changed(key=7), "key: expected str, got int"),
        (changed(key=""), "key: a session key has 1 to 128 characters, this one 0"),
        (changed(key="k" * 129), "key: a session key has 1 to 128 characters, this one 129"),
        (changed(key="a\0b"), "key: a session key has no control characters"),
        (changed(messages=[{"role": "robot", "content": "x"}]), "messages.0.role: invalid enum value 'robot'"),
        (changed(messages=[{"role": "user", "content": 7}]), "messages.0.content: expected str | null, got int"),
        (changed(messages=None), "messages: expected array, got null"),
        (changed(created_at="now"), "created_at: expected float, got str"),
        (changed(updated_at=-1), "created_at, updated_at: expected seconds since 1970"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_with_what_is_wrong(content: bytes, sentence: str) -> None:
    with pytest.raises(BadRequest) as caught:
        session_files.load(content)
    assert caught.value.detail == sentence


def test_the_format_says_where_its_files_are() -> None:
    assert (SESSION_FILES.folder, SESSION_FILES.suffix) == ("sessions", ".json")
    assert (SESSION_FILES.name, SESSION_FILES.dump, SESSION_FILES.load) == (
        session_files.name,
        session_files.dump,
        session_files.load,
    )
