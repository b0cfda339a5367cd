from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from receiver.cli import main
from receiver.sandbox.registration import Registration
from tests.conftest import PUBLIC_URL, Acme
from tests.support.factories import body, card_holder

if TYPE_CHECKING:
    from pathlib import Path

Run = Callable[..., Result]
ACME = ("--organization", "acme", "--organization-id", "7", "--webhook-id", "42")
SECRET = "the-webhook-secret"
BASIC = ("--authentication-type", "basic", "--basic-username", "opencard", "--basic-password", "the-password")
CUSTOM = ("--authentication-type", "custom", "--custom-key", "X-Token", "--custom-value", "the-value")


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    """Runs ``receiver webhooks``."""

    def invoke(*arguments: str, stdin: str = "", **changes: str | None) -> Result:
        return CliRunner(env={**environment, **changes}).invoke(main, ["webhooks", *arguments], input=stdin)

    return invoke


def document(result: Result) -> Any:
    """Return the one JSON document that the command printed."""
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def count(acme: Acme) -> int:
    number: int = acme.value("SELECT count(*) FROM receiver.webhooks")
    return number


@pytest.mark.parametrize(
    ("options", "credentials"),
    [
        ((), {}),
        (BASIC, {"authentication_type": "basic", "basic_username": "opencard", "basic_password": "the-password"}),
        (CUSTOM, {"authentication_type": "custom", "custom_key": "X-Token", "custom_value": "the-value"}),
    ],
    ids=["none", "basic", "custom"],
)
def test_adopted_webhook_takes_deliveries_at_the_printed_url(
    run: Run, acme: Acme, options: tuple[str, ...], credentials: dict[str, Any]
) -> None:
    adopted = document(run("adopt", *ACME, "--secret", SECRET, *options, "--json"))
    assert len(adopted["endpoint_key"]) >= 32
    assert adopted["url"] == f"{PUBLIC_URL}/hooks/opencard/{adopted['endpoint_key']}"
    assert (adopted["organization_reference_id"], adopted["organization_id"]) == ("acme", 7)
    assert (adopted["opencard_webhook_id"], adopted["enabled"]) == (42, True)

    registration = Registration(url=adopted["url"], secret=SECRET, organization_reference_id="acme", **credentials)
    content = body(card_holder())
    headers = registration.headers("card_holder.created", content)
    path = adopted["url"].removeprefix(PUBLIC_URL)
    assert acme.client.post(path, data=content, headers=headers).status_code == 200
    assert acme.value("SELECT webhook_id FROM receiver.deliveries") == adopted["id"]


def test_secrets_are_read_from_files_and_standard_input(run: Run, acme: Acme, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("the-password\n")
    adopted = document(run("adopt", *ACME, "--secret", "-", *BASIC[:-1], f"@{password}", "--json", stdin=f"{SECRET}\n"))
    registration = Registration(
        url=adopted["url"],
        secret=SECRET,
        organization_reference_id="acme",
        authentication_type="basic",
        basic_username="opencard",
        basic_password="the-password",
    )
    headers = registration.headers("card_holder.created", b"{}")
    path = adopted["url"].removeprefix(PUBLIC_URL)
    assert acme.client.post(path, data=b"{}", headers=headers).status_code == 200


def test_a_secret_may_begin_with_the_mark_of_a_file(run: Run, acme: Acme) -> None:
    adopted = document(run("adopt", *ACME, "--secret", f"@@{SECRET}", "--json"))
    registration = Registration(url=adopted["url"], secret=f"@{SECRET}", organization_reference_id="acme")
    headers = registration.headers("card_holder.created", b"{}")
    path = adopted["url"].removeprefix(PUBLIC_URL)
    assert acme.client.post(path, data=b"{}", headers=headers).status_code == 200


def test_a_secret_file_that_cannot_be_read_is_named(run: Run, acme: Acme) -> None:
    before = count(acme)
    result = run("adopt", *ACME, "--secret", "@/nowhere/secret")
    assert result.exit_code == 2
    assert "cannot read /nowhere/secret: No such file or directory" in result.stderr
    assert count(acme) == before


def test_people_get_the_key_and_the_url(run: Run, acme: Acme) -> None:
    result = run("adopt", *ACME, "--secret", SECRET)
    key = acme.value("SELECT endpoint_key FROM receiver.webhooks WHERE opencard_webhook_id = 42")
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["endpoint_key", key] in lines
    assert ["url", f"{PUBLIC_URL}/hooks/opencard/{key}"] in lines


def test_each_webhook_gets_a_key_of_its_own(run: Run, acme: Acme) -> None:
    assert count(acme) == 1
    for number in range(100, 105):
        document(run("adopt", *ACME[:5], str(number), "--secret", SECRET, "--json"))
    assert acme.value("SELECT count(DISTINCT endpoint_key) FROM receiver.webhooks") == 6


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--authentication-type", "oauth"), "receiver bootstrap registers such webhooks"),
        (("--authentication-type", "digest"), "not one of none, basic, custom"),
        (BASIC[:4], "--basic-password is missing"),
        (("--authentication-type", "basic", "--basic-password", "the-password"), "--basic-username is missing"),
        (CUSTOM[:4], "--custom-value is missing"),
        (("--authentication-type", "custom", "--custom-value", "the-value"), "--custom-key is missing"),
        (BASIC[2:], "--basic-username does not go with --authentication-type none"),
        ((*CUSTOM, "--basic-username", "opencard"), "--basic-username does not go with"),
        ((*CUSTOM, "--custom-key", "X_Token"), "--custom-key: not a header that arrives"),
        ((*CUSTOM, "--custom-key", "X Token:"), "--custom-key: not a header that arrives"),
        ((*CUSTOM, "--custom-key", "Content-Type"), "--custom-key: every delivery has this header already"),
        ((*CUSTOM, "--custom-value", " the-value"), "--custom-value: its value begins or ends with white space"),
        ((*CUSTOM, "--custom-value", "the-\nvalue"), "--custom-value: its value has control characters"),
        ((*BASIC, "--basic-username", "a:b"), "--basic-username: a user name of basic authentication has no colon"),
        ((*BASIC, "--basic-password", "the-password "), "--basic-password: its value begins or ends with white space"),
        (("--secret", "the-secret "), "--secret: its value begins or ends with white space"),
        (("--organization", ""), "--organization is empty"),
        (("--webhook-id", "0"), "--webhook-id"),
        (("--webhook-id", "forty-two"), "--webhook-id"),
        (("--organization-id", "99999999999999999999"), "--organization-id"),
    ],
)
def test_adoption_is_refused_naming_the_wrong_option(run: Run, acme: Acme, options: tuple[str, ...], said: str) -> None:
    result = run("adopt", *ACME, "--secret", SECRET, *options)
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert result.stdout == ""
    assert "the-" not in result.stderr
    assert count(acme) == 1


