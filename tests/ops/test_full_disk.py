"""A disk that is full under PostgreSQL: ``status`` and ``/readyz`` report it before the next delivery is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from click.testing import CliRunner
from psycopg import sql
from sqlalchemy import make_url

from receiver.cli import main
from receiver.database_url import libpq_url
from receiver.db import engine_for
from receiver.migrate import upgrade
from tests.conftest import Organizations
from tests.support.applications import receiver_with
from tests.support.factories import card_holder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from receiver.settings import Settings

BLOCK = b"\0" * 4096


@dataclass
class SmallDisk:
    """A small disk with a database on it."""

    folder: Path
    database_url: str

    @contextmanager
    def full(self) -> Iterator[None]:
        """Leave no room on it."""
        filler = self.folder / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(BLOCK)
        yield
        filler.unlink()


@pytest.fixture
def disk(server_url: str) -> Iterator[SmallDisk]:
    name = f"full_{uuid.uuid4().hex}"
    with closing(psycopg.connect(libpq_url(server_url), autocommit=True)) as connection:
        (data,) = connection.execute("SHOW data_directory").fetchone() or ("",)
        with mounted(Path(data), name) as folder:
            identifier, space = sql.Identifier(name), sql.Literal(str(folder / "space"))
            connection.execute(sql.SQL("CREATE TABLESPACE {} LOCATION {}").format(identifier, space))
            try:
                connection.execute(sql.SQL("CREATE DATABASE {0} TABLESPACE {0}").format(identifier))
                yield SmallDisk(folder, make_url(server_url).set(database=name).render_as_string(hide_password=False))
            finally:
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(identifier))
                connection.execute(sql.SQL("DROP TABLESPACE {}").format(identifier))


@contextmanager
def mounted(data: Path, name: str) -> Iterator[Path]:
    """Mount a small disk next to PostgreSQL's data, with a folder that is PostgreSQL's own."""
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if os.geteuid() != 0 or not data.exists() or mount is None or umount is None:
        pytest.skip("this user may not mount a second disk for PostgreSQL")
    folder = data.parent / name
    folder.mkdir()
    try:
        if subprocess.run([mount, "-t", "tmpfs", "-o", "size=64m", "none", folder], check=False).returncode != 0:
            pytest.skip("this machine lets nobody mount a disk")
        try:
            (folder / "space").mkdir()
            os.chown(folder / "space", data.stat().st_uid, data.stat().st_gid)
            yield folder
        finally:
            subprocess.run([umount, folder], check=True)
    finally:
        folder.rmdir()


def test_a_full_disk_is_named_by_status_and_readyz(
    disk: SmallDisk, settings: Settings, environment: dict[str, str]
) -> None:
    engine = engine_for(disk.database_url, application="tests")
    with engine.connect() as connection:
        upgrade(connection)
    with receiver_with(settings, database_url=disk.database_url) as app:
        acme = Organizations(app.test_client(), engine, settings).adopt("acme")
        acme.deliver_ok("card_holder.created", card_holder())
        with disk.full():
            answer = acme.client.get("/readyz")
            assert (answer.status_code, answer.json["database"]) == (503, "does not store: DiskFull")  # type: ignore[index]
            assert "PostgreSQL does not store deliveries, OpenCard gets 503: " in attention(disk, environment)
            assert "No space left on device" in attention(disk, environment)
        assert acme.client.get("/readyz").status_code == 200
        assert "does not store" not in attention(disk, environment)
    engine.dispose()


def attention(disk: SmallDisk, environment: dict[str, str]) -> str:
    result = CliRunner(env={**environment, "DATABASE_URL": disk.database_url}).invoke(main, ["status"])
    assert "Traceback" not in result.output
    return result.stderr
