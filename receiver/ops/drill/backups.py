"""Backups of PostgreSQL: which kind one is, and the programs that can restore it."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from receiver.errors import OperationRefused

CUSTOM_DUMP: Final = b"PGDMP"
PLAIN_DUMP: Final = b"PostgreSQL database dump"
BEGINNING: Final = 1000
"""Bytes in which a dump shows what it is."""
INSTALLED: Final = ("/usr/lib/postgresql/{version}/bin", "/usr/pgsql-{version}/bin")
"""Where Debian and Red Hat put them, besides the ``PATH``."""


class BackupKind(StrEnum):
    """A backup that can be restored."""

    FOLDER = "base backup"
    TAR = "base backup in tar files"
    PGBACKREST = "pgBackRest"
    DUMP = "dump"
    PLAIN = "dump in SQL"


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup, and how it is restored."""

    kind: BackupKind
    place: str
    """A path, or the stanza of pgBackRest."""
    restore_command: str = ""
    """As PostgreSQL's setting: fetches archived WAL. Empty: the backup's own WAL is enough."""


def find_backup(path: Path) -> Backup:
    """Return the backup at *path*, or the newest of those in that folder. Raises ``OperationRefused``."""
    kind = kind_of(path)
    if kind is not None:
        return Backup(kind, str(path.resolve()))
    inside = [(each.stat().st_mtime, each.resolve(), kind_of(each)) for each in path.iterdir()] if path.is_dir() else []
    found = [(at, each, kind) for at, each, kind in inside if kind is not None]
    if not found:
        raise OperationRefused(
            f"{path} is no backup and has none in it: a folder of pg_basebackup (plain or tar), or a dump of pg_dump "
            "(a compressed dump in SQL must be unpacked first)"
        )
    _, newest, kind = max(found)
    return Backup(kind, str(newest))


def kind_of(path: Path) -> BackupKind | None:
    """Return what kind of backup is at *path*; ``None`` if it is none."""
    if path.is_dir():
        if (path / "PG_VERSION").exists():
            return BackupKind.FOLDER
        if any(path.glob("base.tar*")):
            return BackupKind.TAR
        return BackupKind.DUMP if (path / "toc.dat").exists() else None
    if not path.is_file():
        return None
    with path.open("rb") as opened:
        beginning = opened.read(BEGINNING)
    if beginning.startswith((CUSTOM_DUMP, b"toc.dat\0")):
        return BackupKind.DUMP
    return BackupKind.PLAIN if PLAIN_DUMP in beginning else None


def find_programs(version: str | None) -> Path:
    """Return the folder of PostgreSQL's programs: of a major *version*, or else the newest.

    Raises ``OperationRefused`` if there is none.
    """
    for pattern in INSTALLED:
        found = sorted(Path("/").glob(pattern.format(version=version or "*").lstrip("/")), key=_number, reverse=True)
        found = [each for each in found if (each / "pg_ctl").exists()]
        if found:
            return found[0]
    program = shutil.which("pg_ctl")
    if program:
        return Path(program).resolve().parent
    program = shutil.which("pg_config")
    if program:
        printed = subprocess.run([program, "--bindir"], check=True, capture_output=True, text=True)
        if (Path(printed.stdout.strip()) / "pg_ctl").exists():
            return Path(printed.stdout.strip())
    wanted = f"PostgreSQL {version}" if version else "PostgreSQL"
    raise OperationRefused(
        f"the programs of {wanted} are not found: install the server, or name their folder by --postgres-bin"
    )


def _number(folder: Path) -> int:
    return int("".join(re.findall(r"\d+", str(folder))) or 0)
