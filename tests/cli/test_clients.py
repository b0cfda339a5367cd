"""``receiver clients`` against a local OpenCard: least privilege, and a secret that goes to one place only."""

from __future__ import annotations

import json
import os
import pty
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import stamina
from click.testing import CliRunner, Result

from receiver.cli import main
from receiver.opencard.scopes import FIRST_RUN, scopes_for
from receiver.sandbox.provider import ApiFault, Client, Provider, serving
from receiver.sandbox.provider import environment as environment_of
from tests.support.log_lines import logging_as_it_was

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine


@dataclass
class ServedAccount:
    """An account at OpenCard, and the environment of a receiver that is one of its clients."""

    provider: Provider
    client: Client
    environment: dict[str, str]

    def run(self, *arguments: str) -> Result:
        return CliRunner(env=self.environment).invoke(main, ["clients", *arguments])

    def clients(self) -> dict[str, Client]:
        """Return the clients by name."""
        return {client.name: client for client in self.provider.clients.of_account(1)}

    def asked(self) -> int:
        return len(self.provider.requests.all())


@pytest.fixture
def account(engine: Engine, environment: dict[str, str]) -> Iterator[ServedAccount]:
    del engine  # asked for so that the table of tokens is there, and empty afterwards
    provider = Provider()
    client = provider.clients.add("ems", name="EMS")
    with serving(provider) as url, logging_as_it_was():
        yield ServedAccount(provider, client, {**environment, **environment_of(url, client), "LOG_LEVEL": "DEBUG"})


def document(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_clients_are_listed_without_their_secrets(account: ServedAccount) -> None:
    other = account.provider.clients.add(name="reader", scopes=["webhooks-read", "organizations-read"])
    found = document(account.run("list", "--json"))
    assert {
        "id": other.id,
        "client_id": other.id,
        "name": "reader",
        "scopes": ["organizations-read", "webhooks-read"],
    } in found
    people = account.run("list")
    assert people.exit_code == 0
    (shown,) = (line.split() for line in people.stdout.splitlines() if line.startswith(other.id))
    assert (shown[2], shown[-1]) == ("reader", "webhooks-read")
    for secret in (other.secret, account.client.secret):
        assert secret not in people.output
    assert account.provider.requests.scopes_asked() == {"oauth-clients-read"}


def test_new_client_has_its_scopes_and_a_private_secret_file(account: ServedAccount, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    made = document(
        account.run(
            "create",
            "--name",
            "new",
            "--scope",
            "files-read",
            "--for",
            "reconcile",
            "--secret-file",
            str(file),
            "--json",
        )
    )
    client = account.clients()["new"]
    assert made == {
        "id": client.id,
        "client_id": client.id,
        "name": "new",
        "scopes": ["files-read", "webhook-events-read"],
        "secret_file": str(file),
    }
    assert set(client.scopes) == {"files-read", "webhook-events-read"}
    assert file.read_text() == f"{client.secret}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert account.provider.requests.scopes_asked() == {"oauth-clients-write"}


def test_scope_sets_can_be_requested_by_name(account: ServedAccount, tmp_path: Path) -> None:
    result = account.run(
        "create", "--name", "new", "--recommended", "--for", "bootstrap", "--secret-file", str(tmp_path / "secret")
    )
    client = account.clients()["new"]
    assert set(client.scopes) == FIRST_RUN | scopes_for("bootstrap")
    assert result.exit_code == 0
    assert client.secret not in result.output
    assert str(tmp_path / "secret") in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "--name", "new", "--for", "bootstrp", "--secret-file", "f"], "bootstrap"),
        (["create", "--name", "new", "--secret-file", "f"], "--recommended"),
        (["create", "--scope", "webhooks-read", "--secret-file", "f"], "--name"),
        (["create", "--name", "new", "--scope", "webhooks-read"], "--secret-file is missing"),
        (["create", "--name", "new", "--scope", "webhooks-read", "--json"], "--secret-file is missing"),
        (
            ["create", "--name", "new", "--recommended", "--secret-file", "/no/folder/f"],
            "cannot create /no/folder/f: No such file",
        ),
        (["set-scopes", "ems"], "SCOPE"),
    ],
)
def test_unworkable_options_exit_with_2_before_any_request(
    account: ServedAccount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = account.run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert account.asked() == 0
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_never_overwritten(account: ServedAccount, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("of another client")
    result = account.run("create", "--name", "new", "--recommended", "--secret-file", str(file))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "File exists" in result.stderr
    assert file.read_text() == "of another client"
    assert account.asked() == 0


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (ApiFault.answers(403, path="/oauthclients$"), "scope oauth-clients-write"),
        (ApiFault("hang-up-after", "/oauthclients$"), "its secret is lost"),
        (ApiFault.answers(401, path="/oauth/token"), "OPENCARD_CLIENT_SECRET"),
    ],
    ids=["refused", "no answer", "no token"],
)
def test_when_the_request_fails_the_file_is_removed_again(
    account: ServedAccount, tmp_path: Path, fault: ApiFault, said: str
) -> None:
    account.provider.faults.add(fault)
    file = tmp_path / "secret"
    result = account.run("create", "--name", "new", "--scope", "webhooks-read", "--secret-file", str(file))
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr.splitlines()[-1]
    assert account.client.secret not in result.stderr
    assert not file.exists()


