"""Routes by which clients find out what they talk to: status, and whether a space is there (elastic spec 0.1, 0.2)."""

from typing import Any

from msgspec import UNSET

from dragoman.core.names import Scope
from dragoman.core.operations import ReadStatus, Status
from dragoman.dialects.elastic import connector_shapes as shapes
from dragoman.dialects.elastic.requests import DEFAULT_SPACE, query
from dragoman.wire.dialect import Reply, Request, Route, json_reply

KIBANA_VERSION = "9.4.3"
"""The one whose behaviour this wire follows: clients look at it to know what they may ask for."""

STATUS = "/api/status"
SPACE = "/api/spaces/space/{about}"
"""`about` counts as a request's project (`requests.project`): another one's is not found before it comes here."""


def read(request: Request) -> ReadStatus:
    """Clients send `v7format` or `v8format`; the answer is of the newer form."""
    query(request, "v7format", "v8format")
    return ReadStatus(counted=False)


def read_space(request: Request) -> ReadStatus:
    query(request, "purpose")
    return ReadStatus(counted=False)


def status(found: Status, request: Request) -> Reply:
    level = shapes.Level("available", "All services and plugins are available")
    return json_reply(
        shapes.StatusBody(f"dragoman {found.version}", shapes.Version(KIBANA_VERSION), shapes.Overall(level))
    )


def space(_: Status, request: Request) -> Reply:
    name = request.params["about"]
    default = name == DEFAULT_SPACE
    return json_reply(shapes.Space(name, "Default" if default else name, "", (), True if default else UNSET))


ROUTES: tuple[Route[Any], ...] = (
    Route(
        "GET",
        STATUS,
        read,
        answer=status,
        scopes=(Scope.CHAT_RUN,),
        summary="Version and state, as clients of Kibana look for them",
        gives=shapes.StatusBody,
    ),
    Route(
        "GET",
        SPACE,
        read_space,
        answer=space,
        scopes=(Scope.CHAT_RUN,),
        summary="A space, if it is the project of the credential",
        gives=shapes.Space,
    ),
)
