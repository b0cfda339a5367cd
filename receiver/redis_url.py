"""``REDIS_URL``: a Redis or Valkey, or the sentinels that know which of several is the master."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

SCHEMES: Final = frozenset({"redis", "rediss", "unix"})
SENTINEL_SCHEMES: Final = {"redis+sentinel": "redis", "rediss+sentinel": "rediss"}
"""Those of sentinels, and what the servers speak that they name; the second is TLS, for the sentinels as well."""
SENTINEL_PORT: Final = 26379
_SHOWN: Final = "redis+sentinel://host1:26379,host2:26379,host3:26379/mymaster/0"


@dataclass(frozen=True, slots=True)
class SentinelUrl:
    """Sentinels, and what to connect to at the master that they name."""

    addresses: tuple[tuple[str, int], ...]
    master: str
    """The name under which the sentinels watch it."""
    server_url: str = field(repr=False)
    """Credentials, database and options, as a URL of redis-py; its host has no meaning."""


def redis_url(text: str) -> str:
    """Return the URL of a Redis or Valkey, or of sentinels. Raises ``ValueError``."""
    if sentinel_url(text) is not None:
        return text
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - raises
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in SCHEMES:
        raise ValueError(f"not a Redis URL; it looks like redis://host:6379/0 or {_SHOWN}")
    return text


def sentinel_url(text: str) -> SentinelUrl | None:
    """Return what a URL of sentinels says; ``None`` for one of a server. Raises ``ValueError``."""
    scheme, _, rest = text.partition("://")
    if scheme not in SENTINEL_SCHEMES:
        return None
    try:
        parts = urlsplit(f"//{rest}")
        credentials, at, hosts = parts.netloc.rpartition("@")
        addresses = tuple(_address(host) for host in hosts.split(","))
        _, master, database = f"{parts.path}/0".split("/")[:3]
        int(database)
    except ValueError:
        raise ValueError(f"not a URL of sentinels; it looks like {_SHOWN}") from None
    if not master:
        raise ValueError(f"the name of the master is missing; it looks like {_SHOWN}")
    server = f"{SENTINEL_SCHEMES[scheme]}://{credentials}{at}master/{database}"
    return SentinelUrl(addresses, unquote(master), f"{server}?{parts.query}" if parts.query else server)


def _address(host: str) -> tuple[str, int]:
    parts = urlsplit(f"//{host}")
    if not parts.hostname:
        raise ValueError(host)
    return parts.hostname, parts.port or SENTINEL_PORT