def test_a_terminal_shows_the_secret_once(account: ServedAccount) -> None:
    main_end, terminal = pty.openpty()
    process = subprocess.Popen(
        [Path(sys.executable).parent / "receiver", "clients", "create", "--name", "new", "--scope", "webhooks-read"],
        env={**os.environ, **account.environment, "LOG_LEVEL": "INFO", "COLUMNS": "200"},
        stdout=terminal,
        stderr=subprocess.PIPE,
    )
    _, errors = process.communicate(timeout=60)
    os.close(terminal)
    shown = os.read(main_end, 10_000).decode()
    os.close(main_end)
    assert (process.returncode, errors) == (0, b"")
    assert shown.count(account.clients()["new"].secret) == 1


def test_json_on_a_terminal_needs_a_file_too(account: ServedAccount) -> None:
    main_end, terminal = pty.openpty()
    ended = subprocess.run(
        [Path(sys.executable).parent / "receiver", "clients", "create", "--name", "new", "--recommended", "--json"],
        env={**os.environ, **account.environment},
        stdout=terminal,
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
    )
    os.close(terminal)
    os.close(main_end)
    assert ended.returncode == 2
    assert b"--secret-file is missing" in ended.stderr
    assert account.asked() == 0


def test_setting_scopes_replaces_them_and_reports_changes(account: ServedAccount) -> None:
    client = account.provider.clients.add("reader", name="reader", scopes=["webhooks-read", "organizations-read"])
    changed = document(account.run("set-scopes", client.id, "webhooks-read", "webhook-events-read", "--json"))
    assert changed == {
        "id": "reader",
        "scopes": ["webhook-events-read", "webhooks-read"],
        "added": ["webhook-events-read"],
        "removed": ["organizations-read"],
        "kept": [],
    }
    assert set(account.clients()["reader"].scopes) == {"webhooks-read", "webhook-events-read"}
    assert account.provider.requests.scopes_asked() == {"oauth-clients-read", "oauth-clients-write"}
    people = account.run("set-scopes", client.id, "webhooks-read")
    assert [line.split() for line in people.stdout.splitlines()] == [
        ["added", "none"],
        ["removed", "webhook-events-read"],
    ]


def test_an_unknown_client_is_an_error(account: ServedAccount) -> None:
    result = account.run("set-scopes", "nobody", "webhooks-read")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "GET /api/v1/application/accounts/1/oauthclients/nobody" in result.stderr


def test_missing_variables_are_named_each_in_a_line() -> None:
    result = CliRunner(env={}).invoke(main, ["clients", "list"])
    assert (result.exit_code, result.stdout) == (2, "")
    named = {line.split(" is ")[0] for line in result.stderr.splitlines()}
    assert named >= {"OPENCARD_ACCOUNT_ID", "OPENCARD_CLIENT_ID", "OPENCARD_CLIENT_SECRET"}


def test_retries_are_logged_on_standard_error_only(account: ServedAccount) -> None:
    stamina.instrumentation.set_on_retry_hooks(None)  # those that a new process has
    account.provider.faults.add(ApiFault.answers(503, path="/oauthclients", retry_after="0"))
    result = account.run("list", "--json")
    assert json.loads(result.stdout)[0]["id"] == "ems"
    assert "retry_scheduled" in result.stderr
    assert account.client.secret not in result.stderr


def test_a_scope_unknown_here_is_passed_on_with_a_warning(account: ServedAccount, tmp_path: Path) -> None:
    account.provider.behaviour.accepts_unknown_scopes = True
    made = account.run("create", "--name", "new", "--scope", "webhook-reeds", "--secret-file", str(tmp_path / "s"))
    assert made.exit_code == 0
    assert "warning: there is no scope 'webhook-reeds': the nearest are webhooks-read" in made.stderr
    assert account.clients()["new"].scopes == ("webhook-reeds",)


def test_scope_unknown_everywhere_is_opencards_error(account: ServedAccount, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    result = account.run("create", "--name", "new", "--scope", "webhook-reeds", "--secret-file", str(file))
    assert (result.exit_code, file.exists()) == (1, False)
    assert "Unknown scopes: webhook-reeds" in result.stderr


def test_set_scopes_keeps_what_the_catalogue_lacks(account: ServedAccount) -> None:
    account.provider.clients.add("reader", name="reader", scopes=["webhooks-read", "tomorrows-read"])
    changed = document(account.run("set-scopes", "reader", "files-read", "--json"))
    assert changed == {
        "id": "reader",
        "scopes": ["files-read", "tomorrows-read"],
        "added": ["files-read"],
        "removed": ["webhooks-read"],
        "kept": ["tomorrows-read"],
    }
    assert set(account.clients()["reader"].scopes) == {"files-read", "tomorrows-read"}
    shown = account.run("set-scopes", "reader", "webhooks-read").stdout
    assert "kept     tomorrows-read" in shown


def test_scopes_that_are_not_reported_are_not_none(account: ServedAccount) -> None:
    account.provider.clients.add("reader", name="reader", scopes=["webhooks-read"])
    account.provider.behaviour.reports_client_scopes = False
    assert {client["scopes"] for client in document(account.run("list", "--json"))} == {None}
    assert "not reported" in account.run("list").stdout
    changed = account.run("set-scopes", "reader", "files-read")
    assert changed.exit_code == 0
    assert "OpenCard does not report which scopes the client has" in changed.stderr
    assert [line.split(maxsplit=1)[1] for line in changed.stdout.splitlines()] == ["not reported", "not reported"]
    assert account.clients()["reader"].scopes == ("files-read",)
