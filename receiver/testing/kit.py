"""What a test of the EMS does with the service: send events, wait until they are applied, read, run commands."""

from __future__ import annotations

import shlex
import time
from contextlib import closing
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import msgspec
import psycopg
from click.testing import CliRunner
from psycopg.rows import dict_row
from sqlalchemy import text

from receiver.cli import main
from receiver.encryption import Encryption
from receiver.errors import OperationRefused
from receiver.files.store import FileStore
from receiver.opencard.auth import Access
from receiver.ops.recover import recover
from receiver.queue import wake_worker_if_possible
from receiver.reconcile.run import Reconciler
from receiver.sandbox.control_client import NO_TIME, SendOptions, empty_log, trigger_events, trigger_fixture
from receiver.sandbox.local import ORGANIZATIONS
from receiver.sandbox.send_again import trigger_again
from receiver.sandbox.stored_files import wait_until_downloaded
from receiver.settings import variable_names
from receiver.testing.emptying import empty_database, own_database

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from receiver.reconcile.outcome import ReconcileOutcome
    from receiver.testing.stack import Stack

SECONDS: Final = 30.0
"""How long to wait for what takes a fraction of a second on a machine that is not busy."""
TWO_DAYS: Final = timedelta(days=2)
POLL_SECONDS: Final = 0.02
_encode: Final = msgspec.json.Encoder(decimal_format="number").encode
_WAITING: Final = text(
    "SELECT count(*) FROM receiver.queue AS queued WHERE NOT EXISTS ("
    "SELECT FROM receiver.outcomes AS outcome WHERE outcome.delivery_id = queued.delivery_id "
    "AND outcome.status = 'failed')"
)
_NEWEST: Final = text(
    "SELECT delivery.event, webhook.organization_reference_id, delivery.body FROM receiver.deliveries AS delivery "
    "JOIN receiver.webhooks AS webhook ON webhook.id = delivery.webhook_id "
    "WHERE delivery.body IS NOT NULL ORDER BY delivery.id DESC LIMIT 1"
)
_NOT_APPLIED: Final = text(
    "SELECT id, event, status, error FROM receiver.deliveries "
    "WHERE status IN ('failed', 'dead', 'quarantined', 'ignored') ORDER BY id"
)


class NotAppliedError(Exception):
    """A delivery was not applied, or not in time; the text says which, and why."""


class CommandFailedError(Exception):
    """A command of the service failed; the text is what it printed."""


