"""Who is at the command line: what records say."""

from __future__ import annotations

import getpass
import os
import socket


def operator() -> str:
    """Return the operating system's user and host, as ``user@host``."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user need not have a name
        user = f"uid-{os.getuid()}"
    return f"{user}@{socket.gethostname()}"
