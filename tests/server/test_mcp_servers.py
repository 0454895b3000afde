from dragoman.server.config_shapes import Config, ConnectionTable, Seconds, Secret
from dragoman.server.mcp_servers import mcp_servers
from dragoman.tools.mcp.servers import Server


def test_connections_of_the_kind_mcp_are_servers_that_may_be_anywhere() -> None:
    config = Config(
        connections={
            "prom": ConnectionTable("prometheus", "http://h"),
            "desk": ConnectionTable(
                "mcp",
                "http://10.0.0.1/mcp",
                Secret("k"),
                {"X-Team": Secret("t")},
                timeout_s=Seconds(9),
                tools=("find_*",),
            ),
        }
    )
    headers = (("Authorization", "Bearer k"), ("X-Team", "t"))
    assert mcp_servers(config, {"PATH": "/bin"}) == (
        Server("desk", "http://10.0.0.1/mcp", headers=headers, timeout_s=9.0, tools=("find_*",), trusted=True),
    )


def test_a_command_is_given_harmless_variables_and_those_that_are_named() -> None:
    config = Config(
        connections={"time": ConnectionTable("mcp", command=("uvx", "x"), env=("TIME_KEY", "PATH", "GONE"))}
    )
    env = {"PATH": "/bin", "HOME": "/h", "TIME_KEY": "k", "OPENAI_API_KEY": "ours", "DRAGOMAN_PEPPER": "ours"}
    (server,) = mcp_servers(config, env)

    assert (server.transport, server.command) == ("stdio", ("uvx", "x"))
    assert dict(server.env) == {"PATH": "/bin", "HOME": "/h", "TIME_KEY": "k"}
