"""Databases of the service that are dumped, copied and restored."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from sqlalchemy import Engine, make_url, text

from receiver.db import engine_for
from receiver.migrate import upgrade
from receiver.processing.drain import drain
from receiver.sandbox.embedded import EmbeddedPostgres, postgres_program
from receiver.sandbox.local import adopt_webhook
from tests.conftest import DATA_FOLDER
from tests.support.factories import body, card_holder
from tests.support.roles import libpq
from tests.support.stored import store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from receiver.settings import Settings


@dataclass
class Place:
    """A database with the service's tables, and one webhook of the organization acme."""

    engine: Engine

    def store(self, *references: str) -> None:
        """Have deliveries stored, each of a new card holder."""
        for reference in references:
            store(self.engine, status="pending", attempts=0, body=body(card_holder(reference)))

    def apply(self, *references: str) -> None:
        """Store, and process."""
        self.store(*references)
        assert drain(self.engine)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    def value(self, query: str) -> Any:
        ((value,),) = self.rows(query)
        return value

    def execute(self, statement: str) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(statement))

    @property
    def url(self) -> str:
        return self.engine.url.render_as_string(hide_password=False)

    def positions(self) -> dict[int, str]:
        """Return what each position means."""
        return dict(self.rows("SELECT position, card_holder_reference_id FROM ems.events"))

    def epochs(self) -> list[int]:
        """Return the epochs that have begun."""
        return [row[0] for row in self.rows("SELECT epoch FROM receiver.feed_epochs WHERE reason IS NOT NULL")]

    def epoch_of(self, reference: str) -> int:
        return int(
            self.value(f"SELECT position >> 40 FROM ems.events WHERE card_holder_reference_id = '{reference}'")  # noqa: S608
        )


def place(url: str) -> Place:
    """Return the place in a database that has the tables."""
    return Place(engine_for(url, application="tests"))


def new_place(url: str, settings: Settings) -> Place:
    """Make the tables in an empty database, and adopt a webhook."""
    made = place(url)
    with made.engine.connect() as connection:
        upgrade(connection)
    with made.engine.begin() as connection:
        adopt_webhook(connection, settings, "acme", number=1)
    return made


def copied(original: Place, empty_url: str) -> Place:
    """Return a copy of a database, file by file, in place of an empty one."""
    original.engine.dispose()
    name, template = make_url(empty_url).database, original.engine.url.database
    assert name is not None
    assert template is not None
    with closing(psycopg.connect(libpq(original.engine.url.set(database="postgres")), autocommit=True)) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
    return place(empty_url)


def dump(url: str) -> bytes:
    """Return a dump of a database."""
    program = postgres_program("pg_dump")
    return subprocess.run([program, libpq(make_url(url))], check=True, capture_output=True).stdout


def restore(url: str, dumped: bytes) -> None:
    """Restore a dump into an empty database."""
    command = [postgres_program("psql"), "--quiet", "--no-psqlrc", "--output=/dev/null", libpq(make_url(url))]
    subprocess.run(command, input=dumped, check=True, capture_output=True)


@contextmanager
def own_servers(name: str) -> Iterator[Callable[[str], EmbeddedPostgres]]:
    """Yield what starts PostgreSQL servers, by the names of their folders; they end with the block."""
    folder = DATA_FOLDER / f"{name}-{uuid.uuid4().hex[:8]}"
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)

        def serve(name: str) -> EmbeddedPostgres:
            server = EmbeddedPostgres(folder / name)
            stack.callback(server.stop)
            return server

        yield serve


def data_folder(server: EmbeddedPostgres) -> Path:
    """Return where a server has its data."""
    with closing(psycopg.connect(libpq(make_url(server.url())))) as connection:
        (folder,) = connection.execute("SHOW data_directory").fetchone() or ("",)
    return Path(folder)


def base_backup(server: EmbeddedPostgres, name: str, *options: str) -> Path:
    """Make a base backup of a server, from which another can start, in the folder *name* next to its data."""
    folder = data_folder(server)
    copy = folder.parent / name
    command = [postgres_program("pg_basebackup"), "--checkpoint=fast", *options, "-D", str(copy)]
    subprocess.run([*command, "-d", libpq(make_url(server.url()))], check=True, capture_output=True)
    for of_the_server in (*copy.glob(".s.PGSQL.*"), copy / ".handle_pids.json"):
        of_the_server.unlink(missing_ok=True)
    chown_like(folder, [copy, *copy.rglob("*")])
    return copy


def chown_like(folder: Path, files: Iterable[Path]) -> None:
    """Let the user that PostgreSQL runs as own files, too."""
    owner = folder.stat()
    for file in files:
        os.chown(file, owner.st_uid, owner.st_gid)
