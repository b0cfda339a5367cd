"""``receiver replay``, as operators run it: with workers, without any, and twice at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from receiver.cli import main
from receiver.cli import replay as command
from receiver.deliveries.models import TEST
from receiver.processing.drain import drain
from tests.support.factories import card_holder, snapshot
from tests.support.replay_steps import fail_with, ids, product
from tests.support.stored import become

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Acme

Run = Callable[..., Result]
EVENT = "card.transaction.cleared"
REASON = ("--reason", "fixed")


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    def invoke(*arguments: str, **changes: str) -> Result:
        result = CliRunner(env={**environment, **changes}).invoke(main, ["replay", *arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return invoke


@pytest.fixture
def nobody_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no worker, and the command soon has enough of waiting."""
    monkeypatch.setattr(command, "NO_PROGRESS_TIMEOUT", 0.0)


@pytest.fixture
def dead(acme: Acme, monkeypatch: pytest.MonkeyPatch) -> Acme:
    """Two dead deliveries whose cause is fixed, and one whose is not."""
    fail_with(monkeypatch, RuntimeError("disk 7 is full"))
    for transaction in ("t1", "t2"):
        acme.deliver_ok(EVENT, snapshot("cleared", transaction=transaction))
    acme.execute("UPDATE receiver.queue SET attempts = 7")
    acme.process()
    fail_with(monkeypatch, None)
    acme.apply("card_holder.created", b'{"<script>": 1}')
    assert acme.statuses() == ["dead"] * 3
    return acme


