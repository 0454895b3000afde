import json
from typing import Any

import pytest

from dragoman.core.agents import ToolSpec
from dragoman.core.messages import Message, Text, ToolCall, ToolResult, Usage, said
from dragoman.core.names import CallId
from dragoman.models.offline import INDEXES_KEPT_MAX, PIECES_MAX, SIGNATURE, TOOLS_NAMED_MAX, Offline
from dragoman.runtime.ports import Prompt, ReplyDone, TextPiece
from tests.models.asking import ask


def schema(*required: str, **properties: str) -> Any:
    return {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": list(required),
    }


LIST = ToolSpec(
    "list_files",
    "List files.",
    schema(path="string"),
    toolset="workspace",
    examples=("List all files",),
    keywords=("ls",),
)
READ = ToolSpec("read_file", "Read a file.", schema("path", path="string"), examples=("Read README.md",))
TOOLS = (LIST, READ)


def called(number: int, name: str, content: str, arguments: str = "{}", *, is_error: bool = False) -> list[Message]:
    """One call and its result."""
    id = CallId(f"c{number}")
    return [
        Message("assistant", (ToolCall(id, name, arguments),)),
        Message("tool", (ToolResult(id, content, is_error),)),
    ]


async def told(*messages: Message, tools: tuple[ToolSpec, ...] = TOOLS) -> str:
    """What it says; the line that tells what it is taken off."""
    (piece,) = await ask(Offline(), Prompt(messages, tools=tools), stream=False)
    assert isinstance(piece, ReplyDone)
    assert (piece.calls, piece.finish_reason, piece.model_name) == ((), "stop", "offline")
    assert piece.text.endswith(f"\n\n{SIGNATURE}")
    return piece.text.removesuffix(f"\n\n{SIGNATURE}")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_question_that_fits_a_tool_becomes_one_call(stream: bool) -> None:
    prompt = Prompt((said("system", "Be brief."), said("user", "Please read notes.md")), tools=TOOLS)
    assert await ask(Offline(), prompt, stream=stream) == [
        ReplyDone(
            "",
            (ToolCall(CallId("call_1"), "read_file", '{"path":"notes.md"}'),),
            Usage(5, 2),
            "tool_calls",
            model_name="offline",
        )
    ]


async def test_a_call_of_a_later_turn_has_another_id() -> None:
    messages = (said("user", "ls"), *called(1, "list_files", "a"), said("assistant", "a"), said("user", "ls"))
    (piece,) = await ask(Offline(), Prompt(messages, tools=TOOLS), stream=False)
    assert isinstance(piece, ReplyDone)
    assert piece.calls == (ToolCall(CallId("call_2"), "list_files", "{}"),)


async def test_a_name_the_caller_gave_is_ignored() -> None:
    (piece,) = await ask(Offline(), Prompt((said("user", "ls"),), TOOLS, model_name="gpt-y"), stream=False)
    assert isinstance(piece, ReplyDone)
    assert piece.model_name == "offline"


async def test_a_stream_comes_in_words_that_together_are_the_whole() -> None:
    messages = (said("user", "ls"), *called(1, "list_files", "a.py\nb.py"))
    *pieces, done = await ask(Offline(), Prompt(messages, tools=TOOLS))
    assert isinstance(done, ReplyDone)
    texts = [piece.text for piece in pieces if isinstance(piece, TextPiece)]
    assert texts[:4] == ["There ", "are ", "2 ", "files "]
    assert ("".join(texts), len(texts)) == (done.text, len(done.text.split()))
    assert done.usage == Usage(4, len(texts))


async def test_a_long_answer_comes_in_a_bounded_number_of_pieces() -> None:
    lines = "\n".join(f"some words on line {at}" for at in range(150))
    messages = (said("user", "Read a.txt"), *called(1, "read_file", lines))
    *pieces, done = await ask(Offline(), Prompt(messages, tools=TOOLS))
    assert isinstance(done, ReplyDone)
    assert len(pieces) <= PIECES_MAX
    assert "".join(piece.text for piece in pieces if isinstance(piece, TextPiece)) == done.text


# -- results -------------------------------------------------------------------------------------------------------


async def test_a_result_becomes_the_answer() -> None:
    datasources = json.dumps({"datasources": [{"name": "prom"}, {"name": "logs"}, {"name": "traces"}]})
    messages = (said("user", "How many datasources do I have?"), *called(1, "list_datasources", datasources))
    assert await told(*messages) == "You have 3 datasources: prom, logs, traces."


async def test_all_results_of_the_turn_are_told_and_none_of_earlier_turns() -> None:
    messages = (
        said("user", "first"),
        *called(1, "write_file", "Created old.txt."),
        said("assistant", "done"),
        said("user", "second"),
        *called(2, "write_file", "Created a.txt."),
        *called(3, "read_file", "No such file.", is_error=True),
    )
    assert await told(*messages) == "Created a.txt.\n\nread_file could not do it: No such file."


@pytest.mark.parametrize("arguments", ["{oops", "[]", "", '"x"'])
async def test_a_result_of_a_call_with_unreadable_arguments_is_told_all_the_same(arguments: str) -> None:
    messages = (said("user", "x"), *called(1, "read_file", "text", arguments))
    assert await told(*messages) == "Here is the file:\n\n```\ntext\n```"


