"""Whatever is sent to the endpoint, the answer says why, and nothing unproven is stored.

The parsers of payloads, of the delivery log and of ``webhooks.toml`` have their own: ``test_bad_input``,
``test_delivery_log``, ``test_desired``.
"""

from __future__ import annotations

import tomllib
from contextlib import suppress
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from receiver.bootstrap.desired import parse_configuration
from receiver.deliveries.challenge import is_signable
from receiver.errors import ConfigurationError
from receiver.sandbox.signing import sign
from tests.support.factories import body, snapshot

if TYPE_CHECKING:
    from tests.conftest import Acme

REUSE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
ANSWERS = {400, 401, 404, 405, 413, 415}
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=60)
NAMES = st.sampled_from(
    [
        "X-Event",
        "X-Version",
        "X-Data-Signature",
        "Authorization",
        "Content-Type",
        "Content-Encoding",
        "Content-Length",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Request-ID",
        "Cookie",
        "Expect",
        "X-Verify-Token",
    ]
)
NOT_PROOF = NAMES.filter(lambda name: name not in {"X-Data-Signature", "Content-Length", "Authorization"})
BODIES = st.one_of(st.binary(max_size=300), st.just(body(snapshot("authorized"))))
DELIVERABLE = BODIES.filter(lambda content: not is_signable(content))


@REUSE
@given(headers=st.dictionaries(NAMES, VALUES, max_size=6), content=BODIES, method=st.sampled_from(["POST", "GET"]))
def test_nothing_unproven_is_stored_and_nothing_ends_in_a_500(
    acme: Acme, headers: dict[str, str], content: bytes, method: str
) -> None:
    if headers.get("X-Data-Signature") == sign(acme.registration.secret, content):
        return  # proven after all
    response = acme.client.open(acme.path, method=method, data=content, headers=headers)
    assert response.status_code in ANSWERS, response.status_code
    assert response.get_json()["error"]
    assert acme.statuses() == []


@REUSE
@given(path=st.text(max_size=80), query=st.text(max_size=80))
@example(path="%2e%2e/%2e%2e/etc/passwd", query="challenge=a&challenge=b")
@example(path="\0", query="challenge=%00")
def test_no_path_and_no_challenge_ends_in_a_500(acme: Acme, path: str, query: str) -> None:
    for address in (f"/hooks/opencard/{path}", acme.path, f"/hooks/oauth/{path}"):
        response = acme.client.get(address.replace("?", "").replace("#", ""), query_string=query)
        assert response.status_code < 500


@REUSE
@given(headers=st.dictionaries(NOT_PROOF, VALUES, max_size=4), content=DELIVERABLE)
def test_proven_bodies_are_stored_exactly_or_refused(acme: Acme, headers: dict[str, str], content: bytes) -> None:
    before = len(acme.statuses())
    sent = {**acme.registration.headers("tpa.signed", content), **headers}
    response = acme.client.post(acme.path, data=content, headers=sent)
    assert response.status_code in {200, 400, 413, 415}
    assert len(acme.statuses()) == before + (response.status_code == 200)
    if response.status_code == 200:
        assert acme.value("SELECT body FROM receiver.deliveries ORDER BY id DESC LIMIT 1") == content


@given(text=st.text(max_size=300))
@example(text="[[organizations]]\nreference_id = 1e999")
@example(text="events = " + "[" * 5000)
@example(text="a." * 3000 + "b = 1")
def test_wrong_configuration_is_always_named(text: str) -> None:
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return
    with suppress(ConfigurationError):  # its text is for a person; that it names the key is tested with the parser
        parse_configuration(document, {}, name="webhooks.toml")
