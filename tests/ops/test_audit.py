"""Records of the audit are only added."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.exc import DBAPIError

from receiver.ops.audit import Act, ActOutcome, AuditFilter, Via, list_acts, record
from tests.support.retention_steps import days_pass, removed, retain

if TYPE_CHECKING:
    from receiver.settings import Settings
    from tests.conftest import Acme

ACT = Act(actor="olga", via=Via.CONSOLE, address="192.0.2.7", action="sign-in", outcome=ActOutcome.REFUSED)


@pytest.fixture
def one(acme: Acme) -> Acme:
    """The receiver of acme with one record."""
    with acme.engine.begin() as connection:
        record(connection, ACT)
    return acme


def test_a_record_is_returned_as_it_was_made(one: Acme) -> None:
    with one.engine.connect() as connection:
        (act,) = list_acts(connection, AuditFilter(), limit=10)
    assert (act.actor, act.via, act.address, act.action, act.outcome) == (
        "olga",
        "console",
        "192.0.2.7",
        "sign-in",
        "refused",
    )


@pytest.mark.parametrize(
    "statement", ["UPDATE receiver.audit SET actor = 'nobody'", "DELETE FROM receiver.audit"], ids=["update", "delete"]
)
def test_a_record_is_neither_changed_nor_deleted(one: Acme, statement: str) -> None:
    with pytest.raises(DBAPIError, match="neither changed nor deleted"):
        one.execute(statement)
    assert one.value("SELECT actor FROM receiver.audit") == "olga"


def test_retention_deletes_old_records_and_no_others(one: Acme, settings: Settings) -> None:
    days_pass(one.engine, 31)
    with one.engine.begin() as connection:
        record(connection, replace(ACT, actor="vera"))
    assert removed(retain(one.engine, settings)) == {}
    assert removed(retain(one.engine, settings, retain_audit_days=30, write=False)) == {"audit": 1}
    assert removed(retain(one.engine, settings, retain_audit_days=30)) == {"audit": 1}
    assert one.value("SELECT actor FROM receiver.audit") == "vera"
