"""Memory, open files and connections of the processes, at the end compared with the start."""

from __future__ import annotations

import time
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import psutil
import psycopg
from redis import Redis

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from receiver.sandbox.processes import ProcfileProcesses

MEBIBYTE: Final = 1024 * 1024
MEMORY: Final = 128 * MEBIBYTE
"""By how much a process may have grown; caches and the allocator take their part."""
FILES: Final = 32
CONNECTIONS: Final = 16
SETTLING_SECONDS: Final = 10.0
"""Within this time job processes end, of which each worker may have one at any moment."""


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """What a process of the Procfile uses, its children included."""

    processes: int
    memory: int
    """Bytes of the largest process."""
    files: int
    """Open files and sockets of the process with the most."""


@dataclass(frozen=True, slots=True)
class ResourceUse:
    """What all of them use together."""

    by_process: Mapping[str, ProcessUse]
    postgres_connections: int
    valkey_connections: int


def measure_resources(processes: ProcfileProcesses, *, database_url: str, redis_url: str) -> ResourceUse:
    """Return what is used at this moment."""
    with closing(psycopg.connect(database_url, autocommit=True)) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()
    with closing(Redis.from_url(redis_url)) as redis:
        clients = len(redis.client_list())
    return ResourceUse(
        {name: process_use(processes.pid(name)) for name in ("web", "worker", "scheduler")},
        postgres_connections=int(row[0]) if row else 0,
        valkey_connections=clients,
    )


def process_use(pid: int) -> ProcessUse:
    """Return what a process and its children use at this moment."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    memory, files = [0], [0]
    for process in family:
        with suppress(psutil.NoSuchProcess):  # a job process that is done
            memory.append(process.memory_info().rss)
            files.append(process.num_fds())
    return ProcessUse(len(family), max(memory), max(files))


def grown(before: ResourceUse, look: Callable[[], ResourceUse], *, within: float = SETTLING_SECONDS) -> list[str]:
    """Return what has grown beyond its bound, a line each; processes, if they are not gone *within* some seconds."""
    after = look()
    lines = _grown(before, after)
    deadline = time.monotonic() + within
    while (processes := _more_processes(before, after)) and time.monotonic() < deadline:
        time.sleep(0.1)
        after = look()
    return [*lines, *processes]


def _more_processes(before: ResourceUse, after: ResourceUse) -> list[str]:
    return [
        f"{name} had {then.processes} processes and has {after.by_process[name].processes}"
        for name, then in before.by_process.items()
        if after.by_process[name].processes > then.processes + 2  # job processes come and go
    ]


def _grown(before: ResourceUse, after: ResourceUse) -> list[str]:
    lines = []
    for name, then in before.by_process.items():
        now = after.by_process[name]
        if now.memory > then.memory + MEMORY:
            lines.append(f"{name} grew from {then.memory // MEBIBYTE} to {now.memory // MEBIBYTE} MiB")
        if now.files > then.files + FILES:
            lines.append(f"{name} had {then.files} files open and has {now.files}")
    for what, held, holds in (
        ("PostgreSQL", before.postgres_connections, after.postgres_connections),
        ("Valkey", before.valkey_connections, after.valkey_connections),
    ):
        if holds > held + CONNECTIONS:
            lines.append(f"{held} connections to {what} became {holds}")
    return lines
