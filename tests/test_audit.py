"""The audit of the libraries: a finding fails, and what no service could be asked about is said loudly."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from werkzeug.wrappers import Request, Response

from tests.support.serving import served

if TYPE_CHECKING:
    from collections.abc import Callable
    from wsgiref.types import WSGIApplication

SCRIPT = Path(__file__).parent.parent / ".ci" / "audit.py"
FLASK = f"flask==3.1.0 --hash=sha256:{'0' * 64}\n"
CLICK = f"click==8.2.0 \\\n    --hash=sha256:{'0' * 64}\n"
ELSEWHERE = f"colorama==0.4.6 ; sys_platform == 'win32' --hash=sha256:{'0' * 64}\n"
FINDING = {
    "id": "GHSA-xxxx",
    "aliases": [],
    "summary": "something is wrong",
    "modified": "2026-01-01T00:00:00Z",
    "affected": [
        {
            "package": {"name": "flask", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.1.1"}]}],
        }
    ],
}


@pytest.fixture
def audit(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the script with the real pip-audit, which asks the service at an address of this machine."""
    lock = tmp_path / "requirements.lock"
    lock.write_text(FLASK + CLICK + ELSEWHERE)

    def run(url: str, *options: str) -> subprocess.CompletedProcess[str]:
        arguments = [str(lock), "--service=osv", f"--osv-url={url}", f"--cache-dir={tmp_path / 'cache'}", *options]
        return subprocess.run(
            [sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False, timeout=60
        )

    return run


def service(known: dict[str, Any]) -> WSGIApplication:
    """Return a service of vulnerabilities, as OSV's API is: library → what is known."""

    @Request.application
    def answer(request: Request) -> Response:
        name = request.get_json(force=True)["package"]["name"]
        return Response(json.dumps({"vulns": known[name]} if name in known else {}), content_type="application/json")

    return answer


def test_libraries_without_findings_pass(audit: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    with served(service({})) as url:
        done = audit(url)
    assert (done.returncode, done.stdout) == (0, "2 of 2 libraries are audited\n"), done.stderr


@pytest.mark.parametrize("option", [(), ("--tolerate-unaudited",)])
def test_a_finding_fails(audit: Callable[..., subprocess.CompletedProcess[str]], option: tuple[str, ...]) -> None:
    with served(service({"flask": [FINDING]})) as url:
        done = audit(url, *option)
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines()[0] == "KNOWN: flask 3.1.0: GHSA-xxxx"


@pytest.mark.parametrize(("option", "code"), [((), 3), (("--tolerate-unaudited",), 0)])
def test_a_service_that_is_out_of_reach_is_said_loudly(
    audit: Callable[..., subprocess.CompletedProcess[str]], nowhere: str, option: tuple[str, ...], code: int
) -> None:
    done = audit(nowhere, *option)
    assert done.returncode == code, done.stderr
    assert "NOT AUDITED: 3 of 3 libraries could not be audited" in done.stdout
    assert "\nclick, colorama, flask\n" in done.stdout
    assert "\nosv: " in done.stdout


def found(*reports: str) -> Any:
    """Return what the script makes of reports, one of each service."""
    spec = importlib.util.spec_from_file_location("audit_of_libraries", SCRIPT)
    assert spec
    assert spec.loader
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    audit = module.Audit({"click", "flask"})
    for number, report in enumerate(reports):
        audit.add(f"service {number}", report, "ERROR: no connection")
    return audit


def report(**skipped_or_not: bool) -> str:
    return json.dumps(
        {
            "dependencies": [
                {"name": name, "skip_reason": "not found"} if skipped else {"name": name, "version": "1", "vulns": []}
                for name, skipped in skipped_or_not.items()
            ]
        }
    )


@pytest.mark.parametrize(
    ("reports", "unaudited"),
    [
        ((report(click=True, flask=True),), ["click", "flask"]),
        ((report(click=True, flask=False),), ["click"]),
        ((report(click=True, flask=False), report(click=False, flask=True)), []),
        (("", report(click=False, flask=False)), []),
        (("", ""), ["click", "flask"]),
        (("[]",), ["click", "flask"]),
        (("no json",), ["click", "flask"]),
    ],
)
def test_a_library_is_audited_once_any_service_knows_it(reports: tuple[str, ...], unaudited: list[str]) -> None:
    assert found(*reports).unaudited == unaudited
    loud = any(line.startswith(f"NOT AUDITED: {len(unaudited)} of 2") for line in found(*reports).lines())
    assert loud is bool(unaudited)
