"""What ``bench.everything`` found: each part compared with its limit."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from bench import console
from bench.report import BenchmarkReport, ReportTarget, Row, percentile
from receiver.sandbox.local import PROCESSES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.watching import Sample

SHARE: Final = 0.6
"""Of the most that is taken."""
KEPT_UP: Final = 0.9
"""A drain of more than this part of the intake kept up: the rest is under way."""
BACKLOG_SECONDS: Final = 2.0
SECOND_MS: Final = 1000.0

INTAKE_ALONE: Final = "intake, alone"
INTAKE: Final = "intake, everything running"
DRAIN: Final = "drain, everything running"
ANSWERED: Final = "POST to 200"
VISIBLE: Final = "POST to visible"
LAG: Final = "lag of the consumer"
PAGES: Final = "pages of the console"
CONFIRMED: Final = "POST to confirmed"
SLOW_ANSWERS: Final = (
    "On two cores an answer waits for its turn behind the worker, reconcile, PostgreSQL, the console's pages, the "
    "sender and the local OpenCard. Which of them costs most was not examined."
)
SLOW_MOMENT: Final = (
    "The largest backlog of a half is that of its slowest moment. Where both are far below 2 s of the load (above), "
    "this shows such a moment, not a backlog that grows."
)
SLOW_PAGES: Final = (
    "A page waits for its turn at the cores, as the answers do; the console benchmark has them to itself. Which page "
    "is the slowest was not examined."
)
GROWN: Final = "It was not examined what the memory is used for, nor whether it goes on growing in a longer run."
P50: Final = "p50, ms"
P99: Final = "p99, ms"


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured while everything ran."""

    most: dict[str, float]
    """A second: intake alone, and intake and drain while everything ran."""
    load: float
    """A second, as it was to be sent."""
    sent: float
    """A second, as it was."""
    times: dict[str, list[float]]
    """Milliseconds."""
    samples: list[Sample]
    kept: dict[str, float]
    """What there was at the end, in parts of what was answered with 200."""
    deleted: float
    """Part of the expired bodies."""


def report_of(figures: Figures, seconds: int, about: str, *, grace_ms: float) -> BenchmarkReport:
    """Return the report of a run of *seconds*; *grace_ms* is the limit of confirming."""
    bound = "drain" if figures.most[DRAIN] < KEPT_UP * figures.most[INTAKE] else "intake"
    limits = {"a second": SECOND_MS, "200 ms": console.LIMIT_MS, "RECONCILE_GRACE": grace_ms}
    limit_of = {PAGES: "200 ms", CONFIRMED: "RECONCILE_GRACE"}
    middle = figures.samples[0].at + seconds / 2
    halves = [
        max(sample.queued for sample in figures.samples if (sample.at >= middle) == late) for late in (False, True)
    ]
    quarters = {name: [_quarter(figures.samples, name, which) for which in (1, 3)] for name in PROCESSES}
    answered = figures.times[ANSWERED]
    rows = [
        *(
            Row(name, {"per second": [rate]}, compared_with=INTAKE_ALONE if place else "")
            for place, (name, rate) in enumerate(figures.most.items())
        ),
        Row("load", {"per second": [figures.load]}, compared_with=INTAKE_ALONE),
        *(Row(f"limit: {name}", {P50: [limit], P99: [limit]}) for name, limit in limits.items()),
        *(
            Row(
                name,
                {P50: [percentile(took, 50)], P99: [percentile(took, 99)]},
                compared_with=f"limit: {limit_of.get(name, 'a second')}",
            )
            for name, took in figures.times.items()
        ),
        Row("largest backlog, first half", {"deliveries": [float(halves[0])]}),
        Row(
            "largest backlog, second half",
            {"deliveries": [float(halves[1])]},
            compared_with="largest backlog, first half",
        ),
    ]
    for name, (second, last) in quarters.items():
        rows.append(Row(f"memory of {name}, second quarter", {"MiB": second}))
        rows.append(Row(f"memory of {name}, last quarter", {"MiB": last}, f"memory of {name}, second quarter"))
    at_most_one = {
        f"{VISIBLE}, p99 / a second": percentile(figures.times[VISIBLE], 99) / SECOND_MS,
        f"{LAG}, p99 / a second": percentile(figures.times[LAG], 99) / SECOND_MS,
        f"{PAGES}, p95 / 200 ms": percentile(figures.times[PAGES], 95) / console.LIMIT_MS,
        f"{CONFIRMED}, p99 / RECONCILE_GRACE": percentile(figures.times[CONFIRMED], 99) / grace_ms,
        f"largest backlog / {BACKLOG_SECONDS:.0f} s of the load": max(halves) / (BACKLOG_SECONDS * figures.load),
    }
    targets = [
        ReportTarget("sent / load", figures.sent / figures.load, at_least=0.99),
        ReportTarget(
            f"{ANSWERED}, p99 / p50",
            percentile(answered, 99) / percentile(answered, 50),
            at_most=3.0,
            if_missed=SLOW_ANSWERS,
        ),
        *(
            ReportTarget(name, value, at_most=1.0, if_missed=SLOW_PAGES if PAGES in name else "")
            for name, value in at_most_one.items()
        ),
        ReportTarget(
            "largest backlog, second half / first half",
            halves[1] / max(1, halves[0]),
            at_most=2.0,
            if_missed=SLOW_MOMENT,
        ),
        *(
            ReportTarget(
                f"memory of {name}, last / second quarter", median(last) / median(second), at_most=1.1, if_missed=GROWN
            )
            for name, (second, last) in quarters.items()
        ),
        *(
            ReportTarget(f"{name} / answered with 200", part, at_least=1.0, at_most=1.0)
            for name, part in figures.kept.items()
        ),
        ReportTarget("deleted by retention / expired", figures.deleted, at_least=0.99),
    ]
    return BenchmarkReport(
        f"Everything at once, for {seconds} seconds",
        rows,
        targets,
        settings=(
            f"{about} The load is {SHARE:.0%} of the most that {bound} takes while everything runs; the sender and the "
            "local OpenCard share the cores."
        ),
    )


def _quarter(samples: Sequence[Sample], name: str, which: int) -> list[float]:
    """Return the memory of a process in a quarter of the run: 0 is the first."""
    return [each.memory[name] for each in samples[which * len(samples) // 4 : (which + 1) * len(samples) // 4]]
