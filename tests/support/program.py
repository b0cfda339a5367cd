"""The program's commands, found by the program itself, so that a command that is added later is not left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.testing import CliRunner, Result

from receiver.cli import main
from receiver.settings import variable_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest
    from sqlalchemy import URL


def commands(group: click.Group = main, *path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield every command with its words, such as ``webhooks list``."""
    with click.Context(group) as context:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None, name
            if isinstance(command, click.Group):
                yield from commands(command, *path, name)
            else:
                yield " ".join((*path, name)), command


def with_option(option: str) -> dict[str, click.Command]:
    """Return the commands that take an option, by their words."""
    return {words: command for words, command in commands() if any(option in each.opts for each in command.params)}


def db(url: URL, *arguments: str) -> Result:
    """Run ``receiver db`` with nothing but the database in the environment."""
    environment = {"DATABASE_URL": url.render_as_string(hide_password=False), "REDIS_URL": None}
    return CliRunner(env=environment).invoke(main, ["db", *arguments])


def set_environment(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name in variable_names():
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
