"""The RQ job ``bootstrap_due``: apply the configuration again that an operator last applied to the whole account.

So new organizations get their webhooks, and new products their events, without an operator. The scheduler enqueues it
every few seconds.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import OperationalError

from receiver.bootstrap.applied import AppliedConfigurations
from receiver.bootstrap.run import Bootstrap, BootstrapOptions
from receiver.db import engine_for
from receiver.encryption import Encryption
from receiver.errors import OperationRefused, ReceiverError
from receiver.opencard.auth import Access
from receiver.settings import load_settings, unset_for_api

if TYPE_CHECKING:
    from receiver.bootstrap.outcome import BootstrapResult

log = structlog.stdlib.get_logger(__name__)


def bootstrap_due() -> None:
    """Apply the stored configuration again if it is due. Run by RQ; any number may run at once.

    It never prunes, and does nothing before an operator has applied a configuration to the whole account.
    """
    settings = load_settings(os.environ)
    if unset_for_api(settings) or not settings.bootstrap_interval:
        return  # the scheduler's settings differ from this worker's
    encryption = Encryption(settings.encryption_keys)
    engine = engine_for(settings.database_url, application="bootstrap")
    applied = AppliedConfigurations(engine, encryption)
    try:
        if not applied.claim_due(timedelta(seconds=settings.bootstrap_interval)):
            return
        bootstrap = Bootstrap(engine, encryption, Access.of(settings), settings.public_url)
        try:
            result = bootstrap.run(None, BootstrapOptions())
        except OperationRefused as error:  # an operator's command is running
            log.info("bootstrap.postponed", reason=str(error))
        except ReceiverError as error:
            if applied.record_end(str(error)):  # logged once, not at every run
                log.error("bootstrap.failed", error=str(error))  # noqa: TRY400 - no traceback is needed
        else:
            applied.record_end(None)
            _report(result)
    except OperationalError as error:  # the next run comes again
        log.warning("bootstrap.postponed", reason=f"PostgreSQL: {str(error.orig).partition(chr(10))[0]}")
    finally:
        engine.dispose()


def _report(result: BootstrapResult) -> None:
    for organization, change in result.changes:
        log.info("bootstrap.changed", organization=organization.reference_id, action=change.action.value)
    for failure in result.new_failures:
        log.error("bootstrap.failed", organization=failure.organization_reference_id, error=failure.error)
