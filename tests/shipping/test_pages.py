"""The pages about installing: the files, settings, units and commands that they name exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from receiver.cli import main
from receiver.settings import REQUIRED, read_settings
from tests.support.locks import ROOT, project
from tests.support.pages import shell_lines

if TYPE_CHECKING:
    from pathlib import Path

PAGES = sorted((ROOT / "docs" / "operate").glob("*.md"))
INSTALL = ROOT / "docs" / "operate" / "install.md"
BACKUPS = ROOT / "docs" / "operate" / "backup-and-restore.md"
SHARE = "/opt/receiver/share/opencard-receiver/"
PYTHON = "/opt/receiver/bin/python"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_the_receiver_exists(page: Path) -> None:
    found = [match.split() for line in shell_lines(page) for match in re.findall(r"(?:^| )receiver ([a-z -]+)$", line)]
    for arguments in found:
        names = [each for each in arguments if not each.startswith("-")]
        result = CliRunner().invoke(main, [*names, "--help"])
        assert result.exit_code == 0, arguments
        assert all(option in result.output for option in arguments if option.startswith("--")), arguments


def test_the_monthly_drill_is_a_line_that_cron_runs() -> None:
    """And its command is the program that the page about installing installs."""
    (line,) = [line for line in shell_lines(BACKUPS) if "/etc/cron.d/" in line]
    entry, target = re.fullmatch(r"echo '(.*)' >(\S+)", line).groups()  # type: ignore[union-attr]
    minute, hour, day, month, weekday, user, program, *arguments = entry.split()
    assert (month, weekday, user) == ("*", "*", "root")
    assert [int(minute) < 60, int(hour) < 24, int(day) <= 28] == [True] * 3
    assert re.fullmatch(r"/etc/cron\.d/[a-z-]+", target), "cron reads no file with a dot in its name"
    assert f" {program}" in "".join(shell_lines(INSTALL))
    assert CliRunner().invoke(main, [*arguments, "--help"]).exit_code == 0


def test_every_file_of_the_release_that_the_page_copies_exists() -> None:
    copied = set(re.findall(rf"{SHARE}(\S+)", INSTALL.read_text()))
    assert len(copied) >= 4
    for path in copied:
        assert (ROOT / path).exists(), path


def test_every_unit_that_the_page_names_exists() -> None:
    (line,) = [line for line in shell_lines(INSTALL) if line.startswith("systemctl enable")]
    units = {name if "." in name else f"{name}.service" for name in shlex.split(line)[3:]}
    files = {path.name for path in (ROOT / "deploy" / "systemd").iterdir() if path.is_file()}
    assert units == files


def test_the_settings_of_the_page_are_right(tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    environment.write_text((ROOT / ".env.example").read_text())
    lines = [line for line in shell_lines(INSTALL) if line.startswith("sed ")]
    assert len(lines) == 3
    for line in lines:
        (name,) = re.findall(r"\|\^([A-Z_]+=)", line)
        assert re.search(f"^{name}", environment.read_text(), re.MULTILINE), line
        here = line.replace("/etc/receiver/environment", str(environment)).replace(PYTHON, sys.executable)
        subprocess.run(["/bin/sh", "-c", here], check=True)
    values = dict(line.split("=", 1) for line in environment.read_text().splitlines() if re.match("[A-Z]", line))
    assert read_settings(values, required=REQUIRED)[1] == {}


def test_the_page_installs_the_version_of_the_project() -> None:
    assert f"opencard_receiver-{project()['project']['version']}-py3-none-any.whl" in INSTALL.read_text()
