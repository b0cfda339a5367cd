"""What may be registered as a header or a credential: whatever is accepted proves a delivery over HTTP."""

from __future__ import annotations

from contextlib import closing
from http.client import HTTPConnection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from receiver.deliveries.authentication import authenticate
from receiver.settings import SignaturePolicy
from receiver.webhooks.credentials import AuthenticationType, Credentials, Expected
from receiver.webhooks.header_rules import MAX_BYTES, RESERVED, credential_problem, name_problem, value_problem
from tests.support.serving import served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from wsgiref.types import StartResponse, WSGIEnvironment

PLACES = " \t\u00a0\u0085\u2028\r\n"


@pytest.fixture(scope="module")
def echo() -> Iterator[HTTPConnection]:
    """A server that says what arrives in the header ``X-Token``."""

    def answer(environ: WSGIEnvironment, start: StartResponse) -> list[bytes]:
        start("200 OK", [("Content-Type", "application/octet-stream")])
        return [environ.get("HTTP_X_TOKEN", "").encode("latin-1")]

    with served(answer) as url, closing(HTTPConnection(str(urlsplit(url).netloc), timeout=30)) as connection:
        yield connection


@given(value=st.text(min_size=1) | st.text(alphabet=st.sampled_from(PLACES + "ab"), min_size=1))
@example(value="a" * MAX_BYTES)
@example(value="the-token-\u00e5\u00e4\u00f6")
@settings(suppress_health_check=[HealthCheck.filter_too_much])
def test_a_value_that_is_accepted_arrives_and_proves_a_delivery(echo: HTTPConnection, value: str) -> None:
    assume(value_problem(value) is None)
    echo.request("GET", "/", headers={"X-Token": value.encode()})
    arrived = echo.getresponse().read().decode("latin-1")
    expected = Expected(("secret",), AuthenticationType.CUSTOM, Credentials(custom_key="X-Token", custom_value=value))
    assert authenticate(b"", {"X-Token": arrived}, expected, SignaturePolicy.WHEN_PRESENT) == "custom"


@pytest.mark.parametrize(
    "value", [" tok", "tok ", "tok\u00a0", "\ttok", "a\nb", "a\x00", "\x7f", "\ud800", "é" * MAX_BYTES]
)
def test_a_value_that_does_not_arrive_is_refused(value: str) -> None:
    problem = value_problem(value)
    assert problem
    assert value not in problem


@pytest.mark.parametrize("name", [*sorted(RESERVED), "Content-Type", "X_Token", "X Token", "X:", "", "X" * 5000])
def test_a_name_that_is_taken_or_does_not_arrive_is_refused(name: str) -> None:
    assert name_problem(name)
    assert credential_problem("custom_key", name)


@pytest.mark.parametrize("name", ["X-Token", "x-webhook-token", "Token", "X-Api-Key"])
def test_other_names_are_accepted(name: str) -> None:
    assert name_problem(name) is None


def test_a_password_may_have_spaces_and_colons_inside() -> None:
    assert credential_problem("basic_password", "a b:c") is None
    assert credential_problem("basic_username", "a b") is None
