"""An organization that is not known here is refused by every command, so that none reports an empty result for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from receiver.cli import main
from tests.support.log_lines import logging_as_it_was
from tests.support.pools import ACCESS
from tests.support.program import with_option

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Organizations

ARGUMENTS = {
    "files export": ["copies"],
    "webhooks test": ["card.transaction.cleared"],
    "replay": ["--reason", "none"],
    "deliveries resolve": ["--reason", "none"],
    "transactions show": ["transaction-1"],
}
"""What else a command needs."""
OTHERS = {
    "webhooks adopt": "names a new one",
    "db grant-reader": "may name one that is still to come: it prints a note",
    "bootstrap": "asks OpenCard which there are",
    "trigger": "asks the local OpenCard which there are",
    "sandbox": "names those of the local OpenCard",
}


@pytest.mark.parametrize("command", sorted(with_option("--organization").keys() - OTHERS.keys()))
def test_an_unknown_organization_is_refused(
    organizations: Organizations,
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    organizations.adopt("globex")
    monkeypatch.chdir(tmp_path)
    arguments = [*command.split(), *ARGUMENTS.get(command, []), "--organization", "glibex"]
    with logging_as_it_was():
        result = CliRunner(env={**environment, **ACCESS}).invoke(main, arguments)
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    assert result.stderr == "receiver: organization 'glibex' has no webhook; the nearest is globex\n"
    assert list(tmp_path.iterdir()) == []


def test_a_refused_export_leaves_no_file(
    organizations: Organizations, environment: dict[str, str], tmp_path: Path
) -> None:
    organizations.adopt("globex")
    arguments = ["export", "ledger", "--organization", "glibex", "--output", str(tmp_path / "ledger.csv")]
    assert CliRunner(env=environment).invoke(main, arguments).exit_code == 1
    assert list(tmp_path.iterdir()) == []
