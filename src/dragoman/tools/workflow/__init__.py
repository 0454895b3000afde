"""The tools of workflows: webhooks, MCP servers, models that invent results, searches in sources."""
