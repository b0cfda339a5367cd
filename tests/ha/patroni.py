"""Two PostgreSQL nodes under Debian's Patroni, with etcd."""

from __future__ import annotations

from contextlib import ExitStack, closing, suppress
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
import psycopg
from psycopg import sql

from receiver.sandbox.embedded import LOOPBACK, free_port
from tests.ha.programs import SECONDS, Program, command_of, family_of, own, write_configuration
from tests.support.waiting import eventually

if TYPE_CHECKING:
    import psutil

ROLE: Final = "receiver"
"""Owns the databases of the service, and is no superuser."""
TTL: Final = 10
"""Seconds after which a primary that does not renew its lease is replaced."""
ETCD: Final = "etcd"
PATRONI: Final = "patroni"


def postgres_programs() -> Path | None:
    """Return the folder of the newest PostgreSQL of Debian."""
    return max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name), default=None)


class Node(Program):
    """A machine of the cluster: Patroni, and the PostgreSQL that Patroni started."""

    def __init__(self, name: str, folder: Path, *, etcd_port: int, synchronous: bool) -> None:
        self.name = name
        self.port = free_port()
        self.api_port = free_port()
        self._data = folder / name
        configuration = write_configuration(
            "patroni.yml",
            folder / f"{name}.yml",
            name=name,
            api_port=self.api_port,
            etcd_port=etcd_port,
            port=self.port,
            data=self._data,
            programs=postgres_programs(),
            ttl=TTL,
            synchronous=str(synchronous).lower(),
        )
        super().__init__(name, [PATRONI, configuration], folder, as_postgres=True)

    def family(self) -> list[psutil.Process]:
        with suppress(OSError, ValueError):  # PostgreSQL is not a child of Patroni
            return [*super().family(), *family_of([int((self._data / "postmaster.pid").read_text().split()[0])])]
        return super().family()

    def says(self, path: str) -> bool:
        """Return whether Patroni answers 200: ``primary``, ``replica``, ``synchronous``."""
        with closing(HTTPConnection(LOOPBACK, self.api_port, timeout=2)) as connection:
            try:
                connection.request("GET", f"/{path}")
                return connection.getresponse().status == HTTPStatus.OK
            except (OSError, HTTPException):
                return False

    def stop_sending(self) -> None:
        """Freeze what sends the standby what is written."""
        senders = [process for process in self.family() if "walsender" in command_of(process)]
        assert senders, "no standby is connected"
        for sender in senders:
            sender.suspend()


class Patroni:
    """The cluster."""

    def __init__(self, folder: Path, stack: ExitStack, *, synchronous: bool) -> None:
        own(folder)
        client, peer = (f"http://{LOOPBACK}:{free_port()}" for _ in range(2))
        urls = {
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
        }
        options = [f"--{name}={url}" for name, url in urls.items()]
        self.etcd = Program("etcd", [ETCD, f"--data-dir={folder / 'etcd'}", *options], folder)
        self._synchronous = synchronous
        etcd_port = int(client.rpartition(":")[2])
        self.nodes = [Node(name, folder, etcd_port=etcd_port, synchronous=synchronous) for name in ("one", "two")]
        for program in (self.etcd, *self.nodes):
            stack.callback(program.kill)
            program.start()
        self.wait_until_whole()
        self.execute(f"CREATE ROLE {ROLE} LOGIN")

    @property
    def primary(self) -> Node:
        """The node that Patroni calls the primary."""
        found: list[Node] = []

        def is_there() -> bool:
            found[:] = [node for node in self.nodes if node.says("primary")]
            return len(found) == 1

        assert eventually(is_there, within=SECONDS), "there is not one primary"
        return found[0]

    def other(self, node: Node) -> Node:
        return next(each for each in self.nodes if each is not node)

    def wait_until_whole(self) -> None:
        """Return when there are a primary and a standby that may take its place."""
        wanted = "synchronous" if self._synchronous else "replica?lag=1MB"

        def is_whole() -> bool:
            return any(node.says("primary") and self.other(node).says(wanted) for node in self.nodes)

        assert eventually(is_whole, within=SECONDS), "the cluster does not become whole"

    def switch_over(self) -> None:
        """Ask Patroni to exchange the two."""
        leader = self.primary
        wanted = {"leader": leader.name, "candidate": self.other(leader).name}
        url = f"http://{LOOPBACK}:{leader.api_port}/switchover"
        assert httpx.post(url, json=wanted, timeout=SECONDS, trust_env=False).is_success

    def url(self, database: str, role: str = ROLE) -> str:
        """Return the address of a database at both nodes."""
        hosts = ",".join(f"{LOOPBACK}:{node.port}" for node in self.nodes)
        return f"postgresql://{role}@{hosts}/{database}?target_session_attrs=read-write&connect_timeout=3"

    def create_database(self, name: str) -> None:
        with closing(psycopg.connect(self.url("postgres", "postgres"), autocommit=True)) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(ROLE))
            )

    def execute(self, statement: str) -> None:
        with closing(psycopg.connect(self.url("postgres", "postgres"), autocommit=True)) as connection:
            connection.execute(statement.encode())
