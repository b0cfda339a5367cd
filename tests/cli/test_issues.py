"""``receiver issues`` and ``receiver notify``, as an operator types them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from flask import Flask

from receiver.cli import main
from receiver.ops.issues import watch
from tests.support.serving import served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from receiver.settings import Settings
    from tests.conftest import Acme

    Run = Callable[..., Result]


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    def invoke(*arguments: str, **changes: str) -> Result:
        result = CliRunner(env={**environment, "RECONCILE_INTERVAL": "0", **changes}).invoke(main, list(arguments))
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return invoke


@pytest.fixture
def watched(settings: Settings) -> Settings:
    """Return settings of a service that is not to reconcile."""
    return replace(settings, reconcile_interval=0)


@pytest.fixture
def dead(acme: Acme, watched: Settings) -> Acme:
    """Return the receiver of acme with a dead delivery, and the issue of it."""
    acme.apply("card_holder.created", b"{}")
    watch.check(acme.engine, watched, ())
    return acme


def listed(run: Run, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("issues", "list", "--json", *arguments).stdout)
    return found


def test_without_issues_that_is_said(acme: Acme, run: Run) -> None:
    del acme
    result = run("issues", "list")
    assert (result.exit_code, result.stdout) == (0, "no issues\n")
    assert listed(run) == []


def test_an_acknowledged_issue_does_not_fail_status(dead: Acme, watched: Settings, run: Run) -> None:
    assert run("status").exit_code == 1
    (issue,) = listed(run)
    assert (issue["kind"], issue["state"], issue["severity"], issue["count"]) == (
        "deliveries-dead",
        "open",
        "critical",
        1,
    )
    number = str(issue["id"])
    assert "deliveries-dead" in run("issues", "list").stdout
    said = run("issues", "acknowledge", number, "--note", "ticket 7", "--until-it-grows")
    assert said.exit_code == 0
    assert "acknowledged" in said.stdout
    lines = dict(re.split("  +", line, maxsplit=1) for line in said.stdout.splitlines())
    assert lines["issue"] == "1 dead delivery of card_holder.created: card_holder: missing"
    assert lines["reopens above"] == "1"
    assert {"acknowledged by", "opened at"} <= lines.keys()
    assert "first seen at" not in lines, "it is when it opened"
    delivery = dead.value("SELECT id FROM receiver.deliveries")
    assert list(lines.items())[-2:] == [
        ("example", f"receiver deliveries show {delivery}"),
        (
            "after the fix",
            "receiver replay --status dead --event card_holder.created --error 'card_holder: missing' --reason TEXT",
        ),
    ]
    assert "ticket 7" in said.stdout
    status = run("status")
    assert status.exit_code == 0
    assert status.stdout.splitlines()[-1] == "Issues: none, 1 acknowledged (receiver issues list)"
    assert len(json.loads(run("status", "--json").stdout)["acknowledged"]) == 1
    dead.apply("card_holder.created", b"{}")
    assert run("status").exit_code == 1
    watch.check(dead.engine, watched, ())
    assert [each["state"] for each in listed(run)] == ["open"]


def test_an_acknowledgement_ends_in_so_many_hours(dead: Acme, run: Run) -> None:
    number = str(listed(run)[0]["id"])
    assert run("issues", "acknowledge", number, "--note", "x", "--until", "2h").exit_code == 0
    ends = "SELECT accepted_until BETWEEN now() + interval '119 min' AND now() + interval '2 h' FROM receiver.issues"
    assert dead.value(ends)


def test_checks_spend_no_ids(dead: Acme, watched: Settings, run: Run) -> None:
    (first,) = listed(run)
    for _ in range(3):
        dead.apply("card_holder.created", b"{}")  # the count grows: the issue is stored again
        watch.check(dead.engine, watched, ())
    dead.apply("card.transaction.cleared", b"{}")
    watch.check(dead.engine, watched, ())
    assert sorted(each["id"] for each in listed(run)) == [first["id"], first["id"] + 1]


def test_a_resolved_issue_is_listed_when_asked_for(dead: Acme, run: Run) -> None:
    del dead
    number = str(listed(run)[0]["id"])
    assert run("issues", "resolve", number, "--note", "test account").exit_code == 0
    assert run("status").exit_code == 0
    assert listed(run) == []
    (issue,) = listed(run, "--state", "resolved")
    assert "resolved" in run("issues", "list", "--state", "resolved").stdout.splitlines()[0].split()
    assert issue["note"] == "test account"
    assert json.loads(run("issues", "show", number, "--json").stdout) == issue
    again = run("issues", "resolve", number, "--note", "x")
    assert (again.exit_code, again.stderr) == (
        1,
        "receiver: the issue is resolved already; it reopens by itself when its count grows\n",
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "4711"), "there is no issue 4711; see receiver issues list"),
        (("acknowledge", "1"), "Missing option '--note'"),
        (("acknowledge", "1", "--note", "x", "--until", "2020-01-01"), "is in the past: give a later time"),
        (("acknowledge", "1", "--note", "x", "--until", "tomorrow"), "or 2h for two hours from now"),
    ],
)
def test_a_wrong_answer_is_refused(acme: Acme, run: Run, arguments: tuple[str, ...], said: str) -> None:
    del acme
    result = run("issues", *arguments)
    assert result.exit_code in {1, 2}
    assert said in result.stderr


@pytest.fixture
def channel() -> Iterator[str]:
    app = Flask(__name__)
    app.add_url_rule("/takes", view_func=lambda: "", methods=["POST"])
    with served(app) as url:
        yield url.replace("http://", "json://")


def test_test_message_reports_which_address_accepts_it(run: Run, channel: str) -> None:
    result = run("notify", "test", "--json", NOTIFY_URLS=f"{channel}/takes critical={channel}/refuses")
    assert result.exit_code == 1
    taken, refused = json.loads(result.stdout)
    assert (taken["taken"], taken["error"]) == (True, None)
    assert refused["taken"] is False
    assert refused["error"]
    assert run("notify", "test", NOTIFY_URLS=f"{channel}/takes").exit_code == 0


def test_without_an_address_notify_says_what_to_set(run: Run) -> None:
    result = run("notify", "test")
    assert result.exit_code == 2
    assert "NOTIFY_URLS is not set" in result.stderr
