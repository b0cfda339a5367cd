"""``receiver deliveries``, as operators run it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from receiver.cli import main
from tests.support.factories import card_holder, sample, snapshot
from tests.support.replay_steps import ids

if TYPE_CHECKING:
    from tests.conftest import Acme, Organizations

Run = Callable[..., Result]


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    def invoke(*arguments: str) -> Result:
        only = {**dict.fromkeys(environment), "DATABASE_URL": environment["DATABASE_URL"]}
        result = CliRunner(env=only).invoke(main, ["deliveries", *arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return invoke


def listed(run: Run, *arguments: str) -> list[int]:
    result = run("list", "--json", *arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    return [row["id"] for row in json.loads(result.stdout)["deliveries"]]


@pytest.fixture
def three(organizations: Organizations) -> Acme:
    """A purchase, a card holder that cannot be parsed, and another organization's unknown event."""
    acme, globex = organizations.adopt("acme"), organizations.adopt("globex")
    acme.apply("card.transaction.cleared", snapshot("cleared", transaction="t1"))
    acme.apply("card_holder.created", b'{"<script>": "\x1b[31m"}')
    globex.apply("card.frozen", b"{}")
    return acme


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ((), [3, 2, 1]),
        (("--status", "dead"), [2]),
        (("--status", "dead", "--status", "processed"), [2, 1]),
        (("--event", "card.frozen"), [3]),
        (("--organization", "acme"), [2, 1]),
        (("--error", "unknown event"), [3]),
        (("--error", "unknown * 'card.frozen'"), [3]),
        (("--transaction", "t1"), [1]),
        (("--card-holder", "employee-17"), [1]),
        (("--since", "1h"), [3, 2, 1]),
        (("--until", "1h"), []),
        (("--until", "2100-01-01T00:00+02:00", "--limit", "2"), [3, 2]),
    ],
)
def test_each_option_restricts(three: Acme, run: Run, options: tuple[str, ...], numbers: list[int]) -> None:
    known = ids(three)
    three.execute("UPDATE ems.events SET card_holder_reference_id = 'employee-17' WHERE transaction_id = 't1'")
    three.execute("UPDATE ems.transactions SET card_holder_reference_id = 'employee-17'")
    assert listed(run, *options) == [known[number - 1] for number in numbers]


def test_an_alias_of_an_event_finds_its_deliveries(acme: Acme, run: Run) -> None:
    acme.deliver_ok("environmental_impact.deedster", sample("environmental.impact.deedster"))
    assert listed(run, "--event", "environmental.impact.deedster") == ids(acme)


def test_pages_go_on_behind_the_last_delivery(three: Acme, run: Run) -> None:
    first = json.loads(run("list", "--limit", "2", "--json").stdout)
    assert first["before"] == ids(three)[1]
    second = json.loads(run("list", "--limit", "2", "--before", str(first["before"]), "--json").stdout)
    assert ([row["id"] for row in second["deliveries"]], second["before"]) == (ids(three)[:1], None)


def test_text_output_says_how_to_get_more(three: Acme, run: Run) -> None:
    result = run("list", "--limit", "2")
    assert result.stderr == f"2 lines; there are more: --before {ids(three)[1]}\n"
    heading, frozen, _dead = result.stdout.splitlines()
    assert heading.split()[:3] == ["delivery", "received", "organization"]
    assert "unknown event 'card.frozen'" in frozen
    assert run("list", "--status", "failed").stdout == "no deliveries match\n"


def test_lists_hold_neither_bodies_nor_who_it_is_about(three: Acme, run: Run) -> None:
    (row,) = json.loads(run("list", "--transaction", "t1", "--json").stdout)["deliveries"]
    assert not {"body", "payload", "headers", "card_holder_reference_id"} & set(row)
    assert row["organization_reference_id"] == "acme"
    del three


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--status", "lost"), "'lost' is not one of"),
        (("--since", "yesterday"), "invalid time"),
        (("--since", "2999-01-01"), "2999-01-01 00:00 UTC is in the future: give an earlier time"),
        (("--since", "1h", "--until", "2h"), "--since is not before --until"),
        (("--limit", "0"), "not in the range"),
    ],
)
def test_impossible_filters_are_wrong_usage(run: Run, options: tuple[str, ...], said: str) -> None:
    result = run("list", *options)
    assert (result.exit_code, said in result.stderr) == (2, True)


def test_unknown_organization_is_named_with_the_nearest(three: Acme, run: Run) -> None:
    result = run("list", "--organization", "glibex")
    assert (result.exit_code, result.stderr) == (
        1,
        "receiver: organization 'glibex' has no webhook; the nearest is globex\n",
    )
    del three


