"""Every way in which a route may answer, over the real application: forks, open routes, tickets, conversations."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from dragoman.core.admission import IssueStreamTicket
from dragoman.core.names import ConversationId, Principal, Scope
from dragoman.core.operations import DeleteConversation, StartTurn, UpdateConversation
from tests.edge.toy import TOY, Greet, greet
from tests.parts import ADMIN, Gate, ScriptedReplies, open_config, text_reply
from tests.stage import SetUp, Stage
from tests.streaming_client import Client, Response, Stream

TALK = "/toy/talks/t"
EVENTS = f"{TALK}/events"
T = ConversationId("t")
SCOPES = (Scope.CHAT_RUN, Scope.CHAT_READ)


@asynccontextmanager
async def toy(stage: SetUp, **settings: Any) -> AsyncIterator[Stage]:
    async with stage(dialects=(TOY,), **settings) as s:
        s.house.desk._open_handlers = {Greet: greet}
        yield s


async def caller(s: Stage, name: str, *scopes: Scope) -> tuple[Client, Principal]:
    """Somebody with a credential of these scopes."""
    minted = await s.house.mint.create(name, ADMIN.project, scopes=scopes or SCOPES)
    principal = await s.house.authenticator.prove(minted.text)
    return Client(s.house.app, headers={"authorization": f"Bearer {minted.text}"}), principal


async def post(client: Client, mode: str, *, path: str = TALK, **headers: str) -> Response:
    return await client.request("POST", path, body=json.dumps({"mode": mode}).encode(), headers=headers)


def heard(answer: Response) -> list[str]:
    return answer.body.decode().splitlines()


# -- forks -------------------------------------------------------------------------------------------------------------


async def test_a_fork_answers_as_the_branch_that_the_request_means(stage: SetUp) -> None:
    async with toy(stage) as s:
        collected = await post(s.client(), "collect")
        streamed = await post(s.client(), "stream")
        accepted = await post(s.client(), "accept")
        looked = await post(s.client(), "look")
        deleted = await post(s.client(), "delete")
        gone = await post(s.client(), "look")
    assert (collected.status, json.loads(collected.body)) == (200, {"text": "It is fine."})
    assert (streamed.status, heard(streamed)[0]) == (200, f"<t {streamed.headers['x-run-id']}>")
    assert "text It is fine." in heard(streamed) and heard(streamed)[-1].endswith("run_completed")
    assert (accepted.status, json.loads(accepted.body)) == (202, {"run": accepted.headers["x-run-id"]})
    assert [json.loads(each.body) for each in (looked, deleted)] == [{"is": "ConversationView"}, {"is": "Deleted"}]
    assert (gone.status, json.loads(gone.body)) == (404, {"error": "There is no conversation t."})


async def test_a_route_may_have_another_path_that_names_the_project_and_only_the_callers_own_is_there(
    stage: SetUp,
) -> None:
    async with toy(stage) as s:
        own = await post(s.client(), "collect", path="/toy/in/default/talks/t")
        other = await post(s.client(), "collect", path="/toy/in/ops/talks/t")
        unknown = await Client(s.house.app).request("POST", "/toy/in/ops/talks/t", body=b"{}")
    assert (own.status, json.loads(own.body)) == (200, {"text": "It is fine."})
    assert (other.status, json.loads(other.body)) == (404, {"error": "There is no project ops for this credential."})
    assert unknown.status == 401


async def test_a_stream_may_tell_of_its_turn_in_its_headers(stage: SetUp) -> None:
    async with toy(stage) as s:
        streamed = await post(s.client(), "stream")
    assert streamed.headers["x-talk"] == "t"


async def test_a_request_that_means_no_branch_is_refused_and_does_not_count_for_its_credential(stage: SetUp) -> None:
    async with toy(stage, config=open_config(per_credential_rpm=1)) as s:
        refused = [await post(s.client(), "shout") for _ in range(2)]
        answer = await post(s.client(), "collect")
    assert [(each.status, json.loads(each.body)) for each in refused] == [
        (400, {"error": "There is no mode shout."})
    ] * 2
    assert answer.status == 200


async def test_a_branch_may_ask_for_more_than_its_route_and_never_for_less(stage: SetUp) -> None:
    async with toy(stage) as s:
        reader, _ = await caller(s, "reader", Scope.CONVERSATIONS_WRITE)
        writer, _ = await caller(s, "writer", Scope.CHAT_RUN)
        both, _ = await caller(s, "both", Scope.CHAT_RUN, Scope.CONVERSATIONS_WRITE)
        refused = [await post(reader, "look"), await post(reader, "delete"), await post(writer, "delete")]
        anonymous = await post(s.anonymous(), "collect")
        await post(both, "collect")
        deleted = await post(both, "delete")
    assert [(each.status, json.loads(each.body)["error"]) for each in refused] == [
        (403, "This credential lacks the scope chat:run."),
        (403, "This credential lacks the scope chat:run."),
        (403, "This credential lacks the scope conversations:write."),
    ]
    assert (anonymous.status, deleted.status) == (401, 200)


async def test_a_repeat_under_a_key_is_recognised_behind_a_fork_too(stage: SetUp) -> None:
    async with toy(stage) as s:
        first, again = [await post(s.client(), "collect", **{"idempotency-key": "k1"}) for _ in range(2)]
    assert (first.body, first.headers["x-run-id"]) == (again.body, again.headers["x-run-id"])
    assert again.headers["idempotency-replayed"] == "true"
    assert len(s.model.prompts) == 1


# -- open routes -------------------------------------------------------------------------------------------------------


async def test_an_open_route_is_answered_for_anybody(stage: SetUp) -> None:
    async with toy(stage) as s:
        answers = [
            await s.anonymous().request("GET", "/toy/card", headers={"host": "h:1"}),
            await s.anonymous().request("GET", "/toy/card", headers={"host": "h:1", "authorization": "Bearer wrong"}),
            await s.client().request("GET", "/toy/card", headers={"host": "h:1"}),
        ]
    assert [(each.status, json.loads(each.body)) for each in answers] == [(200, {"text": "hello http://h:1"})] * 3


async def test_an_open_route_counts_for_the_address(stage: SetUp) -> None:
    async with toy(stage, config=open_config(per_ip_rpm=2)) as s:
        statuses = [(await s.anonymous().request("GET", "/toy/card")).status for _ in range(3)]
    assert statuses == [200, 200, 429]


async def test_an_open_route_whose_operation_is_not_for_anybody_is_a_fault_of_ours(stage: SetUp) -> None:
    async with toy(stage) as s:
        answer = await s.anonymous().request("GET", "/toy/lost")
    assert (answer.status, json.loads(answer.body)) == (500, {"error": "Internal server error"})


# -- whole conversations -----------------------------------------------------------------------------------------------


async def test_a_listener_after_a_turn_hears_it_all_and_is_told_that_it_is_over(stage: SetUp) -> None:
    async with toy(stage) as s:
        await post(s.client(), "collect")
        answer = await s.client().request("GET", EVENTS)
    lines = heard(answer)
    kinds = [line.partition(" ")[2] for line in lines if line[0].isdigit()]
    assert (answer.status, lines[0]) == (200, "<t >")
    assert kinds == [
        "conversation_created",
        "turn_received",
        "run_claimed",
        "reply_started",
        "reply_finished",
        "run_completed",
    ]
    assert lines[-1] == "text It is fine."  # all of it was at hand, so it was said once
    assert "x-run-id" not in answer.headers


async def test_a_listener_hears_turns_as_they_come_and_the_next_one_if_it_waits(stage: SetUp) -> None:
    model = ScriptedReplies(text_reply("It is ", "fine."))
    model.gate = Gate()
    async with toy(stage, model=model) as s:
        await post(s.client(), "accept")
        await post(s.client(), "accept")
        async with s.client().stream("GET", EVENTS) as answer:
            await answer.until(b"run_claimed")
            model.gate.release()
            await answer.until(b"text It is \n")
            model.gate.open()
            rest = (await answer.rest()).decode()
    assert answer.body.count(b"turn_received") == answer.body.count(b"run_completed") == 2
    assert rest.splitlines()[-1].endswith("run_completed") or rest.endswith("fine.\n")


async def test_who_has_heard_the_end_waits_for_the_next_turn_and_hears_that_alone(stage: SetUp) -> None:
    async with toy(stage) as s:
        await post(s.client(), "collect")
        head = (await s.store.get(ADMIN.project, T)).head
        async with s.client().stream("GET", EVENTS, headers={"last-event-id": str(head)}) as answer:
            assert await answer.chunk() == b"<t >\n"
            await post(s.client(), "collect")
            await answer.rest()
    seqs = [int(line.partition(" ")[0]) for line in heard(answer) if line[0].isdigit()]
    assert seqs[0] == head + 1 and answer.body.count(b"run_completed") == 1


async def test_a_listener_that_comes_back_in_the_midst_of_a_reply_can_tell_what_is_being_said(stage: SetUp) -> None:
    """The entries behind its cursor are not enough for that: the wire says the whole text again each time."""
    model = ScriptedReplies(text_reply("It is ", "fine."))
    model.gate = Gate()
    async with toy(stage, model=model) as s:
        await post(s.client(), "accept")
        model.gate.release()
        async with s.client().stream("GET", EVENTS) as answer:
            await answer.until(b"text It is \n")
        head = (await s.store.get(ADMIN.project, T)).head
        model.gate.open()
        again = await s.client().request("GET", EVENTS, headers={"last-event-id": str(head)})
    assert "text It is fine." in heard(again)
    assert [line for line in heard(again) if line[0].isdigit() and int(line.partition(" ")[0]) <= head] == []


async def test_a_cursor_beyond_the_tape_is_refused(stage: SetUp) -> None:
    async with toy(stage) as s:
        await post(s.client(), "collect")
        answer = await s.client().request("GET", EVENTS, headers={"last-event-id": "999"})
    assert (answer.status, json.loads(answer.body)["error"]) == (
        400,
        "The cursor 999 lies beyond the last entry, 8.",
    )


async def test_a_listener_is_told_when_the_conversation_is_deleted(stage: SetUp) -> None:
    async with toy(stage) as s:
        await post(s.client(), "collect")
        async with s.client().stream("GET", EVENTS, headers={"last-event-id": "8"}) as answer:
            await answer.chunk()
            await s.house.desk.answer(ADMIN, DeleteConversation(T))
            rest = await answer.rest()
    assert rest == b"failed The conversation was deleted while it was being read.\n"


async def test_listeners_are_sent_away_when_the_server_stops(stage: SetUp) -> None:
    async with toy(stage) as s:
        await post(s.client(), "collect")
        async with s.client().stream("GET", EVENTS, headers={"last-event-id": "8"}) as answer:
            await answer.chunk()
            s.house.runs[0].hang_up()
            rest = await answer.rest()
    assert rest.startswith(b"failed The server is stopping")


async def test_listeners_take_the_places_of_readers_and_give_them_back(stage: SetUp) -> None:
    async with toy(stage, config=open_config(readers_per_conversation=1)) as s:
        await post(s.client(), "collect")
        async with s.client().stream("GET", EVENTS, headers={"last-event-id": "8"}) as answer:
            await answer.chunk()
            refused = await s.client().request("GET", EVENTS)
            turn = await post(s.client(), "stream")
        admitted = await s.client().request("GET", EVENTS)
    assert (refused.status, turn.status, admitted.status) == (429, 429, 200)


# -- whose conversation it is ------------------------------------------------------------------------------------------


async def test_a_private_conversation_is_not_there_for_anybody_else(stage: SetUp) -> None:
    model = ScriptedReplies(text_reply("It is ", "fine."))
    model.gate = Gate()
    async with toy(stage, model=model) as s:
        anna, _ = await caller(s, "anna")
        bert, _ = await caller(s, "bert")
        run = (await post(anna, "accept")).headers["x-run-id"]
        refused = [
            await post(bert, "accept"),
            await post(bert, "look"),
            await bert.request("GET", EVENTS),
            await bert.request("POST", f"/toy/runs/{run}/cancel"),
        ]
        missing = await post(bert, "look", path="/toy/talks/none")
        model.gate.open()
        await s.house.runs[0].settled()
        own = [await post(anna, "look"), await anna.request("GET", EVENTS), await post(anna, "collect")]
        admins = [await post(s.client(), "look"), await post(s.client(), "collect")]
    assert [(each.status, json.loads(each.body)["error"]) for each in refused] == [
        *([(404, "There is no conversation t.")] * 3),
        (404, f"There is no run {run}."),
    ]
    assert json.loads(missing.body)["error"] == "There is no conversation none."
    assert [each.status for each in (*own, *admins)] == [200] * 5


async def test_a_shared_conversation_is_read_by_all_and_continued_by_its_owner(stage: SetUp) -> None:
    async with toy(stage) as s:
        anna, principal = await caller(s, "anna")
        bert, _ = await caller(s, "bert")
        run = (await post(anna, "collect")).headers["x-run-id"]
        await s.house.desk.answer(principal, UpdateConversation(T, shared=True, private=True))
        read = [await post(bert, "look"), await bert.request("GET", EVENTS)]
        refused = [await post(bert, "collect"), await bert.request("POST", f"/toy/runs/{run}/cancel")]
    assert [each.status for each in read] == [200, 200]
    assert [each.status for each in refused] == [404, 404]


async def test_who_listens_to_a_conversation_that_is_shared_no_longer_hears_no_more(stage: SetUp) -> None:
    async with toy(stage) as s:
        anna, principal = await caller(s, "anna")
        bert, _ = await caller(s, "bert")
        await post(anna, "collect")
        await s.house.desk.answer(principal, UpdateConversation(T, shared=True, private=True))
        at_end = {"last-event-id": "9"}
        async with (
            bert.stream("GET", EVENTS, headers=at_end) as theirs,
            anna.stream("GET", EVENTS, headers=at_end) as own,
        ):
            assert [await each.chunk() for each in (theirs, own)] == [b"<t >\n"] * 2
            await s.house.desk.answer(principal, UpdateConversation(T, shared=False, private=True))
            told = await theirs.rest()
            await post(anna, "collect")
            heard_by_owner = await own.rest()
    assert told == b"failed There is no conversation t.\n"
    assert heard_by_owner.startswith(b"10 sharing_changed\n") and b"run_completed" in heard_by_owner


# -- tickets -----------------------------------------------------------------------------------------------------------


async def ticket_of(s: Stage, principal: Principal, conversation: ConversationId = T) -> str:
    return (await s.house.desk.answer(principal, IssueStreamTicket(conversation))).text


async def test_a_ticket_opens_the_stream_of_its_conversation(stage: SetUp) -> None:
    async with toy(stage) as s:
        anna, principal = await caller(s, "anna")
        await post(anna, "collect")
        ticket = await ticket_of(s, principal)
        answer = await s.anonymous().request("GET", f"{EVENTS}?ticket={ticket}")
        whole = await anna.request("GET", EVENTS)
    assert (answer.status, answer.body) == (200, whole.body)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-origin" not in whole.headers


async def test_a_ticket_opens_nothing_else_and_no_page_is_kept_from_hearing_so(stage: SetUp) -> None:
    async with toy(stage) as s:
        anna, principal = await caller(s, "anna")
        await post(anna, "collect")
        await post(anna, "collect", path="/toy/talks/u")
        ticket = await ticket_of(s, principal)
        anonymous = s.anonymous()
        refused = [
            await anonymous.request("GET", f"/toy/talks/u/events?ticket={ticket}"),
            await anonymous.request("GET", f"{EVENTS}?ticket={ticket}x"),
            await anonymous.request("GET", f"{EVENTS}?ticket="),
            await anonymous.request("GET", f"{EVENTS}?other={ticket}"),
            await anonymous.request("GET", EVENTS, headers={"authorization": f"Bearer {ticket}"}),
            await anonymous.request("POST", f"{TALK}?ticket={ticket}", body=b"{}"),
        ]
    assert [each.status for each in refused] == [401] * 6
    assert [each.headers.get("access-control-allow-origin") for each in refused] == ["*", "*", None, None, None, None]


async def test_a_ticket_does_not_replace_what_its_route_demands(stage: SetUp) -> None:
    async with toy(stage) as s:
        writer, principal = await caller(s, "writer", Scope.CHAT_RUN)
        await post(writer, "collect")
        answer = await s.anonymous().request("GET", f"{EVENTS}?ticket={await ticket_of(s, principal)}")
    assert (answer.status, json.loads(answer.body)["error"]) == (403, "This credential lacks the scope chat:read.")


async def test_of_a_credential_and_a_ticket_the_credential_counts(stage: SetUp) -> None:
    async with toy(stage) as s:
        anna, principal = await caller(s, "anna")
        bert, _ = await caller(s, "bert")
        await post(anna, "collect")
        ticket = await ticket_of(s, principal)
        other = await bert.request("GET", f"{EVENTS}?ticket={ticket}")
        own = await anna.request("GET", f"{EVENTS}?ticket=wrong")
        wrong = {"authorization": "Bearer wrong"}
        forged = await s.anonymous().request("GET", f"{EVENTS}?ticket={ticket}", headers=wrong)
        of_another_kind = {"authorization": "Basic eDp5"}  # a proxy's, say: it holds no credential of ours
        passed = await s.anonymous().request("GET", f"{EVENTS}?ticket={ticket}", headers=of_another_kind)
    assert [each.status for each in (other, own, forged, passed)] == [404, 200, 401, 200]


async def test_all_who_wait_for_the_next_turn_hear_the_same(stage: SetUp) -> None:
    async with toy(stage) as s, asyncio.TaskGroup() as group:
        await post(s.client(), "collect")
        listening: list[asyncio.Task[Response]] = []
        opened = asyncio.Semaphore(0)

        async def listen() -> Response:
            answer: Stream
            async with s.client().stream("GET", EVENTS, headers={"last-event-id": "8"}) as answer:
                await answer.chunk()
                opened.release()
                await answer.rest()
                return answer

        for _ in range(50):
            listening.append(group.create_task(listen()))
        for _ in range(50):
            await asyncio.wait_for(opened.acquire(), 5)
        await s.house.desk.answer(ADMIN, StartTurn(T, ()))
        bodies = {(await asyncio.wait_for(task, 5)).body for task in listening}
    assert len(bodies) == 1
