"""Closing a month of an organization's ledger: refused while anything is missing, and verifiable by a hash."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

from receiver.errors import OperationRefused

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime

    from sqlalchemy import Connection, Engine, RowMapping

MONTH: Final = re.compile(r"(?!0000)([0-9]{4})-(0[1-9]|1[0-2])\Z", re.ASCII)
"""How a month is given."""
_CONTENT: Final = """
WITH line AS MATERIALIZED (
    SELECT * FROM ems.ledger_as_of(:position)
    WHERE organization_reference_id = :organization
        AND booked_on >= :month AND booked_on < CAST(:month AS date) + interval '1 month'
)
SELECT count(*) AS lines,
    (
        SELECT coalesce(jsonb_object_agg(currency, total), '{}') FROM (
            SELECT coalesce(accounting_currency, '') AS currency, sum(accounting_amount)::text AS total
            FROM line WHERE accounting_amount IS NOT NULL GROUP BY 1
        ) AS by_currency
    ) AS sums,
    (
        SELECT coalesce(jsonb_object_agg(currency, total), '{}') FROM (
            SELECT coalesce(vat_currency, '') AS currency, sum(vat_amount)::text AS total
            FROM line WHERE vat_amount IS NOT NULL GROUP BY 1
        ) AS by_currency
    ) AS vat_sums,
    encode(sha256(convert_to(coalesce(string_agg(CAST(jsonb_build_array(
        transaction_id, booked_on, original_amount, original_currency, accounting_amount, accounting_currency,
        vat_amount, vat_currency, vat_source, receipt_state
    ) AS text), E'\\n' ORDER BY transaction_id COLLATE "C"), ''), 'UTF8')), 'hex') AS sha256
FROM line
"""
"""The number of lines, sums and hash of a month at a position. The hash leaves out the card holder, whose reference
an erasure replaces."""
_LINES: Final = text(_CONTENT)
_MONTH_STATE: Final = text(
    """
SELECT organization.organization_reference_id IS NOT NULL AS known, state.complete_through, state.acknowledged_gaps,
    state.complete_from, asked.month + interval '1 month' <= now() AT TIME ZONE 'UTC' AS has_ended,
    coalesce(state.complete_through AT TIME ZONE 'UTC' >= asked.month + interval '1 month', false) AS is_complete,
    (SELECT coalesce(max(position), 0) FROM ems.events) AS position
FROM (SELECT CAST(:month AS date) AS month) AS asked
LEFT JOIN ems.organizations AS organization ON organization.organization_reference_id = :organization
LEFT JOIN ems.completeness AS state ON state.organization_reference_id = organization.organization_reference_id
"""
)
_GAPS: Final = text(
    "SELECT status, event, count(*) AS number, min(occurred_at) AS first FROM receiver.gaps_of(:organization) "
    "WHERE NOT acknowledged GROUP BY status, event ORDER BY status, event"
)
_ACKNOWLEDGE: Final = text(
    """
INSERT INTO receiver.acknowledged_gaps (kind, id, organization_reference_id, occurred_at, acknowledged_by, reason)
SELECT kind, id, :organization, occurred_at, :by, :reason FROM receiver.gaps_of(:organization)
WHERE NOT acknowledged AND status <> 'pending'
"""
)
_ACKNOWLEDGED: Final = text(
    """
SELECT kind, id, occurred_at, acknowledged_at, acknowledged_by, reason FROM receiver.acknowledged_gaps
WHERE organization_reference_id = :organization AND acknowledged_at <= :until ORDER BY acknowledged_at, kind, id
"""
)
_CLOSE: Final = text(
    """
INSERT INTO ems.closings (organization_reference_id, month, closed_at, closed_by, complete_from, complete_through,
    acknowledged_gaps, position, lines, sums, vat_sums, sha256)
