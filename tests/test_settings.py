from __future__ import annotations

import base64
import dataclasses
import re
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import ConfigurationError
from receiver.settings import (
    REQUIRED,
    REQUIRED_FOR_DATABASE,
    LogFormat,
    Settings,
    SignaturePolicy,
    load_settings,
    read_settings,
    variable_names,
)
from receiver.variables import Role

EXAMPLE = Path(__file__).parent.parent / ".env.example"
VARIABLES = {
    "DATABASE_URL",
    "REDIS_URL",
    "PORT",
    "WEB_CONCURRENCY",
    "PUBLIC_URL",
    "OPENCARD_API_URL",
    "OPENCARD_ACCOUNT_ID",
    "OPENCARD_CLIENT_ID",
    "OPENCARD_CLIENT_SECRET",
    "ENCRYPTION_KEYS",
    "SECRET_KEY",
    "OPS_USERS",
    "OPS_OIDC_ISSUER",
    "OPS_OIDC_CLIENT_ID",
    "OPS_OIDC_CLIENT_SECRET",
    "OPS_OIDC_ROLES",
    "METRICS_TOKEN",
    "MAX_BODY_BYTES",
    "SIGNATURE_POLICY",
    "RECONCILE_INTERVAL",
    "RECONCILE_GRACE",
    "BOOTSTRAP_INTERVAL",
    "FILES_URL",
    "FILES_MAX_BYTES",
    "RETAIN_PROCESSED_DAYS",
    "RETAIN_FAILED_DAYS",
    "RETAIN_DUPLICATE_DAYS",
    "RETAIN_TRACES_DAYS",
    "RETAIN_LOG_DAYS",
    "RETAIN_AUDIT_DAYS",
    "ERASE_CARD_HOLDERS_DAYS",
    "LOG_LEVEL",
    "LOG_FORMAT",
    "SENTRY_DSN",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "NOTIFY_URLS",
    "HEARTBEAT_URL",
}
KEY = base64.urlsafe_b64encode(b"k" * 32).decode()
MINIMAL = {
    "DATABASE_URL": "postgresql://receiver:database-secret@db.internal:5432/receiver",
    "REDIS_URL": "redis://:redis-secret@redis.internal:6379/0",
    "PUBLIC_URL": "https://hooks.example.com",
    "ENCRYPTION_KEYS": KEY,
}

OPENID = {
    "OPS_OIDC_ISSUER": "https://login.example.com/realms/company",
    "OPS_OIDC_CLIENT_ID": "opencard-receiver",
    "OPS_OIDC_CLIENT_SECRET": "openid-secret",
    "OPS_OIDC_ROLES": "ops-admins:operator,accounting:viewer",
}
JANE = "jane:operator:scrypt:32768:8:1$salt$0123456789abcdef"


def load(**changes: str) -> Settings:
    return load_settings({**MINIMAL, **changes})


def problems(**changes: str) -> list[str]:
    """Return what is said about an environment that is wrong."""
    with pytest.raises(ConfigurationError) as wrong:
        load(**changes)
    assert str(wrong.value) == "\n".join(wrong.value.problems)
    return wrong.value.problems


@pytest.mark.parametrize("name", sorted(name for name in VARIABLES if re.search("_(INTERVAL|GRACE|DAYS)$", name)))
def test_too_long_a_span_is_refused(name: str) -> None:
    (problem,) = problems(**{name: "9" * 17})
    assert re.fullmatch(rf"{name} is wrong: 9+ is out of range; it must be between 0 and \d+", problem)


def test_the_variables_are_those_that_others_rely_on() -> None:
    assert set(variable_names()) == VARIABLES
    assert len(variable_names()) == len(VARIABLES)


def test_the_example_names_every_variable_once_and_no_other() -> None:
    named = re.findall(r"^([A-Z_]+)=", EXAMPLE.read_text(), flags=re.MULTILINE)
    assert sorted(named) == sorted(VARIABLES)


