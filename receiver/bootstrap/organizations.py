"""The state of the account's organizations, kept from one run to the next."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert

from receiver.bootstrap.flags import UnavailableFlag
from receiver.bootstrap.models import AccountOrganization

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from sqlalchemy import Connection, Engine

_COLUMNS: Final = (
    AccountOrganization.organization_id,
    AccountOrganization.organization_reference_id,
    AccountOrganization.left_out,
    AccountOrganization.unavailable_events,
    AccountOrganization.error,
    AccountOrganization.deleted_at,
)


@dataclass(frozen=True, slots=True)
class OrganizationRecord:
    """The state of an organization after a run."""

    organization_id: int
    """OpenCard's id."""
    organization_reference_id: str | None
    left_out: bool = False
    unavailable: Mapping[str, UnavailableFlag] = field(default_factory=dict)
    """Flags of desired events that the organization cannot have."""
    error: str | None = None
    deleted: bool = False


class OrganizationStore:
    """The organizations in ``receiver.organizations``. What is written is committed when a method returns."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def all(self) -> dict[int, OrganizationRecord]:
        """Return every organization that any run found, by OpenCard's id."""
        with self._engine.connect() as connection:
            return {row["organization_id"]: _read(row) for row in connection.execute(select(*_COLUMNS)).mappings()}

    def save(self, found: Iterable[OrganizationRecord], known: Mapping[int, OrganizationRecord]) -> None:
        """Write those that differ from the *known* ones."""
        rows = [_written(each) for each in found if known.get(each.organization_id) != each]
        if not rows:
            return
        statement = insert(AccountOrganization)
        columns = ("organization_reference_id", "left_out", "unavailable_events", "error")
        changed = {name: statement.excluded[name] for name in columns}
        with self._engine.begin() as connection:
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["organization_id"], set_={**changed, "deleted_at": None}
                ),
                rows,
            )

    def note_deleted(self, organization_ids: Collection[int]) -> None:
        """Mark organizations that the account does not have any more."""
        if organization_ids:
            with self._engine.begin() as connection:
                connection.execute(
                    update(AccountOrganization)
                    .where(
                        AccountOrganization.organization_id.in_(organization_ids),
                        AccountOrganization.deleted_at.is_(None),
                    )
                    .values(deleted_at=func.now())
                )


def unavailable_events(connection: Connection, organization_id: int) -> dict[str, UnavailableFlag]:
    """Return the unavailable flags of an organization, by OpenCard's id, as of the last run."""
    query = select(AccountOrganization.unavailable_events).where(AccountOrganization.organization_id == organization_id)
    return read_unavailable(connection.scalar(query) or {})


def _read(row: Mapping[Any, Any]) -> OrganizationRecord:
    return OrganizationRecord(
        organization_id=row["organization_id"],
        organization_reference_id=row["organization_reference_id"],
        left_out=row["left_out"],
        unavailable=read_unavailable(row["unavailable_events"]),
        error=row["error"],
        deleted=row["deleted_at"] is not None,
    )


def read_unavailable(stored: Mapping[str, Any]) -> dict[str, UnavailableFlag]:
    """Parse the column ``unavailable_events``."""
    return {flag: msgspec.convert(why, UnavailableFlag) for flag, why in stored.items()}


def _written(each: OrganizationRecord) -> dict[str, Any]:
    return {
        "organization_id": each.organization_id,
        "organization_reference_id": each.organization_reference_id,
        "left_out": each.left_out,
        "unavailable_events": {flag: msgspec.to_builtins(why) for flag, why in each.unavailable.items()},
        "error": each.error,
    }
