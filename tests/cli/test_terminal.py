"""What commands print on a terminal: tables that fit, colours, and log lines for people."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from receiver.cli import COMMANDS, main
from receiver.cli.output import print_rows
from tests.support.applications import unreachable_redis
from tests.support.factories import snapshot
from tests.support.program import commands
from tests.support.terminal import on_terminal

if TYPE_CHECKING:
    from tests.conftest import Acme

RECEIVER = Path(sys.executable).with_name("receiver")
RED = "\x1b[31m"
COLOURS = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
TRANSACTION = "7c1e5d0e-5b1f-4e0a-9d8e-3a9f6a1b2c3d"


@pytest.fixture
def some(acme: Acme) -> Acme:
    """A processed delivery, and a dead one."""
    acme.apply("card.transaction.cleared", snapshot("cleared", transaction=TRANSACTION))
    acme.apply("card_holder.created", b"{}")
    return acme


@pytest.mark.parametrize("columns", [80, 100, 250])
def test_each_delivery_is_one_line_whatever_the_width(some: Acme, environment: dict[str, str], columns: int) -> None:
    command = [RECEIVER, "deliveries", "list", "--status", "processed"]
    code, printed = on_terminal(command, columns=columns, environment=environment)
    lines = COLOURS.sub("", printed).splitlines()
    assert (code, max(map(len, lines)) <= columns) == (0, True)
    (line,) = [line for line in lines if "card.transaction.cleared" in line]
    assert " processed " in line
    assert (TRANSACTION in line) == (columns == 250)
    assert ("not shown for lack of width: attempts" in printed) == (columns < 250)
    del some


def test_a_narrow_status_keeps_what_failed(some: Acme, environment: dict[str, str]) -> None:
    some.execute("UPDATE ems.organizations SET organization_reference_id = :long", long="a-long-name-" * 3)
    some.execute("UPDATE receiver.webhooks SET organization_reference_id = :long", long="a-long-name-" * 3)
    _, printed = on_terminal([RECEIVER, "status"], columns=100, environment=environment)
    assert "last run failed" in printed
    assert "not shown for lack of width: recovered" in printed


def test_dead_deliveries_are_red_on_a_terminal(some: Acme, environment: dict[str, str]) -> None:
    code, printed = on_terminal([RECEIVER, "deliveries", "list"], columns=100, environment=environment)
    assert (code, f"{RED}dead" in printed, f"{RED}processed" in printed) == (0, True, False)
    del some


def test_a_terminal_shows_no_json_log_lines(some: Acme, environment: dict[str, str]) -> None:
    variables = {**environment, "LOG_FORMAT": "json", "LOG_LEVEL": "INFO", "REDIS_URL": unreachable_redis()}
    command = [RECEIVER, "replay", "--status", "dead", "--reason", "the cause is fixed", "--no-wait"]
    code, printed = on_terminal(command, columns=100, environment=variables)
    assert code == 0
    assert "Redis cannot be reached" in printed
    assert not [line for line in printed.splitlines() if line.lstrip().startswith("{")]
    del some


def test_a_row_that_fits_no_terminal_is_a_block_of_lines(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([{"a": "x" * 9_990, "b": "y" * 9_990}], {"a": "first", "b": "second"}, empty="")
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["first", "second"]


def test_the_help_of_each_group_has_whole_sentences() -> None:
    groups = [main, *(each for name in COMMANDS if isinstance(each := command_of(name), click.Group))]
    for group in groups:
        with click.Context(group, terminal_width=80) as context:
            assert "..." not in group.get_help(context).partition("Commands:")[2]


def command_of(name: str) -> click.Command | None:
    return main.get_command(click.Context(main), name)


def test_no_help_describes_a_range_in_symbols() -> None:
    for words, command in commands():
        with click.Context(command) as context:
            assert "<=x" not in command.get_help(context), words
            assert "x>=" not in command.get_help(context), words


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_script_of_a_shell(shell: str, environment: dict[str, str]) -> None:
    code, printed = on_terminal([RECEIVER, "completion", shell], columns=80, environment=environment)
    assert (code, "_RECEIVER_COMPLETE" in printed) == (0, True)


def test_completion_in_bash_offers_commands(environment: dict[str, str]) -> None:
    script = f"""
        PATH="{RECEIVER.parent}:$PATH"; source <(receiver completion bash)
        COMP_WORDS=(receiver del); COMP_CWORD=1; _receiver_completion receiver; echo "${{COMPREPLY[@]}}"
    """
    code, printed = on_terminal(["bash", "-c", script], columns=80, environment=environment)
    assert (code, printed.split()) == (0, ["deliveries"])
