"""Runs the installed programs with nothing but a given environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.fernet import Fernet

from receiver.settings import variable_names
from tests.support.applications import unreachable_database, unreachable_redis

if TYPE_CHECKING:
    from collections.abc import Sequence

BIN = Path(sys.executable).parent


RIGHT = {
    "DATABASE_URL": unreachable_database(),
    "REDIS_URL": unreachable_redis(),
    "PUBLIC_URL": "https://hooks.example.com",
    "ENCRYPTION_KEYS": Fernet.generate_key().decode(),
}


def run(command: Sequence[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a program with nothing but *environment* of the receiver's variables."""
    foreign = {name: value for name, value in os.environ.items() if name not in variable_names()}
    program, *arguments = command
    return subprocess.run(
        [BIN / program, *arguments],
        env={**foreign, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
