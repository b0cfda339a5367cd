"""One frozen ``Settings``, read from the environment and validated at start.

Every problem is found in one go and told in one line that names the variable. Secrets are masked in ``repr``.
"""

from __future__ import annotations

import ipaddress
import logging
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import SplitResult, urlsplit

import psycopg
from cryptography.fernet import Fernet
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from receiver.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

SANDBOX_API_URL: Final = "https://sandbox-api.opencard.io"
REQUIRED: Final = frozenset({"DATABASE_URL", "REDIS_URL", "PUBLIC_URL", "ENCRYPTION_KEYS"})
"""What every process of the service needs."""
REQUIRED_FOR_DATABASE: Final = frozenset({"DATABASE_URL"})
"""What ``receiver db`` needs: migrations run before anything else is set up."""
REQUIRED_FOR_KEYS: Final = frozenset({"DATABASE_URL", "ENCRYPTION_KEYS"})
"""What ``receiver keys`` needs."""
REQUIRED_FOR_API: Final = REQUIRED | {"OPENCARD_ACCOUNT_ID", "OPENCARD_CLIENT_ID", "OPENCARD_CLIENT_SECRET"}
"""What the commands need that call OpenCard's API."""
MINIMUM_SECRET_KEY_LENGTH: Final = 32
HIGHEST_PORT: Final = 65535


class SignaturePolicy(StrEnum):
    """Whether a delivery without ``X-Data-Signature`` can be authentic."""

    WHEN_PRESENT = "when-present"
    REQUIRED = "required"


