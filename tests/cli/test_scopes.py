from __future__ import annotations

import json
import re

import pytest
from click.testing import CliRunner

from receiver.cli import main
from receiver.errors import OperationRefused
from receiver.opencard import routes
from receiver.opencard.routes import Route
from receiver.opencard.scopes import FIRST_RUN, NEEDS, RECOMMENDED, SCOPES, check_known, commands, scopes_for
from receiver.sandbox.provider import RECOMMENDED as RECOMMENDED_BY_THE_PROVIDER
from receiver.sandbox.provider import SCOPES as SCOPES_OF_THE_PROVIDER
from receiver.sandbox.provider.scopes import DOCUMENTED


def test_the_catalogue_is_listed_without_any_environment() -> None:
    result = CliRunner(env={}).invoke(main, ["scopes"])
    assert (result.exit_code, result.stderr) == (0, "")
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert set(lines) == {"scope", *SCOPES}
    assert re.search(r"webhooks-read +webhooks +yes +yes +bootstrap", lines["webhooks-read"])
    headers = r"webhook-headers-write +custom headers of a webhook +no +no +bootstrap \("
    assert re.search(headers, lines["webhook-headers-write"])


def test_as_json_it_is_one_document() -> None:
    document = json.loads(CliRunner(env={}).invoke(main, ["scopes", "--json"]).stdout)
    assert [each["scope"] for each in document] == list(SCOPES)
    by_scope = {each["scope"]: each for each in document}
    log = by_scope["webhook-events-read"]
    assert (log["opens"], log["recommended"]) == ("the webhook delivery log", True)
    assert "reconcile" in log["needed_by"]
    assert by_scope["files-read"]["needed_by"] == ["files fetch"]
    assert by_scope["account-statistics-read"]["needed_by"] == []


def test_the_catalogue_is_the_providers() -> None:
    assert set(SCOPES) == set(SCOPES_OF_THE_PROVIDER)
    assert set(RECOMMENDED) == set(RECOMMENDED_BY_THE_PROVIDER)


def test_a_first_run_needs_the_provider_s_set_and_more() -> None:
    assert set(DOCUMENTED) == FIRST_RUN
    production = ("doctor", "bootstrap --check", "reconcile", "webhooks test", "webhooks rotate-secret", "files fetch")
    always = {scope for need in NEEDS if need.command in {*production, "bootstrap"} for scope in need.scopes}
    optional = {scope for scope in always if scope.startswith(("webhook-headers", "webhook-groups"))}
    assert always - optional <= FIRST_RUN


def test_every_scope_of_a_route_is_in_the_catalogue() -> None:
    asked = {value.scope for value in vars(routes).values() if isinstance(value, Route)}
    assert asked <= set(SCOPES)
    assert {scope for need in NEEDS for scope in need.scopes} <= set(SCOPES)


def test_headers_and_groups_are_not_recommended() -> None:
    assert not any(scope.startswith(("webhook-headers", "webhook-groups")) for scope in RECOMMENDED)


@pytest.mark.parametrize(
    ("command", "scopes"),
    [
        ("reconcile", {"webhook-events-read"}),
        ("clients set-scopes", {"oauth-clients-read", "oauth-clients-write"}),
        ("clients create", {"oauth-clients-write"}),
    ],
)
def test_a_command_needs_the_scopes_of_its_routes(command: str, scopes: set[str]) -> None:
    assert scopes_for(command) == scopes


def test_bootstrap_may_need_headers_and_groups() -> None:
    assert scopes_for("bootstrap") >= {"organizations-read", "webhooks-write", "webhook-headers-delete"}
    assert scopes_for("bootstrap") >= {"webhook-groups-read", "webhook-groups-write", "webhook-groups-delete"}


def test_unknown_command_or_scope_lists_the_nearest() -> None:
    with pytest.raises(OperationRefused, match="'reconcil' is no command that needs scopes: the nearest are reconcile"):
        scopes_for("reconcil")
    with pytest.raises(OperationRefused, match=rf"'x' is no command .*there are {', '.join(commands()[:2])}"):
        scopes_for("x")
    with pytest.raises(OperationRefused, match="no scope 'webhooks-reed': the nearest are webhooks-read"):
        check_known(["webhooks-read", "webhooks-reed"])
    with pytest.raises(OperationRefused, match="no scope 'x': receiver scopes lists all"):
        check_known(["x"])
