"""Elastic Observability AI Assistant, as in Kibana: chat completion with actions of the caller's, conversations,
connectors, the knowledge base. Facts, quirks (Q1..) and divergences: WIRE.md.

Every path stands here once; the same below `/s/{space}` is `Route.also` (Q11).
"""

from dragoman.dialects.elastic import (
    chat,
    connectors,
    conversations,
    dataset_info,
    errors,
    examples,
    functions,
    knowledge,
    requests,
    status,
)
from dragoman.wire.dialect import Dialect

DIALECT = Dialect(
    name="elastic",
    title="Elastic Observability AI Assistant API",
    prefixes=(
        f"{requests.PUBLIC}/",
        f"{requests.INTERNAL}/",
        "/api/actions/",
        "/api/spaces/",
        "/api/status",
        "/s/",
    ),
    routes=tuple(
        requests.on_this_wire(route)
        for area in (chat, conversations, connectors, knowledge, functions, dataset_info, status)
        for route in area.ROUTES
    ),
    credential=requests.credential,
    fail=errors.fail,
    examples=examples.EXAMPLES,
    refusal=errors.Refusal,
    logins=("basic", "apikey", "bearer"),
    project=requests.project,
)
