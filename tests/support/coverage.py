"""An organization whose delivery log reaches back to before every month of a test."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import Acme

COVERED = "UPDATE ems.organizations SET log_begins_at = '0001-01-01 00:00Z'"
CHECKED = (
    "INSERT INTO receiver.reconcile_runs (webhook_id, started_at, ended_at, checked_until)"
    " SELECT id, now(), now(), now() FROM receiver.webhooks"
)


def check(acme: Acme) -> None:
    """Write a run of reconcile that read the log up to now, of organizations that have been here for long."""
    acme.execute(COVERED)
    acme.execute(CHECKED)
