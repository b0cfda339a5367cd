"""One frozen ``Settings``, read from the environment and validated at start.

All problems are found at once, each in one line that names the variable. Secrets are masked in ``repr``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeVar

from receiver.database_url import database_url
from receiver.errors import ConfigurationError
from receiver.redis_url import redis_url
from receiver.variables import (
    MAX_DAYS,
    MAX_SECONDS,
    NotifyUrl,
    days_kept,
    encryption_keys,
    files_url,
    group_roles,
    log_level,
    notify_urls,
    one_of,
    ops_users,
    public_url,
    secret_key,
    web_address,
    whole_number,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from receiver.variables import OpsUser, Role

T = TypeVar("T")

SANDBOX_API_URL: Final = "https://sandbox-api.opencard.io"
REQUIRED: Final = frozenset({"DATABASE_URL", "REDIS_URL", "PUBLIC_URL", "ENCRYPTION_KEYS"})
"""The variables that every process of the service needs."""
REQUIRED_FOR_DATABASE: Final = frozenset({"DATABASE_URL"})
"""What ``receiver db`` needs: migrations run before anything else is set up."""
REQUIRED_FOR_KEYS: Final = frozenset({"DATABASE_URL", "ENCRYPTION_KEYS"})
"""What ``receiver keys`` needs."""
OPENID: Final = ("OPS_OIDC_ISSUER", "OPS_OIDC_CLIENT_ID", "OPS_OIDC_CLIENT_SECRET", "OPS_OIDC_ROLES")
"""The variables of the sign-in by OpenID Connect: all of them or none."""
REQUIRED_FOR_API: Final = REQUIRED | {"OPENCARD_ACCOUNT_ID", "OPENCARD_CLIENT_ID", "OPENCARD_CLIENT_SECRET"}
"""The variables that commands need which call OpenCard's API."""
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
    """The validated settings from the environment. An optional text that is not set is empty."""

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
    ops_users: tuple[OpsUser, ...] = field(repr=False)
    ops_oidc_issuer: str
    ops_oidc_client_id: str
    ops_oidc_client_secret: str = field(repr=False)
    ops_oidc_roles: tuple[tuple[str, Role], ...]
    metrics_token: str = field(repr=False)
    max_body_bytes: int
    signature_policy: SignaturePolicy
    reconcile_interval: int
    reconcile_grace: int
    bootstrap_interval: int
    files_url: str = field(repr=False)
    files_max_bytes: int
    retain_processed_days: int
    retain_failed_days: int
    retain_duplicate_days: int
    retain_traces_days: int
    retain_log_days: int
    retain_audit_days: int
    erase_card_holders_days: int
    log_level: str
    log_format: LogFormat
    sentry_dsn: str = field(repr=False)
    otel_exporter_otlp_endpoint: str = field(repr=False)
    otel_exporter_otlp_traces_endpoint: str = field(repr=False)
    notify_urls: tuple[NotifyUrl, ...] = field(repr=False)
    heartbeat_url: str = field(repr=False)

    @property
    def has_console(self) -> bool:
        """Whether there is a way to sign in to the console; without one it is off."""
        return bool(self.ops_users or self.ops_oidc_issuer)

    @property
    def has_tracing(self) -> bool:
        """Whether traces are recorded: OpenTelemetry's own variables say how, and its SDK reads them."""
        return bool(self.otel_exporter_otlp_endpoint or self.otel_exporter_otlp_traces_endpoint)


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
        database_url=reader.read("DATABASE_URL", database_url, default=""),
        redis_url=reader.read("REDIS_URL", redis_url, default=""),
        public_url=reader.read("PUBLIC_URL", public_url, default=""),
        encryption_keys=reader.read("ENCRYPTION_KEYS", encryption_keys, default=()),
        port=reader.read("PORT", whole_number(1, HIGHEST_PORT), default=8000),
        web_concurrency=reader.read("WEB_CONCURRENCY", whole_number(1), default=2),
        opencard_api_url=reader.read("OPENCARD_API_URL", public_url, default=SANDBOX_API_URL),
        opencard_account_id=reader.read("OPENCARD_ACCOUNT_ID", str, default=""),
        opencard_client_id=reader.read("OPENCARD_CLIENT_ID", str, default=""),
        opencard_client_secret=reader.read("OPENCARD_CLIENT_SECRET", str, default=""),
        secret_key=reader.read("SECRET_KEY", secret_key, default=""),
        ops_users=reader.read("OPS_USERS", ops_users, default=()),
        ops_oidc_issuer=reader.read("OPS_OIDC_ISSUER", public_url, default=""),
        ops_oidc_client_id=reader.read("OPS_OIDC_CLIENT_ID", str, default=""),
        ops_oidc_client_secret=reader.read("OPS_OIDC_CLIENT_SECRET", str, default=""),
        ops_oidc_roles=reader.read("OPS_OIDC_ROLES", group_roles, default=()),
        metrics_token=reader.read("METRICS_TOKEN", str, default=""),
        max_body_bytes=reader.read("MAX_BODY_BYTES", whole_number(1), default=1024 * 1024),
        signature_policy=reader.read("SIGNATURE_POLICY", one_of(SignaturePolicy), default=SignaturePolicy.WHEN_PRESENT),
        reconcile_interval=reader.read("RECONCILE_INTERVAL", whole_number(0, MAX_SECONDS), default=300),
        reconcile_grace=reader.read("RECONCILE_GRACE", whole_number(0, MAX_SECONDS), default=900),
        bootstrap_interval=reader.read("BOOTSTRAP_INTERVAL", whole_number(0, MAX_SECONDS), default=300),
        files_url=reader.read("FILES_URL", files_url, default="files"),
        files_max_bytes=reader.read("FILES_MAX_BYTES", whole_number(1), default=25 * 1024 * 1024),
        retain_processed_days=reader.read("RETAIN_PROCESSED_DAYS", days_kept, default=400),
        retain_failed_days=reader.read("RETAIN_FAILED_DAYS", days_kept, default=400),
        retain_duplicate_days=reader.read("RETAIN_DUPLICATE_DAYS", days_kept, default=30),
        retain_traces_days=reader.read("RETAIN_TRACES_DAYS", days_kept, default=90),
        retain_log_days=reader.read("RETAIN_LOG_DAYS", days_kept, default=30),
        retain_audit_days=reader.read("RETAIN_AUDIT_DAYS", days_kept, default=0),
        erase_card_holders_days=reader.read("ERASE_CARD_HOLDERS_DAYS", whole_number(0, MAX_DAYS), default=0),
        log_level=reader.read("LOG_LEVEL", log_level, default="INFO"),
        log_format=reader.read("LOG_FORMAT", one_of(LogFormat), default=LogFormat.JSON),
        sentry_dsn=reader.read("SENTRY_DSN", web_address, default=""),
        otel_exporter_otlp_endpoint=reader.read("OTEL_EXPORTER_OTLP_ENDPOINT", web_address, default=""),
        otel_exporter_otlp_traces_endpoint=reader.read("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", web_address, default=""),
        notify_urls=reader.read("NOTIFY_URLS", notify_urls, default=()),
        heartbeat_url=reader.read("HEARTBEAT_URL", web_address, default=""),
    )
    for name in _unset_for_openid(settings):
        reader.problems.setdefault(
            name, f"{name} is missing: sign-in by OpenID Connect needs all of {', '.join(OPENID)}"
        )
    if settings.has_console and not settings.secret_key:
        way = "OPS_USERS" if settings.ops_users else "OPS_OIDC_ISSUER"
        reader.problems.setdefault(
            "SECRET_KEY", f"SECRET_KEY is missing: the console ({way} is set) signs its sessions with it"
        )
    return settings, reader.problems


