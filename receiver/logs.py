"""Structured logs: JSON for machines, colour for people, on standard error. No bodies, no secrets, no personal data."""

from __future__ import annotations

import logging
import re
import sys
from typing import TYPE_CHECKING, Final, TextIO

import structlog

from receiver.error_reports import report_errors
from receiver.request_ids import add_request_id
from receiver.settings import LogFormat

if TYPE_CHECKING:
    from structlog.typing import EventDict, WrappedLogger

ENDPOINT_KEY: Final = re.compile(r"(/hooks/opencard/)[\w-]+")
"""An endpoint's key in an address: a client that has it can send requests to that endpoint."""
QUIET_LOGGERS = {
    "httpcore": logging.WARNING,  # logs whole headers
    "httpx": logging.WARNING,
    "rq": logging.WARNING,
    "rq.worker": logging.WARNING,  # RQ sets its level when it is imported
    "alembic": logging.WARNING,
}
"""Loggers of libraries whose everyday lines say nothing an operator needs, and from which level on they speak."""


class StandardError(logging.StreamHandler[TextIO]):
    """Writes to what standard error is at that moment, not to what it was when the logs were configured."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        """Standard error."""
        return sys.stderr

    @stream.setter
    def stream(self, _stream: TextIO) -> None:
        raise AttributeError("the stream is standard error")


def configure_logs(*, level: str, log_format: LogFormat) -> None:
    """Send every log line of this process, the libraries' too, through one renderer to standard error."""
    named: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        add_request_id,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    exceptions: list[structlog.typing.Processor] = []
    renderer: structlog.typing.Processor
    if log_format is LogFormat.JSON:
        exceptions.append(structlog.processors.format_exc_info)
        renderer = structlog.processors.JSONRenderer()
    else:
        # without local variables, which hold bodies and secrets
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *named,
            report_errors,
            *exceptions,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = StandardError()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*named, *exceptions],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, mask_endpoint_keys, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name, at_least in QUIET_LOGGERS.items():
        logging.getLogger(name).setLevel(max(at_least, logging.getLevelNamesMapping()[level]))


def mask_endpoint_keys(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Replace endpoint keys in the texts of a log line by ``***``: errors name the address that failed."""
    for name, value in event_dict.items():
        if isinstance(value, str) and "/hooks/" in value:
            event_dict[name] = ENDPOINT_KEY.sub(r"\1***", value)
    return event_dict
