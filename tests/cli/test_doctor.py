"""``receiver doctor`` as a shell sees it; what it finds is proved in tests/ops."""

from __future__ import annotations

import json

from tests.support.installed import RIGHT, run

NOWHERE = {**RIGHT, "OPENCARD_API_URL": "http://127.0.0.1:1", "PUBLIC_URL": "http://127.0.0.1:1"}
CLIENT = {"OPENCARD_ACCOUNT_ID": "1", "OPENCARD_CLIENT_ID": "ems", "OPENCARD_CLIENT_SECRET": "the-client-secret"}


def test_with_everything_broken_it_still_prints_one_document() -> None:
    ended = run(["receiver", "doctor", "--json"], {**NOWHERE, **CLIENT})
    assert (ended.returncode, ended.stderr) == (1, "")
    broken = [each["check"] for each in json.loads(ended.stdout) if each["state"] == "broken"]
    assert broken == ["database", "redis", "OpenCard's API"]
    assert "database-password" not in ended.stdout
    assert "the-client-secret" not in ended.stdout


def test_without_environment_every_variable_is_named_exit_2() -> None:
    ended = run(["receiver", "doctor", "--json"], {"OPENCARD_API_URL": "nowhere"})
    assert (ended.returncode, ended.stderr) == (2, "")
    found = json.loads(ended.stdout)
    named = {each["detail"].split(" is ")[0] for each in found if each["check"] == "settings"}
    assert named == {*RIGHT, *CLIENT, "OPENCARD_API_URL"}
    assert {each["state"] for each in found if each["check"] not in {"settings", "configuration"}} == {"not checked"}


def test_a_configuration_that_is_not_there_is_named() -> None:
    ended = run(["receiver", "doctor", "--config", "nowhere.toml"], {**NOWHERE, **CLIENT})
    assert ended.returncode == 1
    assert "nowhere.toml: there is no such file" in ended.stdout
