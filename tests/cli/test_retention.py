"""``receiver retention run``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from click.testing import CliRunner, Result
from sqlalchemy import text

from receiver.cli import main
from receiver.locks import Lock
from tests.support.factories import card_holder
from tests.support.log_lines import logging_as_it_was
from tests.support.retention_steps import days_pass

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from tests.conftest import Acme


def retention(environment: dict[str, str], *arguments: str, **settings: str) -> Result:
    with logging_as_it_was():
        return CliRunner(env={**environment, **settings}).invoke(main, ["retention", "run", *arguments])


def test_retention_reports_deletions_and_kept_days(acme: Acme, environment: dict[str, str]) -> None:
    acme.apply("card_holder.created", card_holder())
    days_pass(acme.engine, 50)
    limits = {"RETAIN_PROCESSED_DAYS": "40"}
    planned = retention(environment, "--dry-run", **limits)
    assert planned.exit_code == 0
    lines = [line.split() for line in planned.stdout.splitlines()]
    assert ["bodies", "of", "processed", "deliveries", "1", "40", "days", "RETAIN_PROCESSED_DAYS"] in lines
    assert ["bodies", "of", "duplicates", "0", "30", "days", "RETAIN_DUPLICATE_DAYS"] in lines

    done = retention(environment, "--json", **limits)
    assert (done.exit_code, json.loads(done.stdout)["caught_up"]) == (0, True)
    kinds = {kind["kind"]: kind for kind in json.loads(done.stdout)["kinds"]}
    assert kinds["processed_bodies"] == {
        "kind": "processed_bodies",
        "words": "bodies of processed deliveries",
        "setting": "RETAIN_PROCESSED_DAYS",
        "days": 40,
        "removed": 1,
    }
    assert acme.value("SELECT body FROM receiver.deliveries") is None
    assert acme.value("SELECT removed ->> 'processed_bodies' FROM receiver.retention_runs") == "1"


def test_retention_says_that_another_run_is_active(engine: Engine, environment: dict[str, str]) -> None:
    with engine.connect() as other:
        other.execute(text("SELECT pg_advisory_lock(:key)"), {"key": Lock.RETENTION})
        result = retention(environment)
        other.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": Lock.RETENTION})
    assert (result.exit_code, "another run of retention is at work" in result.stderr) == (1, True)
    assert retention(environment, "--dry-run").exit_code == 0, "which is in nobody's way"


def test_locked_table_is_reported(acme: Acme, environment: dict[str, str]) -> None:
    acme.apply("card_holder.created", card_holder())
    days_pass(acme.engine, 50)
    with acme.engine.connect() as other:
        other.execute(text("LOCK TABLE receiver.bodies"))
        result = retention(environment, RETAIN_PROCESSED_DAYS="14")
        other.rollback()
    assert (result.exit_code, "run it again" in result.stderr) == (1, True)
    assert retention(environment, RETAIN_PROCESSED_DAYS="14").exit_code == 0


def test_a_limit_that_reconciling_would_not_survive_is_refused(environment: dict[str, str]) -> None:
    result = retention(environment, RETAIN_PROCESSED_DAYS="7")
    assert result.exit_code == 2
    assert "RETAIN_PROCESSED_DAYS" in result.stderr
