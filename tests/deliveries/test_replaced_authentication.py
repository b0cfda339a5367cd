"""What proves a delivery while a webhook's secret and credentials are replaced."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.deliveries.authentication import authenticate
from receiver.errors import NotAuthentic
from receiver.settings import SignaturePolicy
from receiver.webhooks.credentials import Authentication, AuthenticationType, Credentials, Expected
from receiver.webhooks.managed import ManagedWebhook
from receiver.webhooks.oauth import issue_token

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WEBHOOK = 7
SIGNATURE = "X-Data-Signature"


def basic(password: str) -> Authentication:
    return Authentication(AuthenticationType.BASIC, Credentials("opencard", password))


def custom(key: str, value: str) -> Authentication:
    return Authentication(AuthenticationType.CUSTOM, Credentials(custom_key=key, custom_value=value))


def oauth(client_secret: str) -> Authentication:
    credentials = Credentials(oauth_client_id="client", oauth_client_secret=client_secret)
    return Authentication(AuthenticationType.OAUTH, credentials)


NONE = Authentication(AuthenticationType.NONE, Credentials())
AUTHENTICATIONS = [
    NONE,
    basic("one"),
    basic("two"),
    custom("X-Token", "one"),
    custom("X-Token", "two"),
    custom("X-Other", "one"),
    oauth("one"),
    oauth("two"),
]
"""Any two that differ are proven by different headers, or by different values of the same one."""


def proof(authentication: Authentication) -> dict[str, str]:
    """Return the headers that prove *authentication*."""
    credentials = authentication.credentials
    match authentication.type:
        case AuthenticationType.NONE:
            return {}
        case AuthenticationType.BASIC:
            pair = f"{credentials.basic_username}:{credentials.basic_password}".encode()
            return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
        case AuthenticationType.CUSTOM:
            return {credentials.custom_key: credentials.custom_value}
        case AuthenticationType.OAUTH:
            token = issue_token(
                webhook_id=WEBHOOK,
                client_id=credentials.oauth_client_id,
                client_secret=credentials.oauth_client_secret,
                now=NOON,
            )
            return {"Authorization": f"Bearer {token}"}


def expecting(current: Authentication, previous: Authentication | None, *, secrets: tuple[str, ...]) -> Expected:
    return Expected(secrets, current.type, current.credentials, previous, WEBHOOK, NOON)


def signature(secret: str, body: bytes) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def outcome(body: bytes, headers: dict[str, str], expected: Expected, policy: SignaturePolicy) -> str | None:
    """Return the verdict, or ``None`` for a refusal."""
    try:
        return authenticate(body, headers, expected, policy)
    except NotAuthentic:
        return None


@given(
    current=st.sampled_from(AUTHENTICATIONS),
    previous=st.none() | st.sampled_from(AUTHENTICATIONS),
    sent=st.lists(st.sampled_from(AUTHENTICATIONS), max_size=2),
    signed_by=st.sampled_from([None, "new", "old", "another"]),
    rotating=st.booleans(),
    policy=st.sampled_from(SignaturePolicy),
)
def test_delivery_needs_one_valid_proof_and_no_wrong_one(
    current: Authentication,
    previous: Authentication | None,
    sent: list[Authentication],
    signed_by: str | None,
    rotating: bool,  # noqa: FBT001 - hypothesis passes by name
    policy: SignaturePolicy,
) -> None:
    body = b"{}"
    headers: dict[str, str] = {}
    for authentication in sent:
        headers |= proof(authentication)
    if signed_by is not None:
        headers[SIGNATURE] = signature(signed_by, body)
    secrets = ("new", "old") if rotating else ("new",)

    signature_is_right = signed_by is None or signed_by in secrets
    signature_is_there = signed_by is not None or policy is not SignaturePolicy.REQUIRED
    taken = (
        signature_is_right
        and signature_is_there
        and any(
            (signed_by is not None) if good is NONE else proof(good).items() <= headers.items()
            for good in (current, previous)
            if good is not None
        )
    )
    verdict = outcome(body, headers, expecting(current, previous, secrets=secrets), policy)
    assert (verdict is not None) == taken
    assert verdict is None or verdict != ""


@given(
    current=st.sampled_from(AUTHENTICATIONS),
    previous=st.none() | st.sampled_from(AUTHENTICATIONS),
    authorization=st.none() | st.text(max_size=60),
    token=st.none() | st.text(max_size=20),
)
def test_unsigned_delivery_without_valid_proof_is_refused(
    current: Authentication, previous: Authentication | None, authorization: str | None, token: str | None
) -> None:
    given_headers = {"Authorization": authorization, "X-Token": token and f"{token}!", "X-Other": token and f"{token}!"}
    headers = {name: value for name, value in given_headers.items() if value is not None}
    expected = expecting(current, previous, secrets=("new", "old"))
    assert outcome(b"{}", headers, expected, SignaturePolicy.WHEN_PRESENT) is None


@pytest.mark.parametrize("current", AUTHENTICATIONS)
@pytest.mark.parametrize("previous", AUTHENTICATIONS[1:])
def test_verdict_names_previous_credentials_as_the_proof(current: Authentication, previous: Authentication) -> None:
    if current == previous:
        return
    expected = expecting(current, previous, secrets=("secret",))
    verdict = outcome(b"{}", proof(previous), expected, SignaturePolicy.WHEN_PRESENT)
    assert verdict == f"{previous.type}-by-previous-credentials"
    if current is not NONE:
        assert outcome(b"{}", proof(current), expected, SignaturePolicy.WHEN_PRESENT) == current.type


def test_both_may_be_previous_ones() -> None:
    expected = expecting(basic("new"), basic("old"), secrets=("new", "old"))
    headers = {SIGNATURE: signature("old", b"{}"), **proof(basic("old"))}
    verdict = outcome(b"{}", headers, expected, SignaturePolicy.REQUIRED)
    assert verdict == "signature-by-previous-secret+basic-by-previous-credentials"


def test_refusal_names_the_error_of_current_credentials() -> None:
    expected = expecting(basic("new"), custom("X-Token", "old"), secrets=("secret",))
    with pytest.raises(NotAuthentic) as refused:
        authenticate(b"{}", {"X-Token": "wrong"}, expected, SignaturePolicy.WHEN_PRESENT)
    assert refused.value.reason == "basic-missing"


@pytest.mark.parametrize("kind", [kind for kind in AuthenticationType if kind is not AuthenticationType.NONE])
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic Og=="}, {"Authorization": "Bearer a.b."}, {"": ""}])
def test_without_stored_credentials_unsigned_is_refused(kind: AuthenticationType, headers: dict[str, str]) -> None:
    for expected in (Expected(("secret",), kind), Expected(("secret",), previous=Authentication(kind, Credentials()))):
        assert outcome(b"{}", headers, expected, SignaturePolicy.WHEN_PRESENT) is None


REPLACED = ManagedWebhook(
    id=WEBHOOK,
    opencard_webhook_id=1,
    organization_id=1,
    organization_reference_id="acme",
    endpoint_key="",
    secret="new",
    previous_secret="old",
    previous_secret_expires_at=NOON,
    authentication_type=AuthenticationType.BASIC,
    credentials=basic("new").credentials,
    previous_authentication=basic("old"),
    previous_credentials_expires_at=NOON + timedelta(hours=1),
    acknowledged_at=NOON - timedelta(days=1),
)


@pytest.mark.parametrize(
    ("passed", "secrets", "previous"),
    [
        (timedelta(microseconds=-1), ("new", "old"), basic("old")),
        (timedelta(0), ("new",), basic("old")),
        (timedelta(hours=1, microseconds=-1), ("new",), basic("old")),
        (timedelta(hours=1), ("new",), None),
    ],
)
def test_acknowledged_previous_proofs_are_valid_until_expiry(
    passed: timedelta, secrets: tuple[str, ...], previous: Authentication | None
) -> None:
    expected = REPLACED.expected(NOON + passed)
    assert (expected.secrets, expected.previous) == (secrets, previous)
    assert expected.current == basic("new")


@given(
    now=st.datetimes(timezones=st.just(UTC)),
    acknowledged_at=st.none() | st.datetimes(timezones=st.just(UTC)),
    secret_expires=st.none() | st.datetimes(timezones=st.just(UTC)),
    credentials_expire=st.none() | st.datetimes(timezones=st.just(UTC)),
)
def test_previous_proofs_expire_only_once_acknowledged(
    now: datetime,
    acknowledged_at: datetime | None,
    secret_expires: datetime | None,
    credentials_expire: datetime | None,
) -> None:
    expected = dataclasses.replace(
        REPLACED,
        acknowledged_at=acknowledged_at,
        previous_secret_expires_at=secret_expires,
        previous_credentials_expires_at=credentials_expire,
    ).expected(now)

    def good(expires_at: datetime | None) -> bool:
        return acknowledged_at is None if expires_at is None else now < expires_at

    assert expected.secrets == (("new", "old") if good(secret_expires) else ("new",))
    assert expected.previous == (basic("old") if good(credentials_expire) else None)


def test_new_credentials_do_not_revive_an_expired_secret() -> None:
    replacing = dataclasses.replace(
        REPLACED,
        acknowledged_at=None,
        previous_secret_expires_at=NOON,
        previous_credentials_expires_at=None,
    ).expected(NOON)
    assert (replacing.secrets, replacing.previous) == (("new",), basic("old"))


def test_new_secret_does_not_revive_expired_credentials() -> None:
    replacing = dataclasses.replace(
        REPLACED,
        acknowledged_at=None,
        previous_secret_expires_at=None,
        previous_credentials_expires_at=NOON,
    ).expected(NOON)
    assert (replacing.secrets, replacing.previous) == (("new", "old"), None)


def test_acknowledgment_without_overlap_ends_the_previous() -> None:
    acknowledged = dataclasses.replace(
        REPLACED, previous_secret_expires_at=None, previous_credentials_expires_at=None
    ).expected(NOON)
    assert (acknowledged.secrets, acknowledged.previous) == (("new",), None)


def test_unacknowledged_new_webhook_has_nothing_previous() -> None:
    new = dataclasses.replace(REPLACED, acknowledged_at=None, previous_secret=None, previous_authentication=None)
    assert (new.expected(NOON).secrets, new.expected(NOON).previous) == (("new",), None)


def test_repr_of_a_webhook_contains_no_secret() -> None:
    replaced = dataclasses.replace(
        REPLACED,
        secret="the-secret",
        previous_secret="the-previous-secret",
        credentials=oauth("the-client-secret").credentials,
        previous_authentication=custom("X-Token", "the-value"),
        acknowledged_at=None,
    )
    for described in (replaced, replaced.expected(NOON), replaced.expected(NOON).current):
        assert "the-" not in repr(described)
