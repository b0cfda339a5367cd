"""What the doctor finds: one line for each check."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class CheckState(StrEnum):
    """The result of a check."""

    OK = "ok"
    NOTE = "note"
    """Nothing is broken, but an operator should know."""
    BROKEN = "broken"
    NOT_CHECKED = "not checked"
    """It depends on something that is broken."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One line; *detail* says what was found, or what to do."""

    check: str
    state: CheckState
    detail: str


@dataclass(slots=True)
class CheckResults:
    """The lines so far, in the order of the checks."""

    lines: list[CheckResult] = field(default_factory=list)

    def ok(self, check: str, detail: str) -> None:
        """Report that a check passed."""
        self.lines.append(CheckResult(check, CheckState.OK, detail))

    def note(self, check: str, detail: str) -> None:
        """Report something that an operator should know."""
        self.lines.append(CheckResult(check, CheckState.NOTE, detail))

    def broken(self, check: str, detail: str) -> None:
        """Report what is broken, and what to do."""
        self.lines.append(CheckResult(check, CheckState.BROKEN, detail))

    def not_checked(self, check: str, reason: str) -> None:
        """Report why something could not be checked."""
        self.lines.append(CheckResult(check, CheckState.NOT_CHECKED, reason))

    def is_broken(self, check: str) -> bool:
        """Return whether a check found something broken."""
        return any(line.check == check and line.state is CheckState.BROKEN for line in self.lines)

    def why_not(self, *checks: str) -> str | None:
        """Return why something that needs these *checks* cannot be checked; ``None`` when all of them passed."""
        for line in self.lines:
            if line.check in checks and line.state in {CheckState.BROKEN, CheckState.NOT_CHECKED}:
                return line.detail if line.state is CheckState.NOT_CHECKED else f"{line.check} is broken"
        return None


def why_not(problems: dict[str, str], *variables: str) -> str | None:
    """Return why something that needs these *variables* cannot be checked; ``None`` when all of them are right."""
    for name in variables:
        if name in problems:
            return problems[name].partition(":")[0]
    return None
