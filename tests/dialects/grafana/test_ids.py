"""Ids of requests and approvals: what goes in comes out, and nothing else is taken for one."""

import base64
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.core.errors import NotFound
from dragoman.core.names import CallId, RunId
from dragoman.dialects.grafana.ids import approval_id, new_chat, read_approval_id, read_request_id, request_id

run_ids = st.text("r_0123456789abcdef", min_size=1, max_size=30).map(RunId)
call_ids = st.text(min_size=1, max_size=30).map(CallId)
hashes = st.text("0123456789abcdef", min_size=1, max_size=64)


@given(run=run_ids, call=call_ids, digest=hashes)
def test_an_id_gives_back_what_it_was_made_of(run: RunId, call: CallId, digest: str) -> None:
    asked, approval = request_id(run, call), approval_id(run, call, digest)
    assert read_request_id(asked) == (run, call)
    assert read_approval_id(approval) == (run, call, digest)
    assert all(sign.isalnum() or sign in "_-" for sign in asked + approval)


@given(
    text=st.text(max_size=40) | st.binary(max_size=40).map(lambda raw: "rt_" + base64.urlsafe_b64encode(raw).decode())
)
def test_any_other_text_names_nothing(text: str) -> None:
    try:
        run, call = read_request_id(text)
    except NotFound as error:
        assert error.what == "call"
    else:
        assert request_id(run, call) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rt_",
        "rt_é",
        request_id(RunId("r"), CallId("c")) + "=",
        request_id(RunId("r"), CallId("c")) + "\n",
        request_id(RunId("r"), CallId("c"))[:-1],
        approval_id(RunId("r"), CallId("c"), "h"),
        "rt_" + base64.urlsafe_b64encode(b"no separator").decode().rstrip("="),
        "rt_" + base64.urlsafe_b64encode(b"\0c").decode().rstrip("="),
    ],
)
def test_what_is_nearly_an_id_is_none(text: str) -> None:
    with pytest.raises(NotFound):
        read_request_id(text)
    with pytest.raises(NotFound):
        read_approval_id(text.replace("ap_", "rt_"))


@given(nonce=st.text("0123456789abcdef", min_size=32, max_size=32))
def test_a_new_chat_has_a_random_uuid(nonce: str) -> None:
    assert new_chat(nonce) == str(UUID(hex=nonce, version=4))