def test_the_example_documents_every_variable() -> None:
    comment = ""
    for line in EXAMPLE.read_text().splitlines():
        if line.startswith("# ---"):
            comment = ""
        elif line.startswith("#"):
            comment = line
        elif not line:
            comment = ""
        else:
            assert comment, f"{line} stands there without a comment"


def test_the_example_is_right_once_its_key_is_filled_in() -> None:
    example = dict(re.findall(r"^([A-Z_]+)=(.*)$", EXAMPLE.read_text(), flags=re.MULTILINE))
    assert dataclasses.replace(load_settings({**example, "ENCRYPTION_KEYS": KEY}), database_url="") == (
        dataclasses.replace(load(), database_url="", redis_url="redis://localhost:6379/0")
    )


def test_unset_variables_have_their_defaults() -> None:
    settings = load()
    assert settings.max_body_bytes == 1048576
    assert settings.signature_policy is SignaturePolicy.WHEN_PRESENT
    assert settings.reconcile_interval == 300
    assert settings.reconcile_grace == 900
    assert settings.bootstrap_interval == 300
    assert settings.opencard_api_url == "https://sandbox-api.opencard.io"
    assert (settings.port, settings.web_concurrency) == (8000, 2)
    assert (settings.log_level, settings.log_format) == ("INFO", LogFormat.JSON)
    assert (settings.ops_users, settings.secret_key, settings.metrics_token) == ((), "", "")


def test_an_empty_variable_counts_as_not_set() -> None:
    assert load(PORT="", LOG_LEVEL=" ", SIGNATURE_POLICY="") == load()
    assert problems(PUBLIC_URL="") == ["PUBLIC_URL is missing: set it as .env.example describes"]


