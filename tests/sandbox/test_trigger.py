"""``receiver trigger``: events on demand from the local OpenCard, and never from the real one."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from receiver.cli import main
from receiver.counters import RECONCILE_RUNS
from receiver.db import held_lock
from receiver.events.catalogue import ALIASES, EVENT_FLAGS
from receiver.locks import LockFamily, key_of
from receiver.ops.deliveries.fixture import make_fixture
from receiver.sandbox.receipt_files import name_in, receipt_file
from receiver.sandbox.send_again import trigger_again
from receiver.settings import load_settings
from tests.support.factories import body, snapshot
from tests.support.log_lines import logging_as_it_was
from tests.support.provider_ends import Receiver, ServedProvider, opencard, receiver, webhooks_of
from tests.support.reconcile_steps import process, reconcile, rows
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from receiver.sandbox.provider import ProviderOrganization
    from tests.support.world import World

CLEARED = "card.transaction.cleared"


@pytest.fixture
def party() -> Iterator[ServedProvider]:
    with opencard() as party:
        yield party


@pytest.fixture
def acme(party: ServedProvider) -> ProviderOrganization:
    return party.provider.state.add_organization("acme", buyer_party="5561234567")


@pytest.fixture
def ems(party: ServedProvider, acme: ProviderOrganization) -> Iterator[Receiver]:
    with receiver() as ems:
        party.register(acme, ems.url)
        yield ems


@pytest.fixture
def trigger(party: ServedProvider) -> Callable[..., Result]:
    def trigger(*arguments: object, organization: str = "acme") -> Result:
        command = ["trigger", *map(str, arguments), "--organization", organization]
        return CliRunner(env={"OPENCARD_API_URL": party.url, "DATABASE_URL": None}).invoke(main, command)

    return trigger


def arrived(ems: Receiver) -> list[tuple[str, dict[str, Any]]]:
    return [(each.event, json.loads(each.body, parse_float=str)) for each in ems.arrived]


def test_an_event_is_sent_with_the_fields_that_are_set(ems: Receiver, trigger: Callable[..., Result]) -> None:
    ran = trigger(
        CLEARED, "--set", "original_amount=12.30", "--set", "purchase_merchant=Café Müller", "--set", "mcc_code=5812",
        "--set", "vat_rate=null", "--set", "card_holder.reference_id=employee-17", "--json",
    )  # fmt: skip
    assert ran.exit_code == 0, ran.output
    ((event, payload),) = arrived(ems)
    assert event == CLEARED
    assert (payload["original_amount"], payload["purchase_merchant"], payload["mcc_code"]) == (
        "12.30",
        "Café Müller",
        "5812",
    )
    assert (payload["vat_rate"], payload["card_holder"]) == (None, {"reference_id": "employee-17"})
    (shown,) = json.loads(ran.stdout)
    assert shown == {
        "event": CLEARED,
        "organization_reference_id": "acme",
        "id": payload["id"],
        "status": 200,
        "sent": True,
    }


def test_a_story_is_about_one_transaction(ems: Receiver, trigger: Callable[..., Result]) -> None:
    assert trigger("authorized", "--then", "cleared", "--then", "receipt.fetched", "--then", "invoiced").exit_code == 0
    events, payloads = zip(*arrived(ems), strict=True)
    assert [event.rsplit(".", 1)[1] for event in events] == ["authorized", "cleared", "fetched", "invoiced"]
    authorized, cleared, receipt, invoiced = payloads
    assert authorized["id"] == cleared["id"] == receipt["transaction"]["id"] == invoiced["id"]
    assert (cleared["state"], invoiced["state"]) == ("cleared", "invoiced")
    assert receipt["card_holder"] == authorized["card_holder"]


def test_each_event_and_alias_can_be_sent(ems: Receiver, trigger: Callable[..., Result]) -> None:
    events = [*EVENT_FLAGS, *ALIASES]
    for event in events:
        ran = trigger(event)
        assert ran.exit_code == 0, ran.output
    assert [name for name, _ in arrived(ems)] == events


def test_count_makes_new_ids_and_duplicate_repeats(ems: Receiver, trigger: Callable[..., Result]) -> None:
    assert trigger(CLEARED, "--count", 3, "--duplicate").exit_code == 0
    ids = [payload["id"] for _, payload in arrived(ems)]
    assert len(ids) == 6
    assert ids[::2] == ids[1::2]
    assert len(set(ids)) == 3


def test_lost_event_is_only_in_the_log(
    party: ServedProvider, acme: ProviderOrganization, ems: Receiver, trigger: Callable[..., Result]
) -> None:
    ran = trigger(CLEARED, "--lose")
    assert (ran.exit_code, "only in the log" in ran.stdout) == (0, True)
    assert arrived(ems) == []
    (webhook,) = party.get(webhooks_of(acme))["data"]
    assert len(party.all_pages(f"{webhooks_of(acme)}/{webhook['id']}/events")) == 1


def test_late_event_has_an_earlier_attempt_in_the_log(
    party: ServedProvider, ems: Receiver, trigger: Callable[..., Result]
) -> None:
    assert trigger(CLEARED, "--late", "2d").exit_code == 0
    assert len(arrived(ems)) == 1
    (webhook,) = party.provider.state.webhooks()
    times = sorted(entry.at for entry in party.provider.state.log_of(webhook.id).entries)
    assert timedelta(days=2) <= datetime.now(UTC) - times[0] < timedelta(days=2, minutes=5)
    assert datetime.now(UTC) - times[1] < timedelta(minutes=5)


def test_a_body_is_sent_as_it_is(ems: Receiver, trigger: Callable[..., Result], tmp_path: Path) -> None:
    body = b'{ "id": 7,\n "odd" : 1.50 } '
    (tmp_path / "body.json").write_bytes(body)
    assert trigger(CLEARED, "--body", tmp_path / "body.json").exit_code == 0
    assert [each.body for each in ems.arrived] == [body]


def test_a_body_that_is_no_json_leaves_the_log_readable(
    party: ServedProvider, ems: Receiver, trigger: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "body.json").write_bytes(b"not \xff JSON")
    assert trigger(CLEARED, "--body", tmp_path / "body.json").exit_code == 0
    assert trigger(CLEARED).exit_code == 0
    assert len(ems.arrived) == 2
    (webhook,) = party.provider.state.webhooks()
    log = party.get(f"/accounts/1/organizations/{webhook.organization_id}/webhooks/{webhook.id}/events")
    assert {type(each["payload"]) for each in log["data"]} == {str, dict}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("card.transaction.teleported",), "no event"),
        (("cleared", "--set", "x"), "FIELD=VALUE"),
        ((CLEARED, "--then", "fetch"), "no event"),
        ((CLEARED, "--set", "orginal_amount=1"), "did you mean original_amount?"),
        ((CLEARED, "--set", "card_holder.id=7"), "did you mean card_holder"),
        (("tpa.signed", "--set", "zzz=7"), "its fields: id, name"),
    ],
)
def test_wrong_usage_is_named(
    ems: Receiver, trigger: Callable[..., Result], arguments: tuple[str, ...], reason: str
) -> None:
    ran = trigger(*arguments)
    assert (ran.exit_code, reason in ran.stderr) == (2, True)
    assert arrived(ems) == []


def test_an_unknown_organization_is_refused(ems: Receiver, trigger: Callable[..., Result]) -> None:
    ran = trigger(CLEARED, organization="nobody")
    assert (ran.exit_code, "acme" in ran.stderr) == (1, True)
    assert arrived(ems) == []


@pytest.mark.parametrize("url", ["https://api.opencard.example", "https://127.0.0.1.opencard.example"])
def test_a_service_at_the_real_opencard_is_refused(url: str) -> None:
    command = ["trigger", CLEARED, "--organization", "acme"]
    ran = CliRunner(env={"OPENCARD_API_URL": url}).invoke(main, command)
    assert (ran.exit_code, "receiver dev" in ran.stderr) == (1, True)


def test_an_answer_that_is_not_200_ends_with_1(
    party: ServedProvider, acme: ProviderOrganization, trigger: Callable[..., Result]
) -> None:
    with receiver() as ems:
        party.register(acme, ems.url)
        ems.answer = lambda _: 503
        ran = trigger(CLEARED, "--json")
    assert (ran.exit_code, json.loads(ran.stdout)[0]["status"]) == (1, 503)


def test_deleted_is_sent_after_authorized(ems: Receiver, trigger: Callable[..., Result]) -> None:
    assert trigger("authorized", "--then", "deleted").exit_code == 0
    assert [event for event, _ in arrived(ems)] == ["card.transaction.authorized", "card.transaction.deleted"]


def test_refund_is_sent_only_when_asked_for(ems: Receiver, trigger: Callable[..., Result]) -> None:
    assert trigger(CLEARED, "--count", 60).exit_code == 0
    assert trigger(CLEARED, "--set", "original_amount=-12.30").exit_code == 0
    *made_up, refund = [float(payload["original_amount"]) for _, payload in arrived(ems)]
    assert min(made_up) >= 0
    assert refund == -12.3


def test_set_fields_are_kept_by_later_events(ems: Receiver, trigger: Callable[..., Result]) -> None:
    ran = trigger(
        "authorized", "--then", "receipt.fetched", "--then", "invoiced", "--set", "original_amount=12.30",
        "--set", "id=my-own", "--set", "state=authorized", "--set", "invoice_number=F-7",
        "--set", "card_holder.reference_id=employee-17", "--set", "url=https://files.example/receipt.pdf",
    )  # fmt: skip
    assert ran.exit_code == 0, ran.output
    (_, authorized), (_, receipt), (_, invoiced) = arrived(ems)
    for payload in (authorized, receipt, invoiced):
        assert (payload["original_amount"], payload["card_holder"]) == ("12.30", {"reference_id": "employee-17"})
    assert (receipt["transaction"]["id"], receipt["url"]) == ("my-own", "https://files.example/receipt.pdf")
    assert (invoiced["id"], invoiced["state"], invoiced["invoice_number"]) == ("my-own", "invoiced", "F-7")
    assert "url" not in authorized


def test_file_of_a_receipt_can_be_downloaded(
    party: ServedProvider, ems: Receiver, trigger: Callable[..., Result]
) -> None:
    assert trigger("cleared", "--then", "receipt.fetched").exit_code == 0
    (_, receipt) = arrived(ems)[1]
    assert receipt["url"].startswith(f"{party.url}/files/")
    answer = party.http.get(receipt["url"])
    assert (answer.status_code, answer.content) == (200, receipt_file(name_in(receipt["url"])))


def test_fixture_is_sent_as_the_organizations_own(
    ems: Receiver, trigger: Callable[..., Result], tmp_path: Path
) -> None:
    file = tmp_path / "fixture.json"
    made = make_fixture(CLEARED, {"X-Event": CLEARED}, body(snapshot("cleared", original_amount=Decimal("7.10"))), b"k")
    file.write_text(made.as_json())
    ran = trigger("--fixture", file)
    assert ran.exit_code == 0, ran.output
    ((event, payload),) = arrived(ems)
    assert (event, payload["organization"]) == (CLEARED, {"reference_id": "acme"})
    assert payload["original_amount"] == str(made.body["original_amount"])
    assert (payload["id"], payload["purchase_merchant"]) == (made.body["id"], made.body["purchase_merchant"])


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"event": "card.frozen", "body": {}}'])
def test_invalid_fixture_is_wrong_usage(trigger: Callable[..., Result], tmp_path: Path, content: str) -> None:
    file = tmp_path / "fixture.json"
    file.write_text(content)
    assert trigger("--fixture", file).exit_code == 2
    assert trigger(CLEARED, "--fixture", file).exit_code == 2
    assert trigger().exit_code == 2


def test_list_is_set_as_json(ems: Receiver, trigger: Callable[..., Result]) -> None:
    rates = '[{"vat_amount": 12.50, "currency": "NOK"}]'
    assert trigger("transaction.true.vat", "--set", f"vat_rates={rates}", "--set", "totals=[not JSON").exit_code == 0
    ((_, payload),) = arrived(ems)
    assert payload["vat_rates"] == [{"vat_amount": "12.50", "currency": "NOK"}]
    assert payload["totals"] == "[not JSON"


@pytest.fixture
def service(world: World, environment: dict[str, str]) -> Iterator[Callable[..., Result]]:
    """Runs ``receiver trigger`` for a service that is registered, and has compared the log before."""
    world.bootstrap()
    reconcile(world)

    def run(*arguments: object) -> Result:
        command = ["trigger", *map(str, arguments), "--organization", "acme"]
        return CliRunner(env=world.environment(environment)).invoke(main, command)

    with logging_as_it_was():
        yield run


def test_event_sent_again_after_days_is_a_new_event(world: World, service: Callable[..., Result]) -> None:
    ran = service("authorized", "--then", "cleared", "--then", "invoiced", "--again-after", "2d", "--json")
    assert ran.exit_code == 0, ran.output
    states = ["authorized", "cleared", "invoiced"]
    assert [(each["event"].rpartition(".")[2], each["status"]) for each in json.loads(ran.stdout)] == [
        *((state, None) for state in states),
        *((state, 200) for state in states),
    ]
    process(world)
    events = rows(world, "SELECT type, transaction_id, fingerprint, occurred_at FROM ems.events ORDER BY occurred_at")
    first, again = events[:3], events[3:]
    assert [each["type"].rpartition(".")[2] for each in again] == states
    assert [each["fingerprint"] for each in first] == [each["fingerprint"] for each in again]
    assert len({each["transaction_id"] for each in events}) == 1
    assert timedelta(days=2) <= again[1]["occurred_at"] - first[1]["occurred_at"] < timedelta(days=2, minutes=5)
    found = reconcile(world)
    assert (found.recovered, found.unconfirmed, found.unrecoverable) == (0, 0, 0)


def test_event_sent_again_after_hours_is_the_same_event(world: World, service: Callable[..., Result]) -> None:
    assert service(CLEARED, "--again-after", "23h").exit_code == 0
    process(world)
    assert rows(world, "SELECT status FROM receiver.deliveries ORDER BY occurred_at") == [
        {"status": "processed"},
        {"status": "duplicate"},
    ]


def test_body_is_sent_again_as_it_is(world: World, service: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "body.json").write_bytes(body(snapshot("cleared")))
    ran = service(CLEARED, "--body", tmp_path / "body.json", "--again-after", "2d")
    assert (ran.exit_code, "recovered from the log" in ran.stdout) == (0, True), ran.output
    process(world)
    assert len(rows(world, "SELECT FROM ems.events")) == 2


@pytest.mark.parametrize("option", [("--lose",), ("--duplicate",), ("--late", "1d")])
def test_when_it_is_sent_again_is_said_once(
    ems: Receiver, trigger: Callable[..., Result], option: tuple[str, ...]
) -> None:
    ran = trigger(CLEARED, "--again-after", "2d", *option)
    assert (ran.exit_code, "--again-after" in ran.stderr) == (2, True)
    assert arrived(ems) == []


def test_nothing_is_sent_again_at_the_real_opencard(world: World, environment: dict[str, str]) -> None:
    real = {**world.environment(environment), "OPENCARD_API_URL": "https://api.opencard.example"}
    command = ["trigger", CLEARED, "--organization", "acme", "--again-after", "2d"]
    with logging_as_it_was():
        ran = CliRunner(env=real).invoke(main, command)
    assert (ran.exit_code, "receiver dev" in ran.stderr) == (1, True)


def busy_runs() -> float:
    """Return how many runs of this process found another one busy."""
    samples = [sample for metric in RECONCILE_RUNS.collect() for sample in metric.samples]
    return sum(each.value for each in samples if each.labels == {"outcome": "busy"} and each.name.endswith("_total"))


def test_run_of_the_scheduler_is_waited_for(world: World, environment: dict[str, str]) -> None:
    world.bootstrap()
    settings = load_settings(world.environment(environment))
    before = busy_runs()
    with ThreadPoolExecutor(1) as executor:
        with held_lock(world.engine, key_of(LockFamily.RECONCILE, world.stored().id)) as held:
            assert held
            sent = executor.submit(trigger_again, world.engine, settings, "acme", [CLEARED], after=timedelta(days=2))
            assert eventually(lambda: busy_runs() > before or sent.done())
        assert [each["status"] for each in sent.result()] == [None, 200]
    assert busy_runs() > before