@pytest.mark.parametrize(("secret", "stdin"), [("", ""), ("-", ""), ("-", "\n")])
def test_an_empty_secret_is_refused(run: Run, acme: Acme, secret: str, stdin: str) -> None:
    result = run("adopt", *ACME, "--secret", secret, stdin=stdin)
    assert (result.exit_code, "--secret is empty" in result.stderr) == (2, True)
    assert count(acme) == 1


def test_a_webhook_is_adopted_once(run: Run, acme: Acme) -> None:
    document(run("adopt", *ACME, "--secret", SECRET, "--json"))
    again = run("adopt", *ACME, "--secret", SECRET, "--json")
    assert (again.exit_code, again.stdout) == (1, "")
    assert again.stderr.count("\n") == 1
    assert "webhook 42 is managed already" in again.stderr
    assert count(acme) == 2


def test_the_list_has_every_webhook_or_those_of_one_organization(run: Run, acme: Acme) -> None:
    document(run("adopt", "--organization", "globex", *ACME[2:], "--secret", SECRET, "--json"))
    everything = document(run("list", "--json"))
    assert [row["organization_reference_id"] for row in everything] == ["acme", "globex"]
    assert document(run("list", "--organization", "acme", "--json")) == everything[:1]
    assert everything[0]["url"] == acme.registration.url
    assert everything[0]["opencard_webhook_id"] == 1
    shown = run("list")
    assert shown.exit_code == 0
    assert acme.registration.url in shown.stdout
    assert "globex" in shown.stdout


def test_one_webhook_is_shown_with_the_fields_of_the_list(run: Run, acme: Acme) -> None:
    (listed,) = document(run("list", "--json"))
    assert document(run("show", str(listed["id"]), "--json")) == {**listed, "unavailable_events": []}
    shown = run("show", str(listed["id"]))
    assert shown.exit_code == 0
    assert acme.registration.url in shown.stdout


def test_where_there_are_none_the_list_says_what_to_do(run: Run, acme: Acme) -> None:
    acme.execute("DELETE FROM receiver.webhooks")
    assert "receiver webhooks adopt" in run("list").stdout
    assert document(run("list", "--json")) == []


def test_unknown_webhook_is_reported_in_one_line(run: Run, acme: Acme) -> None:
    assert count(acme) == 1
    result = run("show", "12345", "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "receiver: there is no webhook 12345: receiver webhooks list shows which there are\n"


@pytest.mark.parametrize("webhook_id", ["0", "acme", "99999999999999999999"])
def test_invalid_webhook_id_is_wrong_usage(run: Run, acme: Acme, webhook_id: str) -> None:
    assert count(acme) == 1
    result = run("show", webhook_id, "--json")
    assert (result.exit_code, result.stdout) == (2, "")


def test_secrets_are_in_no_output(run: Run, acme: Acme) -> None:
    outputs = [
        run("adopt", *ACME, "--secret", SECRET, *BASIC, "--json").output,
        run("adopt", *ACME[:5], "43", "--secret", SECRET, *CUSTOM).output,
        run("list", "--json").output,
        run("list").output,
    ]
    for row in acme.rows("SELECT id FROM receiver.webhooks"):
        outputs += [run("show", str(row["id"]), "--json").output, run("show", str(row["id"])).output]
    assert count(acme) == 3
    for output in outputs:
        assert output
        for secret in (SECRET, "the-password", "the-value", acme.registration.secret, "gAAAA"):
            assert secret not in output


def test_the_list_says_which_webhook_is_for_tests(run: Run, acme: Acme) -> None:
    assert document(run("list", "--json"))[0]["test"] is False
    acme.execute("UPDATE receiver.webhooks SET test = true")
    assert document(run("list", "--json"))[0]["test"] is True
    heading, line = run("list").stdout.splitlines()
    assert line[heading.index("test") :].split()[0] == "test"
