"""Reading the value of one environment variable: each parser returns it, or raises ``ValueError`` with what is wrong.

Their errors never repeat the value where it can hold a secret.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import SplitResult, urlsplit

from cryptography.fernet import Fernet
from fsspec import available_protocols

if TYPE_CHECKING:
    from collections.abc import Callable

E = TypeVar("E", bound=StrEnum)

MINIMUM_SECRET_KEY_LENGTH: Final = 32
MAX_DAYS: Final = 36_500
MAX_SECONDS: Final = 366 * 86_400
"""The longest spans that a variable may have; much longer ones exceed what Python and PostgreSQL can calculate."""
SHORTEST_RETENTION_DAYS: Final = 14
"""Reconciling looks back a week: what it compares must still be there."""
SEVERITIES: Final = ("warning", "critical")
"""Of issues, the mildest first."""
USER_NAME: Final = re.compile(r"[\w.@-]{1,64}")
PASSWORD_HASH: Final = re.compile(
    r"(scrypt:[0-9]+:[0-9]+:[0-9]+|pbkdf2:[a-z0-9_]+:[0-9]+)\$[^$,\s]+\$[0-9a-f]+", re.ASCII
)


class Role(StrEnum):
    """The role of a user of the console."""

    VIEWER = "viewer"
    """See everything, change nothing."""
    OPERATOR = "operator"
    """Replay and cancel, too."""


@dataclass(frozen=True, slots=True)
class OpsUser:
    """One user of the console."""

    name: str
    role: Role
    password_hash: str = field(repr=False)


def public_url(text: str) -> str:
    """Return an address that others call, without the slash at its end: HTTPS, unless it is loopback."""
    parts = _split(text)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{text!r} is not a web address; it looks like https://hooks.example.com")
    if not _can_be_called(parts.hostname) or any(character <= " " for character in text):
        raise ValueError(f"{text!r} is not an address that can be called; it looks like https://hooks.example.com")
    if parts.username or parts.password:
        raise ValueError("it has a user or password in it; give the address without")
    if parts.query or parts.fragment:
        raise ValueError(f"{text!r} has a query or fragment; give the address without")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ValueError(f"{text!r} is not HTTPS; only a loopback address may do without")
    return text.rstrip("/")


def _split(text: str) -> SplitResult | None:
    """Return the parts of a URL, or ``None`` when it is none; ``urlsplit`` looks at the port only when asked for it."""
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - raises
    except ValueError:
        return None
    return parts


def _can_be_called(hostname: str) -> bool:
    try:
        hostname.encode("idna")
    except UnicodeError:
        return False
    return True


def _is_loopback(hostname: str) -> bool:
    if hostname == "localhost":
        return True
    try:
        return ipaddress.ip_address(hostname).is_loopback
    except ValueError:
        return False


def encryption_keys(text: str) -> tuple[str, ...]:
    """Return Fernet keys, newest first."""
    keys = tuple(key.strip() for key in text.split(",") if key.strip())
    if not keys:
        raise ValueError("no key in it")
    for number, key in enumerate(keys, start=1):
        try:
            Fernet(key)
        except ValueError:
            raise ValueError(f"key {number} of {len(keys)} is not a Fernet key (32 bytes, URL-safe base64)") from None
    return keys


def secret_key(text: str) -> str:
    """Return what signs sessions."""
    if len(text) < MINIMUM_SECRET_KEY_LENGTH:
        raise ValueError(f"shorter than {MINIMUM_SECRET_KEY_LENGTH} characters")
    return text


def ops_users(text: str) -> tuple[OpsUser, ...]:
    """Return the users of the console. Errors give an entry's position: any part of it may be a misplaced secret."""
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    users: dict[str, OpsUser] = {}
    for number, entry in enumerate(entries, start=1):
        which = f"entry {number} of {len(entries)}"
        parts = [part.strip() for part in entry.split(":", 2)]  # a hash has colons of its own
        if len(parts) != len(("name", "role", "hash")):
            raise ValueError(f"{which} is not name:role:password-hash")
        name, role, password_hash = parts
        if not USER_NAME.fullmatch(name):
            raise ValueError(f"{which}: a name has up to 64 letters, digits and any of . _ - @")
        if role not in set(Role):
            raise ValueError(f"{which}: the role is none of {', '.join(Role)}")
        if not PASSWORD_HASH.fullmatch(password_hash):
            raise ValueError(f"{which}: not a password hash; receiver ops hash-password makes one")
        if name in users:
            raise ValueError(f"{which} has the name of an earlier one")
        users[name] = OpsUser(name, Role(role), password_hash)
    if not users:
        raise ValueError("no user in it")
    return tuple(users.values())