class ReceiverKit:
    """The service that a test sends events to and reads from."""

    organizations: Final = ORGANIZATIONS
    """The EMS's ids of the organizations that have a webhook."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    @property
    def ems_url(self) -> str:
        """The database's address for the program under test: as a role that reads schema ``ems``, and nothing else."""
        return self._stack.ems_url

    @cached_property
    def own_url(self) -> str:
        """The address of an empty database for the EMS's own tables, as a role that owns it; a new one in each test."""
        return own_database(self._stack.engine)

    def trigger(
        self,
        event: str,
        *,
        organization: str = ORGANIZATIONS[0],
        fields: Mapping[str, object] | None = None,
        then: Sequence[str] = (),
        body: bytes | None = None,
        count: int = 1,
        duplicate: bool = False,
        late: timedelta = NO_TIME,
        lose: bool = False,
    ) -> list[dict[str, Any]]:
        """Have the local OpenCard send an event, as ``receiver trigger`` does; return what was sent, with its ids.

        *event* is a name, an alias or its last part; *then* follows for the same transaction. *fields* get these values
        in each payload that has them (``{"original_amount": "12.30", "card_holder.reference_id": "employee-17"}``);
        *body* is sent as it is instead. Raises ``ValueError`` for an event or a field that does not exist, and
        ``OperationRefused``.
        """
        return trigger_events(
            self._stack.settings.opencard_api_url,
            organization,
            [event, *then],
            SendOptions(count=count, duplicate=duplicate, late=late, lose=lose),
            changes={name: _literal(value) for name, value in (fields or {}).items()},
            body=body,
        )

    def send(self, fixture: Path, *, organization: str = ORGANIZATIONS[0]) -> list[dict[str, Any]]:
        """Have the local OpenCard send the delivery in a file that ``receiver deliveries show --fixture`` wrote.

        Raises ``ValueError`` for another file, and ``OperationRefused``.
        """
        return trigger_fixture(self._stack.settings.opencard_api_url, organization, fixture.read_bytes())

    def send_again(self, *, after: timedelta = TWO_DAYS) -> list[dict[str, Any]]:
        """Have OpenCard send the newest delivery again, as if *after* had passed since its first attempt.

        After more than a day it is a new event, with the same payload and fingerprint. Raises ``NotAppliedError`` if
        something is not applied, and ``OperationRefused``, also if nothing was sent yet.
        """
        self.wait_until_applied()
        with self._stack.engine.connect() as connection:
            newest = connection.execute(_NEWEST).one_or_none()
        if newest is None:
            raise OperationRefused("no delivery has arrived that could be sent again: trigger an event first")
        event, organization, body = newest
        settings = self._stack.settings
        both = trigger_again(self._stack.engine, settings, organization, [event], after=after, body=bytes(body))
        return [sent for sent in both if sent["sent"]]

    def wait_until_applied(self, *, within: float = SECONDS, failures_allowed: bool = False) -> None:
        """Return when everything that arrived is applied, so that schema ``ems`` shows it.

        Raises ``NotAppliedError`` when it takes longer than *within* seconds, or something could not be applied;
        *failures_allowed*: that is what the test is about.
        """
        wake_worker_if_possible(self._stack.settings.redis_url)
        self._wait_for_worker(within)
        if failures_allowed:
            return
        with self._stack.engine.connect() as connection:
            failed = connection.execute(_NOT_APPLIED).all()
        if failed:
            raise NotAppliedError(
                "; ".join(f"delivery {id_} ({event}) is {status}: {why}" for id_, event, status, why in failed)
            )

    def receipt_file(self, file_key: str) -> bytes:
        """Return the stored file of a receipt, by ``file_key`` of ``ems.receipts``. Raises ``FileNotFoundError``."""
        with FileStore(self._stack.settings.files_url).open(file_key) as file:
            return file.read()

    def wait_until_downloaded(self, *, within: float = SECONDS) -> None:
        """Return when the file of each receipt that arrived is stored, or cannot be.

        Raises ``NotAppliedError`` as ``wait_until_applied`` does, and ``OperationRefused`` after *within* seconds.
        """
        self.wait_until_applied(within=within)
        wait_until_downloaded(self._stack.engine, seconds=within)

    def reconcile(self) -> list[ReconcileOutcome]:
        """Compare with OpenCard's delivery log now: what was lost is recovered; wait until it is applied afterwards.

        Raises ``OperationRefused`` when a log cannot be read or compared.
        """
        settings = self._stack.settings
        grace = timedelta(seconds=settings.reconcile_grace)
        encryption = Encryption(settings.encryption_keys)
        outcomes = Reconciler(self._stack.engine, encryption, Access.of(settings), grace=grace).run()
        for outcome in outcomes:
            if outcome.error is not None:
                raise OperationRefused(outcome.error)
        return outcomes

    def begin_epoch(self, *, lost: bool = False) -> int:
        """Begin a new epoch of the feed, as ``receiver recover`` does after a restore, and return its number.

        *lost*: the restored database has nothing of what was sent so far; ``reconcile`` then recovers it.
        """
        self._wait_for_worker(SECONDS)
        if lost:
            empty_database(self._stack.engine)
        return recover(self._stack.engine).epoch

    def rows(self, query: str, parameters: Sequence[object] = ()) -> list[dict[str, Any]]:
        """Return the rows of a query, run as the EMS."""
        with closing(psycopg.connect(self.ems_url, autocommit=True, row_factory=dict_row)) as connection:
            return connection.execute(query, parameters or None).fetchall()  # without any, % is a plain character

    def run(self, *arguments: str) -> str:
        """Run a command of the service (``run("close", "nordlys-as", "2026-01")``) and return what it prints.

        Raises ``CommandFailedError`` with what it printed when it ends with another exit code than 0.
        """
        of_the_tests = dict.fromkeys(variable_names())
        done = CliRunner(env={**of_the_tests, **self._stack.environment}).invoke(main, arguments)
        if done.exit_code:
            raise CommandFailedError(
                f"receiver {shlex.join(arguments)} ended with {done.exit_code}: {done.output}"
            ) from done.exception
        return done.stdout

    def empty(self) -> None:
        """Delete all that was sent so far, here and in the log of the local OpenCard. Each test begins so."""
        self._wait_for_worker(SECONDS)
        empty_log(self._stack.settings.opencard_api_url)
        empty_database(self._stack.engine)

    def _wait_for_worker(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            with self._stack.engine.connect() as connection:
                waiting = connection.scalar(_WAITING)
            if not waiting:
                return
            if time.monotonic() > deadline:
                raise NotAppliedError(
                    f"{waiting} deliveries are not processed after {seconds:.0f} s: is a worker running?"
                )
            time.sleep(POLL_SECONDS)


def _literal(value: object) -> str:
    """Return a value as ``receiver trigger --set`` takes it."""
    return _encode(value).decode() if value is None or isinstance(value, bool | list | dict) else str(value)
