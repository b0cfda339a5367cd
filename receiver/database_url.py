"""``DATABASE_URL``: the parts that this service reads are checked at start; libpq gets the rest."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import PGconn

if TYPE_CHECKING:
    from collections.abc import Mapping

POOLED: Final = "pgbouncer"
"""What is behind the ``?`` of ``DATABASE_URL``, ``=true``, where connections are pooled for each transaction."""
POOLED_OPTION: Final = re.compile(rf"(?<=[?&]){POOLED}=(?P<value>[^&]*)(&|$)")
"""The same in a URL: it is this service's, and unknown to libpq."""
WHOLE_NUMBERS: Final = (
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
)
"""Options of libpq that it reads no sooner than it has connected."""
NO_SOCKET: Final = "/dev/null"
"""No folder, so that there is no socket in it."""


def database_url(text: str) -> str:
    """Return the URL as PostgreSQL's client library takes it, but for ``POOLED``; ``postgres://`` is taken, too.

    libpq alone reads it, in every process, so that several hosts, a service and all of its options mean the same.
    """
    scheme, mark, rest = text.partition("://")
    if not mark or not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme):
        raise ValueError("not a database URL; it looks like postgresql://user:password@host:5432/name")
    if scheme not in {"postgres", "postgresql", "postgresql+psycopg"}:
        raise ValueError(f"{scheme}:// is not PostgreSQL; use postgresql://user:password@host:5432/name")
    pooled = POOLED_OPTION.search(rest)
    if pooled is not None and pooled["value"] != "true":
        raise ValueError(
            f"{POOLED}= is not =true, as it is behind a pgbouncer in transaction mode; leave it out otherwise"
        )
    url = f"postgresql://{rest}"
    try:
        parts = conninfo_to_dict(libpq_url(url))
    except psycopg.ProgrammingError:
        raise ValueError(
            "PostgreSQL's client library does not take it; what is special in a name or password is written as %XX, "
            "and behind the ? are options of libpq"
        ) from None
    if any(map(_has_port, str(parts.get("host", "")).split(","))):
        raise ValueError("a host has its port in it; write host1:5432,host2:5432 before the /")
    if any(name in parts and not re.fullmatch(r"-?[0-9]+", str(parts[name])) for name in WHOLE_NUMBERS):
        raise ValueError(f"one of {', '.join(WHOLE_NUMBERS)} is not a whole number")
    _try_options(parts)
    return url


def is_pooled(database_url: str) -> bool:
    """Return whether the URL says that a pgbouncer in transaction mode is between us and PostgreSQL."""
    return POOLED_OPTION.search(database_url) is not None


def libpq_url(database_url: str) -> str:
    """Return the URL as PostgreSQL's client library takes it: what is ours is left out, the rest is untouched."""
    scheme, _, rest = database_url.partition("://")
    return f"{scheme.partition('+')[0]}://{POOLED_OPTION.sub('', rest).rstrip('?&')}"


def _has_port(host: str) -> bool:
    if ":" not in host or host.startswith(("/", "@")):
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


def _try_options(parts: Mapping[str, Any]) -> None:
    """Let libpq look at the values of all options, where it does so: when it connects. These sockets do not exist.

    Raises ``ValueError``. libpq's own words are not repeated: they may contain the password.
    """
    hosts = len(str(parts.get("hostaddr") or parts.get("host", "")).split(","))
    nowhere = {"hostaddr": None, "host": ",".join([NO_SOCKET] * hosts)}
    connection = PGconn.connect_start(make_conninfo(**{**parts, **nowhere}).encode())
    said = connection.get_error_message()
    connection.finish()
    if NO_SOCKET in said:
        return
    if "service" in parts and "service" in said:
        raise ValueError("the service that it names is not defined: see PGSERVICEFILE, ~/.pg_service.conf")
    raise ValueError("PostgreSQL's client library does not take the value of a port or of an option behind its ?")
