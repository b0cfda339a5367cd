"""The RQ job ``fetch_due``: downloads what is due. Woken after a receipt was stored, and enqueued every few seconds."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING, Final

import psycopg
import structlog
from redis import RedisError
from sqlalchemy.exc import OperationalError

from receiver.connections import WORK
from receiver.db import engine_for
from receiver.encryption import Encryption
from receiver.errors import ReceiverError
from receiver.files.downloads import give_up_expired, plan_again
from receiver.files.fetch import Fetcher
from receiver.files.store import FileStore
from receiver.opencard.auth import Access
from receiver.opencard.tokens import StoredTokens
from receiver.processing.drain import stop_requested
from receiver.queue import FILES_WAITING, SHORT_TIMEOUT, connect
from receiver.settings import load_settings, unset_for_api

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from receiver.settings import Settings

log = structlog.stdlib.get_logger(__name__)

RUN_SECONDS: Final = 600.0
"""Seconds after which a job leaves the rest to the next one: far below RQ's time-out."""


def fetch_due() -> None:
    """Download every file that is due, then return. Run by RQ; any number may run at once."""
    settings = load_settings(os.environ)
    if unset_for_api(settings):
        return  # the scheduler has other settings than this worker, and said so when it started
    _allow_wake_ups(settings.redis_url)
    engine = engine_for(settings.database_url, application="files", timeouts=WORK)
    try:
        plan_again(engine)
        if give_up_expired(engine):
            log.error("files.expired")
        store = FileStore(settings.files_url)
        store.sweep()
        tally = fetcher(engine, settings, store).run(seconds=RUN_SECONDS, stop=stop_requested.is_set)
        for kind, reason in tally.blocked.items():
            log.error("files.blocked", kind=kind.value, error=str(reason))
    except ReceiverError as error:
        log.error("files.run_failed", error=str(error))  # noqa: TRY400 - no traceback is needed
    except (OperationalError, psycopg.OperationalError):  # the next tick comes again
        log.warning("files.postponed")
    finally:
        engine.dispose()


def fetcher(engine: Engine, settings: Settings, store: FileStore) -> Fetcher:
    """Return what downloads files as *settings* say."""
    tokens = StoredTokens(engine, Encryption(settings.encryption_keys))
    return Fetcher(engine, Access.of(settings), tokens, store, max_bytes=settings.files_max_bytes)


def _allow_wake_ups(redis_url: str) -> None:
    """Let the next receipt wake a worker again, before this job reads what is due."""
    with closing(connect(redis_url, timeout=SHORT_TIMEOUT)) as redis:
        try:
            redis.delete(FILES_WAITING)
        except RedisError as error:
            log.warning("files.not_enqueued", error=type(error).__name__)
