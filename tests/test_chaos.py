"""A short run of what ``make chaos`` does for long, and that its seed decides it."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest
import stamina
from hypothesis import given
from hypothesis import strategies as st

from bench.chaos.plan import MAX_WRONG, plan
from bench.chaos.resources import ProcessUse, ResourceUse, grown
from bench.chaos.run import run_chaos
from receiver.progress import Progress
from receiver.sandbox import local
from receiver.sandbox.killable import KILLABLE
from tests.conftest import DATA_FOLDER

if TYPE_CHECKING:
    from pathlib import Path

KILLS = 2 * len(KILLABLE)


@pytest.fixture
def _data_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below .data: pytest closes its own folders to the user that PostgreSQL runs as."""
    monkeypatch.setattr(local, "DATA", DATA_FOLDER / tmp_path.name)
    stamina.instrumentation.set_on_retry_hooks(())


@pytest.mark.long
@pytest.mark.usefixtures("_data_of_its_own")
def test_random_kills_under_all_faults_lose_nothing() -> None:
    result = run_chaos(seed=31, purchases=200, kills=KILLS, progress=Progress())
    assert not result.wrong, "\n".join(result.wrong)
    assert sum(result.kills.values()) == KILLS
    assert result.recovered
    assert result.replayed


@given(seed=st.integers(), kills=st.integers(0, 300))
def test_seed_decides_the_kills_evenly(seed: int, kills: int) -> None:
    planned = plan(seed, kills=kills)
    assert planned == plan(seed, kills=kills)
    moments = [kill.at for kill in planned.kills]
    assert moments == sorted(moments)
    assert all(0 < moment < 1 for moment in moments)
    times = Counter(kill.part for kill in planned.kills)
    assert max(times.values(), default=0) - min((times[part] for part in KILLABLE), default=0) <= 1
    assert abs(planned.clock_ahead) <= MAX_WRONG


def test_job_processes_that_end_are_not_left() -> None:
    before, after = (
        ResourceUse({"worker": ProcessUse(number, 1, 1)}, postgres_connections=1, valkey_connections=1)
        for number in (7, 10)
    )
    looks = iter([after, after, before])
    assert grown(before, lambda: next(looks), within=60) == []
    assert grown(before, lambda: after, within=0) == ["worker had 7 processes and has 10"]


def test_grown_resources_are_named() -> None:
    mebibyte = 1024 * 1024
    before = ResourceUse({"web": ProcessUse(3, 80 * mebibyte, 20)}, postgres_connections=4, valkey_connections=3)
    assert grown(before, lambda: before) == []
    after = ResourceUse({"web": ProcessUse(9, 800 * mebibyte, 200)}, postgres_connections=90, valkey_connections=90)
    assert [re.sub(r"\d+", "N", line) for line in grown(before, lambda: after, within=0)] == [
        "web grew from N to N MiB",
        "web had N files open and has N",
        "N connections to PostgreSQL became N",
        "N connections to Valkey became N",
        "web had N processes and has N",
    ]
