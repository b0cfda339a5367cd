from __future__ import annotations

from datetime import timedelta

import click
import pytest
from click.testing import CliRunner

from receiver.cli.parameters import DURATION


@pytest.mark.parametrize(
    ("given", "length"),
    [
        ("0", timedelta()),
        ("0h", timedelta()),
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        ("24h", timedelta(days=1)),
        ("7d", timedelta(days=7)),
        ("2w", timedelta(days=14)),
        ("1h30m", timedelta(minutes=90)),
        (" 24H ", timedelta(days=1)),
        (timedelta(hours=3), timedelta(hours=3)),
    ],
)
def test_a_length_of_time_is_a_number_with_its_unit(given: object, length: timedelta) -> None:
    assert DURATION.convert(given, None, None) == length


@pytest.mark.parametrize("given", ["", "24", "h", "-1h", "1.5h", "24 h", "1y", "24h!", "٣h", "1000000000s", "99999d"])
def test_anything_else_is_refused_with_what_to_give(given: str) -> None:
    with pytest.raises(click.BadParameter) as refused:
        DURATION.convert(given, None, None)
    assert ("such as 90s, 30m, 24h or 7d" in str(refused.value)) != ("longer than 3650 days" in str(refused.value))


def test_a_command_says_which_option_is_wrong() -> None:
    @click.command()
    @click.option("--since", type=DURATION)
    def command(since: timedelta) -> None:
        click.echo(since)

    result = CliRunner().invoke(command, ["--since", "24"])
    assert result.exit_code == 2
    assert "Invalid value for '--since': '24' is no length of time with its unit" in result.stderr
