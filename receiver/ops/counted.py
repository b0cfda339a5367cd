"""What all processes have counted, and how ``/metrics`` shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from prometheus_client.metrics_core import Metric

from receiver.counters import families, samples

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from receiver.counters import Sample

COUNTED: Final = """
SELECT name, labels, sum(value) AS value FROM receiver.counters GROUP BY name, labels
"""
_PARTS: Final = ("_bucket", "_count", "_sum")
"""The numbers of a histogram, in the order in which they are shown."""


def counted(rows: Iterable[Mapping[str, Any]]) -> dict[Sample, float]:
    """Return the rows of ``COUNTED`` by number."""
    return {(row["name"], tuple(sorted(row["labels"].items()))): row["value"] for row in rows}


def counted_families(counts: Mapping[Sample, float]) -> Iterable[Metric]:
    """Return every family with the sums of all processes; 0 for counters that no process has used yet."""
    for known in families():
        here = samples(known)
        names = {name for name, _ in here} or {known.name + "_total"}
        keys = {*here, *(key for key in counts if key[0] in names)}
        family = Metric(known.name, known.documentation, known.type)
        for name, labels in sorted(keys, key=_place):
            family.add_sample(name, dict(labels), counts.get((name, labels), 0.0))
        yield family


def _place(key: Sample) -> tuple[Any, ...]:
    """Return the position of a number in its family: buckets by their bounds, before their count and sum."""
    name, labels = key
    bound = float(dict(labels).get("le", "inf"))
    part = next((place for place, end in enumerate(_PARTS) if name.endswith(end)), 0)
    return ([label for label in labels if label[0] != "le"], part, bound)
