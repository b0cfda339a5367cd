"""What can be killed of a receiver on this machine, with SIGKILL, and started again."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import psutil

if TYPE_CHECKING:
    from receiver.sandbox.embedded import EmbeddedPostgres, EmbeddedValkey
    from receiver.sandbox.processes import ProcfileProcesses

KILLABLE: Final = ("web", "worker", "scheduler", "job process", "valkey", "postgres")
"""The processes of the Procfile, what the worker's pool runs, and the stores."""


@dataclass(frozen=True, slots=True)
class KillableParts:
    """The stores and processes of one receiver."""

    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey
    processes: ProcfileProcesses

    def kill(self, part: str) -> None:
        """End *part* as a power cut would. Raises ``KeyError`` for a process that does not run."""
        match part:
            case "postgres":
                self.postgres.kill()
            case "valkey":
                self.valkey.kill()
            case "job process":
                for child in psutil.Process(self.processes.pid("worker")).children(recursive=True):
                    with suppress(psutil.NoSuchProcess):
                        child.kill()
            case process:
                self.processes.kill(process)

    def start(self, part: str) -> None:
        """Start *part* again; the pool replaces its workers by itself."""
        match part:
            case "postgres":
                self.postgres.start()
            case "valkey":
                self.valkey.start()
            case "job process":
                pass
            case process:
                self.processes.start(process)
