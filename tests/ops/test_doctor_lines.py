"""What the doctor's lines say, and what it asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.fernet import Fernet

from receiver.opencard.scopes import SCOPES
from receiver.ops.doctor_opencard import BILLING_SCOPES, FILE_SCOPES, GROUP_SCOPES, HEADER_SCOPES, REQUIRED_SCOPES
from tests.support.applications import unreachable_database

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.ops.conftest import Installation

FOREIGN_KEY = Fernet.generate_key().decode()


def without_scope(installation: Installation, *scopes: str) -> None:
    installation.provider.clients.set_scopes("ems", set(SCOPES) - set(scopes))


def test_unchecked_line_says_why(installation: Installation) -> None:
    installation.environment["DATABASE_URL"] = unreachable_database()
    _, found = installation.findings()
    assert found["migrations"] == found["webhooks"] == ("not checked", "database is broken")
    installation.environment["DATABASE_URL"] = ""
    _, found = installation.findings()
    assert found["migrations"] == found["public address"] == ("not checked", "DATABASE_URL is missing")


def test_every_wrong_variable_has_a_line_of_its_own(installation: Installation) -> None:
    installation.environment.update({"PORT": "http", "LOG_LEVEL": "LOUD", "OPENCARD_CLIENT_ID": ""})
    result = installation.run()
    lines = [line.split() for line in result.stdout.splitlines()]
    named = [line[2] for line in lines if line[:2] == ["broken", "settings"]]
    assert named == ["PORT", "OPENCARD_CLIENT_ID", "LOG_LEVEL"]
    assert result.exit_code == 2


def test_a_database_that_is_not_migrated_is_named(installation: Installation, new_database: Callable[[], str]) -> None:
    installation.environment["DATABASE_URL"] = new_database()
    code, found = installation.findings()
    assert code == 1
    assert found["database"][0] == "ok"
    assert found["migrations"][0] == "broken"
    assert found["migrations"][1].endswith("run receiver db upgrade")
    assert {found[check][0] for check in ("encryption keys", "webhooks", "public address")} == {"not checked"}
    assert found["organizations"][0] == "ok"


def test_values_under_an_older_key_are_a_note(installation: Installation) -> None:
    installation.environment["ENCRYPTION_KEYS"] = f"{FOREIGN_KEY},{installation.environment['ENCRYPTION_KEYS']}"
    code, found = installation.findings()
    assert code == 0
    assert found["encryption keys"][0] == "note"
    assert "receiver keys rotate" in found["encryption keys"][1]
    assert found["public address"][0] == "ok"


HEADERS, GROUPS = '[headers]\nX-Tenant = "acme"', 'groups = ["5561234567"]'


@pytest.mark.parametrize(
    ("scopes", "configured", "others"),
    [(HEADER_SCOPES, HEADERS, GROUPS), (GROUP_SCOPES, GROUPS, HEADERS)],
    ids=["headers", "groups"],
)
def test_header_and_group_scopes_depend_on_the_configuration(
    installation: Installation, scopes: tuple[str, ...], configured: str, others: str
) -> None:
    without_scope(installation, *scopes)
    code, found = installation.findings()
    assert (code, {found[f"scope {scope}"][0] for scope in scopes}) == (0, {"ok"})
    installation.configure(configured)
    code, found = installation.findings()
    assert (code, {found[f"scope {scope}"][0] for scope in scopes}) == (1, {"broken"})
    assert all(scope in found[f"scope {scope}"][1] for scope in scopes)
    installation.configure(others)
    code, found = installation.findings()
    assert (code, {found[f"scope {scope}"][0] for scope in scopes}) == (0, {"ok"})


def test_configuration_of_one_organization_in_another_file(installation: Installation, tmp_path: Path) -> None:
    without_scope(installation, "webhook-groups-read")
    file = tmp_path / "other.toml"
    file.write_text('[[organizations]]\nreference_id = "acme"\ngroups = ["5561234567"]\n')
    code, found = installation.findings("--config", str(file))
    assert (code, found["scope webhook-groups-read"][0]) == (1, "broken")
    assert found["configuration"] == ("ok", str(file))


def test_invalid_configuration_leaves_header_scopes_unchecked(installation: Installation) -> None:
    without_scope(installation, "webhook-headers-read")
    installation.configure("nonsense")
    _, found = installation.findings()
    assert found["configuration"][0] == "broken"
    assert found["scope webhook-headers-read"][0] == "not checked"
    assert found["scope webhook-events-read"][0] == "ok"


def test_each_scope_is_requested_alone_and_nothing_is_stored(installation: Installation) -> None:
    installation.findings()
    first = installation.provider.requests.all(path="/oauth/token")
    asked = [scope for each in first for scope in each.scopes_asked or ()]
    assert sorted(asked) == sorted((*REQUIRED_SCOPES, *FILE_SCOPES, *BILLING_SCOPES, *HEADER_SCOPES, *GROUP_SCOPES))
    assert all(len(each.scopes_asked or ()) == 1 for each in first)
    installation.findings()
    assert len(installation.provider.requests.all(path="/oauth/token")) == 2 * len(first)
    assert {each.method for each in installation.provider.requests.all(path="/api/")} == {"GET"}
    with installation.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM receiver.oauth_tokens").scalar_one() == 0


def test_disabled_or_unregistered_webhook_is_a_note(installation: Installation) -> None:
    installation.execute("UPDATE receiver.webhooks SET enabled = false WHERE organization_reference_id = 'acme'")
    installation.execute(
        "UPDATE receiver.webhooks SET opencard_webhook_id = NULL WHERE organization_reference_id = 'beta'"
    )
    code, found = installation.findings()
    assert code == 0
    assert found[installation.check_of(0)] == ("note", "switched off here: its deliveries are refused")
    assert found[installation.check_of(1)] == ("note", "not registered at OpenCard yet: run receiver bootstrap")
    assert found["public address"][0] == "ok"


def test_a_webhook_under_its_previous_endpoint_key_is_ok(installation: Installation) -> None:
    installation.execute(
        "INSERT INTO receiver.previous_endpoint_keys (endpoint_key, webhook_id) "
        "SELECT endpoint_key, id FROM receiver.webhooks WHERE organization_reference_id = 'beta'"
    )
    installation.execute(
        "UPDATE receiver.webhooks SET endpoint_key = repeat('n', 43) WHERE organization_reference_id = 'beta'"
    )
    code, found = installation.findings()
    assert (code, found[installation.check_of(1)]) == (0, ("ok", "active"))


def test_without_webhooks_the_public_url_health_is_checked(installation: Installation) -> None:
    installation.execute("DELETE FROM receiver.webhooks")
    code, found = installation.findings()
    assert (code, found["public address"][0]) == (0, "ok")
    assert found["webhooks"] == ("note", "none registered: receiver bootstrap registers one for each organization")
    installation.environment["PUBLIC_URL"] = "http://127.0.0.1:1"
    code, found = installation.findings()
    assert (code, found["public address"][0]) == (1, "broken")
    installation.environment["PUBLIC_URL"] = installation.environment["OPENCARD_API_URL"]
    code, found = installation.findings()
    assert (code, found["public address"][0]) == (0, "note")


def test_an_account_without_organizations_is_a_note(installation: Installation) -> None:
    other = installation.provider.clients.add("other", account_id=5)
    installation.environment.update(
        {"OPENCARD_ACCOUNT_ID": "5", "OPENCARD_CLIENT_ID": "other", "OPENCARD_CLIENT_SECRET": other.secret}
    )
    installation.execute("DELETE FROM receiver.webhooks")
    code, found = installation.findings()
    assert (code, found["organizations"]) == (0, ("note", "none in account 5 yet"))


def test_people_get_aligned_lines(installation: Installation) -> None:
    result = installation.run()
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["state", "check", "detail"]
    at = lines[0].index("detail")
    assert all(line[at - 1] == " " and line[at] != " " for line in lines)
    assert (result.exit_code, result.stderr) == (0, "")


def test_many_webhooks_are_checked_in_parallel(installation: Installation) -> None:
    for number in range(20):
        installation.register(f"organization-{number:02}")
    _, found = installation.findings()
    webhooks = [check for check in found if check.startswith("webhook ")]
    assert len(webhooks) == 22
    assert {found[check] for check in webhooks} == {("ok", "active")}
    assert webhooks == [installation.check_of(number) for number in range(22)]


def test_a_test_webhook_is_not_checked(installation: Installation) -> None:
    installation.register("gamma")
    installation.provider.state.change_webhook(installation.webhooks[2], enabled=False, active=False)
    check = installation.check_of(2)
    assert installation.findings()[1][check][0] == "broken"
    installation.execute("UPDATE receiver.webhooks SET test = true WHERE organization_reference_id = 'gamma'")
    code, found = installation.findings()
    assert (code, check in found, found["organization gamma"][0]) == (1, False, "broken")