class LogFormat(StrEnum):
    """How log lines are written."""

    JSON = "json"
    CONSOLE = "console"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says, validated. An optional text that is not set is empty."""

    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    public_url: str
    encryption_keys: tuple[str, ...] = field(repr=False)
    port: int
    web_concurrency: int
    opencard_api_url: str
    opencard_account_id: str
    opencard_client_id: str
    opencard_client_secret: str = field(repr=False)
    secret_key: str = field(repr=False)
    ops_users: str = field(repr=False)
    metrics_token: str = field(repr=False)
    max_body_bytes: int
    signature_policy: SignaturePolicy
    reconcile_interval: int
    reconcile_grace: int
    log_level: str
    log_format: LogFormat


def variable_names() -> list[str]:
    """Return the environment variables that make up ``Settings``, in its order."""
    return [setting.name.upper() for setting in fields(Settings)]


def load_settings(environ: Mapping[str, str], *, required: Collection[str] = REQUIRED) -> Settings:
    """Read and validate the settings.

    Raises ``ConfigurationError`` with one line for each variable that is missing (of *required*) or wrong.
    """
    settings, problems = read_settings(environ, required=required)
    if problems:
        raise ConfigurationError(list(problems.values()))
    return settings


def read_settings(
    environ: Mapping[str, str], *, required: Collection[str] = REQUIRED
) -> tuple[Settings, dict[str, str]]:
    """Return the settings as far as they can be read, and the problems: variable → one line that names it.

    A variable with a problem has its default in the settings; of one without, that is nothing.
    """
    reader = _Reader(environ, required)
    settings = Settings(
        database_url=reader.read("DATABASE_URL", _database_url, default=""),
        redis_url=reader.read("REDIS_URL", _redis_url, default=""),
        public_url=reader.read("PUBLIC_URL", _public_url, default=""),
        encryption_keys=reader.read("ENCRYPTION_KEYS", _encryption_keys, default=()),
        port=reader.read("PORT", _whole_number(1, HIGHEST_PORT), default=8000),
        web_concurrency=reader.read("WEB_CONCURRENCY", _whole_number(1), default=2),
        opencard_api_url=reader.read("OPENCARD_API_URL", _public_url, default=SANDBOX_API_URL),
        opencard_account_id=reader.read("OPENCARD_ACCOUNT_ID", str, default=""),
        opencard_client_id=reader.read("OPENCARD_CLIENT_ID", str, default=""),
        opencard_client_secret=reader.read("OPENCARD_CLIENT_SECRET", str, default=""),
        secret_key=reader.read("SECRET_KEY", _secret_key, default=""),
        ops_users=reader.read("OPS_USERS", str, default=""),
        metrics_token=reader.read("METRICS_TOKEN", str, default=""),
        max_body_bytes=reader.read("MAX_BODY_BYTES", _whole_number(1), default=1024 * 1024),
        signature_policy=reader.read(
            "SIGNATURE_POLICY", _one_of(SignaturePolicy), default=SignaturePolicy.WHEN_PRESENT
        ),
        reconcile_interval=reader.read("RECONCILE_INTERVAL", _whole_number(0), default=300),
        reconcile_grace=reader.read("RECONCILE_GRACE", _whole_number(0), default=900),
        log_level=reader.read("LOG_LEVEL", _log_level, default="INFO"),
        log_format=reader.read("LOG_FORMAT", _one_of(LogFormat), default=LogFormat.JSON),
    )
    if settings.ops_users and not settings.secret_key:
        reader.problems.setdefault(
            "SECRET_KEY", "SECRET_KEY is missing: the console (OPS_USERS is set) signs its sessions with it"
        )
    return settings, reader.problems


class _Reader:
    """Reads one variable after the other and collects what is wrong, so that all of it is told at once."""

    def __init__(self, environ: Mapping[str, str], required: Collection[str]) -> None:
        self._environ = environ
        self._required = required
        self.problems: dict[str, str] = {}

    def read(self, name: str, parse: Callable[[str], T], *, default: T) -> T:
        text = self._environ.get(name, "").strip()
        if not text:
            if name in self._required:
                self.problems[name] = f"{name} is missing: set it as .env.example describes"
            return default
        try:
            return parse(text)
        except ValueError as error:
            self.problems[name] = f"{name} is wrong: {error}"
            return default


# The parsers. Their errors never repeat the value where it can hold a secret.


def _database_url(text: str) -> str:
    """Return the URL under the driver this service uses; ``postgres://`` is what many platforms hand out."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ValueError("not a database URL; it looks like postgresql://user:password@host:5432/name") from None
    if url.drivername not in {"postgres", "postgresql", "postgresql+psycopg"}:
        raise ValueError(f"{url.drivername}:// is not PostgreSQL; use postgresql://user:password@host:5432/name")
    try:
        conninfo_to_dict(url.set(drivername="postgresql").render_as_string(hide_password=False))
    except psycopg.ProgrammingError:
        raise ValueError("PostgreSQL's client library does not take it; check the options behind its ?") from None
    return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def _redis_url(text: str) -> str:
    parts = _split(text)
    if parts is None or parts.scheme not in {"redis", "rediss", "unix"}:
        raise ValueError("not a Redis URL; it looks like redis://host:6379/0")
    return text


def _public_url(text: str) -> str:
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


def _encryption_keys(text: str) -> tuple[str, ...]:
    keys = tuple(key.strip() for key in text.split(",") if key.strip())
    if not keys:
        raise ValueError("no key in it")
    for number, key in enumerate(keys, start=1):
        try:
            Fernet(key)
        except ValueError:
            raise ValueError(f"key {number} of {len(keys)} is not a Fernet key (32 bytes, URL-safe base64)") from None
    return keys


def _secret_key(text: str) -> str:
    if len(text) < MINIMUM_SECRET_KEY_LENGTH:
        raise ValueError(f"shorter than {MINIMUM_SECRET_KEY_LENGTH} characters")
    return text


def _whole_number(lowest: int, highest: int | None = None) -> Callable[[str], int]:
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


def _one_of(choices: type[E]) -> Callable[[str], E]:
    def parse(text: str) -> E:
        try:
            return choices(text.lower())
        except ValueError:
            raise ValueError(f"{text!r} is none of {', '.join(choices)}") from None

    return parse


def _log_level(text: str) -> str:
    level = text.upper()
    if level not in logging.getLevelNamesMapping():
        raise ValueError(f"{text!r} is none of DEBUG, INFO, WARNING, ERROR")
    return level
