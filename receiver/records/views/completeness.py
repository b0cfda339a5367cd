"""The view ``ems.completeness``: up to when everything is here and applied."""

from __future__ import annotations

from typing import Final

from receiver.records.views import view as v

COMPLETENESS: Final = v.View(
    name="completeness",
    comment="Time up to which each organization is complete, one row each: everything that OpenCard sent from "
    "complete_from to complete_through, according to its delivery log, is applied to these tables. A month is covered "
    "if it begins at or after complete_from and ends at or before complete_through. Transactions of that time that "
    "OpenCard reports later are not included.",
    query="""
SELECT
    organization.organization_reference_id,
    state.complete_through,
    state.open_gaps,
    state.checked_at,
    state.acknowledged_gaps,
    organization.log_begins_at AS complete_from
FROM ems.organizations AS organization
CROSS JOIN LATERAL receiver.completeness_of(organization.organization_reference_id) AS state
""",
    columns={
        "organization_reference_id": v.ORGANIZATION,
        "complete_through": "Everything that OpenCard sent from complete_from up to this time is applied. Always "
        "before the first event that is missing or not applied yet, unless an operator acknowledged it; null until the "
        "delivery log of each webhook has been read from its beginning (again after a restore or a failover), and "
        "while the organization has no webhook",
        "open_gaps": "Number of events that are missing from the tables and that no operator has acknowledged: in the "
        "delivery log without a payload, or received and failed, dead, quarantined, or transaction events that were "
        "ignored. A failed one is still tried again; 0 if none",
        "checked_at": "When the delivery log was last read; with several webhooks, the earliest of these times; null "
        "until then",
        "acknowledged_gaps": "Number of such events that an operator acknowledged or resolved, so that they no "
        "longer hold back complete_through; 0 if none",
        "complete_from": "Time from which OpenCard's delivery log covers the organization (log_begins_at of "
        "ems.organizations): when its first webhook was added here, or the log's oldest entry if that is earlier. A "
        "month that began before cannot be shown to be complete",
    },
)
