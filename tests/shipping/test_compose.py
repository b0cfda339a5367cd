"""compose.yaml: valid, and each of its services as the Procfile, the Dockerfile and the settings need it."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import jsonschema
import pytest
import yaml

from receiver.settings import variable_names
from tests.support.locks import ROOT
from tests.support.tools import needs, tool

OURS = ("release", "web", "worker", "scheduler")
OUTSIDE_OF_SETTINGS = {"POSTGRES_PASSWORD", "SITE_ADDRESS", "OPERATORS", "RECEIVER_VERSION"}
"""What compose.yaml itself asks for, besides the settings of the service."""


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((ROOT / "compose.yaml").read_text())


@needs("compose")
def test_compose_file_is_what_the_specification_says(compose: Any) -> None:
    jsonschema.validate(compose, json.loads(tool("compose").read_text()))


@pytest.mark.parametrize("name", OURS)
def test_each_process_runs_the_command_of_the_procfile(compose: Any, name: str) -> None:
    procfile = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
    default = re.findall(r"^CMD (\[.*\])$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[-1]
    assert compose["services"][name].get("command", json.loads(default)) == shlex.split(procfile[name])


@pytest.mark.parametrize("name", OURS)
def test_no_process_may_write_or_become_more(compose: Any, name: str) -> None:
    service = compose["services"][name]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["volumes"] == ["files:/var/lib/receiver/files"]


def test_nothing_but_the_proxy_is_open_to_the_outside(compose: Any) -> None:
    assert [name for name, service in compose["services"].items() if "ports" in service] == ["proxy"]
    for store in ("postgres", "valkey"):
        assert compose["services"][store]["networks"] == ["inside"]
    assert compose["networks"]["inside"] == {"internal": True}


def test_processes_wait_for_the_migrations(compose: Any) -> None:
    for name in ("web", "worker", "scheduler"):
        assert compose["services"][name]["depends_on"]["release"] == {"condition": "service_completed_successfully"}


def test_every_variable_is_a_setting_or_documented() -> None:
    asked = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "compose.yaml").read_text()))
    assert asked <= {*variable_names(), *OUTSIDE_OF_SETTINGS}
    page = (ROOT / "docs" / "operate" / "containers.md").read_text()
    assert all(name in page for name in asked)


def test_every_image_names_its_version(compose: Any) -> None:
    images = [service["image"] for service in compose["services"].values()]
    assert all(re.search(r":[0-9$]", image) for image in images), images
