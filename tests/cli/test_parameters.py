from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
import pytest
from click.testing import CliRunner

from receiver.cli.parameters import DURATION, ID, MOMENT


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
    assert "Invalid value for '--since': '24' is not a duration with its unit" in result.stderr


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-02-13", datetime(2026, 2, 13, tzinfo=UTC)),
        (" 2026-02-13T08:00:00Z ", datetime(2026, 2, 13, 8, tzinfo=UTC)),
        ("2026-02-13 08:00:00.5", datetime(2026, 2, 13, 8, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-02-13T08:00:00+01:00", datetime(2026, 2, 13, 7, tzinfo=UTC)),
    ],
)
def test_a_time_is_in_utc_unless_it_names_a_zone(text: str, moment: datetime) -> None:
    read = MOMENT.convert(text, None, None)
    assert (read, read.tzinfo) == (moment, UTC)


def test_a_length_of_time_means_so_long_ago() -> None:
    before = datetime.now(UTC)
    assert before - timedelta(hours=24) <= MOMENT.convert("24h", None, None) <= datetime.now(UTC) - timedelta(hours=24)
    assert MOMENT.convert("0", None, None) >= before


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "24", "0001-01-01T00:00:00+14:00", "9999999w"])
def test_invalid_time_is_reported_with_examples(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"invalid time '.*': give one such as 2026-02-13|is longer than"):
        MOMENT.convert(text, None, None)


@pytest.mark.parametrize("value", ["abc", "0", "-1", "1.0", "", "\N{SUPERSCRIPT TWO}", "9" * 19, "9" * 5000])
def test_invalid_id_is_refused_in_one_line(value: str) -> None:
    with pytest.raises(click.BadParameter, match="is not an id: give a whole number"):
        ID.convert(value, None, None)


def test_every_id_of_a_column_is_taken() -> None:
    assert [ID.convert(str(value), None, None) for value in (1, 2**63 - 1)] == [1, 2**63 - 1]
