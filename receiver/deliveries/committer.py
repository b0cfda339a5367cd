"""The committer: stores all waiting deliveries in one statement, and then lets their requests be answered.

A commit costs about the same for thirty rows as for one. During a commit the next deliveries are collected, so
batches grow with the load, and a delivery that arrives alone does not wait for others.
"""

from __future__ import annotations

import select
import threading
import time
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import psycopg
import structlog

from receiver.deliveries.store import insert
from receiver.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from receiver.deliveries.store import ArrivedDelivery

MAX_WAITING: Final = 256
"""Deliveries that may wait in one process besides those in the statement; any more are answered 503 at once."""
MAX_ROWS: Final = 128
"""Deliveries in one statement."""
MAX_BYTES: Final = 4 * 1024 * 1024
"""Bytes of bodies in one statement, unless a single body is larger."""
STORE_SECONDS: Final = 10.0
"""Seconds a request waits for its delivery to be stored before it is answered 503."""
CLOSE_SECONDS: Final = 5.0
"""Seconds to store the waiting deliveries when the process ends."""
FAILURE_SECONDS: Final = 15.0
"""Seconds for which this process is not ready after a delivery could not be stored, unless one was stored since."""

SERVER_ERRORS: Final = frozenset({"08", "25", "53", "55", "57", "58"})
"""Classes of SQLSTATE about the server or the connection: trying the rows one by one would fail in the same way."""

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Waiting:
    arrived: ArrivedDelivery | None
    """``None`` to test whether a delivery could be stored."""
    stored: Future[bool] = field(default_factory=Future)


class Committer:
    """Stores deliveries over its own connection, in its own thread, which the first delivery starts.

    The connection has a time limit for each answer, so a hanging backend delays deliveries no longer than that.
    """

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection[Any]],
        *,
        max_waiting: int = MAX_WAITING,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._connect = connect
        self.max_waiting = max_waiting
        self._max_bytes = max_bytes
        self._connection: psycopg.Connection[Any] | None = None
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._failure: tuple[float, str] | None = None
        """When PostgreSQL last failed to store a delivery, and the name of the error."""

    def store(self, arrived: ArrivedDelivery, within: float = STORE_SECONDS) -> bool:
        """Return ``True`` once *arrived* is committed; ``False`` when its webhook was changed after it was read.

        Raises ``StoreUnavailable`` when too many wait, ``TimeoutError`` when it takes longer than *within* seconds,
        and psycopg's errors; an error in the data of one delivery is raised for that delivery only.
        """
        return self._wait_for(_Waiting(arrived), within)

    def storage_error(self, seconds: float) -> str | None:
        """Return why deliveries cannot be stored now, after *seconds* at most; ``None`` if they can.

        It runs the statement without a delivery. A recent failure (``FAILURE_SECONDS``) counts as well.
        """
        try:
            self._wait_for(_Waiting(None), seconds)
        except StoreUnavailable:
            return "too many deliveries wait"
        except TimeoutError:
            return "no answer"
        except psycopg.Error as error:
            return type(error).__name__
        failure = self._failure
        return failure[1] if failure is not None and monotonic() - failure[0] < FAILURE_SECONDS else None

    def _wait_for(self, waiting: _Waiting, seconds: float) -> bool:
        with self._changed:
            if self._closing or len(self._waiting) >= self.max_waiting:
                raise StoreUnavailable
            self._waiting.append(waiting)
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="committer", daemon=True)
                self._thread.start()
        try:
            return waiting.stored.result(seconds)
        finally:
            waiting.stored.cancel()  # its request no longer waits: do not store it if that has not begun

    def close(self) -> None:
        """Store the waiting deliveries and close the connection; further ones are refused."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while batch := self._next():
            try:
                self._connected()  # before any of them counts as begun: connecting may take long
            except Exception as error:  # noqa: BLE001 - each of the requests raises it
                self._fail_all(_begun(batch), error)
            else:
                if wanted := _begun(batch):
                    self._commit(wanted)
        self._disconnect()

    def _next(self) -> list[_Waiting]:
        """Wait for deliveries and return as many as fit into a statement; none when closing and all are stored."""
        batch: list[_Waiting] = []
        size = 0
        with self._changed:
            while not self._waiting and not self._closing:
                self._changed.wait()
        # under gevent, requests that arrived during the last commit are read now, and join the batch
        time.sleep(0)
        with self._changed:
            while self._waiting and len(batch) < MAX_ROWS:
                size += _size(self._waiting[0])
                if batch and size > self._max_bytes:
                    break
                batch.append(self._waiting.popleft())
        return batch

    def _commit(self, batch: Sequence[_Waiting]) -> Exception | None:
        """Store *batch* and set the result of each delivery. Returns an error of server or connection, if any."""
        arrived = [waiting.arrived for waiting in batch if waiting.arrived is not None]
        try:
            stored = iter(insert(self._connected(), arrived))
        except Exception as error:  # noqa: BLE001 - each of the requests raises it
            if self._is_server_error(error):
                self._fail_all(batch, error)
                self._disconnect()  # the next batch tries a new connection
                return error
            if len(batch) == 1:
                _fail(batch, error)
            else:
                log.warning("delivery.batch_split", number=len(batch), error=type(error).__name__)
                self._commit_one_by_one(batch)
        else:
            if arrived:
                self._failure = None
            for waiting in batch:
                waiting.stored.set_result(waiting.arrived is None or next(stored))
        return None

    def _commit_one_by_one(self, batch: Sequence[_Waiting]) -> None:
        """Store each delivery alone, so that one that cannot be stored does not prevent the others."""
        for number, waiting in enumerate(batch, 1):
            error = self._commit([waiting])
            if error is not None:
                _fail(batch[number:], error)
                return

    def _fail_all(self, batch: Sequence[_Waiting], error: Exception) -> None:
        if any(waiting.arrived is not None for waiting in batch):
            self._failure = (monotonic(), type(error).__name__)
        _fail(batch, error)

    def _is_server_error(self, error: Exception) -> bool:
        if not isinstance(error, psycopg.Error):
            return False
        state = error.sqlstate
        return self._connection is None or self._connection.closed or (state or "")[:2] in SERVER_ERRORS

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is not None and _has_ended(self._connection):
            self._disconnect()
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
            self._connection = None


def _has_ended(connection: psycopg.Connection[Any]) -> bool:
    """Return whether the server closed an idle connection: it sends nothing on one before it closes it."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _begun(batch: Sequence[_Waiting]) -> list[_Waiting]:
    """Return those of *batch* whose requests still wait: they can no longer be cancelled."""
    return [waiting for waiting in batch if waiting.stored.set_running_or_notify_cancel()]


def _size(waiting: _Waiting) -> int:
    return 0 if waiting.arrived is None else len(waiting.arrived.body)


def _fail(batch: Sequence[_Waiting], error: Exception) -> None:
    for waiting in batch:
        waiting.stored.set_exception(error)