@pytest.fixture
def a_worker(dead: Acme) -> Iterator[None]:
    """A worker that drains again and again."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(0.02):
            drain(dead.engine)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    ended.set()
    thread.join()


def document(result: Result) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(result.stdout)
    return parsed


@pytest.mark.usefixtures("a_worker")
def test_replay_waits_and_reports_how_many_were_processed(dead: Acme, run: Run) -> None:
    result = run("--error", "*disk*", *REASON, "--json")
    assert result.exit_code == 0
    shown = document(result)
    assert shown["replay_id"] == dead.value("SELECT id FROM receiver.replays")
    assert (shown["selected"], shown["processed"], shown["failed"], shown["state"]) == (2, 2, 0, "ended")
    assert dead.statuses() == ["processed", "processed", "dead"]
    assert "@" in dead.value("SELECT requested_by FROM receiver.replays")


@pytest.mark.usefixtures("a_worker")
def test_repeated_failures_are_named_and_exit_with_1(dead: Acme, run: Run) -> None:
    result = run("--status", "dead", *REASON)
    assert result.exit_code == 1
    *groups, last = result.stdout.splitlines()
    number = dead.value("SELECT id FROM receiver.replays")
    assert last == f"replay {number}: 3 selected, 2 processed, 1 failed"
    assert len(groups) == 2
    assert groups[1].split()[:3] == ["1", "dead", "card_holder.created"]
    failed = dead.value("SELECT delivery_id FROM receiver.replay_deliveries WHERE outcome = 'dead'")
    assert result.stderr.endswith(f"see receiver deliveries show {failed}\n")
    assert "--status dead" in run("--list").stdout


def everything(acme: Acme) -> list[object]:
    """Return deliveries, the versions of their rows, and all that the EMS can read."""
    tables = ("stored_deliveries", "bodies", "queue", "outcomes", "confirmations")
    versions = [acme.rows(f"SELECT xmin, t.* FROM receiver.{table} AS t ORDER BY 2") for table in tables]  # noqa: S608
    return [*versions, product(acme)]


def test_a_dry_run_changes_nothing(dead: Acme, run: Run) -> None:
    before = everything(dead)
    shown = document(run("--status", "dead", "--dry-run", "--json"))
    assert (shown["replay_id"], shown["selected"], shown["processed"], shown["failed"]) == (None, 3, 0, 0)
    assert shown["groups"][0] == {
        "status": "dead",
        "event": EVENT,
        "error": "RuntimeError: disk * is full",
        "number": 2,
    }
    people = run("--status", "dead", "--dry-run")
    assert people.stdout.splitlines()[-1] == "3 would be replayed; nothing was changed"
    assert everything(dead) == before
    assert dead.value("SELECT count(*) FROM receiver.replays") == 0


def test_a_replay_of_nothing_leaves_no_record(dead: Acme, run: Run) -> None:
    result = run("--event", "invoice.created", *REASON)
    assert (result.exit_code, result.stdout) == (0, "nothing to replay\n")
    assert run("--event", "invoice.created", "--dry-run").stdout == "nothing to replay\n"
    assert document(run("--event", "invoice.created", *REASON, "--json"))["replay_id"] is None
    assert dead.value("SELECT count(*) FROM receiver.replays") == 0


def test_without_waiting_it_returns_at_once(dead: Acme, run: Run) -> None:
    shown = document(run(*map(str, ids(dead)), *REASON, "--no-wait", "--json"))
    assert (shown["selected"], shown["processed"], shown["failed"], shown["state"]) == (3, 0, 0, "running")
    dead.process()
    (listed,) = json.loads(run("--list", "--json").stdout)
    assert (listed["selected"], listed["processed"], listed["failed"], listed["state"]) == (3, 2, 1, "ended")
    assert (listed["reason"], listed["filter"]) == ("fixed", {"ids": ids(dead)})
    assert "fixed" in run("--list").stdout


@pytest.mark.usefixtures("nobody_works")
def test_replay_without_worker_says_so_and_continues_later(dead: Acme, run: Run) -> None:
    result = run("--error", "disk", *REASON, "--json")
    number = dead.value("SELECT id FROM receiver.replays")
    assert result.exit_code == 1
    assert f"no worker has processed anything of replay {number}" in result.stderr
    assert f"receiver replay --cancel {number}" in result.stderr
    assert document(result)["processed"] == 0
    dead.process()
    assert dead.row("SELECT selected, processed, failed FROM receiver.replays") == {
        "selected": 2,
        "processed": 2,
        "failed": 0,
    }


def test_interrupted_it_says_that_the_replay_goes_on(dead: Acme, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("receiver.ops.replay_wait.time.sleep", interrupt)
    result = run("--status", "dead", *REASON)
    monkeypatch.undo()
    number = dead.value("SELECT id FROM receiver.replays")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"replay {number} continues without this command" in result.stderr
    dead.process()
    assert dead.value("SELECT processed FROM receiver.replays") == 2


def test_interrupted_while_selecting_nothing_is_processed(
    dead: Acme, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("receiver.ops.replay.select_batch", interrupt)
    result = run("--status", "dead", *REASON)
    assert result.exit_code == 1
    assert "nothing was processed" in result.stderr
    dead.process()
    assert dead.statuses() == ["dead"] * 3
    assert "cancelled" in run("--list").stdout


def test_cancelled_replay_prints_one_document_on_stdout(dead: Acme, environment: dict[str, str]) -> None:
    def alone(*arguments: str) -> dict[str, Any]:
        program = [sys.executable, "-c", "from receiver.cli import main; main()", "replay", "--json", *arguments]
        done = subprocess.run(program, env={**os.environ, **environment}, check=True, capture_output=True)
        parsed: dict[str, Any] = json.loads(done.stdout)
        return parsed

    started = alone("--status", "dead", *REASON, "--no-wait")
    cancelled = alone("--cancel", str(started["replay_id"]))
    assert (cancelled["state"], cancelled["selected"], cancelled["processed"]) == ("cancelled", 3, 0)
    assert dead.statuses() == ["dead"] * 3


def test_cancelled_it_says_how_many_keep_their_status(dead: Acme, run: Run) -> None:
    run("--status", "dead", *REASON, "--no-wait")
    number = dead.value("SELECT id FROM receiver.replays")
    result = run("--cancel", str(number))
    said = f"replay {number}: 3 selected, 0 processed, 0 failed; cancelled; 3 keep their status\n"
    assert (result.exit_code, result.stdout) == (0, said)
    dead.process()
    assert dead.statuses() == ["dead"] * 3
    assert run("--cancel", str(number)).exit_code == 0
    unknown = run("--cancel", "4711")
    assert (unknown.exit_code, unknown.stderr) == (
        1,
        "receiver: there is no replay 4711; receiver replay --list shows them\n",
    )


@pytest.mark.usefixtures("a_worker")
def test_a_replay_that_has_ended_cannot_be_cancelled(dead: Acme, run: Run) -> None:
    run("--error", "disk", *REASON)
    result = run("--cancel", str(dead.value("SELECT id FROM receiver.replays")))
    assert result.exit_code == 1
    assert "has ended already" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*REASON,), "which deliveries?"),
        (("--status", "dead"), "--reason is missing"),
        (("--status", "dead", "--reason", " "), "--reason is missing"),
        (("17", "--status", "dead", *REASON), "ids or a filter, not both"),
        (("17", "--list"), "cannot be combined"),
        (("--list", "--cancel", "1"), "cannot be combined"),
        (("0", *REASON), "'0' is not an id: give a whole number"),
        (("--status", "pendingg", *REASON), "is not one of"),
    ],
)
def test_impossible_options_are_wrong_usage(acme: Acme, run: Run, arguments: tuple[str, ...], said: str) -> None:
    result = run(*arguments)
    assert (result.exit_code, said in result.stderr) == (2, True)
    assert acme.value("SELECT count(*) FROM receiver.replays") == 0


def test_an_id_that_is_none_is_named(acme: Acme, run: Run) -> None:
    result = run("4711", *REASON)
    assert (result.exit_code, result.stderr) == (
        1,
        "receiver: there is no delivery 4711; see receiver deliveries list\n",
    )
    del acme


def test_deliveries_left_out_are_counted(acme: Acme, run: Run) -> None:
    for number in range(3):
        acme.apply("card_holder.created", card_holder(f"employee-{number}"))
    acme.deliver_ok("card_holder.identified", card_holder())
    first, second, _, _ = ids(acme)
    become(acme.engine, "ignored", [first], error=TEST)
    acme.execute("DELETE FROM receiver.bodies WHERE delivery_id = :id", id=second)
    result = run("--since", "1h", *REASON, "--no-wait", "--json")
    assert result.stderr.splitlines() == [
        "1 left out: test deliveries, which never reach the EMS",
        "1 left out: already pending",
        "1 left out: without a body, which retention deleted: they cannot be processed",
    ]
    shown = document(result)
    assert (shown["selected"], shown["tests"], shown["waiting"], shown["without_body"]) == (1, 1, 1, 1)


def test_unreachable_redis_is_only_a_warning(dead: Acme, run: Run) -> None:
    result = run("--status", "dead", *REASON, "--no-wait", REDIS_URL="redis://127.0.0.1:1/0")
    assert result.exit_code == 0
    assert "Redis cannot be reached" in result.stderr
    assert dead.value("SELECT selected FROM receiver.replays") == 3
