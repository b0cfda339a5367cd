"""The view ``ems.completeness``: up to when everything is here and applied."""

from __future__ import annotations

from typing import Final

from receiver.records.views import view as v

COMPLETENESS: Final = v.View(
    name="completeness",
    comment="Until when each organization is complete, one row each: everything that OpenCard sent until then, "
    "according to its delivery log, is applied to these tables. Purchases of that time that OpenCard reports later "
    "are not included.",
    query="""
SELECT
    organization.organization_reference_id,
    state.complete_through,
    state.open_gaps,
    state.checked_at,
    state.acknowledged_gaps
FROM ems.organizations AS organization
CROSS JOIN LATERAL receiver.completeness_of(organization.organization_reference_id) AS state
""",
    columns={
        "organization_reference_id": v.ORGANIZATION,
        "complete_through": "Everything that OpenCard sent until then, in UTC, is applied. Always before the first "
        "event that is missing or not applied yet, unless an operator acknowledged it; null until the delivery log of "
        "each webhook has been read from its beginning (again after a restore or a failover), and while the "
        "organization has no webhook",
        "open_gaps": "Number of events that are missing permanently or were not applied (failed, dead, quarantined, "
        "or ignored events of transactions) and that no operator has acknowledged; 0 if none",
        "checked_at": "When the delivery log was last read, in UTC; with several webhooks, the earliest of these "
        "times; null until then",
        "acknowledged_gaps": "Number of such events that an operator acknowledged, so that they no longer hold back "
        "complete_through; 0 if none",
    },
)
