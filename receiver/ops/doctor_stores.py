"""The doctor's checks of the stores: PostgreSQL, its migrations, the encryption keys, Redis, the managed webhooks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from redis import RedisError
from sqlalchemy import select, text
from sqlalchemy.exc import SQLAlchemyError

from receiver.bootstrap.flags import describe_unavailable
from receiver.bootstrap.models import AccountOrganization
from receiver.bootstrap.organizations import read_unavailable
from receiver.encryption import Encryption
from receiver.errors import ConfigurationError
from receiver.migrate import current_revision, head_revision
from receiver.ops.doctor_findings import why_not
from receiver.ops.keys import count_by_key
from receiver.ops.refused import read_refused
from receiver.queue import check_writes, connect
from receiver.webhooks.models import PreviousEndpointKey, Webhook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Connection, Engine

    from receiver.ops.doctor_findings import CheckResults
    from receiver.ops.refused import RefusalCount
    from receiver.settings import Settings

DATABASE: Final = "database"
MIGRATIONS: Final = "migrations"
KEYS: Final = "encryption keys"
REDIS: Final = "redis"
WEBHOOKS: Final = "webhooks"
REDIS_TIMEOUT: Final = 3.0
"""Seconds."""


_REFUSED: Final = text(
    """
SELECT webhook_id, count(*) AS attempts FROM receiver.delivery_log AS entry
WHERE response_status = 401 AND attempted_at > now() - interval '1 day' AND NOT EXISTS (
    SELECT FROM receiver.delivery_log AS later
    WHERE later.webhook_id = entry.webhook_id AND later.attempted_at > entry.attempted_at
        AND later.response_status BETWEEN 200 AND 299
)
GROUP BY webhook_id
"""
)


@dataclass(frozen=True, slots=True)
class CheckedWebhook:
    """A managed webhook, as far as the doctor has to know it."""

    id: int
    opencard_webhook_id: int | None
    organization_id: int
    organization_reference_id: str
    enabled: bool
    endpoint_key: str
    previous_keys: tuple[str, ...]
    secret: bytes = field(repr=False)
    """Encrypted."""
    deleted: bool
    """Whether bootstrap found that OpenCard does not have it any more."""
    unavailable: tuple[str, ...]
    """The events that its organization cannot have, and why, a line for each reason."""
    refused_in_log: int
    """How many attempts of the last day were answered 401 by OpenCard's log, with none accepted since."""
    refused: tuple[RefusalCount, ...]
    """What was refused here over the secret or the credentials, with nothing stored since."""

    @property
    def check(self) -> str:
        """The name of its check."""
        return f"webhook {self.id} ({self.organization_reference_id})"


def check_database(engine: Engine | None, problems: dict[str, str], findings: CheckResults) -> None:
    """Check that PostgreSQL answers, and is migrated to this release. *engine*: ``None`` without a right URL."""
    if engine is None:
        findings.not_checked(DATABASE, str(why_not(problems, "DATABASE_URL")))
    else:
        _ask(engine, DATABASE, findings, _version)
    reason = findings.why_not(DATABASE)
    if reason or engine is None:
        findings.not_checked(MIGRATIONS, str(reason))
    else:
        _ask(engine, MIGRATIONS, findings, _revision)


def _ask(engine: Engine, check: str, findings: CheckResults, ask: Callable[[Connection, CheckResults], None]) -> None:
    try:
        with engine.connect() as connection:
            ask(connection, findings)
    except SQLAlchemyError as error:
        reason = " ".join(str(getattr(error, "orig", None) or type(error).__name__).split())
        findings.broken(check, f"PostgreSQL (DATABASE_URL) failed: {reason}")


def _version(connection: Connection, findings: CheckResults) -> None:
    findings.ok(DATABASE, f"PostgreSQL {connection.execute(text('SHOW server_version')).scalar_one()}")


def _revision(connection: Connection, findings: CheckResults) -> None:
    current, head = current_revision(connection), head_revision()
    if current == head:
        findings.ok(MIGRATIONS, f"up to date ({head})")
    elif current is None or current < head:
        findings.broken(MIGRATIONS, f"at {current or 'nothing'}, this release needs {head}: run receiver db upgrade")
    else:
        findings.note(MIGRATIONS, f"at {current}, newer than this release's {head}: a newer release migrated already")


