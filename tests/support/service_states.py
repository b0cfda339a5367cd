"""Puts a service into given states: earlier runs of reconcile, deliveries that are held."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy import Engine


def webhook_id_of(engine: Engine, organization: str) -> int:
    with engine.connect() as connection:
        found = connection.scalar(
            text("SELECT max(id) FROM receiver.webhooks WHERE organization_reference_id = :organization"),
            {"organization": organization},
        )
    assert isinstance(found, int)
    return found


def add_run(
    engine: Engine,
    organization: str,
    *,
    minutes_ago: float = 0,
    recovered_in_all: int = 0,
    unconfirmed: int = 0,
    unrecoverable: int = 0,
    error: str | None = None,
) -> None:
    """Note a run of the organization's newest webhook, as reconcile would have."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO receiver.reconcile_runs (webhook_id, started_at, ended_at, checked_until,"
                " recovered_in_all, unconfirmed, unrecoverable, error)"
                " SELECT :webhook_id, at, at, CASE WHEN CAST(:error AS text) IS NULL THEN at END, :recovered_in_all,"
                " :unconfirmed, :unrecoverable, :error FROM (SELECT now() - make_interval(secs => :seconds) AS at) AS t"
            ),
            {
                "webhook_id": webhook_id_of(engine, organization),
                "seconds": minutes_ago * 60,
                "recovered_in_all": recovered_in_all,
                "unconfirmed": unconfirmed,
                "unrecoverable": unrecoverable,
                "error": error,
            },
        )


def miss_all_in_the_log(engine: Engine, organization: str) -> None:
    """Note a run of which the log had none of the deliveries stored so far."""
    add_run(engine, organization)
    with engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE receiver.reconcile_runs AS run SET unconfirmed_before = now(), unconfirmed = ("
                " SELECT count(*) FROM receiver.stored_deliveries AS stored WHERE stored.webhook_id = run.webhook_id)"
                " WHERE run.webhook_id = :webhook_id"
            ),
            {"webhook_id": webhook_id_of(engine, organization)},
        )
