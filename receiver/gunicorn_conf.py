"""gunicorn's settings, as a module: ``gunicorn --config python:receiver.gunicorn_conf receiver.wsgi:app``.

Settings are validated here, before any process is forked: a wrong one ends the start with exit code 2.
"""

from __future__ import annotations

import logging
import os
import sys

from gunicorn import glogging  # type: ignore[import-untyped]

from receiver.errors import ConfigurationError
from receiver.logs import configure_logs
from receiver.settings import load_settings

try:
    _settings = load_settings(os.environ)
except ConfigurationError as error:
    sys.stderr.write(f"{error}\n")
    sys.exit(2)


class Logger(glogging.Logger):  # type: ignore[misc]  # gunicorn has no types
    """Writes gunicorn's own log lines like all others."""

    def setup(self, cfg: object) -> None:
        """Remove gunicorn's handlers, so that the root logger writes its lines."""
        super().setup(cfg)
        configure_logs(level=_settings.log_level, log_format=_settings.log_format)
        self.error_log.handlers = []
        self.error_log.propagate = True
        self.error_log.setLevel(max(self.error_log.level, logging.INFO))  # below, it logs every path, keys included


logger_class = Logger
bind = f"0.0.0.0:{_settings.port}"
workers = _settings.web_concurrency
worker_class = "receiver.gunicorn_worker.Worker"
worker_connections = 512  # of each process; see docs/operate/processes.md
keepalive = 75
graceful_timeout = 30
timeout = 60
control_socket_disable = True  # nothing here is managed through it, and its path is shared by all instances
loglevel = _settings.log_level.lower()
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: PTH112, S108 - heartbeats without disk
forwarder_headers = ""  # no header says under which path this is: with SCRIPT_NAME one could reach every route
limit_request_line = 4094
limit_request_fields = 100
limit_request_field_size = 8190


def worker_exit(_server: object, worker: object) -> None:
    """Send the last wake-up and give the connections back when a process ends."""
    extensions = getattr(getattr(worker, "wsgi", None), "extensions", {})
    if "receiver.close" in extensions:
        extensions["receiver.close"]()
