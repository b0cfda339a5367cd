"""Interfaces: the processes, imports without side effects, and the tables that the EMS reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from receiver.settings import variable_names

ROOT = Path(__file__).parent.parent
TRANSACTION = (
    "receiptable card_issuer card_issuer_reference card_issuer_customer_number type invoice_number invoice_date"
    " original_amount original_currency vat_rate vat_amount vat_currency accounting_amount accounting_currency"
    " exchange_rate purchase_merchant purchase_merchant_common purchase_date purchase_time purchase_timezone"
    " purchase_country purchase_city card_id card_product card_type card_last_four mcc_code mcc_text mcc_top_level"
    " branch_code branch_text category_text"
)
ENRICHMENT = "card_issuer card_holder_reference_id"
LINE_KEY = "organization_reference_id transaction_id line_number"
VIEWS = {
    "receiver.deliveries",
    "ems.transaction_states",
    "ems.completeness",
    "ems.late_changes",
    "ems.invoice_control",
}
TABLES = {
    "receiver.webhooks": ("id", "enabled"),
    "receiver.deliveries": (
        "id",
        (
            "webhook_id event version body headers verification source received_at occurred_at status attempts"
            " next_attempt_at processed_at error confirmed_at"
        ),
    ),
    "receiver.processing_attempts": ("id", ""),
    "receiver.delivery_log": ("id", ""),
    "receiver.reconcile_runs": ("id", ""),
    "receiver.replays": ("id", ""),
    "ems.transactions": (
        "organization_reference_id id",
        (
            f"state card_holder_reference_id {TRANSACTION} cleared_card_issuer_reference"
            " authorized_at cleared_at invoiced_at deleted_at updated_at"
            " payment_product_id payment_product_name card_funding booked_on unreadable"
        ),
    ),
    "ems.transaction_states": (
        "id",
        (
            "organization_reference_id transaction_id state card_issuer_reference original_amount original_currency"
            " accounting_amount accounting_currency vat_amount vat_currency payload occurred_at delivery_id"
        ),
    ),
    "ems.card_holders": (
        "organization_reference_id reference_id",
        "created_at identified_at signed_pdpc_at email_delivered_at email_failed_at deleted_at updated_at",
    ),
    "ems.tpas": ("organization_reference_id id", "name organization_number url signed_at file_key"),
    "ems.receipts": (
        "organization_reference_id transaction_id url_sha256",  # a URL may be longer than a key can be
        (
            "url content_type expiration_time purchase_merchant original_amount original_currency purchase_date"
            f" purchase_time {ENRICHMENT} fetched_at file_key file_size file_sha256 downloaded_at download_error"
        ),
    ),
    "ems.vat_rates": (
        LINE_KEY,
        f"vat_amount taxable_amount total_amount percentage currency purchase_country {ENRICHMENT}",
    ),
    "ems.vat_totals": (LINE_KEY, f"vat_amount taxable_amount total_amount currency purchase_country {ENRICHMENT}"),
    "ems.completeness": ("organization_reference_id", "complete_through open_gaps checked_at"),
    "ems.closings": (
        "organization_reference_id month",
        "closed_at closed_by complete_through position lines sums vat_sums sha256",
    ),
    "ems.late_changes": ("organization_reference_id month position", "transaction_id changed_at kind changed"),
    "ems.invoice_control": (
        "organization_reference_id invoice_id",
        "invoice_number no_of_transactions booked_transactions invoice_amount booked_amount difference agrees",
    ),
    "ems.ledger_journal": (
        "position line",
        (
            "organization_reference_id transaction_id kind booked_on card_holder_reference_id original_amount"
            " original_currency accounting_amount accounting_currency vat_amount vat_currency receipt_state recorded_at"
        ),
    ),
    "ems.line_items": (LINE_KEY, f"description amount total_amount quantity currency {ENRICHMENT}"),
    "ems.environmental_impacts": (
        "organization_reference_id transaction_id provider",
        f"carbon_emission_in_grams carbon_social_cost_amount carbon_social_cost_currency {ENRICHMENT}",
    ),
    "ems.invoices": (
        "organization_reference_id id",
        "organization_number invoice_number no_of_transactions invoice_amount invoice_currency invoice_date due_date",
    ),
    "ems.feed_horizon": ("id", "deleted_through deleted_at epoch epoch_start"),
    "ems.consumers": ("name", "position updated_at"),
    "ems.events": (
        "position",
        (
            "type organization_reference_id card_holder_reference_id transaction_id occurred_at recorded_at source"
            " delivery_id payload"
        ),
    ),
}
LEDGER = (
    "organization_reference_id transaction_id state accounting_amount accounting_currency original_amount"
    " original_currency vat_amount vat_currency vat_source receipt_file_key number_of_items"
)
EXACT = ("amount", "percentage", "quantity", "exchange_rate", "vat_rate", "carbon_emission_in_grams")


def query(engine: Engine, statement: str, **parameters: object) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(text(statement), parameters))


def types(engine: Engine, table: str) -> dict[str, str]:
    """Return the type of each column."""
    rows = query(
        engine,
        "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute"
        " WHERE attrelid = CAST(:table AS regclass) AND attnum > 0 AND NOT attisdropped",
        table=table,
    )
    return dict(tuple(row) for row in rows)


@pytest.mark.parametrize("table", TABLES)
def test_each_table_has_its_key_and_its_columns(migrated_engine: Engine, table: str) -> None:
    key, columns = (names.split() for names in TABLES[table])
    ((found_key,),) = query(
        migrated_engine,
        "SELECT array_agg(a.attname::text ORDER BY k.position) FROM pg_index AS i"
        " CROSS JOIN unnest(i.indkey) WITH ORDINALITY AS k (number, position)"
        " JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number"
        " WHERE i.indrelid = CAST(:table AS regclass) AND i.indisprimary",
        table=table,
    )
    assert found_key in (key, None if table in VIEWS else key)
    assert set(columns) - set(types(migrated_engine, table)) == set()


def test_the_ledger_has_its_columns(migrated_engine: Engine) -> None:
    assert set(LEDGER.split()) - set(types(migrated_engine, "ems.ledger")) == set()


@pytest.mark.parametrize("table", [*(table for table in TABLES if table.startswith("ems.")), "ems.ledger"])
def test_money_is_numeric_and_times_have_a_zone(migrated_engine: Engine, table: str) -> None:
    for name, kind in types(migrated_engine, table).items():
        if name.endswith(EXACT):
            assert kind == "numeric", name
        if name.endswith("_at"):
            assert kind == "timestamp with time zone", name
        assert kind not in {"real", "double precision", "timestamp without time zone", "money"}, name


def test_bodies_are_bytes_and_headers_are_not_text(migrated_engine: Engine) -> None:
    deliveries = types(migrated_engine, "receiver.deliveries")
    assert (deliveries["body"], deliveries["headers"]) == ("bytea", "jsonb")
    assert types(migrated_engine, "ems.events")["position"] == "bigint"


def test_the_procfile_has_these_processes_and_no_others() -> None:
    assert (ROOT / "Procfile").read_text().splitlines() == [
        "release: receiver db upgrade",
        "web: gunicorn --config python:receiver.gunicorn_conf receiver.wsgi:app",
        "worker: receiver worker",
        "scheduler: receiver scheduler",
    ]


def python(code: str, environment: dict[str, str]) -> Any:
    """Run *code* in an interpreter of its own and return the JSON that it prints."""
    kept = {name: value for name, value in os.environ.items() if name not in variable_names()}
    ran = subprocess.run(
        [sys.executable, "-c", code], env={**kept, **environment}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_web_process_imports_no_processing_and_no_ems_tables(environment: dict[str, str]) -> None:
    code = """
