"""A turn that a workflow answered, on the wires that know no workflows: hand-overs are calls like any other, and what
agents say to each other is nowhere, not even as a message with nothing in it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from dragoman.cli import terminal
from dragoman.cli.conversations import spoken
from dragoman.cli.options import Settings
from dragoman.cli.report import Report
from dragoman.cli.timeline import timeline_lines
from dragoman.core import events as ev
from dragoman.core.events import Event
from dragoman.core.messages import ToolCall
from dragoman.core.names import CallId
from dragoman.core.workflows import TRANSFER, Handing
from dragoman.dialects.grafana.a2a_steps import Can
from dragoman.dialects.grip import session_files
from dragoman.runtime.ports import Prompt, ReplyPiece
from dragoman.runtime.workflow import transfer_text
from tests.dialects.across import (
    GRAFANA,
    Caller,
    asked_and_told,
    check_prompt,
    message,
    row_of,
    told,
    user,
    without_calls,
)
from tests.dialects.across_workflows import (
    ALOUD,
    REPORTED,
    SECRET,
    STOPPED,
    Json,
    Players,
    a2a_frames,
    asked,
    config_in,
    elastic_chunks,
    elastic_events,
    elastic_messages,
    entries,
    grafana_frames,
    grafana_messages,
    grip_file,
    grip_frames,
    grip_session,
    handed,
    reply,
    terminal_lines,
    transfer,
)
from tests.parts import call_reply, text_reply
from tests.runtime.looping import ContextTools
from tests.stage import SetUp
from tests.stage import stage as stage

TAPES = {"reported": REPORTED, "aloud": ALOUD, "stopped": STOPPED}
CANS = (Can(), Can(token_streaming=True), Can(remote_tools=True), Can(status_text=False))
WAYS: dict[str, Callable[[Sequence[Event]], Any]] = {
    way.__name__: way
    for way in (
        grip_frames,
        grip_session,
        grip_file,
        elastic_chunks,
        elastic_events,
        elastic_messages,
        grafana_frames,
        grafana_messages,
        terminal_lines,
    )
}
for number, can in enumerate(CANS):
    WAYS[f"a2a_{number}"] = lambda events, can=can: a2a_frames(events, can)


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "settings", Settings)


@pytest.mark.parametrize("tape", TAPES)
@pytest.mark.parametrize("way", WAYS)
def test_what_agents_say_to_each_other_is_shown_nowhere(way: str, tape: str) -> None:
    """…but in the tape itself."""
    assert SECRET in str(TAPES[tape])
    assert SECRET not in json.dumps(WAYS[way](TAPES[tape]))


# -- Grip ------------------------------------------------------------------------------------------------------------


def test_grips_stream_names_the_hand_overs_of_the_server_too() -> None:
    pair = [("tool_start", {"tool": TRANSFER}), ("tool_end", {"tool": TRANSFER})]
    assert grip_frames(REPORTED)[1:-1] == [
        *pair,
        *pair,
        ("token", {"text": "It is blue."}),
        ("message", {"text": "It is blue."}),
    ]
    assert grip_frames(ALOUD)[1:-1] == [
        *pair,
        ("token", {"text": "It is bluish."}),
        ("message", {"text": "It is bluish."}),
    ]
    assert [name for name, _ in grip_frames(STOPPED)] == ["start", "tool_start", "tool_end", "error"]


@pytest.mark.parametrize(("tape", "answer"), [(REPORTED, "It is blue."), (ALOUD, "It is bluish."), (STOPPED, None)])
def test_grips_session_and_its_file_hold_no_empty_message(tape: Sequence[Event], answer: str | None) -> None:
    said = [each["content"] for each in grip_session(tape) if each["role"] == "assistant"]
    assert said == ([answer] if answer else [])
    replies = [{"role": "assistant", "content": answer}] if answer else []
    assert grip_file(tape) == [{"role": "user", "content": "What colour?"}, *replies]


# -- Elastic -----------------------------------------------------------------------------------------------------------


def test_elastics_chunks_tell_both_hand_overs_as_calls() -> None:
    def call(to: str) -> Json:
        arguments = json.dumps({"assistant": to})
        return {"content": "", "function_call": {"name": TRANSFER, "arguments": arguments}}

    assert elastic_chunks(REPORTED) == [call("Scout"), call("Hub"), {"content": "It is blue."}]
    assert elastic_chunks(ALOUD) == [call("Writer"), {"content": "It is bluish."}]


@pytest.mark.parametrize("tape", [REPORTED, ALOUD])
def test_elastics_events_add_up_to_the_document(tape: Sequence[Event]) -> None:
    added = [each["message"]["message"] for each in elastic_events(tape) if each["type"] == "messageAdd"]
    assert added == elastic_messages(tape)[1:]
    whole = [each["message"] for each in elastic_events(tape) if each["type"] == "chatCompletionMessage"]
    assert all(each["content"] or "function_call" in each for each in (*whole, *added))
    assert all(each["content"] or each["function_call"]["name"] for each in added)


def test_a_hand_over_that_was_told_cannot_be_taken_back() -> None:
    """Text on Elastic's wire stays; a reset from before the hand-over would have to take it back."""
    told = elastic_chunks([*REPORTED[:10], ev.AttemptReset(3)])
    assert "error" in told[-1]


