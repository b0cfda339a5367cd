"""Asks pip-audit what is known against the libraries, and says loudly which ones no service could be asked about.

Exit codes: 0 all are audited and nothing is known · 1 something is known · 3 nothing is known, but not all are audited
(0 with ``--tolerate-unaudited``, for a machine without internet).
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

SERVICES = ("pypi", "osv")
"""Whichever knows a library audits it."""
KNOWN, NOT_AUDITED = 1, 3
PAUSE = 10.0
"""Seconds between two tries."""


@dataclass
class Audit:
    """What was found of the libraries by all services together."""

    locked: set[str]
    """What the file names, for other systems too."""
    installed: set[str] = field(default_factory=set)
    """Those of them that are for this system, once a service has answered."""
    audited: set[str] = field(default_factory=set)
    known: dict[str, list[str]] = field(default_factory=dict)
    """Library with its version → what is known against it."""
    reasons: list[str] = field(default_factory=list)
    """Why libraries could not be audited."""

    @property
    def libraries(self) -> set[str]:
        """What is to be audited."""
        return self.installed or self.locked

    @property
    def unaudited(self) -> list[str]:
        """The libraries that no service knows."""
        return sorted(self.libraries - self.audited)

    def add(self, service: str, report: str, complaint: str) -> None:
        """Add what pip-audit printed; without a report it could not ask the service at all."""
        try:
            dependencies = json.loads(report)["dependencies"]
        except (ValueError, KeyError, TypeError):
            last = complaint.strip().splitlines()[-1:] or ["no answer"]
            self.reasons.append(f"{service}: {last[0]}")
            return
        self.installed |= {each["name"] for each in dependencies}
        skipped = [each for each in dependencies if "skip_reason" in each]
        if skipped:
            self.reasons.append(f"{service}: {len(skipped)} skipped, for example: {skipped[0]['skip_reason']}")
        for each in dependencies:
            if "skip_reason" not in each:
                self.audited.add(each["name"])
            if each.get("vulns"):
                found = self.known.setdefault(f"{each['name']} {each['version']}", [])
                found += [vuln["id"] for vuln in each["vulns"] if vuln["id"] not in found]

    def lines(self) -> list[str]:
        """Return what there is to say, what is known first."""
        said = [f"KNOWN: {library}: {', '.join(ids)}" for library, ids in sorted(self.known.items())]
        if self.unaudited:
            said += [
                "*" * 100,
                f"NOT AUDITED: {len(self.unaudited)} of {len(self.libraries)} libraries could not be audited:",
                ", ".join(self.unaudited),
                *dict.fromkeys(self.reasons),
                "*" * 100,
            ]
        else:
            said.append(f"{len(self.libraries)} of {len(self.libraries)} libraries are audited")
        return said


def audit(requirements: Path, services: list[str], extra: list[str]) -> Audit:
    """Ask each service, until all libraries are audited."""
    locked = re.findall(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==", requirements.read_text(), re.MULTILINE)
    found = Audit(set(locked))
    for service in services:
        command = ["pip-audit", f"--requirement={requirements}", "--require-hashes", "--disable-pip", "--format=json"]
        command += ["--progress-spinner=off", f"--vulnerability-service={service}", *extra]
        program = [str(Path(sys.executable).with_name(command[0])), *command[1:]]
        done = subprocess.run(program, capture_output=True, text=True, check=False)
        found.add(service, done.stdout, done.stderr)
        if not found.unaudited:
            break
    return found


def main(arguments: list[str] | None = None) -> int:
    """Audit, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("requirements", type=Path)
    parser.add_argument("--service", action="append", choices=SERVICES, help="in place of all, one after the other")
    parser.add_argument("--tries", type=int, default=1, help="how often, while not all are audited")
    parser.add_argument("--tolerate-unaudited", action="store_true")
    given, extra = parser.parse_known_args(arguments)
    for number in range(1, given.tries + 1):
        found = audit(given.requirements, given.service or list(SERVICES), extra)
        if found.known or not found.unaudited or number == given.tries:
            break
        print(f"{len(found.unaudited)} libraries could not be audited: trying again in {PAUSE:.0f} s", flush=True)
        time.sleep(PAUSE)
    print(*found.lines(), sep="\n", flush=True)
    if found.known:
        return KNOWN
    return NOT_AUDITED if found.unaudited and not given.tolerate_unaudited else 0


if __name__ == "__main__":
    sys.exit(main())
