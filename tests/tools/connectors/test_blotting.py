"""What outside systems say comes back without the connector's secrets, however they spell them."""

from base64 import b64encode
from typing import Any
from urllib.parse import quote

import pytest

from dragoman.core.connectors import Executed
from dragoman.runtime.connectors import Opened
from dragoman.tools.blotting import BLOT
from dragoman.tools.connectors.blotting import without_secrets

SECRETS: dict[str, Any] = {
    "user": "robot@example.com",
    "password": 'pass"word\\1/é',
    "secretHeaders": {"X-Key": "Bearer abcdef-123"},
    "webhookUrl": "https://hooks.example.com/services/T0/B0/xyz",
}


def blotted(text: str, secrets: dict[str, Any] = SECRETS) -> Executed:
    said = Executed("c", True, data={"a": [text, 1, None], text: True}, message=text, service_message=text)
    return without_secrets(said, Opened("c", ".webhook", {}, secrets))


@pytest.mark.parametrize(
    "secret",
    [
        'pass"word\\1/é',
        'pass\\"word\\\\1/\\u00e9',
        quote('pass"word\\1/é', safe=""),
        "Bearer abcdef-123",
        "abcdef-123",
        b64encode('robot@example.com:pass"word\\1/é'.encode()).decode(),
        "https://hooks.example.com/services/T0/B0/xyz",
        "/services/T0/B0/xyz",
    ],
)
def test_a_secret_is_blotted_out_wherever_it_stands(secret: str) -> None:
    said = blotted(f"before {secret} behind")
    want = f"before {BLOT} behind"
    assert (said.message, said.service_message) == (want, want)
    assert secret not in repr((said.data, said.message, said.service_message))


def test_what_is_no_secret_stays() -> None:
    said = blotted("robot@example.com took it")
    assert said.message == "robot@example.com took it"
    assert said.data["a"] == ["robot@example.com took it", 1, None]
    assert blotted("pin is it", {"password": "pin", "token": "pin"}).message == "pin is it"


def test_a_connector_without_secrets_changes_nothing() -> None:
    said = Executed("c", True, data=(1, 2), message="m")
    assert without_secrets(said, Opened("c", ".server-log", {}, {})) is said


def test_data_that_is_nested_without_end_is_left_out() -> None:
    deep: Any = "abcdef-123"
    for _ in range(5000):
        deep = [deep]
    assert without_secrets(Executed("c", True, data=deep), Opened("c", ".webhook", {}, SECRETS)).data is None
