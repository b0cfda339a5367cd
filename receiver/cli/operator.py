"""The operator at the command line, as the audit records name them."""

from __future__ import annotations

import os
import pwd
import socket


def operator() -> str:
    """Return the operating system's user and host, as ``user@host``; under ``sudo``, the user who called it."""
    user = os.environ.get("SUDO_USER")
    if not user:
        try:
            user = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:  # a container's user need not have a name
            user = f"uid-{os.getuid()}"
    return f"{user}@{socket.gethostname()}"
