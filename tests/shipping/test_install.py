"""docs/operate/install.md, typed line by line on a clean Debian with systemd, PostgreSQL, Valkey and Caddy."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support import debian
from tests.support.locks import PRODUCTION, ROOT
from tests.support.pages import lines_of
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.debian import Debian

REASON = debian.why_not()
pytestmark = [
    pytest.mark.install,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]

PAGE = ROOT / "docs" / "operate" / "install.md"
RELEASE, NEXT = "0.1.0", "0.2.0"
SECONDS = 180.0
AUTHORITY = "/etc/caddy/authority"
OPENCARD = "/run/opencard.env"
"""Where the local OpenCard writes the variables that the receiver needs."""
OWN_AUTHORITY = f"""{{
	local_certs
	skip_install_trust
	pki {{
		ca local {{
			root {{
				cert {AUTHORITY}.crt
				key {AUTHORITY}.key
			}}
		}}
	}}
}}
"""
"""In place of a public authority, which gives certificates to hosts in the internet only."""
MAY_FAIL = ("receiver status", "receiver doctor")
"""They exit with 1 until a webhook is registered."""


def build(folder: Path, version: str) -> Path:
    """Build the wheel of this release, under another version, in *folder*."""
    source = folder / "source"
    ignored = shutil.ignore_patterns(".git", ".venv", ".data", ".tools", "node_modules", "dist", ".*_cache")
    shutil.copytree(ROOT, source, ignore=ignored)
    project = source / "pyproject.toml"
    project.write_text(project.read_text().replace(f'version = "{RELEASE}"', f'version = "{version}"', 1))
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    shutil.rmtree(source)
    (wheel,) = folder.glob(f"*-{version}-*.whl")
    return wheel


def type_lines(machine: Debian, text: str, before: dict[str, str]) -> None:
    """Type the shell lines of a part of the page; before a line, what has to be different here."""
    for line in lines_of(text):
        if line in before:
            machine.run(before.pop(line))
        machine.run(line, codes=(0, 1) if line in MAY_FAIL else (0,), folder="/root/release")
    assert not before, "the page has these lines no more"


def applied(machine: Debian) -> int:
    """Return how many deliveries were applied."""
    query = "SELECT count(*) FROM receiver.deliveries WHERE status = 'processed'"
    return int(machine.run(f'runuser -u postgres -- psql -Atc "{query}" receiver').strip())


def check_service(machine: Debian, version: str) -> None:
    """All is well, this release runs, and it goes on taking what OpenCard delivers over HTTPS."""
    checks = {each["check"]: each["state"] for each in json.loads(machine.run("receiver doctor --json"))}
    assert set(checks.values()) == {"ok"}, checks
    assert version in machine.run("receiver --version")
    before = applied(machine)
    assert eventually(lambda: applied(machine) > before + 5, within=SECONDS)
    machine.run("receiver status")


def test_install_page_typed_line_by_line_ends_with_a_service(tmp_path: Path) -> None:
    installation, _, later = PAGE.read_text().partition("\n## Updating\n")
    update, _, rolling_back = later.partition("\nTo roll back:\n")
    with debian.booted(tmp_path) as machine:
        release = machine.root / "root" / "release"
        release.mkdir()
        shutil.copy(PRODUCTION, release)
        shutil.copy(build(tmp_path, RELEASE), release)
        (machine.root / "etc/hosts").write_text("127.0.0.1 localhost hooks.example.com\n")
        subject = '-subj "/CN=The authority of a test" -addext keyUsage=critical,keyCertSign -days 2'
        machine.run(
            f"mkdir /etc/caddy && openssl req -x509 -newkey rsa:2048 -nodes {subject}"
            f" -keyout {AUTHORITY}.key -out {AUTHORITY}.crt 2>&1 && chmod a+r {AUTHORITY}.key"
        )
        (machine.root / "root/caddy").write_text(OWN_AUTHORITY)
        start_opencard = (
            f"systemd-run --unit=opencard --setenv=SSL_CERT_FILE={AUTHORITY}.crt"
            f" --property=StandardOutput=file:{OPENCARD}"
            " /opt/receiver/bin/receiver sandbox --organizations 2 --repeat --compression 7200"
            f" && until grep -q CLIENT_SECRET {OPENCARD}; do sleep 0.1; done"
            f" && sed 's/^export //' {OPENCARD} | grep ^OPENCARD_ >/root/opencard"
            " && grep -v ^OPENCARD_ /etc/receiver/environment >/root/others"
            f" && cat /root/others /root/opencard >/etc/receiver/environment"
            f" && echo SSL_CERT_FILE={AUTHORITY}.crt >>/etc/receiver/environment"
        )
        differences = {
            "cp -r /opt/receiver/share/opencard-receiver/deploy/systemd/. /etc/systemd/system/": start_opencard,
            "systemctl restart caddy": "cat /etc/caddy/Caddyfile >>/root/caddy && cp /root/caddy /etc/caddy/Caddyfile",
        }
        type_lines(machine, installation, differences)
        check_service(machine, RELEASE)

        shutil.copy(build(tmp_path, NEXT), release)
        type_lines(machine, update, {})
        check_service(machine, NEXT)

        type_lines(machine, rolling_back, {})
        check_service(machine, RELEASE)
        assert '"level":"error"' not in machine.run("journalctl --unit=caddy --output=cat"), "each request was answered"
