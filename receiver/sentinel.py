"""Connections to the Redis or Valkey that the sentinels call the master: each asks for it when it is opened."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from redis.connection import ConnectionPool, SSLConnection, parse_url
from redis.sentinel import Sentinel, SentinelManagedConnection, SentinelManagedSSLConnection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from receiver.redis_url import SentinelUrl

SENTINEL_TIMEOUT: Final = 0.5
"""Seconds that one sentinel may take to answer before the next one is asked."""
_OF_SENTINELS: Final = ("sentinel_username", "sentinel_password")


@dataclass(frozen=True, slots=True)
class Master:
    """Which server is the master now. Takes the place of redis-py's pool, which RQ does not pass on to its workers."""

    is_master: ClassVar = True
    check_connection: ClassVar = False

    addresses: tuple[tuple[str, int], ...]
    service_name: str
    options: Mapping[str, Any]
    """redis-py's, of the connections to the sentinels."""

    def get_master_address(self) -> tuple[str, int]:
        """Ask one sentinel after the other. Raises ``RedisError`` when none knows a master that is up."""
        with closing(Sentinel(self.addresses, sentinel_kwargs=dict(self.options))) as sentinel:  # type: ignore[no-untyped-call]
            host, port = sentinel.discover_master(self.service_name)  # type: ignore[no-untyped-call]
            return host, port


def pool_of_master(url: SentinelUrl, **options: Any) -> ConnectionPool:  # noqa: ANN401 - redis-py's
    """Return a pool of connections to the master; a connection whose server is no longer the master is dropped."""
    connection_options = {**options, **parse_url(url.server_url)}  # type: ignore[no-untyped-call]
    del connection_options["host"]
    is_tls = issubclass(connection_options.pop("connection_class", object), SSLConnection)
    of_sentinels = {
        name.removeprefix("sentinel_"): connection_options.pop(name)
        for name in _OF_SENTINELS
        if name in connection_options
    }
    of_sentinels |= {name: value for name, value in connection_options.items() if name.startswith("ssl_")}
    if is_tls:
        of_sentinels["ssl"] = True
    of_sentinels |= {
        "socket_connect_timeout": SENTINEL_TIMEOUT,
        "socket_timeout": SENTINEL_TIMEOUT,
        "retry": connection_options["retry"],
    }
    return ConnectionPool(
        connection_class=SentinelManagedSSLConnection if is_tls else SentinelManagedConnection,
        connection_pool=Master(url.addresses, url.master, of_sentinels),
        **connection_options,
    )
