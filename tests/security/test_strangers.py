"""Attackers: one knows the URL, one saw a genuine delivery, one owns another tenant."""

from __future__ import annotations

import base64
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from receiver.events.catalogue import EVENT_FLAGS
from receiver.sandbox.signing import sign
from receiver.webhooks.credentials import Credentials
from tests.support.factories import body, sample, snapshot

if TYPE_CHECKING:
    from tests.conftest import Acme, Organizations

EVENT = "card.transaction.authorized"
BASIC = Credentials(basic_username="opencard", basic_password="the-password")
OURS = body(snapshot("authorized"))
FORGED = body(snapshot("authorized", original_amount=Decimal("0.01")))


def everything(acme: Acme) -> list[object]:
    """Return what the EMS can read: the rows of its tables, the feed included."""
    return [
        acme.rows(f"SELECT * FROM ems.{table} ORDER BY 1, 2")  # noqa: S608 - names are ours
        for table in ("transactions", "transaction_states", "events", "card_holders")
    ]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Data-Signature": ""},
        {"X-Data-Signature": "0" * 64},
        {"X-Data-Signature": sign("", FORGED)},
        {"X-Data-Signature": sign("secret", FORGED)},
        {"Authorization": "Basic " + base64.b64encode(b":").decode()},
        {"Authorization": "Basic " + base64.b64encode(b"opencard:").decode()},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer " + "e30.e30."},
        {"Authorization": "Basic"},
        {"Authorization": "\N{LATIN SMALL LETTER E WITH ACUTE}" * 100},
        {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "localhost"},
    ],
)
@pytest.mark.parametrize("credentials", [None, BASIC], ids=["signed", "basic"])
def test_sender_without_the_secret_gets_nothing_stored(
    organizations: Organizations, headers: dict[str, str], credentials: Credentials | None
) -> None:
    acme = organizations.adopt("acme", credentials)
    response = acme.client.post(
        acme.path, data=FORGED, headers={"Content-Type": "application/json", "X-Event": EVENT, **headers}
    )
    assert response.status_code == 401
    assert acme.statuses() == []


def test_a_challenge_signs_no_body_whatever_it_looks_like(acme: Acme) -> None:
    """What answers challenges would otherwise sign what deliveries are proven with."""
    for asked in (FORGED.decode(), "{}", "[]", '"a"', "1.5", "-1", "a b", "a" * 65, "", "\N{FULLWIDTH DIGIT ONE}"):
        answer = acme.client.get(acme.path, query_string={"challenge": asked})
        assert (answer.status_code, "X-Verify-Token" in answer.headers) == (400, False), asked


def test_signature_of_a_challenge_authenticates_no_delivery(acme: Acme) -> None:
    token = acme.client.get(acme.path, query_string={"challenge": "12345"}).headers["X-Verify-Token"]
    response = acme.deliver(EVENT, b"12345", headers={"X-Data-Signature": token})
    assert (response.status_code, acme.statuses()) == (401, [])


def test_signed_delivery_cannot_be_changed(acme: Acme) -> None:
    seen = {"X-Data-Signature": sign(acme.registration.secret, OURS)}
    for changed in (FORGED, OURS + b" ", OURS[:-1], b"", OURS.replace(b"authorized", b"cleared", 1)):
        assert acme.deliver(EVENT, changed, headers={**seen}).status_code == 401
    assert acme.statuses() == []


def test_delivery_sent_again_changes_nothing(acme: Acme) -> None:
    acme.apply(EVENT, OURS)
    before = everything(acme)
    for _ in range(3):
        acme.apply(EVENT, OURS)
    assert acme.statuses() == ["processed", "duplicate", "duplicate", "duplicate"]
    assert everything(acme) == before


KINDS = {
    "card holder": [name for name in EVENT_FLAGS if name.startswith("card_holder.")],
    "TPA": ["tpa.signed"],
    "purchase": [f"card.transaction.{state}" for state in ("authorized", "cleared", "deleted", "invoiced")],
    "receipt": ["receipt.fetched"],
    "VAT": ["transaction.true.vat"],
    "items": ["transaction.line.items"],
    "CO2": [name for name in EVENT_FLAGS if "environmental" in name],
    "invoice": ["invoice.created"],
}


def test_every_event_is_of_one_kind() -> None:
    assert sorted(name for names in KINDS.values() for name in names) == sorted(EVENT_FLAGS)


@pytest.mark.parametrize("kind", KINDS)
def test_replayed_body_is_harmless_as_another_event_type(acme: Acme, kind: str) -> None:
    """OpenCard signs the body and not the event's name."""
    seen = body(sample(KINDS[kind][0]))
    for event in EVENT_FLAGS.keys() - set(KINDS[kind]):
        acme.deliver_ok(event, seen)
    acme.process()
    assert set(acme.statuses()) == {"dead"}


def test_a_delivery_that_was_seen_opens_no_other_endpoint(organizations: Organizations) -> None:
    acme, globex = organizations.adopt("acme"), organizations.adopt("globex")
    response = globex.client.post(globex.path, data=OURS, headers=acme.registration.headers(EVENT, OURS))
    assert response.status_code == 401
    assert acme.statuses() == []


@pytest.mark.parametrize("claimed", ["acme", "acme ", "ACME", "acme\x00", "", None, 0, [], {"$ne": ""}])
def test_tenant_writes_only_to_its_own_rows(organizations: Organizations, claimed: object) -> None:
    acme, globex = organizations.adopt("acme"), organizations.adopt("globex")
    acme.apply(EVENT, OURS)
    before = everything(acme)
    for state in ("authorized", "cleared", "invoiced", "deleted"):
        payload = snapshot(state, organization={"reference_id": claimed}, original_amount=Decimal("0.01"))
        globex.deliver_ok(f"card.transaction.{state}", payload)
    globex.deliver_ok("transaction.true.vat", sample("transaction.true.vat", organization={"reference_id": claimed}))
    globex.process()
    assert set(acme.statuses()[1:]) <= {"quarantined", "dead"}
    assert everything(acme) == before


def test_the_ids_of_another_tenant_are_of_no_use(organizations: Organizations) -> None:
    acme, globex = organizations.adopt("acme"), organizations.adopt("globex")
    acme.apply(EVENT, OURS)
    before = acme.rows("SELECT * FROM ems.transactions WHERE organization_reference_id = 'acme'")
    globex.apply("card.transaction.deleted", snapshot("deleted", organization={"reference_id": "globex"}))
    assert acme.rows("SELECT * FROM ems.transactions WHERE organization_reference_id = 'acme'") == before
    assert acme.value("SELECT state FROM ems.transactions WHERE organization_reference_id = 'globex'") == "deleted"
