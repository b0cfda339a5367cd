"""The view ``ems.completeness``: up to when everything is here and applied."""

from __future__ import annotations

from typing import Final

from receiver.records.views import view as v

COMPLETENESS: Final = v.View(
    name="completeness",
    comment="Up to when each organization is complete: everything that OpenCard sent until then is in these tables, as "
    "OpenCard's delivery log proves. One row for each organization.",
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
        "complete_through": "Everything that OpenCard sent until then, in UTC, is here and applied: it never passes an "
        "event that is missing, that cannot be recovered (unless an operator acknowledged that), or that is not yet "
        "applied; null while the delivery log of one of its webhooks has not been read from its beginning",
        "open_gaps": "How many events are missing for good or were not applied (failed, dead, quarantined, of an "
        "unknown version), and no operator acknowledged that; 0 without any",
        "checked_at": "When the delivery log was last read, in UTC, of several webhooks the one read longest ago; null "
        "as long as it was not",
        "acknowledged_gaps": "How many such events an operator acknowledged, which complete_through passes; 0 without "
        "any",
    },
)
