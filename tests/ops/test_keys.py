"""Everything that is stored is encrypted again under the newest key, and nothing is lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import LargeBinary, event, func, insert, select, text

from receiver.encryption import Encryption
from receiver.errors import ConfigurationError
from receiver.opencard.models import OAuthToken
from receiver.ops.keys import ColumnState, count_by_key, encrypted_tables, rotate_keys
from receiver.webhooks.models import Webhook
from tests.support.keys import AFTER, BEFORE, FOREIGN, LOST, NEW, OLD, add_webhook, stored

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Engine


def add_token(engine: Engine, encryption: Encryption = BEFORE) -> None:
    with engine.begin() as connection:
        connection.execute(
            insert(OAuthToken).values(
                api_url="https://api.opencard.io",
                client_id="ems",
                scopes="webhooks-read",
                token=encryption.encrypt("token"),
                expires_at=datetime.now(UTC) + timedelta(days=1),
            )
        )


def by_name(states: list[ColumnState]) -> Mapping[str, tuple[int, int, int]]:
    return {state.name: (state.older, state.newest, state.unreadable) for state in states}


def test_every_column_that_is_marked_is_found_whatever_its_model() -> None:
    names = {f"{table.name}.{column.name}" for table, columns in encrypted_tables() for column in columns}
    assert names >= {
        "webhooks.secret",
        "webhooks.previous_secret",
        "webhooks.credentials",
        "webhooks.previous_credentials",
        "webhook_headers.value",
        "oauth_tokens.token",
    }


def test_every_column_described_as_encrypted_is_marked(engine: Engine) -> None:
    with engine.connect() as connection:
        said = connection.execute(
            text(
                "SELECT c.relname || '.' || a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
                "JOIN pg_namespace n ON n.oid = c.relnamespace "
                "WHERE n.nspname IN ('receiver', 'ems') AND col_description(c.oid, a.attnum) LIKE 'encrypted%'"
            )
        ).scalars()
        assert set(said) == {
            f"{table.name}.{column.name}" for table, columns in encrypted_tables() for column in columns
        }
    assert all(isinstance(column.type, LargeBinary) for _, columns in encrypted_tables() for column in columns)


def test_everything_is_renewed_and_the_older_key_may_go(engine: Engine) -> None:
    for number in range(1, 8):
        add_webhook(engine, number)
    add_token(engine)
    before = stored(engine)
    found = by_name(rotate_keys(engine, AFTER, batch=3))
    only_new = Encryption([NEW])
    for name, values in stored(engine).items():
        assert [only_new.decrypt(value) for value in values] == [BEFORE.decrypt(value) for value in before[name]]
    assert found["receiver.webhooks.secret"] == (7, 0, 0)
    assert found["receiver.webhook_headers.value"] == (7, 0, 0)
    assert found["receiver.oauth_tokens.token"] == (1, 0, 0)


def test_it_may_be_repeated_and_then_writes_nothing(engine: Engine) -> None:
    add_webhook(engine)
    rotate_keys(engine, AFTER)
    before = stored(engine)
    found = by_name(rotate_keys(engine, AFTER))
    assert stored(engine) == before
    assert found["receiver.webhooks.secret"] == (0, 1, 0)


def test_only_what_is_encrypted_changes(engine: Engine) -> None:
    webhook = add_webhook(engine, previous_secret=None)
    columns = [column for column in Webhook.__table__.columns if not column.info]
    query = select(*columns).where(Webhook.id == webhook)
    with engine.connect() as connection:
        before = connection.execute(query).one()
    rotate_keys(engine, AFTER)
    with engine.connect() as connection:
        assert connection.execute(query).one() == before
        assert connection.execute(select(Webhook.previous_secret)).scalar_one() is None


def test_undecryptable_values_are_kept_and_reported(engine: Engine) -> None:
    lost = LOST.encrypt("lost")
    add_webhook(engine, 1)
    add_webhook(engine, 2, secret=lost)
    add_webhook(engine, 3, credentials=b"never encrypted")
    found = by_name(rotate_keys(engine, AFTER, batch=1))
    assert found["receiver.webhooks.secret"] == (2, 0, 1)
    assert found["receiver.webhooks.credentials"] == (2, 0, 1)
    assert found["receiver.webhooks.previous_secret"] == (3, 0, 0)
    values = stored(engine)
    assert values["receiver.webhooks.secret"][1] == lost
    assert values["receiver.webhooks.credentials"][2] == b"never encrypted"
    readable = [value for column in values.values() for value in column if value not in {lost, b"never encrypted"}]
    assert all(AFTER.is_newest(value) for value in readable)
    with_the_lost_key = Encryption([NEW, OLD, FOREIGN])
    assert by_name(rotate_keys(engine, with_the_lost_key))["receiver.webhooks.secret"] == (1, 2, 0)


def test_interrupted_rotation_is_completed_by_the_next_run(engine: Engine) -> None:
    for number in range(1, 7):
        add_webhook(engine, number)

    class Interrupting(Encryption):
        left = 9

        def renew(self, stored: bytes) -> bytes:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt
            return super().renew(stored)

    with pytest.raises(KeyboardInterrupt):
        rotate_keys(engine, Interrupting([NEW, OLD]), batch=2)
    for values in stored(engine).values():
        assert all(AFTER.decrypt(value) for value in values)
    left = by_name(rotate_keys(engine, AFTER))["receiver.webhooks.secret"]
    assert left[0] + left[1] == 6
    assert all(AFTER.is_newest(value) for values in stored(engine).values() for value in values)


def test_a_secret_that_changes_meanwhile_is_not_overwritten(engine: Engine) -> None:
    """Another process holds the row: its new secret is committed first, and is what gets renewed."""
    webhook = add_webhook(engine)
    reached = Event()

    def at_lock(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "FOR UPDATE" in statement:
            reached.set()

    event.listen(engine, "before_cursor_execute", at_lock)
    try:
        with engine.begin() as connection:
            connection.execute(
                Webhook.__table__.update().where(Webhook.id == webhook).values(secret=BEFORE.encrypt("changed"))  # type: ignore[attr-defined]
            )
            thread = Thread(target=rotate_keys, args=(engine, AFTER))
            thread.start()
            assert reached.wait(30)
        thread.join(30)
    finally:
        event.remove(engine, "before_cursor_execute", at_lock)
    (secret,) = stored(engine)["receiver.webhooks.secret"]
    assert AFTER.is_newest(secret)
    assert AFTER.decrypt(secret) == "changed"


def test_a_survey_counts_and_changes_nothing(engine: Engine) -> None:
    add_webhook(engine, 1)
    add_webhook(engine, 2, encryption=AFTER)
    add_webhook(engine, 3, secret=LOST.encrypt("lost"))
    before = stored(engine)
    with engine.connect() as connection:
        assert by_name(count_by_key(connection, AFTER))["receiver.webhooks.secret"] == (1, 1, 1)
        assert connection.execute(select(func.count()).select_from(Webhook)).scalar_one() == 3
    assert stored(engine) == before
    with pytest.raises(ConfigurationError):
        AFTER.decrypt(before["receiver.webhooks.secret"][2])