SELECT :organization, :month, now(), :by, :complete_from, :complete_through, :acknowledged_gaps, :position, content.*
FROM ("""
    + _CONTENT
    + ") AS content"
)
_READ: Final = text(
    """
SELECT closing.*, (
    SELECT count(*) FROM ems.late_changes AS change
    WHERE change.organization_reference_id = closing.organization_reference_id AND change.month = closing.month
) AS late_changes
FROM ems.closings AS closing WHERE organization_reference_id = :organization AND month = :month
"""
)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A closing as an auditor reads it. Its fields are the columns of ``ems.closings``, and two more."""

    organization_reference_id: str
    month: date
    closed_at: datetime
    closed_by: str
    complete_from: datetime
    complete_through: datetime
    acknowledged_gaps: int
    position: int
    lines: int
    sums: Mapping[str, str]
    vat_sums: Mapping[str, str]
    sha256: str
    late_changes: int
    """How many changes of the month were booked since."""
    acknowledged: tuple[Mapping[str, Any], ...]
    """The gaps acknowledged up to the closing, with who acknowledged each and why."""


def month_name(month: date) -> str:
    """Return a month as it is given and shown: ``2026-10``."""
    return month.isoformat()[:7]


class NotClosed(OperationRefused):
    """A month cannot be closed now."""

    def __init__(self, organization: str, month: date, reasons: list[str]) -> None:
        super().__init__(f"{month_name(month)} of {organization} cannot be closed: {'; '.join(reasons)}")
        self.reasons = reasons


def close_month(
    engine: Engine, organization: str, month: date, *, by: str, acknowledge: str | None = None
) -> Certificate:
    """Close the month that begins with *month*; *acknowledge*: why it is closed though events are permanently missing.

    Raises ``NotClosed`` with the reasons, and ``OperationRefused`` for an organization that is unknown here.
    """
    parameters = {"organization": organization, "month": month}
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection, connection.begin():
        if connection.execute(_READ, parameters).one_or_none() is not None:
            command = f"receiver close {shlex.quote(organization)} {month_name(month)}"
            raise NotClosed(organization, month, [f"it is closed already ({command} --show)"])
        if acknowledge is not None:
            connection.execute(_ACKNOWLEDGE, {**parameters, "by": by, "reason": acknowledge})
        state = connection.execute(_MONTH_STATE, parameters).mappings().one()
        if not state["known"]:
            raise OperationRefused(f"organization {organization!r} is unknown here: receiver webhooks list has them")
        reasons = _reasons(connection, organization, state)
        if reasons:
            raise NotClosed(organization, month, reasons)
        names = ("complete_from", "complete_through", "acknowledged_gaps", "position")
        connection.execute(_CLOSE, {**parameters, "by": by, **{name: state[name] for name in names}})
        return _certificate(connection, organization, month)


def _reasons(connection: Connection, organization: str, state: RowMapping) -> list[str]:
    """Return why a month cannot be closed; none if it can."""
    reasons = []
    if not state["has_ended"]:
        reasons.append("it has not ended yet (UTC)")
    for gap in connection.execute(_GAPS, {"organization": organization}):
        first = "" if gap.first is None else f", the first at {gap.first:%Y-%m-%d %H:%M:%S} UTC"
        if gap.status != "pending":
            reasons.append(f"{gap.number} {gap.status} {gap.event}{first} ({_command_for(gap.status, organization)})")
    if not state["is_complete"] and not reasons:
        through = state["complete_through"]
        reasons.append(
            "the delivery log has not been read from its beginning (receiver reconcile)"
            if through is None
            else f"it is complete through {through:%Y-%m-%d %H:%M:%S} UTC only (receiver reconcile, receiver status)"
        )
    return reasons


def _command_for(status: str, organization: str) -> str:
    """Return the command that shows the gaps of a status; an unrecoverable event has no delivery to list."""
    if status == "unrecoverable":
        return "receiver status"
    return f"receiver deliveries list --status {status} --organization {shlex.quote(organization)}"


def read_certificate(engine: Engine, organization: str, month: date) -> Certificate:
    """Return the closing of a month. Raises ``OperationRefused`` if it was not closed."""
    with engine.connect() as connection:
        return _certificate(connection, organization, month)


def verify_closing(engine: Engine, certificate: Certificate) -> dict[str, tuple[Any, Any]]:
    """Return the values that differ from the closing: recorded, and computed now; empty if none does."""
    parameters = {
        "organization": certificate.organization_reference_id,
        "month": certificate.month,
        "position": certificate.position,
    }
    with engine.connect() as connection:
        content = connection.execute(_LINES, parameters).mappings().one()
    return {
        name: (getattr(certificate, name), value)
        for name, value in content.items()
        if getattr(certificate, name) != value
    }


def _certificate(connection: Connection, organization: str, month: date) -> Certificate:
    parameters = {"organization": organization, "month": month}
    row = connection.execute(_READ, parameters).mappings().one_or_none()
    if row is None:
        name = month_name(month)
        command = f"receiver close {shlex.quote(organization)} {name}"
        raise OperationRefused(f"{name} of {organization} is not closed: {command}")
    gaps = connection.execute(_ACKNOWLEDGED, {"organization": organization, "until": row["closed_at"]}).mappings()
    return Certificate(**row, acknowledged=tuple(dict(gap) for gap in gaps))
