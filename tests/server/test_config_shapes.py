"""What config structs say of themselves beyond their values."""

from dragoman.core.agents import AgentSpec
from dragoman.runtime.budgets import Budget
from dragoman.server.config_shapes import INSTRUCTIONS, AgentTable, ConnectionTable, Limits, RunLimits, Seconds, Secret


def test_the_defaults_of_a_run_are_those_of_the_runtime():
    assert RunLimits().budget == Budget()
    assert RunLimits(3, Seconds(4), 5, 6).budget == Budget(3, 4.0, 5, 6)


def test_the_defaults_of_an_agent_are_those_of_the_core():
    assert AgentTable().spec("a") == AgentSpec("a", INSTRUCTIONS)
    assert AgentTable("do", ("x.*",), "m", 7).spec("a") == AgentSpec("a", "do", ("x.*",), "m", 7)
    careful = AgentTable(ask=("write_*",), deny=("delete_*",), approval_s=Seconds(5))
    wanted = AgentSpec("a", INSTRUCTIONS, ask=("write_*",), deny=("delete_*",), approval_s=5.0)
    assert careful.spec("a") == wanted


def test_a_body_limit_is_in_mebibytes():
    assert Limits().body_bytes_max == 1_048_576
    assert Limits(body_mb=0.5).body_bytes_max == 524_288


def test_a_connections_key_is_sent_as_its_kind_wants_it():
    headers = {"X-Scope-OrgID": Secret("t")}

    assert ConnectionTable("prometheus", "http://h", Secret("k"), headers).request_headers == (
        ("Authorization", "Bearer k"),
        ("X-Scope-OrgID", "t"),
    )
    assert ConnectionTable("elasticsearch", "http://h", Secret("k")).request_headers == (("Authorization", "ApiKey k"),)
    assert ConnectionTable("prometheus", "http://h").request_headers == ()
