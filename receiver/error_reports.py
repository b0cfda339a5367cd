"""Errors reported to Sentry, where ``SENTRY_DSN`` says so: what failed and where in the code, and nothing of the data.

An exception's own words may hold a payload's values, and so may a request, local variables or arguments of a command:
none of them is sent. The log has the words; the ids lead to it.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import structlog

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint
    from structlog.typing import EventDict, WrappedLogger

log = structlog.stdlib.get_logger(__name__)

REPORTED: Final = frozenset(
    {"delivery_id", "webhook_id", "download_id", "replay_id", "request_id", "deliveries", "times", "status", "logger"}
)
"""The fields of a log line that a report contains: ids, numbers and constants."""
NOT_SENT: Final = "(its words are in the log)"
KEPT: Final = frozenset(
    {
        "event_id", "timestamp", "level", "platform", "environment", "release", "server_name", "sdk", "modules",
        "exception", "message", "logentry", "extra", "tags", "transaction",
    }
)  # fmt: skip
"""Parts of a report that hold no data, or none after ``scrub``."""
FLUSH_SECONDS: Final = 2.0
MISSING: Final = "the extra is missing: pip install 'opencard-receiver[sentry]'"


def start_reporting(dsn: str, *, process: str) -> None:
    """Report errors to Sentry from now on, if there is a *dsn*; call it after the logs are configured."""
    if not dsn:
        return
    try:
        import sentry_sdk  # noqa: PLC0415 - an extra that few installations have
        from sentry_sdk.integrations import dedupe, excepthook, threading  # noqa: PLC0415
    except ImportError:
        log.warning("error_reports.unavailable", reason=MISSING)
        return
    sentry_sdk.init(
        dsn,  # without send_default_pii, which newer releases do not want to be named: it is false
        max_request_body_size="never",
        include_local_variables=False,
        default_integrations=False,  # they would include requests, arguments and log lines
        integrations=[
            dedupe.DedupeIntegration(),
            excepthook.ExcepthookIntegration(),
            threading.ThreadingIntegration(),
        ],
        before_send=scrub,
        max_breadcrumbs=0,
        shutdown_timeout=FLUSH_SECONDS,
    )
    sentry_sdk.set_tag("process", process)


def flush_reports() -> None:
    """Wait a little for what was reported to be sent: before a process ends that says no goodbye."""
    if (sdk := sys.modules.get("sentry_sdk")) is not None:
        sdk.flush(FLUSH_SECONDS)


def report(error: BaseException) -> None:
    """Report an exception that none of our log lines reports."""
    if (sdk := sys.modules.get("sentry_sdk")) is not None:
        sdk.capture_exception(error)


def report_errors(_logger: WrappedLogger, method: str, event_dict: EventDict) -> EventDict:
    """Report a log line that is an error; a processor of structlog that does nothing without ``SENTRY_DSN``."""
    sdk = sys.modules.get("sentry_sdk")
    if sdk is not None and logging.getLevelNamesMapping().get(method.upper(), 0) >= logging.ERROR:
        with suppress(Exception):  # a report that fails shall not fail what it is about
            _capture(sdk, event_dict)
    return event_dict


def _capture(sdk: Any, event_dict: EventDict) -> None:  # noqa: ANN401 - the module, where it is installed
    with sdk.new_scope() as scope:
        for name in REPORTED & event_dict.keys():
            scope.set_extra(name, event_dict[name])
        error = event_dict.get("exc_info")
        if error is True:
            error = sys.exc_info()[1]
        if isinstance(error, BaseException):
            scope.set_extra("line", event_dict["event"])
            sdk.capture_exception(error)
        else:
            sdk.capture_message(str(event_dict["event"]), level="error")


def scrub(event: Event, _hint: Hint) -> Event:
    """Return a report without anything that may hold data."""
    kept: dict[str, Any] = {name: value for name, value in event.items() if name in KEPT}
    for exception in kept.get("exception", {}).get("values", ()):
        exception["value"] = NOT_SENT
        for frame in (exception.get("stacktrace") or {}).get("frames", ()):
            frame.pop("vars", None)
    return kept  # type: ignore[return-value]
