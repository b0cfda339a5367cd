"""The generated clients fit the migrated database, and the schemas fit the payloads."""

from __future__ import annotations

import json
import runpy
from contextlib import closing
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from receiver.events.catalogue import EVENT_FLAGS
from receiver.progress import Progress
from receiver.records.write import writing_connection
from receiver.verify.run import rebuild
from tests.clients.conftest import CLIENTS
from tests.support.factories import SAMPLES, enrichment, snapshot

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

    from tests.conftest import Acme

ROOT = CLIENTS.parent
SCHEMAS = ROOT / "docs" / "ems" / "schemas"


@pytest.fixture(scope="module")
def generated(migrated_engine: Engine) -> dict[Path, str]:
    with migrated_engine.connect() as connection:
        made: dict[Path, str] = runpy.run_path(str(CLIENTS / "generate.py"))["generated"](connection)
        return made


def test_the_files_are_those_of_the_database(generated: dict[Path, str]) -> None:
    other = [str(path) for path, content in generated.items() if (ROOT / path).read_text() != content]
    assert other == [], "run make docs"


def test_there_is_a_schema_for_each_event(generated: dict[Path, str]) -> None:
    assert {page.stem for page in SCHEMAS.glob("*.json")} == {*EVENT_FLAGS, "receiver.changed"}
    assert {ROOT / path for path in generated} >= set(SCHEMAS.glob("*.json"))


def validator(event: str) -> Any:
    schema = json.loads((SCHEMAS / f"{event}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())


def problems(event: str, payload: object) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in validator(event).iter_errors(payload)]


@pytest.mark.parametrize("event", EVENT_FLAGS)
def test_the_documented_payload_is_valid(event: str) -> None:
    payload = json.loads((SAMPLES / f"{event}.json").read_text())
    assert problems(event, payload) == []
    assert problems(event, {**payload, "a_new_field": 1}) == []
    for field in payload:
        missing = {name: value for name, value in payload.items() if name != field}
        assert bool(problems(event, missing)) is (field in validator(event).schema["required"]), field


@pytest.mark.parametrize(
    ("field", "value", "where"),
    [
        ("original_amount", "109.38", "$.original_amount"),
        ("state", "authorized", "$.state"),
        ("purchase_date", "13.02.2026", "$.purchase_date"),
        ("organization", {}, "$.organization"),
    ],
)
def test_a_payload_of_another_form_is_not_valid(field: str, value: object, where: str) -> None:
    payload = {**json.loads((SAMPLES / "card.transaction.cleared.json").read_text()), field: value}
    assert [problem.partition(":")[0] for problem in problems("card.transaction.cleared", payload)] == [where]


def test_payloads_in_the_feed_are_valid(acme: Acme) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared", original_amount=None))
    acme.apply("transaction.true.vat", enrichment("transaction.true.vat", totals=None))
    acme.execute("UPDATE ems.transactions SET original_amount = 1")
    with closing(writing_connection(acme.engine)) as connection:
        assert len(list(rebuild(connection, None, Progress()))) == 1
    events = acme.rows("SELECT type, payload FROM ems.events ORDER BY position")
    assert [event["type"] for event in events][2:] == ["receiver.changed"]
    assert [problems(event["type"], event["payload"]) for event in events] == [[], [], []]