# -- Grafana -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tape", list(TAPES.values()))
def test_grafanas_stream_and_view_have_the_same_messages_and_none_is_empty(tape: Sequence[Event]) -> None:
    streamed: dict[str, Json] = {}
    for frame in grafana_frames(tape):
        if frame["type"].startswith("MESSAGE_"):
            assert frame["data"].pop("chatId") == "c-1"
            streamed[frame["data"]["id"]] = frame["data"]
    assert list(streamed.values()) == grafana_messages(tape)
    assert not [each for each in streamed.values() if each["hidden"] or each["content"][0].get("text") == ""]


def test_grafana_takes_back_what_an_agent_thought_aloud_before_it_spoke_to_others() -> None:
    """Thoughts may have been shown before anybody could tell for whom the reply would be."""
    thought: list[Event] = [
        asked(),
        ev.RunClaimed(1),
        ev.ReplyStarted("Scout", "m"),
        ev.ThinkingAdded("hm"),
        ev.ReplyFinished("", thinking="hm", internal=SECRET),
    ]
    created, hidden = [each["data"] for each in grafana_frames(thought) if each["data"].get("id") == "run-1-a1"]
    assert (created["hidden"], created["content"]) == (False, [{"type": "thinking", "thinking": "hm"}])
    assert (hidden["hidden"], hidden["content"]) == (True, [{"type": "text", "text": ""}])


def kinds(frames: Sequence[Json]) -> list[str]:
    return [frame.get("artifact", {}).get("name") or frame["status"]["state"] for frame in frames]


def test_each_step_of_a2a_says_or_calls_something() -> None:
    handing = ["step.toolCall", "step.complete", "step.toolResult"]
    answer = ["step.message", "step.complete", "completed"]
    assert kinds(a2a_frames(REPORTED, Can())) == ["working", *handing, *handing, *answer]
    assert kinds(a2a_frames(ALOUD, Can())) == ["working", *handing, *answer]
    assert kinds(a2a_frames(REPORTED, Can(remote_tools=True))) == ["working", *handing[1:], *handing[1:], *answer]


def test_no_llm_token_of_a_reply_without_a_step_is_lost_on_a2a() -> None:
    told = [
        frame["artifact"]["metadata"]["agent-traceability"]["usage"]["InputTokens"]
        for frame in a2a_frames(ALOUD, Can())
        if kinds([frame]) == ["step.complete"]
    ]
    assert told == [5, 5]


# -- the terminal ------------------------------------------------------------------------------------------------------


def fed(events: Sequence[Event]) -> Report:
    report = Report()
    for entry in entries(events):
        report.entry(entry)
    return report


def test_a_report_tells_who_hands_over_to_whom_and_the_answer_alone(capsys: pytest.CaptureFixture[str]) -> None:
    report = fed(REPORTED)
    shown = capsys.readouterr()
    assert shown.out == "It is blue.\n"
    assert shown.err == (
        "  handed over from Hub to Scout, who reports back\n  handed over from Scout to Hub, who had called\n"
    )
    assert (report.text, report.steps, [line.name for line in report.tools]) == ("It is blue.", 3, [TRANSFER] * 2)


def test_a_report_tells_why_a_hand_over_did_not_come_about(capsys: pytest.CaptureFixture[str]) -> None:
    refused = ev.ToolReturned(CallId("t1"), "There is nobody of that name.", is_error=True, code="not_handed_over")
    fed([asked(), *reply("Hub", "", transfer(1, "Nobody")), refused])
    assert capsys.readouterr().err == (
        '  transfer_to_agent  {"assistant": "Nobody"}   0 ms  not_handed_over: There is nobody of that name.\n'
    )


