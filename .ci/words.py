"""Words that must not come back: ``make lint`` fails where a file has one, and says what to write instead."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

WORDS = {
    r"told|untold|retold|retell": "sent, reported, expected; events, result",
    r"(in|into) care": "managed, adopted",
    r"needs? a person": "needs attention",
    r"manieth": "the number of",
    r"mend(s|ed|ing)?": "fix, correct",
    r"in vain": "without success",
    r"lest": "so that ... not",
    r"heed(s|ed)?": "follow, respect",
    r"aboard": "onboarding",
    r"meant to say": "sent, expected",
    r"unmeant|meant for": "unexpected, wanted",
    r"for want of": "without",
    r"dated back": "backdated",
    r"tell apart": "distinguish",
    r"lay (beside|over)": "load, apply",
    r"beside": "compared with, next to, in addition to",
    r"anew": "again",
    r"patience|patients?|impatient": "timeout, retry limits",
    r"victims?": "the process",
    r"standings?": "status",
    r"hindrances?|hindered": "reason, blocked",
    r"doom(ed|s)?": "lose, lost",
    r"takes? the road": "is processed like",
    r"comes into its own": "is used",
    r"look again": "refresh",
    r"for ever": "permanently",
    r"everything is never meant": "refusing to replay everything",
    r"what (came|became) of": "the outcome, the result",
    r"waits? for (a person|nobody)": "needs attention",
    r"watermark": "checked_until",
    r"means? to say": "sent, expected",
    r"<{7}|>{7}": "one of the two: a conflict of a merge is left",
}
"""Words and phrases, as regular expressions, and what to write instead; in text and in names: ``told_at`` has one."""
SHOWN = {
    r"tells": "reports, says",
    r"stands (for|in)": "represents, is in",
    r"somebody|nobody|everybody|whoever": "an attacker, an operator, another process, no user",
}
"""The same, in what users read."""
READ_BY_USERS = re.compile(
    r"README\.md|CHANGELOG\.md|SECURITY\.md|Makefile|compose\.yaml|\.env\.example|webhooks\.example\.toml"
    r"|(docs|deploy|examples)/.*\.(md|ya?ml|py|service|conf|sql)|receiver/ops/console/templates/.*"
)
SKIPPED = re.compile(r"\.ci/words\.py|.*\.(png|svg|lock|json)")


def wrong(path: str, text: str) -> list[str]:
    """Return a line for each word of the lists that *text* has."""
    words = WORDS | (SHOWN if READ_BY_USERS.fullmatch(path) else {})
    return [
        f"{path}:{number}: {found.group()!r}: write {better}"
        for number, line in enumerate(text.splitlines(), start=1)
        for pattern, better in words.items()
        for found in re.finditer(
            rf"(?<![^\W\d_])({pattern.replace(' ', '[ _]')})(?![^\W\d_])", line, flags=re.IGNORECASE
        )
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
