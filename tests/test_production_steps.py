"""The README's production steps, word for word, against an OpenCard as strict as its newer pages say."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sqlalchemy import text

from receiver.sandbox.local import local_servers, running_receiver
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent
RECEIVER = Path(sys.executable).with_name("receiver")
PRODUCTION = (ROOT / "README.md").read_text().partition("## Run it in production")[2].partition("\n## ")[0]
SHELL = "".join(re.findall(r"```sh\n(.*?)```", PRODUCTION, flags=re.DOTALL))
STEPS = re.findall(r"^ *(receiver .+)$", SHELL, flags=re.MULTILINE)
SECONDS = 60


@contextmanager
def opencard(*options: str) -> Iterator[dict[str, str]]:
    """Run the local OpenCard as a program of its own, and yield what a receiver of it has to be set to."""
    command = [str(RECEIVER), "sandbox", "--port", "0", "--purchases", "0", "--json", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads("".join(iter(process.stdout.readline, "}\n")) + "}")
        finally:
            process.send_signal(signal.SIGTERM)


def test_the_readme_has_the_steps() -> None:
    assert STEPS == [
        "receiver doctor",
        "receiver bootstrap --dry-run",
        "receiver bootstrap",
        "receiver reconcile --since 24h",
        "receiver reconcile",
        "receiver status",
    ]


@pytest.mark.parametrize(("scopes", "html_errors"), [("first-run", "page"), ("recommended", "redirect")])
def test_the_production_steps_work_at_the_first_try(scopes: str, html_errors: str, tmp_path: Path) -> None:
    name = f"first_contact_{scopes}_{html_errors}".replace("-", "_")
    options = ("--scopes", scopes, "--html-errors", html_errors, "--billing", "mixed", "--organizations", "4")
    with opencard(*options) as access, local_servers(name) as servers:
        variables = {**servers.environment, **access, "RECONCILE_INTERVAL": "0"}

        def run(line: str) -> Any:
            ran = subprocess.run(
                [RECEIVER, *line.split()[1:], "--json"],
                env={**os.environ, **variables},
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=False,
            )
            assert ran.returncode == 0, f"{line}: {ran.stdout}{ran.stderr}"
            return json.loads(ran.stdout)

        with running_receiver(servers, {**access, "RECONCILE_INTERVAL": "0"}):
            done = {step: run(step) for step in STEPS[:3]}
            assert len(done["receiver bootstrap --dry-run"]["changes"]) == 4
            assert len(done["receiver bootstrap"]["changes"]) == 4
            left_out = {each["organization_reference_id"] for each in done["receiver bootstrap"]["unavailable_events"]}
            assert left_out == {"org-002", "org-003"}
            send_test(access)

            def arrived() -> bool:
                with servers.engine.connect() as connection:
                    return bool(connection.scalar(text("SELECT count(*) FROM ems.card_holders")))

            assert eventually(arrived, within=SECONDS)
            done |= {step: run(step) for step in STEPS[3:]}
            assert sorted(each["matched"] for each in done["receiver reconcile"]) == [0, 0, 0, 1]
            assert done["receiver status"]["needs_attention"] == []
            states = {each["check"]: each["state"] for each in run("receiver doctor")}
    not_given = {"scope billings-read", "scope files-read"} if scopes == "recommended" else set()
    assert {check for check, state in states.items() if state != "ok"} == not_given


def send_test(access: dict[str, str]) -> None:
    """Have OpenCard deliver an event to the first organization, as something that happened there would."""
    api = access["OPENCARD_API_URL"]
    json_only = {"Accept": "application/json"}
    form = {
        "grant_type": "client_credentials",
        "client_id": access["OPENCARD_CLIENT_ID"],
        "client_secret": access["OPENCARD_CLIENT_SECRET"],
        "scope": "organizations-read webhooks-read webhooks-write",
    }
    with httpx.Client(headers=json_only, trust_env=False) as http:
        http.headers["Authorization"] = f"Bearer {http.post(f'{api}/oauth/token', data=form).json()['access_token']}"
        account = f"{api}/api/v1/application/accounts/{access['OPENCARD_ACCOUNT_ID']}/organizations"
        organization = http.get(account).json()["data"][0]["id"]
        webhook = http.get(f"{account}/{organization}/webhooks").json()["data"][0]["id"]
        http.post(f"{account}/{organization}/webhooks/{webhook}/test/card_holder.created").raise_for_status()
