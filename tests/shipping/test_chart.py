"""The Helm chart, rendered by Helm: valid for the oldest and the newest Kubernetes, and safe to run as it is."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from sqlalchemy import text

from receiver.settings import variable_names
from tests.support.locks import ROOT, project
from tests.support.tools import FOLDER, needs, tool

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

CHART = ROOT / "deploy" / "kubernetes"
VERSIONS = ("1.27", "1.37")
BUCKET = ("files.url=s3://receipts/acme",)
VARIANTS = {
    "defaults": (),
    "scaled": ("worker.autoscaling.enabled=true", "worker.autoscaling.minReplicas=0"),
    "bucket": BUCKET,
    "bare": ("ingress.enabled=false", "networkPolicy.enabled=false", "files.existingClaim=mine"),
    "everything": (
        *(
            "imagePullSecrets[0].name=pull",
            "nodeSelector.disk=ssd",
            "podAnnotations.team=ems",
            "ingress.className=nginx",
        ),
        *("ingress.annotations.a=b", "files.storageClass=nfs", "tolerations[0].operator=Exists"),
        "networkPolicy.metricsFrom[0].podSelector.matchLabels.app=prometheus",
        "networkPolicy.storesTo[0].ipBlock.cidr=10.0.0.0/8",
    ),
}
pytestmark = needs("helm")


def helm(*arguments: str) -> str:
    done = subprocess.run([tool("helm"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def rendered(*values: str) -> list[dict[str, Any]]:
    given = [argument for value in values for argument in ("--set", value)]
    return [each for each in yaml.safe_load_all(helm("template", "acme", str(CHART), *given)) if each]


def pods(resources: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the pods that the chart runs: component → its specification."""
    made = [each for each in resources if each["kind"] in {"Deployment", "Job"}]
    return {
        each["metadata"]["labels"]["app.kubernetes.io/component"]: each["spec"]["template"]["spec"] for each in made
    }


def kinds(resources: list[dict[str, Any]]) -> set[str]:
    return {each["kind"] for each in resources}


def test_helm_finds_nothing_wrong_with_the_chart() -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART))


@needs("kubernetes")
@pytest.mark.long
@pytest.mark.parametrize("version", VERSIONS)
def test_rendered_resources_are_valid_for_kubernetes(version: str, tmp_path: Path) -> None:
    resources = [each for values in VARIANTS.values() for each in rendered(*values) if each["kind"] != "ScaledObject"]
    manifest = tmp_path / "manifest.yaml"
    manifest.write_text(yaml.safe_dump_all(resources))
    validate = [sys.executable, "-m", "kubernetes_validate", "--strict", "--kubernetes-version", version, str(manifest)]
    env = {**os.environ, "PYTHONPATH": str(FOLDER)}
    done = subprocess.run(validate, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_pod_runs_the_command_of_the_procfile() -> None:
    procfile = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
    found = {name: pod["containers"][0].get("command") for name, pod in pods(rendered()).items()}
    assert found.pop("web") is None  # the image's own
    assert found.pop("worker") == [*shlex.split(procfile["worker"]), "--processes", "1"]
    assert found == {name: shlex.split(procfile[name]) for name in ("release", "scheduler")}


def test_no_pod_may_write_or_become_more() -> None:
    for name, pod in pods(rendered()).items():
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["automountServiceAccountToken"] is False, name
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {mount["name"] for mount in container["volumeMounts"]} <= {"tmp", "files"}


def test_the_chart_holds_no_secret_and_takes_them_from_outside() -> None:
    resources = rendered()
    assert not kinds(resources) & {"Secret", "ConfigMap"}
    for pod in pods(resources).values():
        (container,) = pod["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "receiver"}}]
        assert {each["name"] for each in container["env"]} <= set(variable_names())


def test_migrations_run_before_the_release_they_belong_to() -> None:
    (job,) = [each for each in rendered() if each["kind"] == "Job"]
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"


def test_the_ingress_lets_hooks_in_and_nothing_else() -> None:
    (ingress,) = [each for each in rendered() if each["kind"] == "Ingress"]
    (rule,) = ingress["spec"]["rules"]
    assert [path["path"] for path in rule["http"]["paths"]] == ["/hooks/"]


def test_every_pod_is_under_a_network_policy() -> None:
    resources = rendered()
    policies = [each["spec"] for each in resources if each["kind"] == "NetworkPolicy"]
    (everybody,) = [each for each in policies if "Egress" in each["policyTypes"]]
    selected = everybody["podSelector"]["matchLabels"]
    for each in resources:
        if each["kind"] in {"Deployment", "Job"}:
            assert selected.items() <= each["spec"]["template"]["metadata"]["labels"].items()
    assert "ingress" not in everybody


def test_further_egress_is_added_to_the_rules_of_every_pod() -> None:
    def egress(*values: str) -> list[dict[str, Any]]:
        policies = [each["spec"] for each in rendered(*values) if each["kind"] == "NetworkPolicy"]
        (rules,) = [each["egress"] for each in policies if "egress" in each]
        return list(rules)

    collector = "networkPolicy.furtherEgress[0].ports[0]"
    added = {"ports": [{"port": 4318, "protocol": "TCP"}]}
    assert egress(f"{collector}.port=4318", f"{collector}.protocol=TCP") == [*egress(), added]


def test_a_bucket_takes_the_place_of_the_volume() -> None:
    resources = rendered(*BUCKET)
    assert "PersistentVolumeClaim" not in kinds(resources)
    for pod in pods(resources).values():
        assert [volume["name"] for volume in pod["volumes"]] == ["tmp"]
    assert "PersistentVolumeClaim" in kinds(rendered())


def test_workers_scale_by_the_deliveries_that_are_due(engine: Engine) -> None:
    resources = rendered(*VARIANTS["scaled"])
    (scaled,) = [each["spec"] for each in resources if each["kind"] == "ScaledObject"]
    deployments = {each["metadata"]["name"]: each for each in resources if each["kind"] == "Deployment"}
    worker = deployments[scaled["scaleTargetRef"]["name"]]
    assert "replicas" not in worker["spec"]
    assert scaled["minReplicaCount"] == 1  # for a worker's other work
    (trigger,) = scaled["triggers"]
    assert trigger["metadata"]["connectionFromEnv"] == "DATABASE_URL"
    with engine.connect() as connection:
        connection.execute(
            text(
                "INSERT INTO receiver.queue (delivery_id, due_at) VALUES (1, now()), (2, now() - interval '1 minute'),"
                " (3, now() + interval '1 hour')"
            )
        )
        assert connection.execute(text(trigger["metadata"]["query"])).scalar_one() == 2


def test_the_chart_has_the_version_of_the_project() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == chart["version"] == project()["project"]["version"]


def test_every_value_is_used_by_a_template() -> None:
    templates = "".join(path.read_text() for path in (CHART / "templates").iterdir())

    def paths(values: dict[str, Any], prefix: str = "") -> list[str]:
        return [
            path
            for name, value in values.items()
            for path in (
                paths(value, f"{prefix}{name}.")
                if isinstance(value, dict) and value and name not in {"settings", "resources"}
                else [prefix + name]
            )
        ]

    for path in paths(yaml.safe_load((CHART / "values.yaml").read_text())):
        assert re.search(rf"\.Values\.{re.escape(path)}\b", templates), path
