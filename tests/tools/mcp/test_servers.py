from dragoman.tools.mcp.servers import Server


def test_a_server_shows_its_name_and_no_secret() -> None:
    assert repr(Server("m", "http://h/mcp", headers=(("Authorization", "Bearer hunter2"),))) == "Server('m')"


def test_where_it_is_is_its_address_or_its_command() -> None:
    assert Server("m", "http://h/mcp").where == "http://h/mcp"
    assert Server("m", command=("uvx", "mcp-server-time", "--utc")).where == "uvx mcp-server-time --utc"
