"""A card holder who was deleted long enough ago leaves no reference behind, and nothing that comes late brings it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from receiver.encryption import Encryption
from receiver.events.content import fingerprint
from receiver.migrate import target_metadata
from receiver.ops.retention.erasure import Erasing
from receiver.ops.retracting import retract_deliveries, undo_retraction
from receiver.records import write as writing
from tests.support.factories import body, card_holder, enrichment, sample, snapshot
from tests.support.killing import Killed, end_sessions, living
from tests.support.replay_steps import ids
from tests.support.retention_steps import SHORTEST, days_pass, ems, removed, retain
from tests.support.service_states import miss_all_in_the_log
from tests.support.verifying import found

if TYPE_CHECKING:
    from receiver.settings import Settings
    from tests.conftest import Acme, Organizations

WHO = "employee-of-the-month"
LAST_FOUR = "last-four"
CARD_ID = 987654321
CUSTOMER = "customer-of-the-bank"
PERSON: dict[str, Any] = {"card_holder": {"reference_id": WHO, "name": "Jane Roe"}, "nickname": "Jane"}
ENRICHMENTS = (
    "receipt.fetched",
    "transaction.true.vat",
    "transaction.line.items",
    "environmental.impact.aland_index",
)
TRACES = (WHO, LAST_FOUR, str(CARD_ID), CUSTOMER, "Jane")


def purchase(state: str, **changes: Any) -> dict[str, Any]:
    personal: dict[str, Any] = {
        "card_last_four": LAST_FOUR,
        "card_id": CARD_ID,
        "card_issuer_customer_number": CUSTOMER,
    }
    return snapshot(state, **{**PERSON, **personal, **changes})


def everything(acme: Acme) -> str:
    """Return all that the database holds, as text."""
    with acme.engine.connect() as connection:
        return "\n".join(
            str(row[0])
            for table in target_metadata().sorted_tables
            for row in connection.execute(text(f"SELECT row_to_json(t)::text FROM {table.fullname} AS t"))  # noqa: S608
        )


def traces(acme: Acme) -> list[str]:
    """Return what in the database still leads to the person, bytes included."""
    held = everything(acme)
    return [trace for trace in TRACES if trace in held or trace.encode().hex() in held]


def live(acme: Acme) -> None:
    """Let the person live: created, buying something, deleted; and a retry, and something that makes no sense."""
    acme.deliver_ok("card_holder.created", card_holder(WHO))
    for state in ("authorized", "cleared", "cleared"):
        acme.deliver_ok(f"card.transaction.{state}", purchase(state))
    for event in ENRICHMENTS:
        acme.deliver_ok(event, enrichment(event, **PERSON))
    acme.deliver_ok("receipt.fetched", enrichment("receipt.fetched", transaction="never-reported", **PERSON))
    acme.deliver_ok("card.transaction.cleared", purchase("cleared", original_amount="a lot"))
    acme.deliver_ok("card_holder.deleted", card_holder(WHO))
    acme.process()


def erase(acme: Acme, settings: Settings) -> dict[str, int]:
    outcome = retain(acme.engine, settings, erase_card_holders_days=30)
    assert outcome.caught_up
    return removed(outcome)


@pytest.fixture
def erased(acme: Acme, settings: Settings) -> Acme:
    """The person is erased; no other is."""
    live(acme)
    acme.apply("card.transaction.cleared", snapshot("cleared", transaction="of another"))
    days_pass(acme.engine, 31)
    assert erase(acme, settings) == {"card_holders": 1}
    return acme


def pseudonym(acme: Acme) -> str:
    found: str = acme.value("SELECT pseudonym FROM receiver.erased_card_holders")
    return found


def test_nothing_leads_to_the_person_any_more(acme: Acme, settings: Settings) -> None:
    live(acme)
    days_pass(acme.engine, 31)
    assert set(traces(acme)) == set(TRACES)
    erase(acme, settings)
    assert traces(acme) == []
    assert "erased-" in pseudonym(acme)


def test_the_accounting_facts_stay(acme: Acme, settings: Settings) -> None:
    live(acme)
    days_pass(acme.engine, 31)
    before = ems(acme.engine)
    erase(acme, settings)
    after = ems(acme.engine)
    who = pseudonym(acme)
    personal = {"card_last_four": None, "card_id": None, "card_issuer_customer_number": None}
    after["ems.events"] = [row for row in after["ems.events"] if row["type"] != "receiver.changed"]
    for table, rows in before.items():
        assert len(after[table]) == len(rows), table
        if table == "ems.card_holders":
            continue
        for row in rows:
            expected = {
                name: personal.get(name, who if name == "card_holder_reference_id" else value)
                for name, value in row.items()
                if name not in {"payload", "fingerprint", "subject_id", "expiration_time"}  # days_pass moves the last
            }
            assert expected in [{name: it[name] for name in expected} for it in after[table]], table
    (holder,) = after["ems.card_holders"]
    assert holder["erased_at"] is not None
    assert {**holder, "erased_at": None, "reference_id": WHO} == before["ems.card_holders"][0]
    (state,) = [row for row in acme.rows("SELECT * FROM ems.transaction_states") if row["state"] == "cleared"]
    payload = purchase("cleared")
    assert state["payload"] == {
        **{name: value for name, value in state["payload"].items() if name in payload},
        "card_holder": {"reference_id": who},
    }
    assert state["payload"]["original_amount"] == float(payload["original_amount"])


def test_retracted_events_are_erased_and_can_be_restored(acme: Acme, settings: Settings) -> None:
    live(acme)
    miss_all_in_the_log(acme.engine, "acme")
    forged = ids(acme)[1:6]
    retract_deliveries(acme.engine, forged, by="kim@ops", reason="forged")
    acme.process()
    days_pass(acme.engine, 31)
    erase(acme, settings)
    assert traces(acme) == []
    undo_retraction(acme.engine, forged, reason="theirs")
    assert traces(acme) == []
    holders = [row["card_holder_reference_id"] for row in acme.rows("SELECT * FROM ems.transactions")]
    assert holders == [pseudonym(acme)]
    assert found(acme) == []


def test_others_keep_what_is_theirs(erased: Acme) -> None:
    other = erased.row("SELECT * FROM ems.transactions WHERE id = 'of another'")
    assert other["card_holder_reference_id"] == "employee-17"
    assert other["card_last_four"] is not None
    assert erased.value("SELECT count(body) FROM receiver.deliveries WHERE transaction_id = 'of another'") == 1


def test_erasure_affects_one_of_two_equal_references(organizations: Organizations, settings: Settings) -> None:
    acme, beta = organizations.adopt("acme"), organizations.adopt("beta")
    live(acme)
    beta.apply("card_holder.created", card_holder(WHO, "beta"))
    days_pass(acme.engine, 31)
    erase(acme, settings)
    assert beta.rows("SELECT reference_id FROM ems.card_holders WHERE organization_reference_id = 'beta'") == [
        {"reference_id": WHO}
    ]
    assert beta.value("SELECT count(body) FROM receiver.deliveries") == 1


@pytest.mark.parametrize("days", [0, 31])
def test_no_person_is_erased_before_the_time(acme: Acme, settings: Settings, days: int) -> None:
    live(acme)
    days_pass(acme.engine, 30.5)
    assert removed(retain(acme.engine, settings, erase_card_holders_days=days)) == {}
    assert set(traces(acme)) == set(TRACES)


def test_person_created_again_before_is_not_erased(acme: Acme, settings: Settings) -> None:
    live(acme)
    days_pass(acme.engine, 20)
    acme.apply("card_holder.created", card_holder(WHO))
    days_pass(acme.engine, 20)
    assert erase(acme, settings) == {}


def test_to_erase_again_changes_nothing(erased: Acme, settings: Settings) -> None:
    def stored() -> list[object]:
        tables = ("stored_deliveries", "bodies", "outcomes", "erased_card_holders", "erasure_key")
        return [ems(erased.engine), *(erased.rows(f"SELECT xmin, t.* FROM receiver.{table} AS t") for table in tables)]  # noqa: S608

    before = stored()
    erased.execute("UPDATE receiver.retention_walks SET position = 0")
    assert erase(erased, settings) == {}
    assert stored() == before


def test_reference_cannot_be_found_by_trying_all(acme: Acme, settings: Settings) -> None:
    live(acme)
    days_pass(acme.engine, 31)
    guesses = [
        fingerprint("card_holder.created", body(card_holder(WHO)), "acme"),
        fingerprint("card_holder.deleted", body(card_holder(WHO)), "acme"),
        fingerprint("card.transaction.cleared", body(purchase("cleared")), "acme"),
    ]
    assert all(guess.hex() in everything(acme) for guess in guesses)
    erase(acme, settings)
    assert not [guess.hex() for guess in guesses if guess.hex() in everything(acme)]


def test_late_purchase_gets_the_pseudonym_and_loses_its_body(erased: Acme) -> None:
    who = pseudonym(erased)
    erased.apply("card.transaction.invoiced", purchase("invoiced", invoice_number="4711"))
    assert traces(erased) == []
    row = erased.row("SELECT * FROM ems.transactions WHERE card_holder_reference_id = :who", who=who)
    assert (row["state"], row["invoice_number"]) == ("invoiced", "4711")
    assert erased.value("SELECT body FROM receiver.deliveries ORDER BY id DESC LIMIT 1") is None
    noticed = erased.row("SELECT late_deliveries, late_at FROM receiver.erased_card_holders")
    assert noticed["late_deliveries"] == 1
    assert noticed["late_at"] is not None


def test_a_retry_of_a_late_one_is_a_retry(erased: Acme) -> None:
    for _ in range(2):
        erased.apply("card.transaction.invoiced", purchase("invoiced"))
    assert erased.statuses()[-2:] == ["processed", "duplicate"]
    assert traces(erased) == []
    assert erased.value("SELECT count(*) FROM ems.events WHERE type = 'card.transaction.invoiced'") == 1


def test_pending_equal_event_keeps_its_body_until_processed(erased: Acme) -> None:
    vat = enrichment("transaction.true.vat", transaction="late", **PERSON)
    for hours in (30, 0):
        erased.deliver_ok("transaction.true.vat", vat)
        erased.execute(
            "UPDATE receiver.stored_deliveries SET occurred_at = occurred_at - make_interval(hours => :hours)"
            " WHERE id = (SELECT max(id) FROM receiver.stored_deliveries)",
            hours=hours,
        )
    erased.process()
    assert erased.statuses()[-2:] == ["processed", "processed"]
    assert traces(erased) == []


def test_a_backdated_late_event_stays_concealed(erased: Acme) -> None:
    for name, hours in (("first", 0), ("second", 5), ("first", 9)):
        vat = enrichment("transaction.true.vat", transaction="late", purchase_country=name[:2].upper(), **PERSON)
        erased.deliver_ok("transaction.true.vat", vat)
        erased.execute(
            "UPDATE receiver.stored_deliveries SET occurred_at = occurred_at - make_interval(hours => :hours)"
            " WHERE id = (SELECT max(id) FROM receiver.stored_deliveries)",
            hours=hours,
        )
        erased.process()
    assert erased.statuses()[-3:] == ["processed", "processed", "duplicate"]
    assert traces(erased) == []


def test_late_card_holder_events_get_the_pseudonym(erased: Acme) -> None:
    erased.apply("card_holder.deleted", card_holder(WHO))
    erased.apply("card_holder.email.failed", card_holder(WHO))
    assert erased.statuses()[-2:] == ["duplicate", "processed"]
    assert traces(erased) == []
    assert erased.value("SELECT count(*) FROM ems.card_holders") == 1


def test_nul_and_unknown_fields_are_pseudonymized(erased: Acme) -> None:
    erased.apply("card.transaction.authorized", purchase("authorized", transaction="late", purchase_city="Ma\0lmo"))
    assert traces(erased) == []
    assert erased.value("SELECT purchase_city FROM ems.transactions WHERE id = 'late'") == "Ma\ufffdlmo"


def test_person_created_again_later_has_the_reference(erased: Acme, settings: Settings) -> None:
    erased.apply("card_holder.created", card_holder(WHO))
    erased.apply("card.transaction.cleared", purchase("cleared", transaction="of the new life"))
    assert erased.statuses()[-2:] == ["processed", "processed"]
    new = erased.row("SELECT * FROM ems.card_holders WHERE reference_id = :who", who=WHO)
    assert (new["deleted_at"], new["identified_at"], new["erased_at"]) == (None, None, None)
    assert erased.value("SELECT card_holder_reference_id FROM ems.transactions WHERE id = 'of the new life'") == WHO
    assert erased.value("SELECT count(*) FROM ems.card_holders") == 2
    erased.apply("card_holder.deleted", card_holder(WHO))
    days_pass(erased.engine, 31)
    assert erase(erased, settings) == {"card_holders": 1}
    assert traces(erased) == []
    assert erased.value("SELECT count(*) FROM ems.card_holders") == 1, "both lives have one pseudonym"


def test_held_deliveries_that_name_the_person_lose_their_body(erased: Acme, settings: Settings) -> None:
    erased.apply("card.transaction.cleared", purchase("cleared", original_amount="a lot"))
    assert WHO in traces(erased)
    erased.execute("UPDATE receiver.retention_walks SET pass_began_at = pass_began_at - interval '8 days'")
    erase(erased, settings)
    assert traces(erased) == []
    assert erased.value("SELECT count(*) FROM receiver.processing_attempts") == 0


def test_events_processed_during_an_erasure_are_erased(acme: Acme, settings: Settings) -> None:
    live(acme)
    days_pass(acme.engine, 31)
    acme.deliver_ok("card.transaction.invoiced", purchase("invoiced"))
    mark(acme, settings)
    assert set(traces(acme)) == set(TRACES)
    acme.process()
    assert acme.value("SELECT card_holder_reference_id FROM ems.transactions") == pseudonym(acme)
    assert erase(acme, settings) == {"card_holders": 1}
    assert traces(acme) == []
    acme.apply("card.transaction.invoiced", purchase("invoiced"))
    assert acme.statuses()[-1] == "duplicate"


def test_no_one_else_is_marked_during_an_erasure(acme: Acme, settings: Settings) -> None:
    live(acme)
    days_pass(acme.engine, 31)
    mark(acme, settings)
    acme.apply("card_holder.deleted", card_holder("another"))
    days_pass(acme.engine, 31)
    assert erase(acme, settings) == {"card_holders": 1}
    assert acme.value("SELECT count(*) FROM ems.card_holders WHERE reference_id = 'another'") == 1
    assert erase(acme, settings) == {"card_holders": 1}
    assert acme.value("SELECT count(*) FROM ems.card_holders WHERE erased_at IS NULL") == 0


def mark(acme: Acme, settings: Settings) -> None:
    """Begin an erasure that is cut off before its first slice."""
    due = datetime.now(UTC) - timedelta(days=30)
    Erasing(acme.engine, Encryption(settings.encryption_keys), before=due, write=True).step()


def test_batch_prepared_before_the_mark_is_prepared_again(
    acme: Acme, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    live(acme)
    days_pass(acme.engine, 31)
    acme.deliver_ok("card.transaction.invoiced", purchase("invoiced", transaction="meanwhile"))
    commit, marks = writing.commit, [mark]

    def marked_meanwhile(*arguments: Any) -> None:
        if marks:
            marks.pop()(acme, settings)
        commit(*arguments)

    monkeypatch.setattr("receiver.processing.batch.commit", marked_meanwhile)
    acme.process()
    row = acme.row("SELECT card_holder_reference_id FROM ems.transactions WHERE id = 'meanwhile'")
    assert row["card_holder_reference_id"] == pseudonym(acme)


def test_a_dry_run_counts_who_would_be_erased(acme: Acme, settings: Settings) -> None:
    live(acme)
    days_pass(acme.engine, 31)
    before = ems(acme.engine)
    assert removed(retain(acme.engine, settings, write=False, erase_card_holders_days=30)) == {"card_holders": 1}
    assert ems(acme.engine) == before
    assert acme.value("SELECT count(*) FROM receiver.erased_card_holders") == 0
    assert acme.value("SELECT count(*) FROM receiver.erasure_key") == 0


def test_late_events_are_distinguished_after_retention(erased: Acme, settings: Settings) -> None:
    days_pass(erased.engine, 100)
    retain(erased.engine, settings, erase_card_holders_days=30, **SHORTEST)
    erased.apply("card_holder.deleted", card_holder(WHO))
    assert erased.statuses()[-1] == "duplicate"
    erased.apply("tpa.signed", sample("tpa.signed"))
    assert traces(erased) == []


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of a cursor, left open by the death
def test_next_run_completes_an_erasure_killed_at_any_step(acme: Acme, settings: Settings) -> None:
    tables = ", ".join(table.fullname for table in target_metadata().sorted_tables if table.name != "webhooks")
    steps = range(1)
    last = killed = 0
    while last < len(steps) or last == 0:
        acme.execute(f"TRUNCATE {tables} CASCADE")
        live(acme)
        days_pass(acme.engine, 31)
        before = ems(acme.engine)
        if last == 0:
            with living(acme.engine, None) as undisturbed:
                erase(acme, settings)
            steps = range(undisturbed[0] + 1)
        else:
            killed += dies_at(acme, settings, last)
            end_sessions(acme.engine)
            retain(acme.engine, settings, erase_card_holders_days=30)
        after = ems(acme.engine)
        after["ems.events"] = [row for row in after["ems.events"] if row["type"] != "receiver.changed"]
        assert traces(acme) == [], last
        assert {table: len(rows) for table, rows in after.items()} == {
            table: len(rows) for table, rows in before.items()
        }
        assert acme.value("SELECT count(*) FROM receiver.erased_card_holders WHERE finished_at IS NULL") == 0
        last += 1
    assert killed > len(steps) / 2


def dies_at(acme: Acme, settings: Settings, step: int) -> bool:
    """Erase, and return whether that was killed: others' sessions decide whether it takes a step more or less."""
    try:
        with living(acme.engine, step):
            erase(acme, settings)
    except Killed:
        return True
    return False


def test_deliveries_are_processed_during_retention_and_erasure(acme: Acme, settings: Settings) -> None:
    live(acme)
    for number in range(30):
        acme.deliver_ok("card.transaction.cleared", snapshot("cleared", transaction=f"old-{number}"))
    acme.process()
    days_pass(acme.engine, 40)
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            acme.execute("UPDATE receiver.retention_walks SET position = 0")
            retain(acme.engine, settings, erase_card_holders_days=30, **SHORTEST)

    with ThreadPoolExecutor(1) as background:
        working = background.submit(work)
        for number in range(30):
            acme.deliver_ok("card.transaction.authorized", purchase("authorized", transaction=f"new-{number}"))
            acme.deliver_ok(
                "card.transaction.cleared", snapshot("cleared", transaction=f"old-{number}", mcc_code=str(number))
            )
            acme.process()
        done.set()
        working.result()
    assert acme.value("SELECT count(*) FROM ems.transactions") == 61
    assert set(acme.statuses()[-60:]) == {"processed"}
    retain(acme.engine, settings, erase_card_holders_days=30, **SHORTEST)
    assert traces(acme) == []
    assert acme.value("SELECT count(*) FROM ems.transactions WHERE mcc_code ~ '^[0-9]{1,2}$'") == 30
