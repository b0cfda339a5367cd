"""``receiver sandbox`` as another process: it says how to reach it, serves, delivers, and ends cleanly."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from click.testing import CliRunner

from receiver.cli import main
from receiver.sandbox.provider import Provider, serving
from receiver.sandbox.story import make_story
from tests.support.provider_ends import ALL_FLAGS, APPLICATION, SECRET, receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = Path(sys.executable).with_name("receiver")
VARIABLES = ("OPENCARD_API_URL", "OPENCARD_ACCOUNT_ID", "OPENCARD_CLIENT_ID", "OPENCARD_CLIENT_SECRET")


@contextmanager
def running(*options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """Run the command on a free port, and yield it with the variables that it says to export."""
    command = [str(PROGRAM), "sandbox", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            lines = [shlex.split(process.stdout.readline()) for _ in VARIABLES]
            assert [line[0] for line in lines] == ["export"] * len(VARIABLES)
            yield process, dict(line[1].split("=", 1) for line in lines)
        finally:
            process.kill()


def end(process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str, str]:
    process.send_signal(number)
    out, error = process.communicate(timeout=20)
    return process.returncode, out, error


@contextmanager
def signed_in(variables: dict[str, str], *scopes: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=variables["OPENCARD_API_URL"], trust_env=False) as http:
        form = {
            "grant_type": "client_credentials",
            "client_id": variables["OPENCARD_CLIENT_ID"],
            "client_secret": variables["OPENCARD_CLIENT_SECRET"],
            "scope": " ".join(scopes),
        }
        token = http.post("/oauth/token", data=form).json()["access_token"]
        http.headers["Authorization"] = f"Bearer {token}"
        http.base_url = httpx.URL(
            f"{variables['OPENCARD_API_URL']}{APPLICATION}/accounts/{variables['OPENCARD_ACCOUNT_ID']}"
        )
        yield http


def register(http: httpx.Client, organization: Any, url: str) -> None:
    fields = {**dict.fromkeys(ALL_FLAGS, True), "url": url, "secret": SECRET}
    answer = http.post(f"/organizations/{organization['id']}/webhooks", json=fields)
    assert (answer.status_code, answer.json()["active"]) == (201, True)


@pytest.mark.usefixtures("sigint")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sandbox_serves_its_api_until_it_is_stopped(number: signal.Signals) -> None:
    options = ("--organizations", "20", "--per-page", "7", "--purchases", "0", "--account-id", "42")
    with running(*options) as (process, variables):
        assert tuple(variables) == VARIABLES
        assert variables["OPENCARD_ACCOUNT_ID"] == "42"
        with signed_in(variables, "organizations-read") as http:
            page = http.get("/organizations").json()
        assert (page["total"], page["per_page"]) == (20, 7)
        assert [item["reference_id"] for item in page["data"]][:2] == ["org-001", "org-002"]
        assert end(process, number) == (0, "", "")


def test_webhook_registered_at_run_time_gets_purchases() -> None:
    options = ("--organization", "acme", "--organization", "globex", "--purchases", "3", "--billing", "all")
    with receiver() as first, receiver() as second, running(*options) as (process, variables):
        for number, ems in enumerate((first, second)):
            with signed_in(variables, "organizations-read", "webhooks-write") as http:
                organization = http.get("/organizations").json()["data"][number]
                register(http, organization, ems.url)
            wait_for_the_whole_story(variables, organization, seed=number + 1)
        code, out, error = end(process, signal.SIGTERM)
        for reference, ems in (("acme", first), ("globex", second)):
            assert "tpa.signed" in ems.events()
            assert {one.fields["organization"]["reference_id"] for one in ems.arrived} == {reference}
    assert (code, error) == (0, "")
    assert re.search(r"^all +\d+", out, flags=re.MULTILINE)


def wait_for_the_whole_story(variables: dict[str, str], organization: Any, *, seed: int) -> None:
    """Return when the delivery log holds an attempt for every event of the story."""
    story = make_story(seed=seed, organizations=[organization["reference_id"]], purchases=3)
    with signed_in(variables, "webhooks-read", "webhook-events-read") as http:
        path = f"/organizations/{organization['id']}/webhooks"
        [webhook] = http.get(path).json()["data"]
        while http.get(f"{path}/{webhook['id']}/events").json()["total"] < len(story.events):
            pass


def test_the_variables_come_as_json_too() -> None:
    command = [str(PROGRAM), "sandbox", "--port", "0", "--client-id", "me", "--client-secret", "x y", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = "".join(iter(process.stdout.readline, "}\n"))
        code, out, error = end(process, signal.SIGTERM)
    assert '"OPENCARD_CLIENT_ID": "me"' in said
    assert '"OPENCARD_CLIENT_SECRET": "x y"' in said
    assert (code, out, error) == (0, "", "")


def test_client_has_all_scopes_by_default() -> None:
    with running("--purchases", "0", "--scopes", "recommended") as (process, variables):
        form = {
            "grant_type": "client_credentials",
            "client_id": variables["OPENCARD_CLIENT_ID"],
            "client_secret": variables["OPENCARD_CLIENT_SECRET"],
        }
        url = f"{variables['OPENCARD_API_URL']}/oauth/token"
        statuses = [
            httpx.post(
                url, data={**form, "scope": scope}, headers={"Accept": "application/json"}, trust_env=False
            ).status_code
            for scope in ("webhooks-write", "webhook-headers-write")
        ]
        assert statuses == [200, 400]
        assert end(process, signal.SIGTERM)[0] == 0


def test_a_taken_port_is_one_line_and_exit_code_1() -> None:
    with serving(Provider()) as url:
        result = CliRunner().invoke(main, ["sandbox", "--port", url.rpartition(":")[2]])
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "options",
    [
        ["--url", "http://127.0.0.1:1/"],
        ["--url", "http://127.0.0.1:1/", "--secret", "s", "--organization", "a", "--organization", "b"],
        ["--secret", "s"],
        ["--organizations", "2", "--organization", "acme"],
        ["--scopes", "organizations-read no-such-scope"],
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(options: list[str]) -> None:
    result = CliRunner().invoke(main, ["sandbox", *options])
    assert result.exit_code == 2
    assert "Error: " in result.stderr


def test_one_webhook_can_be_delivered_to_without_the_api() -> None:
    with receiver() as ems:
        options = ["--url", ems.url, "--organization", "acme", "--secret", SECRET, "--purchases", "2", "--json"]
        result = CliRunner().invoke(main, ["sandbox", *options])
    assert result.exit_code == 0
    assert f'"accepted": {len(ems.arrived)},' in result.stdout


def test_intended_losses_are_counted_and_no_failure() -> None:
    with receiver() as ems:
        options = ["--url", ems.url, "--organization", "acme", "--secret", SECRET, "--purchases", "5"]
        result = CliRunner().invoke(main, ["sandbox", *options, "--lost", "0.3", "--outage", "24", "--json"])
    assert result.exit_code == 0
    counts = json.loads(result.stdout)
    assert counts["given_up"] == counts["lost"] + counts["in_outage"]
    assert counts["lost"] > 0
    assert counts["in_outage"] > 0
    assert (counts["unanswered"], counts["refused"]) == (3 * counts["lost"], 3 * counts["in_outage"])
    assert counts["accepted"] == len(ems.arrived)


@pytest.mark.parametrize(("option", "value"), [("--lost", "1.5"), ("--outage", "-1"), ("--outage", "1e9")])
def test_impossible_losses_are_wrong_usage(option: str, value: str) -> None:
    result = CliRunner().invoke(main, ["sandbox", option, value])
    assert result.exit_code == 2
    assert option in result.stderr
