"""What agents can do: the registry, the one outbound HTTP client, and a folder for each toolset."""
