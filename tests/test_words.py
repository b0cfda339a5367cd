"""The check of words finds what must not come back, and the repository passes it."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
CHECK = ROOT / ".ci" / "words.py"


def test_the_repository_has_none_of_the_words() -> None:
    done = subprocess.run([sys.executable, CHECK], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_word_is_found_with_what_to_write_instead() -> None:
    wrong = runpy.run_path(str(CHECK))["wrong"]
    line = "as OpenCard " + "tells"
    assert wrong("README.md", f"first\n{line}") == ["README.md:2: 'tells': write reports, says"]
    assert wrong("receiver/app.py", line) == []


def test_a_word_is_found_as_a_part_of_a_name() -> None:
    wrong = runpy.run_path(str(CHECK))["wrong"]
    word = "to" + "ld"
    for line in (f") AS {word}", f"first_{word}_at: timedelta", f"def _{word.upper()}() -> None:"):
        (found,) = wrong("tests/test_app.py", line)
        assert f"{word}': write sent, reported" in found.lower()
    assert wrong("tests/test_app.py", "recommended, outstanding, impatiens") == []
