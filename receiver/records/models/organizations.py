"""The organizations whose deliveries are received."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Mapped

from receiver.db import EMS, Base
from receiver.records.models import columns as c


class KnownOrganization(Base):
    """An organization that has or had a webhook here; written by a trigger of ``receiver.webhooks``."""

    __tablename__ = "organizations"
    __table_args__ = (
        {
            "schema": EMS,
            "comment": "The organizations that have or had a webhook of this service.",
        },
    )

    organization_reference_id: Mapped[str] = c.key(c.ORGANIZATION)
    added_at: Mapped[datetime] = c.column("When its first webhook was added")
    log_begins_at: Mapped[datetime] = c.column(
        "Time from which OpenCard's delivery log covers the organization: added_at, or the time of the log's oldest "
        "entry if that is earlier (of a webhook that was registered elsewhere and adopted). What OpenCard sent before "
        "may be missing"
    )
