from __future__ import annotations

import json
from typing import TYPE_CHECKING

from click.testing import CliRunner, Result
from cryptography.fernet import Fernet

from receiver.cli import main
from receiver.encryption import Encryption
from tests.support.keys import add_webhook, stored

if TYPE_CHECKING:
    from sqlalchemy import Engine

NEW = Fernet.generate_key().decode()
FOREIGN = Fernet.generate_key().decode()


def rotate(environment: dict[str, str], *arguments: str) -> Result:
    """Run the command with a new key in front."""
    keys = f"{NEW},{environment['ENCRYPTION_KEYS']}"
    needed = {"DATABASE_URL": environment["DATABASE_URL"], "ENCRYPTION_KEYS": keys}
    return CliRunner(env=needed).invoke(main, ["keys", "rotate", *arguments])


def current(environment: dict[str, str]) -> Encryption:
    return Encryption([environment["ENCRYPTION_KEYS"]])


def test_rotation_reports_renewed_values_of_each_column(environment: dict[str, str], engine: Engine) -> None:
    add_webhook(engine, 1, current(environment))
    add_webhook(engine, 2, current(environment))
    first = rotate(environment)
    assert (first.exit_code, first.stderr) == (0, "")
    lines = [line.split() for line in first.stdout.splitlines()]
    assert ["receiver.webhooks", "secret", "2", "0", "0"] in lines
    again = rotate(environment, "--json")
    assert again.exit_code == 0
    secret = {"table": "receiver.webhooks", "column": "secret", "renewed": 0, "newest": 2, "unreadable": 0}
    assert secret in json.loads(again.stdout)
    assert all(Encryption([NEW]).is_newest(value) for values in stored(engine).values() for value in values)


def test_undecryptable_values_are_named_and_exit_with_1(environment: dict[str, str], engine: Engine) -> None:
    add_webhook(engine, 1, current(environment), credentials=Encryption([FOREIGN]).encrypt("lost"))
    result = rotate(environment, "--json")
    assert result.exit_code == 1
    assert {"table": "receiver.webhooks", "column": "credentials", "renewed": 0, "newest": 0, "unreadable": 1} in (
        json.loads(result.stdout)
    )
    (line,) = result.stderr.splitlines()
    assert line.startswith(
        "receiver: receiver.webhooks.credentials: no key in ENCRYPTION_KEYS decrypts 1 of its values"
    )
    assert "append the key that was in use before" in line
    assert NEW not in result.output


def test_the_keys_and_the_database_are_all_that_is_needed() -> None:
    result = CliRunner(env={}).invoke(main, ["keys", "rotate"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert [line.split(" is ")[0] for line in result.stderr.splitlines()] == ["DATABASE_URL", "ENCRYPTION_KEYS"]