@pytest.mark.parametrize(
    ("how", "pipeline", "said"),
    [
        (Handing.TRANSFERRED, "", "from A to B"),
        (Handing.CALLED, "", "from A to B, who reports back"),
        (Handing.ENTERED, "Line", "from A to B, the first step of Line"),
        (Handing.STEPPED, "Line", "from A to B, the next step of Line"),
        (Handing.RETURNED, "Line", "from A to B, who had called"),
        (Handing.RESTARTED, "", "from A to B, where the workflow starts"),
    ],
)
def test_a_timeline_tells_how_the_word_went(how: Handing, pipeline: str, said: str) -> None:
    lines = timeline_lines(entries(handed(1, "A", "B", how, pipeline, added=True)))
    assert lines == [f"   0.000 handed      {said}"]


def test_a_timeline_names_the_agent_of_each_reply_and_marks_what_others_heard() -> None:
    """…and a call by itself is still told, if it is no hand-over."""
    lines = timeline_lines(entries([*ALOUD[:4], ev.CallAdded(ToolCall(CallId("c"), "context", "{}"))]))
    assert lines[2:] == [
        "   0.000 └ model     █  0 ms  Scout  m  5/2  for agents alone",
        "   0.000 calls       by itself context",
    ]


# -- a server whose default agent is a workflow ----------------------------------------------------------------------


class Visitor(Caller):
    """…who has a Rowboat client too."""

    async def rowboat(self, text: str) -> Json:
        body = {"messages": [{"role": "user", "content": text}], "state": None}
        return await self.call("POST", "/api/v1/default/chat", body)

    async def a2a(self, text: str) -> list[Json]:
        """The frames of a turn of its own."""
        message = {"kind": "message", "messageId": "m1", "role": "user", "parts": [{"kind": "text", "text": text}]}
        body = {"jsonrpc": "2.0", "id": 1, "method": "message/stream", "params": {"message": message}}
        answer = await self.call("POST", f"{GRAFANA}/v1/a2a/agents/flow", body)
        return [json.loads(line[6:])["result"] for line in answer.splitlines() if line.startswith("data: ")]


def set_up(stage: SetUp, home: Path) -> Any:
    return stage(model=Players(), tools=ContextTools(look='{"seen":1}'), config=config_in(home))


async def test_a_configured_workflow_answers_over_every_wire_and_keeps_to_itself_what_agents_say(
    stage: SetUp, tmp_path: Path
) -> None:
    async with set_up(stage, tmp_path) as scene:
        caller = Visitor(scene)
        streamed = await caller.elastic(user("look 1"))
        assert SECRET not in streamed and TRANSFER in streamed
        assert await caller.grip("look 2") == "So: look 2"
        await caller.grafana("look 3")
        assert SECRET not in await caller.elastic_on("look 4")
        assert SECRET in str(scene.model.prompts)
        expected = [row for number in range(1, 5) for row in asked_and_told(f"look {number}")]
        document, session, chat = await caller.document(), await caller.session(), await caller.chat()
        view = await caller.view()
        shown = [document, session, chat, session_rows(view), [line for turn in view.turns for line in lines_of(turn)]]
        assert SECRET not in json.dumps(shown)
        assert [row for row in without_calls(told(document)) if row[1] != TRANSFER] == expected
        assert [row for row in session if row[0] != "tool"] == session_rows(view) == expected
        assert [row for row in map(row_of, chat) if row[1]] == expected
        assert not [each for each in chat if each["content"][0].get("text") == ""]
        assert [bare(each) for each in await caller.chat_told()] == [bare(each) for each in chat]
        # What Elastic's client sent whole is what stands on the tape, though it never heard what the agents said.
        assert [len(turn.asked) for turn in view.turns] == [1, 1, 1, 1]


