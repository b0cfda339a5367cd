"""Log lines of commands: for people at a terminal, as the service logs elsewhere."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from receiver.logs import configure_logs
from receiver.settings import LogFormat

if TYPE_CHECKING:
    from receiver.settings import Settings


def configure_command_logs(settings: Settings) -> None:
    """Configure the logs of a command that prints its own result.

    On a terminal only warnings and errors show, as lines for people, whatever ``LOG_FORMAT`` says; ``LOG_LEVEL=DEBUG``
    shows all. Elsewhere both variables hold, for whatever collects the logs.
    """
    if not sys.stderr.isatty():
        configure_logs(level=settings.log_level, log_format=settings.log_format)
        return
    levels = logging.getLevelNamesMapping()
    level = settings.log_level
    if levels[level] == logging.INFO:
        level = "WARNING"
    configure_logs(level=level, log_format=LogFormat.CONSOLE)
