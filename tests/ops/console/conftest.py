"""A web process with the console in it, and those who look at it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from werkzeug.security import generate_password_hash

from receiver.app import create_app
from receiver.settings import Settings, load_settings
from tests.support.browser import CHROMIUM
from tests.support.openid_provider import CLIENT_ID, CLIENT_SECRET, OpenIdProvider
from tests.support.serving import served
from tests.support.visitor import PASSWORDS, Visitor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flask import Flask
    from playwright.sync_api import Browser
    from redis import Redis
    from sqlalchemy import Engine

ROLES = "ops-admins:operator,accounting:viewer"
CHEAP = "scrypt:1024:8:1"
"""Tests check many passwords; what it costs is not what they are about."""


@pytest.fixture(scope="session")
def console_environment(environment: dict[str, str]) -> dict[str, str]:
    hashes = {name: generate_password_hash(password, CHEAP) for name, password in PASSWORDS.items()}
    users = f"olga:operator:{hashes['olga']},vera:viewer:{hashes['vera']}"
    return {**environment, "OPS_USERS": users, "SECRET_KEY": "the-key-that-signs-sessions-in-tests"}


@pytest.fixture(scope="session")
def console_settings(console_environment: dict[str, str]) -> Settings:
    return load_settings(console_environment)


@pytest.fixture(scope="session")
def console_app(console_settings: Settings, migrated_engine: Engine) -> Iterator[Flask]:
    del migrated_engine  # asked for so that there is something to show
    app = create_app(console_settings)
    yield app
    app.extensions["receiver.close"]()


@pytest.fixture(scope="session")
def console(console_app: Flask) -> Flask:
    found: Flask = console_app.extensions["receiver.console"]
    return found


@pytest.fixture
def short_pages(console: Flask) -> Iterator[None]:
    """Lists have two rows on a page."""
    usual = console.extensions["console"]
    console.extensions["console"] = replace(usual, rows=2)
    yield
    console.extensions["console"] = usual


@pytest.fixture
def new_visitor(console_app: Flask, engine: Engine, redis: Redis) -> Callable[[], Visitor]:
    """Makes browsers, each with cookies of its own."""
    del engine, redis  # asked for so that both are empty
    return lambda: Visitor(console_app.test_client())


@pytest.fixture
def stranger(new_visitor: Callable[[], Visitor]) -> Visitor:
    return new_visitor()


@pytest.fixture
def operator(new_visitor: Callable[[], Visitor]) -> Visitor:
    visitor = new_visitor()
    assert visitor.sign_in("olga").status_code == 302
    return visitor


@pytest.fixture
def viewer(new_visitor: Callable[[], Visitor]) -> Visitor:
    visitor = new_visitor()
    assert visitor.sign_in("vera").status_code == 302
    return visitor


@dataclass
class ServedOpenIdProvider:
    """A provider, and its address. Each test sets what it does; between tests it is as new."""

    provider: OpenIdProvider
    url: str


@pytest.fixture(scope="session")
def running() -> Iterator[ServedOpenIdProvider]:
    provider = OpenIdProvider()
    with served(provider.application()) as url:
        yield ServedOpenIdProvider(provider, url)


@pytest.fixture
def provider(running: ServedOpenIdProvider) -> OpenIdProvider:
    running.provider.__dict__.update(OpenIdProvider().__dict__)
    return running.provider


@pytest.fixture(scope="session")
def openid_environment(console_environment: dict[str, str], running: ServedOpenIdProvider) -> dict[str, str]:
    return {
        **console_environment,
        "OPS_OIDC_ISSUER": running.url,
        "OPS_OIDC_CLIENT_ID": CLIENT_ID,
        "OPS_OIDC_CLIENT_SECRET": CLIENT_SECRET,
        "OPS_OIDC_ROLES": ROLES,
    }


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing: it comes with the dev extra")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()
