"""Each command that changes something, or shows personal data, leaves a record; ``receiver audit list`` shows it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from cryptography.fernet import Fernet

from receiver.cli import main
from receiver.cli.recorded import RecordedCommand
from receiver.ops.audit import LONGEST, Act, Via, arguments, record
from tests.support.factories import card_holder
from tests.support.log_lines import logging_as_it_was
from tests.support.pools import ACCESS
from tests.support.program import commands
from tests.support.provider_ends import opencard
from tests.support.terminal import on_terminal

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from tests.conftest import Acme

    Run = Callable[..., Result]

RECEIVER = Path(sys.executable).with_name("receiver")
COLOURS = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
CHANGES_NOTHING = {
    "audit list": "reads",
    "clients list": "reads",
    "completion": "prints a script",
    "db check": "reads",
    "db consumers list": "reads",
    "db current": "reads",
    "db readers": "reads",
    "demo": "runs a service of its own, for development",
    "dev": "runs a service of its own, for development",
    "doctor": "reads",
    "drill": "changes a copy of the database only",
    "files list": "reads ids and states",
    "files path": "reads paths",
    "issues list": "reads",
    "issues show": "reads",
    "notify test": "sends a message without content",
    "ops hash-password": "prints a hash",
    "sandbox": "runs a local OpenCard, for development",
    "scheduler": "is a process of the service",
    "scopes": "prints a table",
    "status": "reads",
    "trigger": "refuses all but a local OpenCard",
    "verify": "compares",
    "webhooks list": "reads",
    "webhooks show": "reads",
    "worker": "is a process of the service",
}
"""Commands without a record, and why."""
SECRET = {
    "secret",
    "secret_file",
    "basic_username",
    "basic_password",
    "custom_key",
    "custom_value",
    "card_holder",
    "card_holder_reference_id",
    "last_four",
}
"""Parameters that no record may have."""


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    def invoke(*arguments: str, **changes: str) -> Result:
        with logging_as_it_was():
            return CliRunner(env={**environment, **changes}).invoke(main, list(arguments))

    return invoke


def recorded(acme: Acme) -> list[dict[str, Any]]:
    return acme.rows("SELECT * FROM receiver.audit ORDER BY id")


def short(acme: Acme) -> list[tuple[Any, ...]]:
    return [(row["action"], row["object"], row["outcome"], row["error"]) for row in recorded(acme)]


def test_every_command_is_recorded_or_changes_nothing() -> None:
    known = dict(commands())
    unrecorded = {path for path, command in known.items() if not isinstance(command, RecordedCommand)}
    assert unrecorded == set(CHANGES_NOTHING)
    assert len(known) > len(unrecorded) > 10


def test_declared_parameters_exist_and_are_no_secret() -> None:
    for path, command in commands():
        if isinstance(command, RecordedCommand):
            names = {parameter.name for parameter in command.params}
            declared = {*command.about, *command.unless, command.reason or "as_json", *command.only_with}
            assert declared <= {*names, "as_json"}, path
            assert not SECRET & {*command.about, command.reason}, path


def test_a_record_says_who_what_why_and_the_outcome(acme: Acme, run: Run) -> None:
    acme.apply("card_holder.created", b"{}")
    delivery = acme.value("SELECT id FROM receiver.deliveries")
    assert run("replay", str(delivery), "--reason", "format corrected", "--no-wait").exit_code == 0
    (row,) = recorded(acme)
    assert "@" in row.pop("actor")
    assert acme.value("SELECT abs(extract(epoch FROM now() - at)) < 60 FROM receiver.audit")
    del row["id"], row["at"]
    assert row == {
        "via": "command line",
        "address": None,
        "action": "replay",
        "object": str(delivery),
        "reason": "format corrected",
        "outcome": "done",
        "error": None,
    }


def test_the_user_is_the_one_who_called_sudo(acme: Acme, run: Run) -> None:
    assert run("rebuild", SUDO_USER="olga").exit_code == 0
    assert recorded(acme)[0]["actor"].startswith("olga@")


def test_the_object_is_what_was_typed(acme: Acme, run: Run) -> None:
    acme.apply("card_holder.created", b"{}")
    typed = ["--status", "dead", "--organization", "acme", "--since", "2026-02-13", "--error", "*field*"]
    assert run("replay", *typed, "--reason", "x", "--no-wait").exit_code == 0
    (row,) = recorded(acme)
    assert sorted(row["object"].split(" --")) == [
        "--status dead" if each.startswith("status") else each
        for each in sorted(["error *field*", "organization acme", "since 2026-02-13T00:00:00Z", "--status dead"])
    ]


def test_a_refused_command_is_recorded(acme: Acme, run: Run) -> None:
    assert run("deliveries", "show", "4711").exit_code == 1
    assert run("close", "acme", "2020-01", "--json").exit_code == 1
    assert short(acme) == [
        ("deliveries show", "4711", "refused", None),
        ("close", "acme 2020-01-01", "refused", None),
    ]


def test_a_failed_command_is_recorded_with_its_error(acme: Acme, run: Run) -> None:
    with opencard() as party:
        api = {**ACCESS, "OPENCARD_API_URL": party.url, "OPENCARD_CLIENT_SECRET": "another"}
        assert run("clients", "set-scopes", "42", "webhooks-read", **api).exit_code == 1
    assert run("keys", "rotate", ENCRYPTION_KEYS=Fernet.generate_key().decode()).exit_code == 1
    assert short(acme) == [
        ("clients set-scopes", "42 webhooks-read", "failed", "ClientRefused"),
        ("keys rotate", None, "failed", None),
    ]


def test_a_dry_run_and_wrong_usage_are_not_recorded(acme: Acme, run: Run) -> None:
    assert run("retention", "run", "--dry-run").exit_code == 0
    assert run("replay", "--status", "dead", "--dry-run").exit_code == 0
    assert run("replay", "--list").exit_code == 0
    assert run("replay", "--status", "dead").exit_code == 2
    assert run("issues", "resolve", "1").exit_code == 2
    assert run("rebuild", DATABASE_URL="").exit_code == 2
    assert recorded(acme) == []
    assert run("retention", "run").exit_code == 0
    assert short(acme) == [("retention run", None, "done", None)]


def test_looks_at_personal_data_are_recorded_without_them(acme: Acme, run: Run) -> None:
    acme.apply("card_holder.created", card_holder("employee-17"))
    delivery = acme.value("SELECT id FROM receiver.deliveries")
    assert run("deliveries", "list").exit_code == 0
    assert recorded(acme) == []
    assert "employee-17" in run("deliveries", "show", str(delivery)).stdout
    assert run("deliveries", "list", "--card-holder", "employee-17").exit_code == 0
    assert "employee-17" in run("export", "card_holders", "--organization", "acme", "--format", "jsonl").stdout
    assert short(acme) == [
        ("deliveries show", str(delivery), "done", None),
        ("deliveries list", "--card-holder", "done", None),
        ("export card_holders", "--organization acme --format jsonl", "done", None),
    ]
    assert "employee-17" not in str(recorded(acme))


def test_no_secret_is_in_a_record(acme: Acme, run: Run) -> None:
    adopted = run(
        *("webhooks", "adopt", "--organization", "beta", "--organization-id", "7", "--webhook-id", "42"),
        *("--secret", "secret-1", "--authentication-type", "basic"),
        *("--basic-username", "secret-2", "--basic-password", "secret-3"),
    )
    assert adopted.exit_code == 0
    assert short(acme) == [("webhooks adopt", "--organization beta --organization-id 7 --webhook-id 42", "done", None)]
    assert "secret-" not in str(recorded(acme))


def test_the_first_migration_is_recorded(new_database: Callable[[], str], run: Run) -> None:
    database = new_database()
    assert run("db", "upgrade", DATABASE_URL=database).exit_code == 0
    (act,) = json.loads(run("audit", "list", "--json", DATABASE_URL=database).stdout)
    assert (act["action"], act["outcome"]) == ("db upgrade", "done")


def test_without_the_table_a_command_fails_with_one_line(new_database: Callable[[], str], run: Run) -> None:
    result = run("issues", "resolve", "1", "--note", "x", DATABASE_URL=new_database())
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "run receiver db upgrade" in result.stderr


def add(engine: Engine, **changes: Any) -> None:
    values = {"actor": "olga@ops-1", "via": Via.COMMAND_LINE, "action": "replay", "object": "4711", **changes}
    with engine.begin() as connection:
        record(connection, Act(**values))


def listed(run: Run, *arguments: str) -> list[Any]:
    result = run("audit", "list", "--json", *arguments)
    assert result.exit_code == 0
    return [act["object"] for act in json.loads(result.stdout)]


def test_records_are_listed_newest_first_and_filtered(acme: Acme, run: Run) -> None:
    add(acme.engine, object="1")
    add(acme.engine, object="2", actor="vera", via=Via.CONSOLE, address="192.0.2.7")
    add(acme.engine, object="3", action="issues resolve")
    assert listed(run) == ["3", "2", "1"]
    assert listed(run, "--actor", "vera") == ["2"]
    assert listed(run, "--action", "replay") == ["2", "1"]
    assert listed(run, "--since", "1h") == ["3", "2", "1"]
    assert listed(run, "--until", "1h") == []
    limited = run("audit", "list", "--limit", "2")
    oldest = acme.value("SELECT id FROM receiver.audit WHERE object = '2'")
    assert limited.stderr == f"2 lines; there are more: --before {oldest}\n"
    assert listed(run, "--before", str(oldest)) == ["1"]
    lines = limited.stdout.splitlines()
    assert lines[0].split()[:4] == ["id", "time", "user", "via"]
    assert lines[0].split()[4:] == ["address", "action", "object", "outcome", "error", "reason"]
    assert "192.0.2.7" in lines[2]


def test_unknown_action_is_answered_with_recorded_ones(acme: Acme, run: Run) -> None:
    add(acme.engine)
    said = run("audit", "list", "--action", "nope")
    assert (said.exit_code, said.stdout) == (0, "no records match; recorded actions: replay\n")


def test_empty_list_says_that_no_records_match(acme: Acme, run: Run) -> None:
    assert run("audit", "list").stdout == "no records match\n"
    assert listed(run) == []
    del acme


@pytest.mark.parametrize("columns", [60, 100, 160])
def test_the_list_fits_its_terminal(acme: Acme, environment: dict[str, str], columns: int) -> None:
    add(acme.engine, action="webhooks rotate-secret", object="--organization acme --overlap 12:00:00", reason="leaked")
    code, printed = on_terminal([RECEIVER, "audit", "list"], columns=columns, environment=environment)
    lines = COLOURS.sub("", printed).splitlines()
    assert (code, max(map(len, lines)) <= columns) == (0, True)
    assert ("not shown for lack of width: via" in printed) == (columns == 100)
    assert re.search(r"^action +webhooks rotate-secret$", printed, re.MULTILINE) if columns == 60 else True


def test_a_narrow_list_keeps_the_error(acme: Acme, environment: dict[str, str]) -> None:
    add(acme.engine, outcome="failed", error="refused", reason="a reason of many words")
    _, printed = on_terminal([RECEIVER, "audit", "list"], columns=90, environment=environment)
    assert "not shown for lack of width: via, address, reason;" in printed
    assert "refused" in printed


def test_a_long_object_is_cut() -> None:
    assert arguments(("", number) for number in range(3)) == "0 1 2"
    assert arguments([("", None), ("all", False)]) is None
    assert arguments([("until_it_grows", True), ("", "7")]) == "--until-it-grows 7"
    assert len(arguments(("", number) for number in range(10_000)) or "") == LONGEST + 2