async def test_a_result_without_its_call_is_told_all_the_same() -> None:
    result = Message("tool", (Text("ignored"), ToolResult(CallId("c9"), "Done.")))
    assert await told(said("user", "x"), result) == "Done."


# -- history -------------------------------------------------------------------------------------------------------

HISTORY = (
    said("user", "My name is Ada Lovelace and I ask a lot"),
    said("assistant", "Good."),
    said("user", "List all files"),
    said("assistant", "…"),
)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What did I ask before?", "Before this you wrote: List all files"),
        ("what was my first question?", "First you wrote: My name is Ada Lovelace and I ask a lot"),
        ("What's my name?", "You wrote that your name is Ada Lovelace."),
        ("Do you remember my name?", "You wrote that your name is Ada Lovelace."),
    ],
)
async def test_simple_questions_about_the_conversation_are_answered_from_it(question: str, answer: str) -> None:
    assert await told(*HISTORY, said("user", question)) == answer


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What did I ask before?", "This is the first message of yours that I can see."),
        ("What is my name?", "You have not told me your name."),
    ],
)
async def test_what_the_conversation_does_not_hold_is_not_made_up(question: str, answer: str) -> None:
    assert await told(said("user", question)) == answer


# -- what it cannot do ---------------------------------------------------------------------------------------------

SET_UP = (
    "For real answers set up a language model: in dragoman.toml add a table [models.main] with "
    'kind = "openai", url and name, and restart the server.'
)


async def test_it_says_what_it_is_what_it_can_do_and_how_to_get_a_model() -> None:
    assert await told(said("user", "What's the current weather?")) == (
        "I cannot answer that: I only match your words to tools, and none of them fits.\n\n"
        "What I can do is call these tools: `list_files`, `read_file`.\n\n"
        'Try: "List all files" · "Read README.md"\n\n' + SET_UP
    )


async def test_without_tools_it_says_so() -> None:
    assert await told(said("user", "List all files"), tools=()) == (
        "I cannot answer that: I only match your words to tools, and there are none here.\n\n" + SET_UP
    )


async def test_of_many_tools_only_some_are_named() -> None:
    tools = tuple(ToolSpec(f"tool{at}", "", schema()) for at in range(TOOLS_NAMED_MAX + 2))
    text = await told(said("user", "weather?"), tools=tools)
    assert text.splitlines()[2].endswith("`tool19` and 2 more.")


async def test_it_asks_for_what_a_tool_still_needs() -> None:
    assert await told(said("user", "read the file")) == (
        "I would use `read_file` for this, but it needs `path`, and I cannot tell that from your words. "
        'For example: "Read README.md".'
    )


@pytest.mark.parametrize("messages", [(), (said("system", "Be brief."),), (said("user", ""),)])
async def test_nothing_asked_is_nothing_to_answer(messages: tuple[Message, ...]) -> None:
    assert (await told(*messages)).startswith("I cannot answer that: ")


async def test_the_same_prompt_gets_the_same_reply_and_more_tool_lists_than_are_kept_do_no_harm() -> None:
    model = Offline()
    prompts = [
        Prompt((said("user", "ls"),), (LIST, ToolSpec(f"t{at}", "", schema()))) for at in range(INDEXES_KEPT_MAX + 2)
    ]
    replies = [await ask(model, prompt) for prompt in (*prompts, *prompts)]
    assert replies == [replies[0]] * len(replies)
    await model.close()


# -- remembering -----------------------------------------------------------------------------------------------------

SUMMARIZE = ToolSpec(
    "summarize",
    "Write something into the knowledge base.",
    schema("title", "text", "public", title="string", text="string", public="boolean"),
    toolset="knowledge",
)


@pytest.mark.parametrize(
    ("asked", "title", "text"),
    [
        ("Remember that deploys happen on Tuesdays.", "Deploys happen on Tuesdays", "Deploys happen on Tuesdays."),
        ("please keep in mind: a\nb", "A b", "A\nb"),
        ("Don't forget that " + "word " * 20 + "end", ("Word " + "word " * 11).strip(), "Word " + "word " * 19 + "end"),
        ("Remember that " + "x" * 100, "X" + "x" * 59, "X" + "x" * 99),
    ],
)
async def test_what_it_is_told_to_remember_it_keeps_for_who_asks(asked: str, title: str, text: str) -> None:
    (piece,) = await ask(Offline(), Prompt((said("user", asked),), tools=(*TOOLS, SUMMARIZE)), stream=False)
    assert isinstance(piece, ReplyDone)
    (call,) = piece.calls
    assert (call.name, json.loads(call.arguments)) == ("summarize", {"title": title, "text": text, "public": False})


@pytest.mark.parametrize("asked", ["Remember that...", "Do you remember that file?", "Remember the milk"])
async def test_what_is_no_fact_is_not_remembered(asked: str) -> None:
    (piece,) = await ask(Offline(), Prompt((said("user", asked),), tools=(SUMMARIZE,)), stream=False)
    assert isinstance(piece, ReplyDone) and piece.calls == ()


async def test_it_calls_no_client_s_tool_of_that_name_and_none_that_is_not_offered() -> None:
    theirs = ToolSpec("summarize", "Sum the page up.", schema("page", page="string"))
    for tools in (TOOLS, (*TOOLS, theirs)):
        (piece,) = await ask(Offline(), Prompt((said("user", "Remember that I am Ann"),), tools=tools), stream=False)
        assert isinstance(piece, ReplyDone) and piece.calls == ()