def unset_for_api(settings: Settings) -> str:
    """Return which settings are not set that OpenCard's API needs, as the beginning of a sentence; empty if none."""
    unset = [name for name in sorted(REQUIRED_FOR_API - REQUIRED) if not getattr(settings, name.lower())]
    return f"{', '.join(unset)} {'is' if len(unset) == 1 else 'are'} not set" if unset else ""


def _unset_for_openid(settings: Settings) -> list[str]:
    """Return which settings are missing of those that sign-in by OpenID Connect needs, if any of them is set."""
    unset = [name for name in OPENID if not getattr(settings, name.lower())]
    return unset if len(unset) < len(OPENID) else []


def _unquoted(text: str) -> str:
    """Return *text* without quotes around it: not every reader of ``.env`` removes them."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


class _Reader:
    """Reads one variable after the other and collects what is wrong, so that all of it is reported at once."""

    def __init__(self, environ: Mapping[str, str], required: Collection[str]) -> None:
        self._environ = environ
        self._required = required
        self.problems: dict[str, str] = {}

    def read(self, name: str, parse: Callable[[str], T], *, default: T) -> T:
        text = _unquoted(self._environ.get(name, "").strip())
        if not text:
            if name in self._required:
                self.problems[name] = f"{name} is missing: set it as .env.example describes"
            return default
        try:
            return parse(text)
        except ValueError as error:
            self.problems[name] = f"{name} is wrong: {error}"
            return default
