"""The documentation is true: its commands run, its links lead somewhere, its tables are those of the database."""

from __future__ import annotations

import re
import runpy
import shlex
import threading
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner
from sqlalchemy import text

from receiver.cli import COMMANDS, main
from receiver.processing.drain import drain
from receiver.processing.retry_schedule import PAUSES
from receiver.readers.dictionary import dictionary
from receiver.settings import variable_names
from tests.support.factories import body, card_holder
from tests.support.stored import store
from tests.support.world import world_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis
    from sqlalchemy import Engine

    from receiver.settings import Settings

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
FIRST_LOOK = "receiver deliveries list --status dead"
"""From here on the README has a delivery that failed."""
RUN_ELSEWHERE = {"make run": "tests/test_package.py"}


def shell_lines(page: Path) -> list[str]:
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [line.strip() for block in blocks for line in block.splitlines() if line.strip()]


def test_the_dictionary_of_the_tables_is_that_of_the_database(engine: Engine) -> None:
    with engine.connect() as connection:
        assert (ROOT / "docs" / "schema.md").read_text() == dictionary(connection), "run make docs"


def test_the_command_reference_is_that_of_the_commands() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "write_cli.py"))
    assert (ROOT / "docs" / "cli.md").read_text() == script["reference"](), "run make docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_the_make_targets_of_the_readme_run_in_ci() -> None:
    ci = (ROOT / ".ci" / "run").read_text()
    targets = [line for line in shell_lines(ROOT / "README.md") if line.startswith("make ")]
    assert targets
    for line in targets:
        assert line in ci or line in RUN_ELSEWHERE
        assert re.search(rf"^{line.removeprefix('make ')}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


def test_the_receiver_commands_of_the_readme_run(
    environment: dict[str, str],
    engine: Engine,
    redis: Redis,
    settings: Settings,
    public_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    del redis  # asked for so that it runs
    caplog.set_level("WARNING", logger="receiver")  # the worker of this test shares standard error with the commands
    monkeypatch.chdir(tmp_path)
    lines = [line for line in shell_lines(ROOT / "README.md") if line.startswith("receiver ")]
    assert lines
    with world_of(engine, settings, public_url) as world:
        world.add_organizations("acme", "globex")
        for line in lines:
            if line == FIRST_LOOK:
                fail(engine, 4711)
            with processing(engine) if " replay " in line else nullcontext():
                result = CliRunner(env=world.environment(environment)).invoke(main, shlex.split(line)[1:])
            assert (result.exit_code, result.stderr) == (0, ""), (line, result.output)


def fail(engine: Engine, delivery_id: int) -> None:
    """Have a delivery be dead for a cause that is mended by now."""
    with engine.begin() as connection:
        connection.execute(text("SELECT setval('receiver.stored_deliveries_id_seq', :id, false)"), {"id": delivery_id})
    store(engine, status="dead", error="no account", body=body(card_holder()))


@contextmanager
def processing(engine: Engine) -> Iterator[None]:
    """Work as a worker does, beside what runs in this block."""
    done = threading.Event()

    def work() -> None:
        while not done.wait(0.05):
            drain(engine)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        done.set()
        worker.join()


def test_every_shell_line_of_the_readme_is_run_somewhere() -> None:
    for line in shell_lines(ROOT / "README.md"):
        assert line.startswith(("make ", "receiver ")) or line in RUN_ELSEWHERE, line
    for test in RUN_ELSEWHERE.values():
        assert (ROOT / test).exists()


def commands(group: click.Command, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(group, click.Group):
        return [(path, group)]
    context = click.Context(group)
    found = [(name, group.get_command(context, name)) for name in group.list_commands(context)]
    return [each for name, command in found if command for each in commands(command, (*path, name))]


@pytest.mark.parametrize("name", [" ".join(path) for path, _ in commands(main)])
def test_every_command_is_explained_with_an_example(name: str) -> None:
    command = {" ".join(path): command for path, command in commands(main)}[name]
    assert command.help
    assert f"Example: receiver {name}" in command.help


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_documented(name: str) -> None:
    text = "".join(page.read_text() for page in PAGES)
    assert re.search(rf"receiver {name}\b", text), f"receiver {name} stands in no page"


@pytest.mark.parametrize("name", variable_names())
def test_every_variable_is_documented(name: str) -> None:
    assert re.search(rf"^# .*\n(#.*\n)*([A-Z_]+=.*\n)*{name}=", (ROOT / ".env.example").read_text(), flags=re.MULTILINE)


def test_the_pauses_of_the_readme_are_those_of_the_code() -> None:
    words = " ".join((ROOT / "README.md").read_text().split())
    assert "tried again after 10 s, 1 min, 5 min, 30 min, 2 h, 6 h and 24 h" in words
    assert [pause.total_seconds() for pause in PAUSES] == [10, 60, 300, 1800, 7200, 21600, 86400]
