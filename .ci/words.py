"""Words that must not come back: ``make lint`` fails where a file has one, and says what to write instead."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ANYWHERE = {
    r"(in|into) care": "managed, adopted",
    r"needs? a person": "needs attention",
    r"manieth": "the number of",
    r"mended": "fixed",
    r"in vain": "without success",
    r"lest": "so that ... not",
    r"heed(s|ed)?": "follow, respect",
    r"aboard": "onboarding",
    r"meant to say": "sent, expected",
    r"for want of": "without",
    r"dated back": "backdated",
    r"tell apart": "distinguish",
    r"lay (beside|over)": "load, apply",
    r"takes? the road": "is processed like",
    r"comes into its own": "is used",
    r"look again": "refresh",
    r"everything is never meant": "refusing to replay everything",
}
"""Phrases, as regular expressions, and what to write instead."""
PRODUCT = {
    r"told": "sent, reported, stated",
}
"""The same, in the service, and so in its SQL and messages; tests still have some of these words."""
SHOWN = {
    r"told|tells": "sent, reported, says",
    r"stands (for|in)": "represents, is in",
    r"mend(s|ed|ing)?": "fix, fixed",
    r"for ever": "permanently",
}
"""The same, in what users read; code still has some of these words."""
READ_BY_USERS = re.compile(
    r"README\.md|CHANGELOG\.md|SECURITY\.md|Makefile|compose\.yaml|\.env\.example|webhooks\.example\.toml"
    r"|(docs|deploy|examples)/.*\.(md|ya?ml|py|service|conf|sql)|receiver/ops/console/templates/.*"
)
SKIPPED = re.compile(r"\.ci/words\.py|.*\.(png|svg|lock|json)")


def wrong(path: str, text: str) -> list[str]:
    """Return a line for each word of the lists that *text* has."""
    words = ANYWHERE | (PRODUCT if path.startswith(("receiver/", "migrations/")) else {})
    words |= SHOWN if READ_BY_USERS.fullmatch(path) else {}
    return [
        f"{path}:{number}: {found.group()!r}: write {better}"
        for number, line in enumerate(text.splitlines(), start=1)
        for pattern, better in words.items()
        for found in re.finditer(rf"\b({pattern})\b", line, flags=re.IGNORECASE)
    ]


def main() -> None:
    """Check every file that git knows."""
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.split()  # noqa: S607
    paths = [path for path in listed if not SKIPPED.fullmatch(path) and Path(path).is_file()]
    found = [each for path in paths for each in wrong(path, Path(path).read_text(errors="replace"))]
    print("\n".join(found), end="\n" if found else "")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
