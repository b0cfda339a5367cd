from __future__ import annotations

import pytest
from click.testing import CliRunner
from werkzeug.security import check_password_hash

from receiver.cli import main
from receiver.variables import ops_users


def hash_password(given: str, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["ops", "hash-password", *arguments], input=given)
    return result.exit_code, result.stdout


def test_only_the_password_hash_is_printed_for_the_variable() -> None:
    code, printed = hash_password("a long enough password\n", "-")
    assert code == 0
    (user,) = ops_users(f"olga:operator:{printed.strip()}")
    assert check_password_hash(user.password_hash, "a long enough password")


@pytest.mark.parametrize("given", ["", "short\n", "x" * 1025])
def test_a_password_that_is_too_short_or_too_long_is_refused(given: str) -> None:
    assert hash_password(given, "-") == (2, "")


def test_without_a_terminal_it_says_how_to_pass_the_password() -> None:
    result = CliRunner().invoke(main, ["ops", "hash-password"], input="a long enough password\n")
    assert result.exit_code == 2
    assert "give -" in result.stderr


def test_a_terminal_is_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receiver.cli.ops.at_terminal", lambda: True)
    code, printed = hash_password("a long enough password\na long enough password\n")
    assert code == 0
    assert check_password_hash(printed.strip(), "a long enough password")
    code, printed = hash_password("a long enough password\nanother long password\n")
    assert (code, printed) == (1, "")
