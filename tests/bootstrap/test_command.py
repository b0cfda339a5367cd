"""``receiver bootstrap`` as an operator runs it: scopes, output, many organizations, secrets."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from receiver.cli import main
from receiver.encryption import Encryption
from receiver.sandbox.provider import ApiFault

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.world import World

READING = {"organizations-read", "webhooks-read"}
BILLINGS = {"billings-read"}
HEADERS = '[headers]\nX-Token = "the-token"\n'
GROUPS = 'groups = ["5561234567"]\n'


@pytest.fixture
def run(world: World, environment: dict[str, str], folder: Path) -> Callable[..., Result]:
    """Runs ``receiver bootstrap`` with a configuration, in an empty folder."""

    def invoke(*arguments: str, configuration: str | None = None, **changes: str) -> Result:
        file = folder / "webhooks.toml"
        if configuration is not None:
            file.write_text(configuration)
        runner = CliRunner(env={**world.environment(environment), **changes})
        return runner.invoke(main, ["bootstrap", *arguments])

    return invoke


def document(result: Result) -> Any:
    """Return the one JSON document that the command printed."""
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("configuration", "arguments", "reading", "writing"),
    [
        ("", (), READING, {"webhooks-write"}),
        ("", ("--dry-run",), READING, set()),
        ("", ("--check",), READING, set()),
        (HEADERS, ("--check",), READING | {"webhook-headers-read"}, set()),
        (GROUPS, ("--dry-run",), READING | {"webhook-groups-read"}, set()),
        (
            HEADERS,
            (),
            READING | {"webhook-headers-read"},
            {"webhooks-write", "webhook-headers-write"},
        ),
        (GROUPS, (), READING | {"webhook-groups-read"}, {"webhooks-write", "webhook-groups-write"}),
        (
            "",
            ("--prune",),
            READING | {"webhook-headers-read", "webhook-groups-read"},
            {"webhooks-write"},
        ),
    ],
    ids=["plain", "dry run", "check", "check headers", "dry run groups", "headers", "groups", "prune"],
)
def test_run_requests_exactly_the_scopes_of_its_routes(
    world: World,
    run: Callable[..., Result],
    configuration: str,
    arguments: tuple[str, ...],
    reading: set[str],
    writing: set[str],
) -> None:
    run(*arguments, configuration=configuration)
    tokens = [set(each.scopes_asked or ()) for each in world.provider.requests.all(path="/oauth/token")]
    assert tokens == [scopes for scopes in (reading, BILLINGS, writing) if scopes]
    used = world.provider.requests.all(path="/api/")
    assert used
    for each in used:
        assert each.status in {200, 201}
        right = BILLINGS if each.path.endswith("/billings") else reading if each.method == "GET" else writing
        assert set(each.scopes or ()) == right


@pytest.mark.parametrize(
    ("broken", "scopes"),
    [
        ("value", {"webhook-headers-write", "webhook-headers-delete"}),
        ("surplus", {"webhook-headers-delete"}),
        ("flag", {"webhooks-write"}),
    ],
)
def test_repair_requests_only_the_scopes_of_its_changes(
    world: World, run: Callable[..., Result], broken: str, scopes: set[str]
) -> None:
    run(configuration=HEADERS)
    webhook = world.registered()
    match broken:
        case "value":
            world.provider.state.remove_header(webhook.id, webhook.headers[0].id)
            world.provider.state.add_header(webhook.id, "X-Token", "another")
        case "surplus":
            world.provider.state.add_header(webhook.id, "X-Odd", "1")
        case _:
            world.provider.state.switch_event(webhook.id, "tpa.signed", on=False)
    world.provider.requests.clear()
    assert run("--prune").exit_code == 0
    assert {
        frozenset(each.scopes or ()) for each in world.provider.requests.all(path="/api/") if each.method != "GET"
    } == {frozenset(scopes)}


def test_a_second_process_uses_the_tokens_of_the_first(world: World, run: Callable[..., Result]) -> None:
    run()
    world.provider.requests.clear()
    run("--check")
    run()
    assert world.provider.requests.all(path="/oauth/token") == []


def test_200_organizations_need_no_second_run(world: World, run: Callable[..., Result]) -> None:
    world.add_organizations(*(f"org-{number:03}" for number in range(199)))
    first = document(run("--json"))
    assert (first["organizations"], first["failures"], first["drift"]) == (200, [], False)
    assert {change["action"] for change in first["changes"]} == {"create"}
    webhooks = world.provider.state.webhooks()
    assert len({webhook.organization_id for webhook in webhooks}) == len(webhooks) == 200
    assert all(webhook.active for webhook in webhooks)
    world.provider.requests.clear()
    before = world.database()
    assert document(run("--json"))["changes"] == []
    assert (world.writes(), world.database()) == ([], before)
    assert run("--check").exit_code == 0
    world.provider.state.switch_event(webhooks[123].id, "receipt.fetched", on=False)
    checked = run("--check")
    assert checked.exit_code == 1
    assert "receipt_fetched yes" not in checked.stdout
    assert "receipt_fetched no → yes" in checked.stdout


def test_webhook_list_shows_which_are_active(
    world: World, run: Callable[..., Result], environment: dict[str, str]
) -> None:
    def listed() -> list[Any]:
        result = CliRunner(env=world.environment(environment)).invoke(main, ["webhooks", "list", "--json"])
        return [row["active"] for row in document(result)]

    run()
    assert listed() == [True]
    world.provider.state.change_webhook(world.registered().id, active=False)
    world.public_url = "http://127.0.0.1:1"  # out of reach, so that it stays inactive
    assert run().exit_code == 1
    assert listed() == [False]


def test_an_inactive_webhook_is_named_with_what_it_means(
    world: World, run: Callable[..., Result], environment: dict[str, str]
) -> None:
    def listed() -> str:
        return CliRunner(env=world.environment(environment)).invoke(main, ["webhooks", "list"]).stdout.splitlines()[-1]

    run()
    assert re.fullmatch("active: as read at OpenCard [0-9]+ s ago; receiver bootstrap --check reads it now", listed())
    with world.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE receiver.applied_configuration SET ended_at = ended_at - interval '5 hours'")
    assert "as read at OpenCard 5 h" in listed()
    world.provider.state.change_webhook(world.registered().id, active=False)
    assert "challenge  inactive, OpenCard delivers nothing → active" in run("--check").stdout
    world.public_url = "http://127.0.0.1:1"
    checked = run("--check").stdout
    assert "inactive, OpenCard delivers nothing → active" in checked, "next to another URL, too"
    assert "url http" in checked


def test_unstable_page_order_loses_no_organization(world: World, run: Callable[..., Result]) -> None:
    world.add_organizations(*(f"org-{number:02}" for number in range(11)))
    world.provider.behaviour.before_page = lambda _path, page: world.provider.state.shuffle(page)
    assert document(run("--json"))["organizations"] == 12
    assert len(world.provider.state.webhooks()) == 12


def test_output_is_a_table_and_a_summary_line(run: Callable[..., Result]) -> None:
    planned = run("--dry-run", configuration=HEADERS)
    lines = planned.stdout.splitlines()
    assert lines[0].split() == ["organization", "at", "OpenCard", "action", "difference"]
    assert lines[1].split(maxsplit=3)[:3] == ["acme", "-", "create"]
    assert lines[2].split() == ["acme", "-", "add-header", "headers.X-Token", "***"]
    assert lines[-1] == "1 organization, 2 changes to make for 1 organization"
    assert run().stdout.splitlines()[-1] == "1 organization, 2 changes made for 1 organization, no differences"
    assert run().stdout == "1 organization, no differences\n"


def test_failures_are_on_stderr_with_their_organization(world: World, run: Callable[..., Result]) -> None:
    world.add_organizations("globex")
    world.provider.faults.add(ApiFault.answers(422, method="POST", path="/organizations/1001/webhooks$", times=9))
    ended = run("--json")
    shown = json.loads(ended.stdout)
    assert (ended.exit_code, shown["drift"], len(shown["changes"])) == (1, True, 1)
    (failure,) = shown["failures"]
    assert set(failure) == {"organization_reference_id", "organization_id", "error"}
    world.provider.faults.add(ApiFault.answers(400, method="POST", path="/webhooks$", times=9))
    again = run()
    assert again.exit_code == 1
    assert again.stderr.startswith(
        f"organization {failure['organization_reference_id']}: POST /api/v1/application/accounts/1/"
    )
    assert "1 failed" in again.stdout


@pytest.mark.parametrize("echoes_secrets", [False, True], ids=["secrets are hidden", "secrets are echoed"])
def test_secrets_are_in_no_output_log_or_plain_column(
    world: World, run: Callable[..., Result], caplog: pytest.LogCaptureFixture, *, echoes_secrets: bool
) -> None:
    world.provider.behaviour.echoes_secrets = echoes_secrets
    world.provider.behaviour.rejection = "echo"
    world.provider.behaviour.routes_off = frozenset({"/accounts/<int:account>/billings"})
    organization = world.provider.state.organizations()[0]
    world.provider.state.change_billing(organization.billing_id or 0, ["product_transaction"])
    configuration = HEADERS + '[[organizations]]\nreference_id = "acme"\nbasic_password = "the-password"\n'
    outputs = [run("--dry-run", "--json", configuration=configuration, LOG_LEVEL="DEBUG").output]
    outputs.append(run("--json", LOG_LEVEL="DEBUG").output)
    webhook = world.registered()
    world.provider.state.change_webhook(webhook.id, active=False, enabled=False)
    world.provider.faults.add(ApiFault.answers(503, times=2))
    outputs.append(run(LOG_LEVEL="DEBUG", LOG_FORMAT="console").output)
    with world.engine.connect() as connection:
        tokens = connection.exec_driver_sql("SELECT to_jsonb(t)::text FROM receiver.oauth_tokens AS t").scalars().all()
    assert tokens
    everything = "".join([*outputs, caplog.text, *map(str, world.database()), *tokens])
    secrets = {webhook.secret, "the-password", "the-token", world.client.secret, *_tokens(world)}
    assert len(secrets) > 5
    for secret in secrets:
        for written in (secret, secret.encode().hex(), base64.b64encode(secret.encode()).decode()):
            assert written not in everything


def _tokens(world: World) -> list[str]:
    encryption = Encryption(world.settings.encryption_keys)
    with world.engine.connect() as connection:
        stored = connection.execute(text("SELECT token FROM receiver.oauth_tokens")).scalars()
        return [encryption.decrypt(token) for token in stored]


@pytest.mark.parametrize("missing", ["OPENCARD_ACCOUNT_ID", "OPENCARD_CLIENT_ID", "OPENCARD_CLIENT_SECRET"])
def test_missing_account_or_client_names_the_variable(run: Callable[..., Result], missing: str) -> None:
    ended = run(**{missing: ""})
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert ended.stderr == f"{missing} is missing: set it as .env.example describes\n"
