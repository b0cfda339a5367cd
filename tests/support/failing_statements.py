"""Statements that fail in PostgreSQL, with data of a row in the error."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Acme


@contextmanager
def failing_statements(acme: Acme) -> Iterator[None]:
    """Let PostgreSQL fail to apply deliveries, with the row in its words."""
    acme.execute(
        "CREATE FUNCTION receiver.fail() RETURNS trigger LANGUAGE plpgsql AS $$"
        " BEGIN RAISE EXCEPTION 'cannot keep %', NEW.reference_id; END $$"
    )
    acme.execute("CREATE TRIGGER fail BEFORE INSERT ON ems.card_holders FOR EACH ROW EXECUTE FUNCTION receiver.fail()")
    try:
        yield
    finally:
        acme.execute("DROP FUNCTION receiver.fail() CASCADE")