async def test_the_other_end_of_grafana_and_rowboat_answer_alike(stage: SetUp, tmp_path: Path) -> None:
    async with set_up(stage, tmp_path) as scene:
        caller = Visitor(scene)
        frames = await caller.a2a("look around")
        assert SECRET not in json.dumps(frames)
        assert kinds(frames[2:])[-3:] == ["step.message", "step.complete", "completed"]
        assert kinds(frames).count("step.toolCall") == 2
        answer = await caller.rowboat("look around")
        *internal, last = answer["messages"]
        assert (last["content"], last["agenticResponseType"], last["agenticSender"]) == (
            "So: look around",
            "external",
            "Hub",
        )
        assert {each.get("agenticResponseType", "internal") for each in internal} == {"internal"}
        assert f"{SECRET} look around" in [each.get("content") for each in internal]
        assert answer["state"]["last_agent_name"] == "Hub"


async def test_a_title_is_thought_of_without_what_agents_said(stage: SetUp, tmp_path: Path) -> None:
    async with set_up(stage, tmp_path) as scene:
        caller = Visitor(scene)
        await caller.elastic(user("look 1"))
        assert (await caller.document())["conversation"]["title"] == "On things"
        assert scene.model.titled and SECRET not in str(scene.model.titled)


class Fixers(Players):
    """Scout has the caller restart something before it reports on `fix …`; Hub has it do that."""

    def _pieces(self, prompt: Prompt) -> list[ReplyPiece]:
        check_prompt(prompt)
        at = max(at for at, each in enumerate(prompt.messages) if each.role == "user" and not each.name)
        asked = prompt.messages[at].text
        called = {call.name for each in prompt.messages[at:] for call in each.calls}
        if not asked.startswith("fix"):
            return super()._pieces(prompt)
        if "You are Scout" not in prompt.messages[0].text:
            handed = TRANSFER in called
            return text_reply("So: ", asked) if handed else call_reply((TRANSFER, transfer_text("Scout")))
        return text_reply(SECRET) if "restart" in called else call_reply(("restart", '{"what":"db"}'))


async def test_an_agent_that_reports_to_another_goes_on_once_elastics_client_has_made_its_call(
    stage: SetUp, tmp_path: Path
) -> None:
    model = Fixers()
    async with stage(model=model, tools=ContextTools(look='{"seen":1}'), config=config_in(tmp_path)) as scene:
        caller = Visitor(scene)
        await caller.elastic(user("look 1"))
        before = [*(await caller.document())["messages"], user("fix it")]
        assert '"name":"restart"' in await caller.elastic(*before)
        heard = [(TRANSFER, transfer_text("Scout")), ("restart", '{"what":"db"}')]
        calls = [
            message("assistant", "", function_call={"name": name, "arguments": arguments, "trigger": "assistant"})
            for name, arguments in heard
        ]
        handed, done = user(transfer_text("Scout"), name=TRANSFER), user('{"restarted":1}', name="restart")
        answer = await caller.elastic(*before, calls[0], handed, calls[1], done)
        assert SECRET not in answer and told(await caller.document())[-1] == ("assistant", "So: fix it")
        scouts = [prompt for prompt in model.prompts if "You are Scout" in prompt.messages[0].text]
        assert len(scouts) == 3 and "restarted" in str(scouts[-1].messages)
        view = await caller.view()
        names = [[each.name for each in turn.answered if each.text or each.is_internal] for turn in view.turns]
        assert names == [["Scout", "Hub"], ["Scout", "Hub"]]
        await caller.elastic_on("look 2")
        assert SECRET not in json.dumps(await caller.document())
        view = await caller.view()
        assert (len(view.turns), len(view.turns[-1].asked)) == (3, 1)  # nothing had to be told anew


async def test_one_reply_on_elastics_wire_is_no_workflows(stage: SetUp, tmp_path: Path) -> None:
    async with set_up(stage, tmp_path) as scene:
        caller = Visitor(scene)
        body = {
            "name": "n",
            "systemMessage": "Be short.",
            "messages": [user("tell me")],
            "connectorId": "offline",
            "functions": [],
            "scopes": [],
        }
        answer = await caller.call("POST", "/internal/observability_ai_assistant/chat", body)
        assert "So: " in answer and TRANSFER not in answer
        (prompt,) = scene.model.prompts
        assert prompt.messages[0].text == "Be short." and not prompt.tools


def session_rows(view: Any) -> list[tuple[str, str]]:
    return [(each["role"], each["content"]) for each in json.loads(session_files.dump(view))["messages"]]


def lines_of(turn: Any) -> list[str]:
    return [line for message in (*turn.asked, *turn.answered) for line in spoken(message)]


def bare(message: Json) -> Json:
    return {name: value for name, value in message.items() if name != "chatId"}