def check_keys(engine: Engine | None, settings: Settings, problems: dict[str, str], findings: CheckResults) -> None:
    """Decrypt everything that is stored; note what is not under the newest key."""
    reason = why_not(problems, "ENCRYPTION_KEYS") or findings.why_not(DATABASE, MIGRATIONS)
    if reason or engine is None:
        findings.not_checked(KEYS, str(reason))
        return

    def ask(connection: Connection, findings: CheckResults) -> None:
        states = count_by_key(connection, Encryption(settings.encryption_keys))
        unreadable = [f"{state.unreadable} of {state.name}" for state in states if state.unreadable]
        older = sum(state.older for state in states)
        if unreadable:
            findings.broken(
                KEYS,
                f"no key in ENCRYPTION_KEYS decrypts {', '.join(unreadable)}: add the key that was in use before, at "
                "the end",
            )
        elif older:
            findings.note(
                KEYS, f"{older} values are encrypted with an older key: run receiver keys rotate before it is removed"
            )
        else:
            findings.ok(KEYS, f"{sum(state.newest for state in states)} values, all encrypted with the newest key")

    _ask(engine, KEYS, findings, ask)


def check_redis(settings: Settings, problems: dict[str, str], findings: CheckResults) -> None:
    """Check that Redis takes writes."""
    reason = why_not(problems, "REDIS_URL")
    if reason:
        findings.not_checked(REDIS, reason)
        return
    client = connect(settings.redis_url, timeout=REDIS_TIMEOUT)
    try:
        check_writes(client)
    except RedisError as error:
        message = " ".join(str(error).split()).rstrip(".")
        findings.broken(REDIS, f"REDIS_URL: {message}; deliveries are stored, but not processed until Redis is back")
    else:
        findings.ok(REDIS, "accepts writes")
    finally:
        client.close()


def managed_webhooks(engine: Engine | None, findings: CheckResults) -> Sequence[CheckedWebhook] | None:
    """Return the managed webhooks, oldest first; ``None`` when they cannot be read, which the findings then say."""
    reason = findings.why_not(DATABASE, MIGRATIONS)
    if reason or engine is None:
        findings.not_checked(WEBHOOKS, str(reason))
        return None
    found: list[CheckedWebhook] = []
    _ask(engine, WEBHOOKS, findings, lambda connection, _findings: found.extend(_managed_webhooks(connection)))
    return None if findings.is_broken(WEBHOOKS) else found


def _managed_webhooks(connection: Connection) -> Iterator[CheckedWebhook]:
    previous: dict[int, tuple[str, ...]] = {}
    for key in connection.execute(select(PreviousEndpointKey.webhook_id, PreviousEndpointKey.endpoint_key)):
        previous[key.webhook_id] = (*previous.get(key.webhook_id, ()), key.endpoint_key)
    columns = (
        Webhook.id,
        Webhook.opencard_webhook_id,
        Webhook.organization_id,
        Webhook.organization_reference_id,
        Webhook.enabled,
        Webhook.endpoint_key,
        Webhook.secret,
        Webhook.deleted_at.is_not(None).label("deleted"),
    )
    organizations = {
        row.organization_id: tuple(describe_unavailable(read_unavailable(row.unavailable_events)))
        for row in connection.execute(
            select(AccountOrganization.organization_id, AccountOrganization.unavailable_events)
        )
    }
    in_log = Counter({row.webhook_id: row.attempts for row in connection.execute(_REFUSED)})
    refused = read_refused(lambda query: [*map(dict, connection.execute(text(query)).mappings())])
    for row in connection.execute(select(*columns).where(~Webhook.test).order_by(Webhook.id)).mappings():
        yield CheckedWebhook(
            **row,
            previous_keys=previous.get(row["id"], ()),
            unavailable=organizations.get(row["organization_id"], ()),
            refused_in_log=in_log[row["id"]],
            refused=tuple(each for each in refused if each.webhook_id == row["id"] and each.may_be_a_difference),
        )


def readable_secret(webhook: CheckedWebhook, settings: Settings) -> str | None:
    """Return the webhook's secret, or ``None`` when no key decrypts it."""
    try:
        return Encryption(settings.encryption_keys).decrypt(webhook.secret)
    except ConfigurationError:
        return None
