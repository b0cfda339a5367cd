"""A reader that is restricted to organizations sees their rows, and no others, in every table and view."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import URL, make_url, text

from receiver.db import one_connection
from receiver.readers.eligibility import RoleFacts, refusal
from receiver.readers.row_security import protect
from tests.support.factories import card_holder, enrichment, sample, snapshot
from tests.support.later_release import upgrade_to_later
from tests.support.program import db
from tests.support.roles import connected_as, new_role, privileges, read, relations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Acme, Organizations

WITHOUT_ORGANIZATION = {"ems.feed_horizon"}
"""What a tenant sees whole: a position, and when events were deleted."""
UNSEEN = {"ems.consumers"}
"""What a tenant may not read: it names the other readers."""
ORGANIZATIONS = "SELECT DISTINCT organization_reference_id FROM {} ORDER BY 1"


CLOSE = """
INSERT INTO ems.closings (organization_reference_id, month, closed_at, closed_by, complete_from, complete_through,
    acknowledged_gaps, position, lines, sums, vat_sums, sha256)
SELECT organization_reference_id, date_trunc('month', max(booked_on)), now(), 'operator', now(), now(), 0,
    (SELECT max(position) FROM ems.events), count(*), '{}', '{}', ''
FROM ems.transactions WHERE organization_reference_id = :organization GROUP BY organization_reference_id
"""


def fill_every_table(organization: Acme) -> None:
    """Bring a row into every table and view of this organization."""
    reference = organization.registration.organization_reference_id
    owner = {"organization": {"reference_id": reference}}

    def send(event: str, payload: dict[str, Any]) -> None:
        organization.deliver_ok(event, payload | (owner if "organization" in payload else {}))

    send("card_holder.created", card_holder())
    send("tpa.signed", sample("tpa.signed"))
    send("invoice.created", sample("invoice.created", id=f"invoice-of-{reference}"))
    send("card.transaction.authorized", snapshot("authorized", transaction="pending"))
    for transaction in ("transaction-1", "transaction-2"):
        send("card.transaction.cleared", snapshot("cleared", transaction=transaction))
    for event in ("receipt.fetched", "transaction.true.vat", "transaction.line.items"):
        send(event, enrichment(event))
    send("environmental.impact.deedster", enrichment("environmental.impact.deedster"))
    organization.process()
    organization.execute(CLOSE, organization=reference)
    send("card.transaction.cleared", snapshot("cleared", transaction="transaction-3"))  # changes a closed month
    organization.process()


@pytest.fixture
def both(organizations: Organizations) -> Acme:
    acme, globex = organizations.adopt("acme"), organizations.adopt("globex")
    fill_every_table(acme)
    fill_every_table(globex)
    return acme


@pytest.fixture
def url(both: Acme) -> URL:
    return both.engine.url


@pytest.fixture
def tenant(url: URL) -> Iterator[str]:
    with new_role(url) as role:
        granted = db(url, "grant-reader", role, "--organization", "acme")
        assert (granted.exit_code, granted.stderr) == (0, "")
        yield role


def separated(url: URL) -> list[str]:
    return [relation for relation in relations(url) if relation not in WITHOUT_ORGANIZATION | UNSEEN]


def test_tenant_sees_only_its_rows_in_every_table_and_view(url: URL, tenant: str) -> None:
    for relation in separated(url):
        assert read(url, tenant, ORGANIZATIONS.format(relation)) == [("acme",)], relation


def test_a_tenant_sees_all_of_its_own_rows(both: Acme, url: URL, tenant: str) -> None:
    for relation in separated(url):
        (own,) = read(url, tenant, f"SELECT count(*) FROM {relation}")  # noqa: S608
        assert own == (both.value(f"SELECT count(*) FROM {relation} WHERE organization_reference_id = 'acme'"),)  # noqa: S608


def test_shared_rows_reveal_nothing_about_other_tenants(url: URL, tenant: str) -> None:
    for relation in WITHOUT_ORGANIZATION:
        assert read(url, tenant, f"TABLE {relation}") == []


def test_two_tenants_and_a_reader_of_all_see_each_their_own(url: URL, tenant: str) -> None:
    with new_role(url) as other, new_role(url) as everything:
        assert db(url, "grant-reader", other, "--organization", "globex").exit_code == 0
        assert db(url, "grant-reader", everything).exit_code == 0
        for relation in separated(url):
            query = ORGANIZATIONS.format(relation)
            assert read(url, tenant, query) == [("acme",)], relation
            assert read(url, other, query) == [("globex",)], relation
            assert read(url, everything, query) == [("acme",), ("globex",)], relation


def test_a_tenant_may_have_several_organizations_and_get_others(url: URL, tenant: str) -> None:
    query = ORGANIZATIONS.format("ems.events")
    granted = db(url, "grant-reader", tenant, "--organization", "globex", "--organization", "acme", "--json")
    assert json.loads(granted.stdout) == {"role": tenant, "organizations": ["acme", "globex"]}
    assert read(url, tenant, query) == [("acme",), ("globex",)]
    db(url, "grant-reader", tenant, "--organization", "globex")
    assert read(url, tenant, query) == [("globex",)]


def test_a_tenant_cannot_lift_its_restriction(url: URL, tenant: str) -> None:
    with connected_as(url, tenant) as connection:
        connection.execute("SET row_security = off")
        with pytest.raises(Exception, match="would be affected by row-level security"):
            connection.execute("TABLE ems.transactions")


def test_forgetting_the_organization_does_not_open_everything(url: URL, tenant: str) -> None:
    refused = db(url, "grant-reader", tenant)
    assert (refused.exit_code, "is restricted to acme" in refused.stderr) == (1, True)
    assert read(url, tenant, ORGANIZATIONS.format("ems.ledger")) == [("acme",)]


def test_a_reader_of_all_can_be_restricted(url: URL) -> None:
    with new_role(url) as role:
        db(url, "grant-reader", role)
        db(url, "grant-reader", role, "--organization", "acme")
        for relation in separated(url):
            assert read(url, role, ORGANIZATIONS.format(relation)) == [("acme",)], relation


def test_unknown_organization_is_reported(url: URL, tenant: str) -> None:
    granted = db(url, "grant-reader", tenant, "--organization", "acmee", "--json")
    assert (granted.exit_code, json.loads(granted.stdout)["organizations"]) == (0, ["acmee"])
    assert "'acmee'" in granted.stderr


def guarded(both: Acme) -> list[str]:
    return [
        row["name"]
        for row in both.rows(
            "SELECT oid::regclass::text AS name FROM pg_class WHERE relnamespace = 'ems'::regnamespace"
            " AND (relrowsecurity OR reloptions IS NOT NULL AND 'security_invoker=true' = ANY (reloptions))"
        )
    ] + [row["polname"] for row in both.rows("SELECT polname FROM pg_policy")]


def test_the_last_tenant_takes_row_level_security_with_it(both: Acme, url: URL, tenant: str) -> None:
    with new_role(url) as other:
        db(url, "grant-reader", other, "--organization", "globex")
        assert db(url, "revoke-reader", tenant).exit_code == 0
        assert privileges(both, tenant) == []
        assert read(url, other, ORGANIZATIONS.format("ems.ledger")) == [("globex",)]
        assert db(url, "revoke-reader", other).exit_code == 0
        assert privileges(both, other) == []
    assert guarded(both) == []


def test_service_itself_still_reads_and_writes_everything(both: Acme, tenant: str) -> None:
    del tenant  # asked for so that row-level security is on
    before = both.value("SELECT count(*) FROM ems.transaction_states")
    both.apply("card.transaction.invoiced", snapshot("invoiced"))
    assert both.value("SELECT count(*) FROM ems.transaction_states") == before + 1
    assert both.value("SELECT count(DISTINCT organization_reference_id) FROM ems.ledger") == 2


def test_a_tenants_restriction_is_an_index_condition(both: Acme, url: URL, tenant: str) -> None:
    both.execute("ANALYZE ems.transactions")
    with connected_as(url, tenant) as connection:
        connection.execute("SET enable_seqscan = off")
        plan = connection.execute("EXPLAIN SELECT * FROM ems.transactions WHERE id = 'transaction-1'").fetchall()
    condition = next(line for (line,) in plan if "Index Cond" in line)
    assert "organization_reference_id" in condition


@pytest.mark.parametrize(
    "later",
    [
        "CREATE TABLE ems.later AS SELECT organization_reference_id FROM ems.tpas",
        "CREATE VIEW ems.later AS SELECT organization_reference_id FROM ems.tpas",
    ],
)
def test_tables_of_later_releases_are_separated_at_once(both: Acme, url: URL, tenant: str, later: str) -> None:
    with both.engine.begin() as connection:
        connection.execute(text(later))
        protect(connection)
    try:
        assert read(url, tenant, "TABLE ems.later") == [("acme",)]
    finally:
        both.execute(f"DROP {later.split()[1]} ems.later")


def test_a_view_that_a_later_release_replaces_stays_separated(both: Acme, url: URL, tenant: str) -> None:
    definition = both.value("SELECT pg_get_viewdef('ems.pending_transactions'::regclass)")
    with both.engine.begin() as connection:
        connection.execute(text("CREATE OR REPLACE VIEW ems.pending_transactions AS " + definition.replace(":", "\\:")))
        protect(connection)
    assert read(url, tenant, ORGANIZATIONS.format("ems.pending_transactions")) == [("acme",)]


def test_every_table_and_view_has_the_owner_of_its_rows(both: Acme, url: URL) -> None:
    for relation in separated(url):
        assert both.rows(ORGANIZATIONS.format(relation)) != [], relation


def test_migrations_separate_what_they_bring_by_themselves(new_database: Callable[[], str], tmp_path: Path) -> None:
    url = make_url(new_database())
    assert db(url, "upgrade").exit_code == 0
    with new_role(url) as role:
        assert db(url, "grant-reader", role, "--organization", "acme").exit_code == 0
        with one_connection(url.render_as_string(hide_password=False), application="tests") as connection:
            upgrade_to_later(connection, tmp_path)
        for relation in ("ems.later", "ems.later_still"):
            assert read(url, role, ORGANIZATIONS.format(relation)) == [("acme",)]


FACTS = RoleFacts(
    exists=True,
    superuser=False,
    bypasses=False,
    replicates=False,
    creates_roles=False,
    sees_statements=False,
    owner="owner",
    acts_as_owner=False,
    beyond=(),
    asker="owner",
    asker_is_owner=True,
    version=14,
)


def test_postgresql_14_refuses_tenants_but_allows_full_readers() -> None:
    assert "--organization needs PostgreSQL 15" in (refusal("tenant", FACTS, ["acme"], []) or "")
    assert refusal("reader", FACTS, [], []) is None


def test_role_that_bypasses_row_security_cannot_be_restricted(url: URL) -> None:
    with new_role(url, options="BYPASSRLS") as role:
        refused = db(url, "grant-reader", role, "--organization", "acme")
        assert (refused.exit_code, "NOBYPASSRLS" in refused.stderr) == (1, True)
        assert db(url, "grant-reader", role).exit_code == 0
        assert db(url, "revoke-reader", role).exit_code == 0
