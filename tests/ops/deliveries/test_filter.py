"""Errors of one cause share a name, and that name finds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from receiver.ops.deliveries import Filter, error_group
from receiver.ops.deliveries.filter import LONGEST_GROUP, error_pattern

if TYPE_CHECKING:
    from sqlalchemy import Engine


@pytest.mark.parametrize(
    ("error", "group"),
    [
        ("unknown event 'card.frozen'", "unknown event 'card.frozen'"),
        (
            "organization.reference_id is 'globex', but this webhook belongs to organization 'acme'; not applied",
            "organization.reference_id is 'globex', but this webhook belongs to organization 'acme'; not applied",
        ),
        ("organization.reference_id is 'org-17', but", "organization.reference_id is *, but"),
        (
            "OperationalError: server closed (PID 4711) after 30.5 s",
            "OperationalError: server closed (PID *) after * s",
        ),
        ('connection to server at "10.0.0.1", port 5432 failed', "connection to server at *, port * failed"),
        ("no route to 10.0.0.1:5432", "no route to *"),
        ("body: not JSON: invalid character (byte 12)\nsecond line 7", "body: not JSON: invalid character (byte *)"),
        ("key 0b5c2a1e-77aa-4c51-9c1d-3f0a5b7e9d11 exists", "key * exists"),
        ("digest 9f86d081884c7d65 differs", "digest * differs"),
        ("since 2026-02-13T12:00:00+00:00 or 2026-02-13 12:00:01", "since * or *"),
        ("UTF8 and int64 and facade and deadbeef stay", "UTF8 and int64 and facade and deadbeef stay"),
        ("invalid value -3", "invalid value *"),
        ("", ""),
        (None, ""),
    ],
)
def test_variable_parts_of_errors_do_not_split_groups(error: str | None, group: str) -> None:
    assert error_group(error) == group


@given(st.text(max_size=300))
def test_a_group_is_a_group_of_its_own_name(error: str) -> None:
    group = error_group(error)
    assert len(group) <= LONGEST_GROUP
    assert "\n" not in group
    assert error_group(group) == group


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text("aB1 *'%_\\?[\n", max_size=20))
def test_the_name_of_a_group_finds_its_errors(engine: Engine, error: str) -> None:
    with engine.connect() as connection:
        found = connection.scalar(
            text("SELECT CAST(:line AS text) ILIKE :pattern"),
            {"line": error.partition("\n")[0], "pattern": error_pattern(error_group(error))},
        )
    assert found


def test_a_filter_that_leaves_nothing_out_says_so() -> None:
    assert not Filter().restricts
    assert Filter(events=("tpa.signed",)).restricts
