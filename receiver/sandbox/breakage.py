"""Failures on purpose, with a cause that an operator can find and fix: accounting lacks an account.

A trigger refuses the cleared purchases of one organization, as a constraint of the EMS's own might. It does so in the
words of an error for which trying again is no help, so the deliveries are ``dead`` until the trigger is dropped and
they are replayed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from receiver.sandbox.story import make_story

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from receiver.sandbox.story_events import StoryEvent

EVENT: Final = "card.transaction.cleared"
FIX: Final = "DROP TRIGGER IF EXISTS no_account ON ems.transactions"
"""Fixes the cause."""
_SEED: Final = 2026

_FUNCTION: Final = text(
    """
CREATE OR REPLACE FUNCTION public.no_account() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'accounting has no account for the purchases of %', NEW.organization_reference_id
        USING ERRCODE = 'data_exception', HINT = 'drop the trigger no_account on ems.transactions';
END $$
"""
)
_TRIGGER: Final = """
CREATE TRIGGER no_account BEFORE INSERT OR UPDATE ON ems.transactions FOR EACH ROW
WHEN (NEW.state = 'cleared' AND NEW.organization_reference_id = {organization})
EXECUTE FUNCTION public.no_account()
"""


def break_on_purpose(connection: Connection, organization: str) -> None:
    """Have the cleared purchases of *organization* fail from now on."""
    connection.execute(text(FIX))
    connection.execute(_FUNCTION)
    name = connection.execute(text("SELECT quote_literal(:name)"), {"name": organization}).scalar_one()
    connection.execute(text(_TRIGGER.format(organization=name)))


def repair(connection: Connection) -> None:
    """Fix the cause."""
    connection.execute(text(FIX))


def purchases_to_break(organization: str, number: int) -> list[StoryEvent]:
    """Return *number* cleared purchases of *organization*, the same ones each time."""
    story = make_story(seed=_SEED, organizations=[organization], purchases=2 * number + 10)
    return [sent for sent in story.events if sent.event == EVENT][:number]
