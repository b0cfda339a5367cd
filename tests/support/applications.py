"""Web processes with other settings."""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from receiver.app import create_app
from receiver.sandbox.embedded import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask

    from receiver.settings import Settings


@contextmanager
def receiver_with(settings: Settings, **changes: Any) -> Iterator[Flask]:
    """The application with *changes* to its settings."""
    app = create_app(dataclasses.replace(settings, **changes))
    try:
        yield app
    finally:
        app.extensions["receiver.close"]()


@contextmanager
def receiver_without_postgresql(settings: Settings, **changes: Any) -> Iterator[Flask]:
    """The application with *changes* to its settings and no PostgreSQL, which it does not wait for long."""
    with receiver_with(settings, database_url=unreachable_database(), **changes) as app:
        app.extensions["receiver"].webhooks._pool.timeout = 0.1
        yield app


def unreachable_database() -> str:
    """Return the URL of a database on which no server listens."""
    return f"postgresql+psycopg://receiver:database-password@127.0.0.1:{free_port()}/receiver"


def unreachable_redis() -> str:
    """Return the URL of a Redis on which no server listens."""
    return f"redis://127.0.0.1:{free_port()}/0"
