from __future__ import annotations

import hashlib
import hmac
import json
import string
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from receiver.deliveries.challenge import answer_challenge
from receiver.errors import MalformedRequest

if TYPE_CHECKING:
    from tests.conftest import Acme, Organizations

LETTERS_AND_DIGITS = string.ascii_letters + string.digits
signable = st.text(LETTERS_AND_DIGITS, min_size=1, max_size=64)
unsignable = st.text(max_size=100).filter(lambda text: not is_signable(text))
near_misses = st.builds(
    lambda text, where, odd: text[:where] + odd + text[where:],
    signable,
    st.integers(0, 64),
    st.sampled_from(["\n", "\r", "\0", " ", "_", "-", "{", '"', "\u0663", "\uff11", "\u00e9", "\u0430", "\u017f"]),
)
with_the_same_database = hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def is_signable(text: str) -> bool:
    return 1 <= len(text) <= 64 and set(text) <= set(LETTERS_AND_DIGITS)


def token(secret: str, challenge: str) -> str:
    return hmac.new(secret.encode(), challenge.encode(), hashlib.sha256).hexdigest()


@given(challenge=signable)
@with_the_same_database
def test_challenge_is_answered_with_its_hmac_by_webhook_secret(acme: Acme, challenge: str) -> None:
    response = acme.client.get(acme.path, query_string={"challenge": challenge}, headers={"X-Event": "challenge"})
    assert response.status_code == 200
    assert response.headers["X-Verify-Token"] == token(acme.registration.secret, challenge)


@given(challenge=unsignable | near_misses)
@with_the_same_database
def test_challenge_of_other_than_letters_and_digits_is_refused(acme: Acme, challenge: str) -> None:
    response = acme.client.get(acme.path, query_string={"challenge": challenge})
    assert response.status_code == 400
    assert list(response.json or {}) == ["error"]
    assert "X-Verify-Token" not in response.headers
    assert token(acme.registration.secret, challenge).encode() not in response.data


def test_a_get_without_a_challenge_is_refused(acme: Acme) -> None:
    response = acme.client.get(acme.path)
    assert (response.status_code, "X-Verify-Token" in response.headers) == (400, False)


@given(challenge=unsignable | near_misses)
def test_only_challenges_are_signed(challenge: str) -> None:
    with pytest.raises(MalformedRequest):
        answer_challenge(challenge, "secret")


@given(challenge=signable)
def test_signed_challenge_cannot_be_json_object_or_list(challenge: str) -> None:
    assert answer_challenge(challenge, "secret") == token("secret", challenge)
    try:
        read = json.loads(challenge)
    except json.JSONDecodeError:
        return
    assert not isinstance(read, dict | list)


@given(forged=st.dictionaries(st.text(), st.none() | st.integers() | st.text()))
def test_a_forged_body_is_never_signed(forged: dict[str, object]) -> None:
    with pytest.raises(MalformedRequest):
        answer_challenge(json.dumps(forged), "secret")


@pytest.mark.parametrize("challenge", ["a" * 65, "", "abc\n", "\u0661\u0662\u0663", "\uff41\uff42", "caf\u00e9", "a b"])
def test_the_edges_of_what_is_signed(challenge: str) -> None:
    with pytest.raises(MalformedRequest):
        answer_challenge(challenge, "secret")


def test_each_webhook_answers_with_its_own_secret(organizations: Organizations) -> None:
    acme, globex = organizations.adopt("acme"), organizations.adopt("globex")
    answers = {
        organization.client.get(f"{organization.path}?challenge=abc").headers["X-Verify-Token"]
        for organization in (acme, globex)
    }
    assert answers == {token(acme.registration.secret, "abc"), token(globex.registration.secret, "abc")}


def test_a_challenge_is_answered_with_a_new_secret_at_once(acme: Acme, organizations: Organizations) -> None:
    other = organizations.adopt("globex")
    acme.client.get(f"{acme.path}?challenge=abc")
    acme.execute(
        "UPDATE receiver.webhooks SET secret = other.secret FROM receiver.webhooks AS other"
        " WHERE webhooks.organization_reference_id = 'acme' AND other.organization_reference_id = 'globex'"
    )
    answer = acme.client.get(f"{acme.path}?challenge=abc").headers["X-Verify-Token"]
    assert answer == token(other.registration.secret, "abc")


def test_a_challenge_stores_nothing(acme: Acme) -> None:
    acme.client.get(f"{acme.path}?challenge=abc")
    assert acme.statuses() == []
