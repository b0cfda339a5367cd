"""``python -m bench.chaos``: run it, and report what was wrong."""

from __future__ import annotations

import signal
import sys
from typing import Final

import click
import stamina

from bench.chaos.run import Result, run_chaos
from receiver.cli.output import counted, print_rows, progress_bar
from receiver.logs import configure_logs
from receiver.settings import LogFormat

SHORT: Final = (5_000, 30)
LONG: Final = (40_000, 200)
"""Purchases and kills; each purchase is some five deliveries."""


@click.command()
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed repeats the run.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="How many seeds, in a row.")
@click.option("--purchases", type=click.IntRange(min=10), help="How many are sent.  [default: as --long says]")
@click.option("--kills", type=click.IntRange(min=0), help="How often something is killed.  [default: as --long says]")
@click.option("--long", "is_long", is_flag=True, help="Over 200,000 deliveries and 200 kills, not some minutes.")
def main(seed: int, seeds: int, purchases: int | None, kills: int | None, is_long: bool) -> None:  # noqa: FBT001
    """Kill everything, again and again, in the middle of a stream with all faults on; exit 0 if that did no harm."""
    signal.signal(signal.SIGTERM, lambda _signal, _frame: sys.exit(143))  # so that all that was started is ended
    configure_logs(level="ERROR", log_format=LogFormat.CONSOLE)
    stamina.instrumentation.set_on_retry_hooks(())
    usual = LONG if is_long else SHORT
    failed = 0
    for each in range(seed, seed + seeds):
        with progress_bar() as progress:
            result = run_chaos(seed=each, purchases=purchases or usual[0], kills=kills or usual[1], progress=progress)
        _print(result)
        failed += bool(result.wrong)
    sys.exit(1 if failed else 0)


def _print(result: Result) -> None:
    print_rows(
        [{"killed": part, "times": times} for part, times in sorted(result.kills.items())],
        {"killed": "killed", "times": "times"},
        empty="nothing was killed",
    )
    for line in result.wrong:
        click.echo(f"wrong: {line}")
    statuses = ", ".join(f"{number} {status}" for status, number in result.statuses.items())
    click.echo(
        f"{counted(result.sent, 'event')} sent in {counted(result.attempts, 'attempt')}, "
        f"OpenCard's clock {result.clock_ahead.total_seconds():+.0f} s; {statuses}; {result.recovered} recovered, "
        f"{result.replayed} replayed:"
    )
    verdict = (
        "nothing is missing, nothing is doubled, nothing is left over" if not result.wrong else "NOT as it should be"
    )
    click.echo(f"{verdict}  (seed {result.seed})\n")


if __name__ == "__main__":
    main()
