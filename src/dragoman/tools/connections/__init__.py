"""The connections toolset: outside systems that the configuration names, reached through `tools.egress` only."""
