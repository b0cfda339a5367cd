from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from receiver.deliveries.authentication import authenticate
from receiver.deliveries.challenge import answer_challenge, is_signable
from receiver.errors import MalformedRequest, NotAuthentic
from receiver.settings import SignaturePolicy
from receiver.webhooks.credentials import AuthenticationType, Credentials, Expected
from receiver.webhooks.managed import ManagedWebhook

SIGNATURE = "X-Data-Signature"
WHEN_PRESENT = SignaturePolicy.WHEN_PRESENT
REQUIRED = SignaturePolicy.REQUIRED
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

bodies = st.binary(max_size=200).filter(lambda content: not is_signable(content))
texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
anything = st.text(max_size=80)

NONE = Expected(("secret",))
BASIC = Expected(("secret",), AuthenticationType.BASIC, Credentials("opencard", "password"))
CUSTOM = Expected(("secret",), AuthenticationType.CUSTOM, Credentials(custom_key="X-Token", custom_value="value"))
RIGHT = {
    AuthenticationType.BASIC: {"Authorization": "Basic " + base64.b64encode(b"opencard:password").decode()},
    AuthenticationType.CUSTOM: {"X-Token": "value"},
    AuthenticationType.NONE: {},
}


def signature(secret: str, content: bytes) -> str:
    return hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()


def refusal(content: bytes, headers: dict[str, str], expected: Expected, policy: SignaturePolicy = WHEN_PRESENT) -> str:
    """Return why it is refused."""
    with pytest.raises(NotAuthentic) as refused:
        authenticate(content, headers, expected, policy)
    return refused.value.reason


@given(secret=texts, content=bodies, policy=st.sampled_from(SignaturePolicy))
def test_the_signature_of_the_raw_body_is_accepted(secret: str, content: bytes, policy: SignaturePolicy) -> None:
    headers = {SIGNATURE: signature(secret, content)}
    assert authenticate(content, headers, Expected((secret,)), policy) == "signature"


@given(content=bodies)
def test_a_signature_may_be_written_in_upper_case(content: bytes) -> None:
    assert authenticate(content, {SIGNATURE: signature("secret", content).upper()}, NONE, WHEN_PRESENT) == "signature"


@given(content=bodies, given_signature=anything, expected=st.sampled_from([NONE, BASIC, CUSTOM]))
def test_wrong_signature_fails_despite_right_credentials(
    content: bytes, given_signature: str, expected: Expected
) -> None:
    assume(given_signature.strip().lower() != signature("secret", content))
    headers = {SIGNATURE: given_signature, **RIGHT[expected.authentication_type]}
    assert refusal(content, headers, expected) == "signature-wrong"


@given(content=bodies, other=bodies)
def test_a_signature_of_another_body_is_refused(content: bytes, other: bytes) -> None:
    assume(content != other)
    assert refusal(content, {SIGNATURE: signature("secret", other)}, NONE) == "signature-wrong"


@given(content=bodies, secret=texts)
def test_a_signature_by_another_secret_is_refused(content: bytes, secret: str) -> None:
    assume(secret.encode().rstrip(b"\0") != b"secret")  # HMAC pads keys with zeros
    assert refusal(content, {SIGNATURE: signature(secret, content)}, NONE) == "signature-wrong"


@given(content=bodies, policy=st.sampled_from(SignaturePolicy))
def test_without_credentials_a_signature_is_always_required(content: bytes, policy: SignaturePolicy) -> None:
    assert refusal(content, {}, NONE, policy) == "signature-missing"


@pytest.mark.parametrize("expected", [BASIC, CUSTOM])
def test_with_credentials_policy_decides_on_missing_signature(expected: Expected) -> None:
    headers = RIGHT[expected.authentication_type]
    assert authenticate(b"{}", headers, expected, WHEN_PRESENT) == expected.authentication_type
    assert refusal(b"{}", headers, expected, REQUIRED) == "signature-missing"


@pytest.mark.parametrize("expected", [BASIC, CUSTOM])
@pytest.mark.parametrize("policy", SignaturePolicy)
def test_signature_and_credentials_must_both_be_right(expected: Expected, policy: SignaturePolicy) -> None:
    kind = expected.authentication_type
    signed = {SIGNATURE: signature("secret", b"{}")}
    assert authenticate(b"{}", {**signed, **RIGHT[kind]}, expected, policy) == f"signature+{kind}"
    assert refusal(b"{}", signed, expected, policy) == f"{kind}-missing"


