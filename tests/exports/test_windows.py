"""Which rows an export holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from receiver.exports.export import columns_of
from receiver.exports.source import SOURCES, Format, Window, rows_query

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    from tests.conftest import Acme


def exported(export: Callable[..., Result], *arguments: str) -> list[str]:
    shown = export(*arguments, "--format", "jsonl").stdout_bytes.decode().splitlines()
    return [json.loads(line).get("transaction_id") or json.loads(line)["id"] for line in shown]


def test_from_since_on_and_before_until(filled: Acme, export: Callable[..., Result]) -> None:
    for number in range(4):
        filled.execute(
            "UPDATE ems.transactions SET updated_at = CAST(:day AS timestamptz) WHERE id = :id",
            day=f"2020-01-0{number + 1}T00:00:00Z",
            id=f"transaction-{number}",
        )
    window = ("--since", "2020-01-02", "--until", "2020-01-04T00:00:00Z", "--organization", "acme")
    for name in ("transactions", "ledger"):
        assert exported(export, name, *window) == ["transaction-1", "transaction-2"]
    assert len(exported(export, "transactions", "--since", "1h", "--organization", "acme")) == 12
    assert len(exported(export, "ledger", "--until", "2020-01-03")) == 2


def test_the_feed_is_exported_in_its_order_by_when_events_took_effect(
    filled: Acme, export: Callable[..., Result]
) -> None:
    filled.execute("UPDATE ems.events SET recorded_at = '2020-01-01' WHERE transaction_id = 'transaction-7'")
    assert exported(export, "events", "--until", "2020-01-02") == ["transaction-7"]
    shown = export("events", "--format", "jsonl").stdout_bytes.decode().splitlines()
    positions = [json.loads(line)["position"] for line in shown]
    assert positions == sorted(positions)


def test_only_the_organizations_that_are_named(filled: Acme, export: Callable[..., Result]) -> None:
    del filled
    assert exported(export, "transactions", "--organization", "globex") == ["transaction-1"]
    assert len(exported(export, "transactions", "--organization", "globex", "--organization", "acme")) == 17


@pytest.mark.parametrize("name", ["transactions", "ledger", "events"])
def test_a_window_is_found_by_an_index(acme: Acme, name: str) -> None:
    window = Window(since=None, until=None)
    with acme.engine.connect() as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        connection.execute(text("SET LOCAL enable_indexscan = off"))
        query = rows_query(SOURCES[name], window, columns_of(connection, SOURCES[name]), Format.CSV)
        query = query.replace(" ORDER BY", f" AND {SOURCES[name].time} >= now() - interval '1 day' ORDER BY")
        plan = "\n".join(connection.scalars(text(f"EXPLAIN {query}")))
    assert f"{SOURCES[name].time} >=" in "\n".join(line for line in plan.splitlines() if "Index Cond" in line), plan
