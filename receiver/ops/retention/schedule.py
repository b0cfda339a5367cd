"""The RQ job ``retain``: makes partitions ahead, then runs retention within its time. Enqueued every few minutes."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Final

import psycopg
import structlog
from sqlalchemy.exc import OperationalError

from receiver.db import engine_for
from receiver.errors import OperationRefused
from receiver.ops.retention.run import Pace, run_retention
from receiver.partitions import ensure_partitions
from receiver.processing.drain import stop_requested
from receiver.settings import load_settings

log = structlog.stdlib.get_logger(__name__)

WITHIN: Final = timedelta(minutes=4)
"""How long a job goes on; what is left waits for the next."""


def retain() -> None:
    """Make the next partitions, and delete expired data as far as the time allows. Run by RQ; one at a time deletes."""
    settings = load_settings(os.environ)
    engine = engine_for(settings.database_url, application="retention")
    try:
        ensure_partitions(engine)
        run_retention(engine, settings, pace=Pace(within=WITHIN, stop=stop_requested))
    except OperationRefused:
        log.debug("retention.skipped")
    except (OperationalError, psycopg.OperationalError) as error:  # the next tick comes again
        reason = str(getattr(error, "orig", error)).partition("\n")[0]
        log.warning("retention.postponed", error=reason)
    finally:
        engine.dispose()
