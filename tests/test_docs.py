"""The documentation is true: its commands run, its links lead somewhere, its tables are those of the database."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner
from sqlalchemy import text

from receiver.cli import COMMANDS, main
from receiver.connections import EXPORT, LONG, MIGRATE, RECONCILE, STORE, WEB, WORK
from receiver.processing.drain import drain
from receiver.processing.retry_schedule import PAUSES
from receiver.readers.dictionary import dictionary
from receiver.settings import variable_names
from tests.support.factories import body, card_holder
from tests.support.pages import BLOCK, shell_lines
from tests.support.roles import new_role
from tests.support.stored import store
from tests.support.world import world_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis
    from sqlalchemy import Engine

    from receiver.settings import Settings

ROOT = Path(__file__).parent.parent
OPERATE = ROOT / "docs" / "operate"
FOLDERS = ("docs", "bench", "deploy", "examples")
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *(page for folder in FOLDERS for page in sorted((ROOT / folder).rglob("*.md")) if "node_modules" not in page.parts),
]
ORGANIZATIONS = ("nordlys-as", "kaffe-och-papper-ab")
"""Those of the examples."""
DEAD = (4711, 4712)
"""The deliveries of the examples."""
RUN_ELSEWHERE = {
    "make run": "tests/test_package.py",
    "receiver demo --purchases 100 --seed 7": "tests/test_package.py",
    "make .venv/.ready": "Makefile",
    "make bench": "tests/test_benchmarks.py",
    "make ha": "tests/ha/test_failover.py",
    ".venv/bin/python -m pytest tests/processing/test_states.py": "tests/processing/test_states.py",
    "make lock": "tests/shipping/test_locks.py",
}
NOT_RUN = {
    "docs/operate/install.md": "needs root on a clean Debian: make install; tests/shipping checks what it names",
    "docs/operate/containers.md": "needs a container engine; tests/shipping checks what it names",
    "docs/operate/kubernetes.md": "needs a cluster; tests/shipping checks what it names",
}
MAY_REPORT_PROBLEMS = ("receiver status", "receiver doctor", "receiver reconcile")
"""These exit with 1 where something needs attention, as it does on the pages about failures."""
PASSWORD = "correct horse battery staple\n"


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_dictionary_of_the_tables_is_that_of_the_database(engine: Engine) -> None:
    with engine.connect() as connection:
        assert (ROOT / "docs" / "schema.md").read_text() == dictionary(connection), "run make docs"


def test_the_command_reference_is_that_of_the_commands() -> None:
    # in an interpreter of its own: click remembers the help option of a command from the context that asked first
    script = "import runpy; print(runpy.run_path('docs/write_cli.py')['reference'](), end='')"
    written = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True)
    assert (ROOT / "docs" / "cli.md").read_text() == written.stdout, "run make docs"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_and_anchors_resolve(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        file = page.parent / target if target else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), f"{target}#{anchor}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, ahead = set[Path](), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page not in reached:
            reached.add(page)
            found = re.findall(r"\]\(([^)#:]+\.md)[^)]*\)", page.read_text())
            ahead += [(page.parent / target).resolve() for target in found]
    assert {named(page) for page in PAGES} - {named(page) for page in reached} == set()


def test_the_readme_fits_on_a_few_screens() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
    assert len((ROOT / "docs" / "architecture.md").read_text().split()) <= 900


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_shell_line_runs_or_says_why_not(page: Path) -> None:
    ci = (ROOT / ".ci" / "run").read_text()
    targets = (ROOT / "Makefile").read_text()
    for block in BLOCK.finditer(page.read_text()):
        assert block["reason"] is None or len(block["reason"].split()) > 2, block["lines"]
    if named(page) in NOT_RUN:
        return
    for line in shell_lines(page, run=True):
        if line in RUN_ELSEWHERE:
            assert (ROOT / RUN_ELSEWHERE[line]).exists(), line
        elif line.startswith("make "):
            assert line in ci, f"{line}: CI does not run it"
            assert re.search(rf"^{line.removeprefix('make ')}:", targets, flags=re.MULTILINE), line
        else:
            assert line.startswith(("receiver ", "python ")), f"{line}: not run by this module; mark its block"


def to_run(page: Path) -> list[str]:
    lines = [] if named(page) in NOT_RUN else shell_lines(page, run=True)
    return [line for line in lines if line.startswith(("receiver ", "python ")) and line not in RUN_ELSEWHERE]


@pytest.mark.long
@pytest.mark.parametrize("page", [page for page in PAGES if to_run(page)], ids=named)
def test_the_lines_of_a_page_run(
    page: Path,
    environment: dict[str, str],
    engine: Engine,
    redis: Redis,
    settings: Settings,
    public_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    del redis  # asked for so that it runs
    monkeypatch.chdir(tmp_path)
    lines = to_run(page)
    with new_role(engine.url) as reader, world_of(engine, settings, public_url) as world, processing(engine):
        world.add_organizations(*ORGANIZATIONS)
        world.bootstrap()
        for delivery_id in DEAD:
            fail(engine, delivery_id)
        variables = world.environment(environment)
        for line in lines:
            typed = line.replace("CLIENT_ID", world.client.id).replace("ems_reader", reader)
            typed = typed.replace("hash-password", "hash-password -")  # there is no terminal to ask at
            program, *arguments = shlex.split(typed)
            if program == "python":
                subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
                continue
            result = CliRunner(env=variables).invoke(main, arguments, input=PASSWORD)
            allowed = {0, 1} if line.startswith(MAY_REPORT_PROBLEMS) else {0}
            assert result.exit_code in allowed, (line, result.output)
            assert not isinstance(result.exception, Exception), (line, result.exception)


def fail(engine: Engine, delivery_id: int) -> None:
    """Have a delivery be dead for a cause that is fixed by now."""
    payload = card_holder(f"employee-{delivery_id}", ORGANIZATIONS[0])
    with engine.begin() as connection:
        connection.execute(text("SELECT setval('receiver.stored_deliveries_id_seq', :id, false)"), {"id": delivery_id})
    store(engine, organization=ORGANIZATIONS[0], status="dead", error="no account", body=body(payload))


@contextmanager
def processing(engine: Engine) -> Iterator[None]:
    """Work as a worker does, while this block runs."""
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
    text = "".join(page.read_text() for page in PAGES if page.name != "cli.md")
    assert re.search(rf"receiver {name}\b", text), f"only the reference has receiver {name}"


@pytest.mark.parametrize("name", variable_names())
def test_every_variable_is_documented(name: str) -> None:
    assert re.search(rf"^# .*\n(#.*\n)*([A-Z_]+=.*\n)*{name}=", (ROOT / ".env.example").read_text(), flags=re.MULTILINE)


def test_a_shell_reads_the_example_of_the_settings() -> None:
    """The quickstart's way of reading it: ``set -a; . ./.env; set +a``."""
    script = "set -a; . ./.env.example; set +a; env -0"
    ran = subprocess.run(["/bin/sh", "-euc", script], cwd=ROOT, env={}, capture_output=True, text=True, check=True)
    assert ran.stderr == ""
    read = dict(line.split("=", 1) for line in ran.stdout.split("\0") if line)
    written = re.findall(r"^([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), flags=re.MULTILINE)
    assert {name: read[name] for name, _ in written} == {name: value.strip("'") for name, value in written}


def test_the_pauses_of_the_readme_are_those_of_the_code() -> None:
    words = " ".join((ROOT / "README.md").read_text().split())
    assert "tried again after 10 s, 1 min, 5 min, 30 min, 2 h, 6 h and 24 h" in words
    assert [pause.total_seconds() for pause in PAUSES] == [10, 60, 300, 1800, 7200, 21600, 86400]


def test_the_log_events_that_operators_look_for_exist() -> None:
    page = (OPERATE / "troubleshoot.md").read_text().partition("## Log events")[2].partition("\n## ")[0]
    events = re.findall(r"^\| `([^`]+)`", page, flags=re.MULTILINE)
    code = "".join(module.read_text() for module in (ROOT / "receiver").rglob("*.py"))
    assert [event for event in events if event != "event" and f'"{event}"' not in code] == []


def test_the_time_limits_of_sessions_are_those_of_the_code() -> None:
    page = (OPERATE / "processes.md").read_text().partition("## Time limits")[2]
    rows = [
        [cell.strip() for cell in row.split("|")[2:-1]]
        for row in re.findall(r"^\| (?!session|-).*$", page, re.MULTILINE)
    ]
    code = [
        [str(limit or "") for limit in (each.statement, each.lock, each.idle_in_transaction, each.transaction)]
        for each in (STORE, WEB, WORK, RECONCILE, LONG, EXPORT, MIGRATE)
    ]
    assert [row for row in rows if len(row) == 4] == code