@pytest.mark.parametrize("missing", sorted(REQUIRED))
def test_each_missing_variable_is_named(missing: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{missing} is missing\b.*$"):
        load_settings({name: value for name, value in MINIMAL.items() if name != missing})


def test_all_wrong_variables_are_reported_at_once() -> None:
    with pytest.raises(ConfigurationError) as wrong:
        load_settings({"PORT": "http", "SIGNATURE_POLICY": "never", "REDIS_URL": "localhost:6379"})
    named = [problem.split(" is ")[0] for problem in wrong.value.problems]
    assert named == ["DATABASE_URL", "REDIS_URL", "PUBLIC_URL", "ENCRYPTION_KEYS", "PORT", "SIGNATURE_POLICY"]
    assert not any("\n" in problem for problem in wrong.value.problems)


def test_addresses_of_messages_have_a_lowest_severity() -> None:
    urls = load(NOTIFY_URLS="slack://secret/a/b\n  critical=mailto://user:pass@example.com?to=a=b ").notify_urls
    assert [(each.url, each.lowest) for each in urls] == [
        ("slack://secret/a/b", "warning"),
        ("mailto://user:pass@example.com?to=a=b", "critical"),
    ]
    assert "secret" not in repr(load(NOTIFY_URLS="slack://secret/a/b"))


WRONG = [
    ("NOTIFY_URLS", "slack://ok/a/b the-secret"),
    ("HEARTBEAT_URL", "the-secret"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "the-secret"),
    ("DATABASE_URL", "mysql://receiver:the-secret@db/receiver"),
    ("DATABASE_URL", "postgresql://receiver:the-secret@db:port/receiver"),
    ("DATABASE_URL", "the-secret"),
    ("REDIS_URL", "http://:the-secret@redis"),
    ("REDIS_URL", "redis://:the-secret@redis:port/0"),
    ("REDIS_URL", "redis://user:the-secret/rest@redis:6379/0"),
    ("REDIS_URL", "redis://:the-secret@[redis"),
    ("ENCRYPTION_KEYS", "the-secret"),
    ("ENCRYPTION_KEYS", f"{KEY},the-secret"),
    ("ENCRYPTION_KEYS", f"{KEY},th\u00e9-the-secret"),
    ("ENCRYPTION_KEYS", ","),
    ("SECRET_KEY", "the-secret"),
    ("PUBLIC_URL", "http://hooks.example.com"),
    ("PUBLIC_URL", "http://10.0.0.1"),
    ("PUBLIC_URL", "hooks.example.com"),
    ("PUBLIC_URL", "ftp://hooks.example.com"),
    ("PUBLIC_URL", "https://"),
    ("PUBLIC_URL", "https://hooks example.com"),
    ("PUBLIC_URL", "https://hooks..example.com"),
    ("PUBLIC_URL", f"https://{'hooks' * 20}.example.com"),
    ("PUBLIC_URL", "https://hooks.example.com?tenant=1"),
    ("PUBLIC_URL", "https://hooks.example.com#here"),
    ("PUBLIC_URL", "https://hooks.example.com:port"),
    ("PUBLIC_URL", "https://user:password@hooks.example.com"),
    ("DATABASE_URL", "postgresql://host/name?nonsense=1"),
    ("OPENCARD_API_URL", "http://api.opencard.io"),
    ("PORT", "0"),
    ("PORT", "65536"),
    ("PORT", "80.5"),
    ("WEB_CONCURRENCY", "0"),
    ("MAX_BODY_BYTES", "0"),
    ("MAX_BODY_BYTES", "1 MiB"),
    ("SIGNATURE_POLICY", "optional"),
    ("RECONCILE_INTERVAL", "-1"),
    ("RECONCILE_GRACE", "soon"),
    ("OPS_USERS", "the-secret"),
    ("OPS_USERS", ","),
    ("OPS_USERS", "jane:the-secret"),
    ("OPS_USERS", "jane:operator:the-secret"),
    ("OPS_USERS", "jane:the-secret:scrypt:32768:8:1$salt$abcdef"),
    ("OPS_USERS", "the-secret!:operator:scrypt:32768:8:1$salt$abcdef"),
    ("OPS_USERS", f"{JANE},{JANE}"),
    ("LOG_LEVEL", "LOUD"),
    ("LOG_FORMAT", "xml"),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_wrong_value_is_one_line_without_its_secret(name: str, value: str) -> None:
    (problem,) = problems(**{name: value})
    assert problem.startswith(f"{name} is wrong: ")
    assert "\n" not in problem
    assert "the-secret" not in problem


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_usual_scheme_of_postgresql_is_accepted(scheme: str) -> None:
    url = load(DATABASE_URL=f"{scheme}://receiver:p%40ss@db:5432/receiver?sslmode=require").database_url
    assert url == "postgresql://receiver:p%40ss@db:5432/receiver?sslmode=require"


@pytest.mark.parametrize("url", ["redis://localhost", "rediss://:secret@redis:6380/1", "unix:///run/valkey.sock?db=1"])
def test_every_usual_scheme_of_redis_is_accepted(url: str) -> None:
    assert load(REDIS_URL=url).redis_url == url


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "http://localhost:8000", "http://[::1]:8000"])
def test_a_loopback_address_may_do_without_https(url: str) -> None:
    assert load(PUBLIC_URL=url).public_url == url


def test_the_public_url_may_have_a_path_and_ends_without_a_slash() -> None:
    assert load(PUBLIC_URL="https://example.com/opencard/").public_url == "https://example.com/opencard"


def test_several_encryption_keys_keep_their_order() -> None:
    newest, older = Fernet.generate_key().decode(), KEY
    assert load(ENCRYPTION_KEYS=f" {newest} , {older},").encryption_keys == (newest, older)


def test_reconciling_by_schedule_can_be_turned_off() -> None:
    assert load(RECONCILE_INTERVAL="0").reconcile_interval == 0


def test_the_console_needs_a_key_for_its_sessions() -> None:
    (problem,) = problems(OPS_USERS=JANE)
    assert problem.startswith("SECRET_KEY is missing")
    assert len(problems(OPS_USERS=JANE, SECRET_KEY="short")) == 1
    assert load(OPS_USERS=JANE, SECRET_KEY="s" * 32).secret_key == "s" * 32


def test_console_users_have_name_role_and_hash() -> None:
    users = load(OPS_USERS=f"{JANE}, john:viewer:pbkdf2:sha256:600000$other$abcdef,", SECRET_KEY="s" * 32).ops_users
    assert [(user.name, user.role, user.password_hash) for user in users] == [
        ("jane", Role.OPERATOR, "scrypt:32768:8:1$salt$0123456789abcdef"),
        ("john", Role.VIEWER, "pbkdf2:sha256:600000$other$abcdef"),
    ]


