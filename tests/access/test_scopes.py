"""Scopes: reading names, defaults, and what may be handed on."""

import pytest

from dragoman.access.scopes import DEFAULT_SCOPES, check_child, held, parse_scope, parse_scopes
from dragoman.core.errors import BadRequest, NotAllowed
from dragoman.core.names import Scope


@pytest.mark.parametrize("scope", list(Scope))
def test_every_scope_reads_back_from_its_name(scope: Scope):
    assert parse_scope(scope.value) is scope


def test_an_unknown_scope_names_the_nearest():
    with pytest.raises(BadRequest) as caught:
        parse_scope("chat:rum")
    assert caught.value.detail == 'There is no scope "chat:rum"; did you mean chat:run?'


def test_a_scope_near_none_lists_them_all():
    with pytest.raises(BadRequest) as caught:
        parse_scope("§§§§")
    assert caught.value.detail == f'There is no scope "§§§§"; known are: {", ".join(Scope)}'


def test_no_scopes_given_means_the_default_ones():
    assert parse_scopes([]) == DEFAULT_SCOPES
    assert [scope.value for scope in DEFAULT_SCOPES] == [
        "chat:run",
        "chat:read",
        "conversations:read",
        "conversations:write",
        "tools:use",
        "tools:approve",
        "runs:cancel",
        "tunnel:connect",
        "plugins.app:access",
        "grafana-assistant-app.chats:access",
    ]


def test_repeated_scopes_count_once_in_the_order_given():
    assert parse_scopes(["runs:cancel", "chat:run", "runs:cancel"]) == (Scope.RUNS_CANCEL, Scope.CHAT_RUN)


def test_a_child_may_hold_what_its_parent_holds():
    check_child({Scope.CHAT_RUN, Scope.CHAT_READ}, {Scope.CHAT_RUN})
    check_child(set(), set())
    check_child({Scope.ADMIN}, set(Scope))


def test_a_child_may_not_hold_more_than_its_parent():
    with pytest.raises(NotAllowed) as caught:
        check_child([Scope.CHAT_RUN], [Scope.CHAT_RUN, Scope.ADMIN, Scope.METRICS_READ])
    assert caught.value.detail == "A credential cannot grant what it does not hold itself: admin, metrics:read."


def test_what_is_held_of_what_is_wanted_is_handed_on_and_no_more():
    wanted = (Scope.CHAT_RUN, Scope.METRICS_READ, Scope.CHAT_RUN)

    assert held({Scope.CHAT_RUN, Scope.CHAT_READ}, wanted) == (Scope.CHAT_RUN,)
    assert held({Scope.ADMIN}, wanted) == (Scope.CHAT_RUN, Scope.METRICS_READ)
    assert held({Scope.CHAT_RUN}, (Scope.ADMIN,)) == ()
    assert held((), wanted) == ()
