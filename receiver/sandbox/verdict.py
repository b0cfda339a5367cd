"""Does ``ems`` hold what OpenCard meant to say? Compares the tables with a story."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from receiver.sandbox.story import Story

COMPARED: Final = (
    "state",
    "accounting_amount",
    "original_amount",
    "card_issuer_reference",
    "cleared_card_issuer_reference",
)
SHOWN: Final = 20
"""How many differing transactions are named."""


def count_rows(connection: Connection, tables: list[str]) -> dict[str, int]:
    """Return the number of rows of each table of schema ``ems``."""
    return {
        table: connection.scalar(text(f"SELECT count(*) FROM ems.{table}")) or 0  # noqa: S608 - names are ours
        for table in tables
    }


def differences(connection: Connection, story: Story) -> list[str]:
    """Return what differs between the tables and what *story* meant to say, one line each; empty when nothing does."""
    expected_rows = story.expected_rows()
    found_rows = count_rows(connection, list(expected_rows))
    wrong = [
        f"ems.{table}: {found_rows[table]} rows, {expected} expected"
        for table, expected in expected_rows.items()
        if found_rows[table] != expected
    ]
    expected_transactions = story.expected_transactions()
    stored = {
        (row["organization_reference_id"], row["id"]): row
        for row in connection.execute(
            text(f"SELECT organization_reference_id, id, {', '.join(COMPARED)} FROM ems.transactions")  # noqa: S608
        ).mappings()
    }
    for key, expected_transaction in expected_transactions.items():
        if key not in stored:
            wrong.append(f"transaction {key}: missing")
            continue
        wrong += [
            f"transaction {key}: {name} is {stored[key][name]!r}, {value!r} expected"
            for name, value in expected_transaction.items()
            if stored[key][name] != value
        ]
    wrong += [f"transaction {key}: never told" for key in stored.keys() - expected_transactions.keys()]
    return wrong