@pytest.mark.parametrize("missing", sorted(OPENID))
def test_openid_connect_is_set_as_a_whole(missing: str) -> None:
    some = {name: value for name, value in OPENID.items() if name != missing}
    (problem,) = problems(**some, SECRET_KEY="s" * 32)
    assert problem.startswith(f"{missing} is missing: sign-in by OpenID Connect needs all of OPS_OIDC_ISSUER, ")


def test_groups_of_openid_connect_have_roles() -> None:
    settings = load(**{**OPENID, "OPS_OIDC_ROLES": "team:ops:operator, /accounting : viewer,"}, SECRET_KEY="s" * 32)
    assert settings.ops_oidc_roles == (("team:ops", Role.OPERATOR), ("/accounting", Role.VIEWER))
    assert settings.has_console
    assert not load().has_console
    assert "openid-secret" not in repr(settings)


def test_openid_connect_needs_a_key_for_its_sessions() -> None:
    assert problems(**OPENID) == [
        "SECRET_KEY is missing: the console (OPS_OIDC_ISSUER is set) signs its sessions with it"
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPS_OIDC_ISSUER", "http://login.example.com"),
        ("OPS_OIDC_ISSUER", "login.example.com"),
        ("OPS_OIDC_ROLES", "ops-admins"),
        ("OPS_OIDC_ROLES", ":viewer"),
        ("OPS_OIDC_ROLES", "ops-admins:admin"),
        ("OPS_OIDC_ROLES", "ops-admins:viewer,ops-admins:operator"),
        ("OPS_OIDC_ROLES", ","),
    ],
)
def test_wrong_openid_setting_is_one_line(name: str, value: str) -> None:
    (problem,) = problems(**{**OPENID, name: value}, SECRET_KEY="s" * 32)
    assert problem.startswith(f"{name} is wrong: ")


def test_migrations_need_only_the_database() -> None:
    only = {"DATABASE_URL": MINIMAL["DATABASE_URL"]}
    assert load_settings(only, required=REQUIRED_FOR_DATABASE).database_url


def test_right_values_can_be_read_despite_wrong_ones() -> None:
    settings, found = read_settings({**MINIMAL, "PORT": "http", "PUBLIC_URL": ""})
    assert list(found) == ["PUBLIC_URL", "PORT"]
    assert found["PUBLIC_URL"].startswith("PUBLIC_URL is missing")
    assert found["PORT"].startswith("PORT is wrong")
    assert (settings.port, settings.public_url) == (8000, "")
    assert settings.database_url.startswith("postgresql://receiver:database-secret@")
    assert read_settings(MINIMAL) == (load(), {})


def test_settings_cannot_be_changed() -> None:
    name = "port"
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(load(), name, 1)


@given(secret=st.text("abcdef0123456789", min_size=24, max_size=40))
def test_no_secret_shows_in_the_settings(secret: str) -> None:
    shown = repr(
        load(
            DATABASE_URL=f"postgresql://receiver:{secret}@db/receiver",
            REDIS_URL=f"redis://:{secret}@redis:6379",
            OPENCARD_CLIENT_SECRET=secret,
            SECRET_KEY=secret * 2,
            OPS_USERS=f"jane:operator:scrypt:32768:8:1$salt${secret}",
            METRICS_TOKEN=secret,
        )
    )
    assert secret not in shown
    assert KEY not in shown
    assert "https://hooks.example.com" in shown


@pytest.mark.parametrize("quote", ["'", '"'])
def test_quotes_around_a_value_are_removed(quote: str) -> None:
    settings = load_settings({name: f"{quote}{value}{quote}" for name, value in MINIMAL.items()})
    assert settings == load_settings(MINIMAL)


def test_a_single_quote_is_a_value_like_any_other() -> None:
    assert load_settings({**MINIMAL, "METRICS_TOKEN": "'"}).metrics_token == "'"
