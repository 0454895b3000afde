"""Who asks, and what they may."""

import pytest

from dragoman.core.names import Principal, ProjectId, Scope


def principal(*scopes: Scope) -> Principal:
    return Principal(ProjectId("p"), "c", "tester", frozenset(scopes))


@pytest.mark.parametrize("scope", Scope)
def test_a_scope_allows_itself(scope: Scope) -> None:
    assert principal(scope).may(scope)


@pytest.mark.parametrize("scope", Scope)
def test_the_admin_scope_contains_all_others(scope: Scope) -> None:
    assert principal(Scope.ADMIN).may(scope)


@pytest.mark.parametrize("scope", [scope for scope in Scope if scope is not Scope.ADMIN])
def test_no_other_scope_contains_any(scope: Scope) -> None:
    assert [other for other in Scope if principal(scope).may(other)] == [scope]


@pytest.mark.parametrize("scope", Scope)
def test_without_scopes_nothing_is_allowed(scope: Scope) -> None:
    assert not principal().may(scope)


def test_a_scope_is_spelled_as_it_is_kept() -> None:
    assert [str(scope) for scope in Scope] == [
        "admin",
        "chat:run",
        "chat:read",
        "conversations:read",
        "conversations:write",
        "runs:cancel",
        "tools:use",
        "tools:approve",
        "tunnel:connect",
        "resources:write",
        "plugins.app:access",
        "grafana-assistant-app.chats:access",
        "metrics:read",
        "credentials:read",
        "credentials:write",
    ]
