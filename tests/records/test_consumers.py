"""Readers of the feed say how far they have read: what they have not is kept, and who stops is noticed."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psycopg
import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families
from psycopg import errors
from sqlalchemy.exc import DBAPIError

from receiver.cli import main
from receiver.records.epochs import compare_history
from tests.support.factories import snapshot
from tests.support.pools import ACCESS
from tests.support.program import db
from tests.support.roles import connected_as, libpq, new_role
from tests.support.service_states import add_run
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL

    from tests.conftest import Acme

CLEARED = "card.transaction.cleared"
CONSUMERS = "SELECT name, role, position FROM ems.consumers ORDER BY name"


@pytest.fixture
def url(acme: Acme) -> URL:
    return acme.engine.url


@pytest.fixture
def reader(url: URL) -> Iterator[str]:
    with new_role(url) as role:
        assert db(url, "grant-reader", role).exit_code == 0
        yield role


def clear(acme: Acme, number: int) -> list[int]:
    """Bring so many events, and return all positions of the feed."""
    for each in range(number):
        acme.deliver_ok(CLEARED, snapshot("cleared", transaction=f"t{each}"))
    acme.process()
    return [row["position"] for row in acme.rows("SELECT position FROM ems.events ORDER BY position")]


def commit(url: URL, role: str, name: str, position: int | None) -> None:
    with connected_as(url, role) as connection:
        connection.execute("SELECT ems.commit_position(%s, %s)", [name, position])


def test_a_reader_commits_under_its_own_name(acme: Acme, url: URL, reader: str) -> None:
    positions = clear(acme, 3)
    for position in positions[:2]:
        commit(url, reader, reader, position)
    assert acme.rows(CONSUMERS) == [{"name": reader, "role": None, "position": positions[1]}]


def test_a_reader_commits_under_a_name_that_is_granted(acme: Acme, url: URL, reader: str) -> None:
    positions = clear(acme, 1)
    assert db(url, "grant-reader", reader, "--consumer", "archive").exit_code == 0
    assert acme.rows(CONSUMERS) == [{"name": "archive", "role": reader, "position": 0}]
    commit(url, reader, "archive", positions[0])
    assert acme.rows(CONSUMERS) == [{"name": "archive", "role": reader, "position": positions[0]}]


def test_another_name_is_refused_with_the_way_to_it(url: URL, reader: str) -> None:
    with pytest.raises(errors.InsufficientPrivilege, match=r"grant-reader .* --consumer archive"):
        commit(url, reader, "archive", 0)


def test_a_name_that_another_reader_has_is_refused(url: URL, reader: str) -> None:
    with new_role(url) as other:
        assert db(url, "grant-reader", other, "--consumer", "archive").exit_code == 0
        with pytest.raises(errors.InsufficientPrivilege):
            commit(url, reader, "archive", 0)
        refused = db(url, "grant-reader", reader, "--consumer", "archive")
        assert (refused.exit_code, "receiver db consumers drop archive" in refused.stderr) == (1, True)


def test_the_owner_may_commit_under_any_name(acme: Acme) -> None:
    (position,) = clear(acme, 1)
    acme.execute("SELECT ems.commit_position('ours', :position)", position=position)
    assert acme.value("SELECT updated_at IS NOT NULL FROM ems.consumers WHERE name = 'ours'")


@pytest.mark.parametrize("position", [-1, None, 2**50])
def test_a_position_that_cannot_be_is_refused(url: URL, reader: str, position: int | None) -> None:
    with pytest.raises(errors.InvalidParameterValue):
        commit(url, reader, reader, position)


def test_position_lost_in_a_failover_counts_as_newest(acme: Acme, url: URL, reader: str) -> None:
    (newest,) = clear(acme, 1)
    acme.execute("UPDATE receiver.feed_epochs SET timeline = timeline + 1")  # the next epoch has not begun yet
    commit(url, reader, reader, newest + 50)
    assert acme.rows(CONSUMERS) == [{"name": reader, "role": None, "position": newest}]


def test_position_lost_in_a_failover_counts_in_a_new_epoch(acme: Acme, url: URL, reader: str) -> None:
    (newest,) = clear(acme, 1)
    acme.execute("UPDATE receiver.feed_epochs SET timeline = timeline + 1")
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE usename = :reader AND wait_event_type = 'Lock'"
    with psycopg.connect(libpq(url), autocommit=True) as holder, ThreadPoolExecutor(1) as pool:
        # where it waits, it has read which position is the newest
        holder.execute("BEGIN; LOCK TABLE receiver.feed_epochs")
        committing = pool.submit(commit, url, reader, reader, newest + 50)
        assert eventually(lambda: acme.value(waiting, reader=reader) == 1, within=30)
        compare_history(holder)
        committing.result(timeout=30)
    assert acme.rows(CONSUMERS) == [{"name": reader, "role": None, "position": newest + 50}]


def test_a_null_name_is_refused_as_such(url: URL, reader: str) -> None:
    with (
        pytest.raises(errors.NullValueNotAllowed, match="the name of a consumer is null"),
        connected_as(url, reader) as connection,
    ):
        connection.execute("SELECT ems.commit_position(NULL, 0)")


def test_a_restricted_reader_commits_and_sees_no_consumers(acme: Acme, url: URL) -> None:
    (position,) = clear(acme, 1)
    with new_role(url) as tenant:
        assert db(url, "grant-reader", tenant, "--organization", "acme").exit_code == 0
        commit(url, tenant, tenant, position)
        with pytest.raises(errors.InsufficientPrivilege), connected_as(url, tenant) as connection:
            connection.execute("TABLE ems.consumers")


def test_events_that_a_consumer_has_not_read_cannot_be_deleted(acme: Acme, url: URL, reader: str) -> None:
    positions = clear(acme, 3)
    commit(url, reader, reader, positions[0])
    with pytest.raises(DBAPIError, match="needed by consumers"):
        acme.execute("DELETE FROM ems.events WHERE position <= :position", position=positions[1])
    acme.execute("DELETE FROM ems.events WHERE position <= :position", position=positions[0])
    assert db(url, "consumers", "drop", reader).exit_code == 0
    acme.execute("DELETE FROM ems.events")
    assert acme.value("SELECT deleted_through FROM ems.feed_horizon") == positions[-1]


def test_revoking_a_reader_drops_its_consumers(acme: Acme, url: URL, reader: str) -> None:
    commit(url, reader, reader, 0)
    assert db(url, "grant-reader", reader, "--consumer", "archive").exit_code == 0
    assert db(url, "revoke-reader", reader).exit_code == 0
    assert acme.rows(CONSUMERS) == []


def test_the_list_says_how_far_each_is_behind(acme: Acme, url: URL, reader: str) -> None:
    positions = clear(acme, 3)
    commit(url, reader, reader, positions[0])
    acme.execute("UPDATE ems.events SET recorded_at = now() - interval '1 hour' WHERE position = :at", at=positions[1])
    (listed,) = json.loads(db(url, "consumers", "list", "--json").stdout)
    assert (listed["name"], listed["position"], listed["lag_events"]) == (reader, positions[0], 2)
    assert 3600 <= listed["lag_seconds"] < 3700
    commit(url, reader, reader, positions[-1])
    (listed,) = json.loads(db(url, "consumers", "list", "--json").stdout)
    assert (listed["lag_events"], listed["lag_seconds"]) == (0, 0)
    assert reader in db(url, "consumers", "list").stdout


def test_metrics_show_how_far_each_is_behind(acme: Acme, url: URL, reader: str) -> None:
    def shown(name: str) -> float:
        families = text_string_to_metric_families(acme.client.get("/metrics").text)
        (value,) = (
            each.value
            for family in families
            for each in family.samples
            if (each.name, each.labels) == (f"receiver_consumer_{name}", {"consumer": reader})
        )
        return value

    positions = clear(acme, 3)
    commit(url, reader, reader, positions[0])
    acme.execute("UPDATE ems.events SET recorded_at = now() - interval '1 hour' WHERE position = :at", at=positions[1])
    assert (shown("lag_events"), shown("stopped")) == (2, 0)
    assert 3600 <= shown("lag_seconds") < 3700
    acme.execute("UPDATE ems.consumers SET updated_at = now() - interval '20 minutes'")
    assert shown("stopped") == 1


def test_consumer_that_never_read_stops_after_its_grant(acme: Acme, url: URL, reader: str) -> None:
    clear(acme, 1)
    acme.execute("UPDATE ems.events SET recorded_at = now() - interval '1 hour'")
    assert db(url, "grant-reader", reader, "--consumer", "archive").exit_code == 0
    assert 'receiver_consumer_stopped{consumer="archive"} 0.0' in acme.client.get("/metrics").text
    acme.execute("UPDATE ems.consumers SET registered_at = now() - interval '20 minutes'")
    assert 'receiver_consumer_stopped{consumer="archive"} 1.0' in acme.client.get("/metrics").text


def test_dropping_an_unknown_consumer_is_refused(url: URL) -> None:
    refused = db(url, "consumers", "drop", "nobody")
    assert (refused.exit_code, "receiver db consumers list" in refused.stderr) == (1, True)


def test_a_consumer_that_stopped_needs_attention(
    acme: Acme, url: URL, reader: str, environment: dict[str, str]
) -> None:
    def attention() -> list[str]:
        add_run(acme.engine, "acme")
        ran = CliRunner(env={**environment, **ACCESS}).invoke(main, ["status", "--json"])
        found = json.loads(ran.stdout)["needs_attention"]
        assert ran.exit_code == bool(found)
        return list(found)

    positions = clear(acme, 2)
    commit(url, reader, reader, positions[0])
    acme.execute("UPDATE ems.events SET recorded_at = now() - interval '1 hour'")
    assert attention() == [], "it was seen a moment ago"
    acme.execute("UPDATE ems.consumers SET updated_at = now() - interval '20 minutes'")
    (line,) = attention()
    assert line.startswith(f"consumer {reader} stopped reading the feed")
    shown = acme.client.get("/metrics").text
    assert f'receiver_consumer_stopped{{consumer="{reader}"}} 1.0' in shown
    assert f'receiver_consumer_lag_events{{consumer="{reader}"}} 1.0' in shown
    commit(url, reader, reader, positions[1])
    acme.execute("UPDATE ems.consumers SET updated_at = now() - interval '20 minutes'")
    assert attention() == [], "it has read everything"
