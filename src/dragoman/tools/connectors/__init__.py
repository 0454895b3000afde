"""What connectors do when they are executed: webhooks, Slack, e-mail, Elasticsearch indices, the server's log."""
