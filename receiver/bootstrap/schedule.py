"""The RQ job ``bootstrap_due``: applies again the configuration that an operator last applied to the whole account.

So new organizations get their webhooks, and new products their events, by themselves. The scheduler enqueues it every
few seconds.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import OperationalError

from receiver.bootstrap.applied import AppliedConfigurations
from receiver.bootstrap.run import Bootstrap, Options
from receiver.db import engine_for
from receiver.encryption import Encryption
from receiver.errors import OperationRefused, ReceiverError
from receiver.opencard.auth import Access
from receiver.settings import load_settings, unset_for_api

if TYPE_CHECKING:
    from receiver.bootstrap.outcome import Result

log = structlog.stdlib.get_logger(__name__)


def bootstrap_due() -> None:
    """Apply the applied configuration again if it is due, then return. Run by RQ; any number may run at once.

    It never prunes, and does nothing before an operator has applied a configuration to the whole account.
    """
    settings = load_settings(os.environ)
    if unset_for_api(settings) or not settings.bootstrap_interval:
        return  # the scheduler has other settings than this worker
    encryption = Encryption(settings.encryption_keys)
    engine = engine_for(settings.database_url, application="bootstrap")
    applied = AppliedConfigurations(engine, encryption)
    try:
        if not applied.take_due(timedelta(seconds=settings.bootstrap_interval)):
            return
        bootstrap = Bootstrap(engine, encryption, Access.of(settings), settings.public_url)
        try:
            result = bootstrap.run(None, Options())
        except OperationRefused as error:  # an operator's command is at work
            log.info("bootstrap.postponed", reason=str(error))
        except ReceiverError as error:
            if applied.note_end(str(error)):  # said once, not at every run
                log.error("bootstrap.failed", error=str(error))  # noqa: TRY400 - no traceback is needed
        else:
            applied.note_end(None)
            _report(result)
    except OperationalError as error:  # the next run comes again
        log.warning("bootstrap.postponed", reason=f"PostgreSQL: {str(error.orig).partition(chr(10))[0]}")
    finally:
        engine.dispose()


def _report(result: Result) -> None:
    for organization, change in result.changes:
        log.info("bootstrap.changed", organization=organization.reference_id, action=change.action.value)
    for failure in result.new_failures:
        log.error("bootstrap.failed", organization=failure.organization_reference_id, error=failure.error)