import json, sys
import receiver.wsgi
receiver.wsgi.app.extensions["receiver.close"]()
print(json.dumps([name for name in sys.modules if name.startswith("receiver.")]))
"""
    imported = python(code, environment)
    assert "receiver.deliveries.endpoint" in imported
    assert [
        name for name in imported if name.startswith(("receiver.events", "receiver.records", "receiver.sandbox"))
    ] == []


def test_importing_has_no_side_effects() -> None:
    code = """
import importlib, json, os, pkgutil, socket, threading
from receiver.settings import variable_names

read = []
class Watched(type(os.environ)):
    def __getitem__(self, name):
        read.append(name)
        return super().__getitem__(name)
os.environ.__class__ = Watched
def no_connection(*arguments):
    raise AssertionError("an import connects")
socket.socket.connect = no_connection

import receiver
names = [module.name for module in pkgutil.walk_packages(receiver.__path__, "receiver.")]
for name in names:
    if name not in {"receiver.wsgi", "receiver.gunicorn_conf"}:
        importlib.import_module(name)
print(json.dumps({
    "modules": len(names),
    "settings": sorted(set(read) & set(variable_names())),
    "threads": threading.active_count(),
}))
"""
    result = python(code, {})
    assert result.pop("modules") > 50
    assert result == {"settings": [], "threads": 1}
