"""Traces by OpenTelemetry, where an endpoint for them is set: the steps of a request, batch or run, and their times.

A delivery's trace begins with its request, or with the span that the proxy names in ``traceparent``. Its context is
stored with the delivery in the queue, so that the worker continues it. Spans have ids, counts and constants only: no
part of a payload, no error text.

Without an endpoint nothing of OpenTelemetry is imported, and a step costs the check of one variable. An error of
OpenTelemetry is logged, and stops nothing else: without a trace, everything is done all the same.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from receiver.settings import Settings
    from receiver.spans import Recorder

log = structlog.stdlib.get_logger(__name__)

MISSING: Final = "the extra is missing: pip install 'opencard-receiver[otel]'"
IMPLEMENTATION: Final = "receiver.spans"
"""The module that imports OpenTelemetry."""

_recorder: Recorder | None = None
_T = TypeVar("_T")


class Described(Protocol):
    """A span, or what takes its place."""

    def set_attributes(self, attributes: Mapping[str, str | int]) -> None:
        """Describe it further."""


class _NoSpan:
    def set_attributes(self, attributes: Mapping[str, str | int]) -> None:
        """Do nothing."""


_NO_SPAN: Final = nullcontext(_NoSpan())


class BatchTrace(Protocol):
    """The spans of a batch and of its deliveries."""

    def ended(self, outcomes: Mapping[int, str]) -> None:
        """Note the status of each delivery, by its id."""

    def failed(self, error: BaseException) -> None:
        """Note that the batch was not applied."""


class _NoBatch:
    def ended(self, outcomes: Mapping[int, str]) -> None:
        """Do nothing."""

    def failed(self, error: BaseException) -> None:
        """Do nothing."""


_NO_BATCH: Final = nullcontext(_NoBatch())


def load_tracing(settings: Settings) -> None:
    """Import what traces need, if an endpoint is set; a process that forks calls it before."""
    if settings.has_tracing:
        try:
            import_module(IMPLEMENTATION)
        except ImportError:
            log.warning("traces.unavailable", reason=MISSING)
        except Exception as error:  # noqa: BLE001 - such as a variable that the SDK reads when it is imported
            log.warning("traces.unavailable", reason=str(error))


def start_tracing(settings: Settings, *, process: str) -> Recorder | None:
    """Record traces from now on, if an endpoint is set and ``load_tracing`` found what is needed.

    A process that is forked calls it itself: the exporter's thread does not survive a fork.
    """
    global _recorder  # noqa: PLW0603 - like OpenTelemetry's own provider: one for a process
    if settings.has_tracing and IMPLEMENTATION in sys.modules:
        from receiver.spans import Recorder  # noqa: PLC0415 - only where it is wanted

        try:
            _recorder = Recorder(process)
        except Exception as error:  # noqa: BLE001 - such as a variable that the SDK refuses
            log.warning("traces.unavailable", reason=str(error))
        else:
            return _recorder
    return None


def stop_tracing() -> None:
    """Wait a little for what was recorded to be sent, and record nothing more."""
    global _recorder
    if _recorder is not None:
        recorder, _recorder = _recorder, None
        with guarded():
            recorder.close()


@contextmanager
def guarded() -> Iterator[None]:
    """Log an error of the block, which only records, instead of raising it."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not stop what is recorded
        log.warning("traces.failed", error=type(error).__name__)


@contextmanager
def unfailing(begin: Callable[[], AbstractContextManager[_T]], otherwise: _T) -> Iterator[_T]:
    """Run the block in what *begin* returns, or else with *otherwise*: once, and only its own errors are raised."""
    recorded, end = otherwise, None
    with guarded():
        begun = begin()
        recorded, end = begun.__enter__(), begun.__exit__
    try:
        yield recorded
    except BaseException as error:
        if end is not None:
            with guarded():
                end(type(error), error, error.__traceback__)
        raise
    if end is not None:
        with guarded():
            end(None, None, None)


def span(name: str, **attributes: str | int) -> AbstractContextManager[Described]:
    """Record the block as a step of what this thread is doing, or as a separate trace."""
    return _NO_SPAN if _recorder is None else unfailing(partial(_recorder.span, name, attributes), _NoSpan())


def step_of(carried: bytes | None, name: str) -> AbstractContextManager[Described]:
    """Record the block as a step of the trace whose context is *carried*; ``None``: record nothing."""
    if _recorder is None or carried is None:
        return _NO_SPAN
    return unfailing(partial(_recorder.step_of, carried, name), _NoSpan())


def batch_span(began: int, deliveries: Sequence[tuple[int, str, bytes | None]]) -> AbstractContextManager[BatchTrace]:
    """Record the block as a batch that was begun at *began* (``time.time_ns``) by claiming *deliveries*.

    Of each: its id, the name of its event, and the context of its trace, if it has one.
    """
    return _NO_BATCH if _recorder is None else unfailing(partial(_recorder.batch, began, deliveries), _NoBatch())