def group_roles(text: str) -> tuple[tuple[str, Role], ...]:
    """Return the groups of an OpenID provider and the role of each. A group's name may have colons, but no comma."""
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    roles: dict[str, Role] = {}
    for number, entry in enumerate(entries, start=1):
        which = f"entry {number} of {len(entries)}"
        group, _, role = (part.strip() for part in entry.rpartition(":"))
        if not group or not group.isprintable():
            raise ValueError(f"{which} is not group:role")
        if role not in set(Role):
            raise ValueError(f"{which}: the role is none of {', '.join(Role)}")
        if group in roles:
            raise ValueError(f"{which} has the group of an earlier one")
        roles[group] = Role(role)
    if not roles:
        raise ValueError("no group in it")
    return tuple(roles.items())


def whole_number(lowest: int, highest: int | None = None) -> Callable[[str], int]:
    """Return a parser of whole numbers within bounds, both inclusive."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a whole number") from None
        if number < lowest or (highest is not None and number > highest):
            bounds = f"at least {lowest}" if highest is None else f"between {lowest} and {highest}"
            raise ValueError(f"{number} is out of range; it must be {bounds}")
        return number

    return parse


def one_of(choices: type[E]) -> Callable[[str], E]:
    """Return a parser of words, whatever their case."""

    def parse(text: str) -> E:
        try:
            return choices(text.lower())
        except ValueError:
            raise ValueError(f"{text!r} is none of {', '.join(choices)}") from None

    return parse


def log_level(text: str) -> str:
    """Return the name of one of the logging module's levels."""
    level = text.upper()
    if level not in logging.getLevelNamesMapping():
        raise ValueError(f"{text!r} is none of DEBUG, INFO, WARNING, ERROR")
    return level


def days_kept(text: str) -> int:
    """Return after how many days something may be deleted; 0 keeps it permanently."""
    days = whole_number(0, MAX_DAYS)(text)
    if 0 < days < SHORTEST_RETENTION_DAYS:
        raise ValueError(f"{days} is too short: at least {SHORTEST_RETENTION_DAYS}, or 0 to keep it permanently")
    return days


def files_url(text: str) -> str:
    """Return a folder's path, or a URL that fsspec knows how to write to."""
    if "://" not in text:
        return text
    protocol = text.partition("://")[0]
    if protocol not in available_protocols():
        raise ValueError(f"{protocol}:// is no kind of storage that is known; give a folder, or s3://bucket/prefix")
    return text


@dataclass(frozen=True, slots=True)
class NotifyUrl:
    """An address to which messages go, in Apprise's notation."""

    url: str = field(repr=False)
    lowest: str
    """The lowest severity that is sent to it: ``warning`` or ``critical``."""


def notify_urls(text: str) -> tuple[NotifyUrl, ...]:
    """Return the addresses in a text, separated by spaces or lines, each perhaps with its lowest severity before it."""
    entries = []
    for number, entry in enumerate(text.split(), start=1):
        severity, separator, url = entry.partition("=")
        lowest = severity if separator and severity in SEVERITIES else SEVERITIES[0]
        address = url if separator and severity in SEVERITIES else entry
        if not re.match(r"[a-z][a-z0-9+.-]*://.", address, re.IGNORECASE):
            raise ValueError(
                f"entry {number} is not a URL such as slack://… or mailto://…, with critical= before it for those only"
            )
        entries.append(NotifyUrl(address, lowest))
    return tuple(entries)


def web_address(text: str) -> str:
    """Return an HTTP address that may bear credentials, as a Sentry DSN does."""
    parts = _split(text)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("not a web address; it looks like https://key@host/1")
    return text
