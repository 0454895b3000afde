"""MCP servers as tools: the program's own connections of that kind, and those of projects.

    definitions ─ what a server says of its tools, and what of it counts
    pins        ─ what somebody looked at and agreed to
    caller      ─ one call: which server, is the tool what was agreed to, and what came of it
    toolset     ─ the tools of pinned connections, for every agent

Only `client`, `network` and `stdio` know the SDK, the extra `mcp`; they are imported when a server is first asked.
"""