@given(username=texts.filter(lambda name: ":" not in name), password=texts)
def test_any_username_and_password_can_be_proven(username: str, password: str) -> None:
    expected = Expected(("secret",), AuthenticationType.BASIC, Credentials(username, password))
    encoded = base64.b64encode(f"{username}:{password}".encode()).decode()
    assert authenticate(b"", {"Authorization": f"Basic {encoded}"}, expected, WHEN_PRESENT) == "basic"
    assert authenticate(b"", {"Authorization": f"basic {encoded}"}, expected, WHEN_PRESENT) == "basic"


@given(username=texts, password=texts)
def test_other_credentials_than_those_registered_are_refused(username: str, password: str) -> None:
    assume(f"{username}:{password}" != "opencard:password")
    encoded = base64.b64encode(f"{username}:{password}".encode()).decode()
    assert refusal(b"", {"Authorization": f"Basic {encoded}"}, BASIC) == "basic-wrong"


@given(authorization=anything)
def test_any_authorization_header_is_checked_without_crash(authorization: str) -> None:
    assert refusal(b"", {"Authorization": authorization}, BASIC) in {"basic-wrong", "basic-malformed"}


@pytest.mark.parametrize(
    "form",
    ["Bearer {}", "{}", "Basic{}", "Basic", "Basic opencard:password", "Basic !{}", "Basic {}\u00e9", "Basic {} {}"],
)
def test_right_credentials_in_a_wrong_form_are_refused(form: str) -> None:
    encoded = base64.b64encode(b"opencard:password").decode()
    assert refusal(b"", {"Authorization": form.format(encoded, encoded)}, BASIC).startswith("basic-")


@given(value=texts)
def test_any_custom_value_can_be_proven_by_its_utf_8_bytes(value: str) -> None:
    expected = Expected(("secret",), AuthenticationType.CUSTOM, Credentials(custom_key="X-Token", custom_value=value))
    as_wsgi_hands_it_out = value.encode().decode("latin-1")
    assert authenticate(b"", {"X-Token": as_wsgi_hands_it_out}, expected, WHEN_PRESENT) == "custom"


@given(value=anything)
def test_any_other_custom_value_is_refused(value: str) -> None:
    assume(value != "value")
    assert refusal(b"", {"X-Token": value}, CUSTOM) == "custom-wrong"


@given(content=bodies)
def test_verdict_names_the_secret_that_signed(content: bytes) -> None:
    rotating = Expected(("new", "old"))
    assert authenticate(content, {SIGNATURE: signature("new", content)}, rotating, REQUIRED) == "signature"
    by_old = authenticate(content, {SIGNATURE: signature("old", content)}, rotating, REQUIRED)
    assert by_old == "signature-by-previous-secret"


def webhook(*, previous: str | None, expires_at: datetime | None) -> ManagedWebhook:
    return ManagedWebhook(
        id=1,
        opencard_webhook_id=1,
        organization_id=1,
        organization_reference_id="acme",
        endpoint_key="",
        secret="new",
        previous_secret=previous,
        previous_secret_expires_at=expires_at,
        authentication_type=AuthenticationType.NONE,
        credentials=Credentials(),
        acknowledged_at=NOON,
    )


@pytest.mark.parametrize(
    ("now", "good"),
    [
        (NOON - timedelta(microseconds=1), ("new", "old")),
        (NOON, ("new",)),
        (NOON + timedelta(days=1), ("new",)),
    ],
    ids=["before", "at", "after"],
)
def test_the_previous_secret_is_good_until_it_expires(now: datetime, good: tuple[str, ...]) -> None:
    assert webhook(previous="old", expires_at=NOON).expected(now).secrets == good


def test_a_previous_secret_without_an_expiry_is_not_good() -> None:
    assert webhook(previous="old", expires_at=None).expected(NOON).secrets == ("new",)
    assert webhook(previous=None, expires_at=None).expected(NOON).secrets == ("new",)


@given(challenge=st.from_regex(r"\A[A-Za-z0-9]{1,64}\Z"), expected=st.sampled_from([NONE, BASIC, CUSTOM]))
def test_signed_challenge_is_no_delivery(challenge: str, expected: Expected) -> None:
    headers = {SIGNATURE: answer_challenge(challenge, "secret"), **RIGHT[expected.authentication_type]}
    for policy in SignaturePolicy:
        assert refusal(challenge.encode(), headers, expected, policy) == "signature-of-a-challenge"


@given(challenge=st.text(max_size=70), secret=texts)
def test_no_answered_challenge_signs_a_delivery(challenge: str, secret: str) -> None:
    try:
        signed = answer_challenge(challenge, secret)
    except MalformedRequest:
        return
    assert refusal(challenge.encode(), {SIGNATURE: signed}, Expected((secret,))) == "signature-of-a-challenge"
