"""The configuration that an operator last applied to the whole account, stored for the scheduler to apply again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from receiver.bootstrap.desired import Configuration
from receiver.bootstrap.models import AppliedConfiguration

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from sqlalchemy import Connection, Engine

    from receiver.encryption import Encryption

_DUE: Final = text(
    """
UPDATE receiver.applied_configuration SET started_at = clock_timestamp()
WHERE started_at <= clock_timestamp() - CAST(:interval AS interval)
    OR started_at > clock_timestamp() -- the clock was changed
"""
)


def last_read_at(connection: Connection) -> datetime | None:
    """Return when bootstrap last read the webhooks of the whole account; ``None`` when it failed or has not run."""
    run = select(AppliedConfiguration.ended_at).where(AppliedConfiguration.error.is_(None))
    return connection.scalar(run)


class AppliedConfigurations:
    """The one row of ``receiver.applied_configuration``, encrypted because it may hold credentials."""

    def __init__(self, engine: Engine, encryption: Encryption) -> None:
        self._engine = engine
        self._encryption = encryption

    def save(self, configuration: Configuration) -> None:
        """Store the configuration that an operator applied, unless it is stored already and its last run succeeded."""
        with self._engine.connect() as connection:
            kept = connection.execute(select(AppliedConfiguration.configuration, AppliedConfiguration.error)).first()
        if kept is not None and kept.error is None and self._decrypted(kept.configuration) == configuration:
            return
        values = {"configuration": self._encryption.encrypt(configuration.as_json()), "applied_at": func.now()}
        times = {"started_at": func.now(), "ended_at": func.now(), "error": None}
        with self._engine.begin() as connection:
            connection.execute(
                insert(AppliedConfiguration)
                .values(id=1, **values, **times)
                .on_conflict_do_update(index_elements=["id"], set_={**values, **times})
            )

    def load(self) -> Configuration | None:
        """Return the configuration that was applied last, or ``None``."""
        with self._engine.connect() as connection:
            stored = connection.scalar(select(AppliedConfiguration.configuration))
        return None if stored is None else self._decrypted(stored)

    def claim_due(self, interval: timedelta) -> bool:
        """Whether this process is to apply the configuration again: true for at most one in each *interval*."""
        with self._engine.begin() as connection:
            return connection.execute(_DUE, {"interval": interval}).rowcount == 1

    def record_end(self, error: str | None) -> bool:
        """Store the end of a run with its *error*; return whether the error differs from the previous run's."""
        with self._engine.begin() as connection:
            before = connection.scalar(select(AppliedConfiguration.error))
            connection.execute(update(AppliedConfiguration).values(ended_at=func.now(), error=error))
        return error != before

    def _decrypted(self, stored: bytes) -> Configuration:
        return Configuration.from_json(self._encryption.decrypt(stored))