def shown(run: Run, delivery_id: int) -> dict[str, Any]:
    result = run("show", str(delivery_id), "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_a_delivery_is_shown_with_everything(three: Acme, run: Run) -> None:
    document = shown(run, ids(three)[0])
    assert (document["status"], document["verification"]) == ("processed", "signature")
    assert json.loads(document["payload"])["id"] == "t1"
    assert {row["table"] for row in document["changed"]} >= {"events", "transactions"}
    people = run("show", str(ids(three)[0])).stdout
    for part in ("verification", "signature", "headers", "payload", '"id": "t1"', "rows of ems", "events"):
        assert part in people
    assert "\x1b" not in people


def test_next_step_of_a_delivery_is_named(three: Acme, run: Run) -> None:
    first, dead, ignored = ids(three)

    def sections(delivery_id: int) -> list[str]:
        return run("show", str(delivery_id)).stdout.split("\n\n")

    assert "next step" not in "".join(sections(first))
    assert f"fix the cause, then receiver replay {dead} --reason TEXT; if" in sections(dead)[-1]
    assert f"upgrade, then receiver replay {ignored} --reason TEXT; if" in sections(ignored)[-1]
    assert run("resolve", str(dead), "--reason", "a broken test").exit_code == 0
    assert re.match("resolved by .+: a broken test\n", sections(dead)[0])
    assert "next step" not in "".join(sections(dead))


def test_rows_have_a_line_for_each_field(three: Acme, run: Run) -> None:
    said = run("show", str(ids(three)[0])).stdout
    assert re.search("\ntransactions\n  organization_reference_id +acme\n", said)
    assert re.search("\n  fingerprint +[0-9a-f]{64}\n", said)
    assert "b'" not in said
    assert re.search("\nverification +signature\n", said)


def test_amounts_are_shown_digit_by_digit(acme: Acme, run: Run) -> None:
    acme.apply("card.transaction.cleared", b'{"amount": 45.00, "big": 12345678901234567890.10}')
    people = run("show", str(ids(acme)[0])).stdout
    assert '"amount": 45.00' in people
    assert '"big": 12345678901234567890.10' in people


def test_terminal_control_sequences_are_not_printed(three: Acme, run: Run) -> None:
    result = run("show", str(ids(three)[1]))
    assert "\x1b" not in result.stdout
    assert "<script>" in result.stdout
    assert "1. " in result.stdout


def test_a_look_at_a_payload_is_recorded(three: Acme, run: Run) -> None:
    delivery_id = ids(three)[0]
    shown(run, delivery_id)
    look = three.row("SELECT actor, action, object FROM receiver.audit")
    assert (look["action"], look["object"]) == ("deliveries show", str(delivery_id))
    assert "@" in look["actor"]
    run("list")
    assert three.value("SELECT count(*) FROM receiver.audit") == 1


def test_a_delivery_that_is_none_is_said(acme: Acme, run: Run) -> None:
    result = run("show", "4711")
    assert (result.exit_code, result.stderr) == (
        1,
        "receiver: there is no delivery 4711; see receiver deliveries list\n",
    )
    del acme


def test_retries_are_shown(acme: Acme, run: Run) -> None:
    for _ in range(2):
        acme.apply("card_holder.created", card_holder())
    first, second = ids(acme)
    assert [each["id"] for each in shown(run, first)["duplicates"]] == [second]
    assert "deliveries of the same event" in run("show", str(first)).stdout


@pytest.mark.parametrize("options", [("--until", "9999-12-31T23:59:59"), ("--since", "0001-01-01")])
def test_the_ends_of_the_calendar_are_times_like_any_other(run: Run, options: tuple[str, ...]) -> None:
    result = run("list", "--json", *options)
    assert result.exit_code == 0


def test_fixture_has_the_event_and_nothing_personal(acme: Acme, environment: dict[str, str]) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared", purchase_merchant="Anna Svensson AB"))
    (number,) = ids(acme)
    ran = CliRunner(env=environment).invoke(main, ["deliveries", "show", str(number), "--fixture"])
    assert ran.exit_code == 0, ran.output
    made = json.loads(ran.stdout)
    assert (made["event"], made["body"]["state"]) == ("card.transaction.cleared", "cleared")
    assert "Svensson" not in ran.stdout
    acme.execute("DELETE FROM receiver.bodies")
    ran = CliRunner(env=environment).invoke(main, ["deliveries", "show", str(number), "--fixture"])
    assert (ran.exit_code, "not stored any more" in ran.stderr) == (1, True)
