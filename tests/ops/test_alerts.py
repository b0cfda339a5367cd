"""The alert rules are valid, say what they should, speak of metrics that exist, and are explained to operators."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.service_states import add_run

if TYPE_CHECKING:
    from tests.conftest import Acme

ROOT = Path(__file__).parents[2]
RULES = ROOT / "docs" / "alerts.yml"
OPERATE = ROOT / "docs" / "operate"
PROMTOOL = shutil.which("promtool")
with_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is missing: apt-get install prometheus")


def promtool(*arguments: str, given: str = "") -> str:
    """Run promtool and return what it says; fails when it is not content."""
    assert PROMTOOL is not None
    ran = subprocess.run(
        [PROMTOOL, *arguments], input=given, capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def names() -> list[str]:
    return re.findall(r"^ *- alert: (\w+)$", RULES.read_text(), flags=re.MULTILINE)


@with_promtool
def test_the_rules_are_valid() -> None:
    assert f"{len(names())} rules found" in promtool("check", "rules", str(RULES))


@with_promtool
def test_each_rule_fires_when_it_should_and_not_otherwise() -> None:
    promtool("test", "rules", "alerts.yml")
    tested = (Path(__file__).parent / "alerts.yml").read_text()
    assert [name for name in names() if name not in tested] == []


@with_promtool
def test_prometheus_finds_nothing_to_say_against_the_metrics(acme: Acme) -> None:
    add_run(acme.engine, "acme", minutes_ago=1)
    assert promtool("check", "metrics", given=acme.client.get("/metrics").text) == ""


def test_the_rules_speak_of_metrics_that_exist(acme: Acme) -> None:
    add_run(acme.engine, "acme", minutes_ago=1)
    shown = acme.client.get("/metrics").text
    defined = set(re.findall(r"^# TYPE (\w+) ", shown, flags=re.MULTILINE))
    for name in set(re.findall(r"\breceiver_\w+", RULES.read_text())):
        assert re.sub(r"(?<=_seconds)_(count|sum|bucket)$", "", name) in defined, name


def test_every_alarm_is_explained_to_operators_and_no_other() -> None:
    explained = re.findall(r"^\| `(Receiver\w+)` \| (\w+) \|", (OPERATE / "alerts.md").read_text(), flags=re.MULTILINE)
    severities = re.findall(r"severity: (\w+)}", RULES.read_text())
    assert explained == list(zip(names(), severities, strict=True))


def test_every_metric_is_documented(acme: Acme) -> None:
    documented = (OPERATE / "monitor.md").read_text()
    for name in re.findall(r"^# TYPE (\w+) ", acme.client.get("/metrics").text, flags=re.MULTILINE):
        assert f"`{name}" in documented, name
