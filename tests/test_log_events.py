"""Log events are short dotted names, and the operator's page lists exactly those that the code logs."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "operate" / "log-events.md"
LEVELS = {name: name for name in ("debug", "info", "warning", "error")} | {"exception": "error", "critical": "error"}


def modules() -> dict[Path, ast.Module]:
    """Return the syntax tree of each module."""
    return {path: ast.parse(path.read_text()) for path in sorted((ROOT / "receiver").rglob("*.py"))}


def logged() -> dict[str, set[str]]:
    """Return each event that the code logs, and its levels."""
    found: dict[str, set[str]] = defaultdict(set)
    for path, module in modules().items():
        for call in ast.walk(module):
            if (
                isinstance(call, ast.Call)
                and isinstance(call.func, ast.Attribute)
                and call.func.attr in {*LEVELS, "log"}
                and isinstance(call.func.value, ast.Name)
                and call.func.value.id == "log"
            ):
                *level, event = call.args
                assert isinstance(event, ast.Constant), f"{path}:{call.lineno}: the event is not a constant"
                found[str(event.value)] |= _levels(level) or {LEVELS[call.func.attr]}
    return dict(found)


def _levels(arguments: list[ast.expr]) -> set[str]:
    """Return the levels that the first argument of ``log.log`` may be."""
    names = [each.attr for argument in arguments for each in ast.walk(argument) if isinstance(each, ast.Attribute)]
    return {name.lower() for name in names if name.isupper()}


def listed() -> dict[str, set[str]]:
    """Return each event that the page lists, and its levels."""
    rows = re.findall(r"^\| `([a-z_.]+\.[a-z_]+)` \| ([a-z, ]+) \|", PAGE.read_text(), flags=re.MULTILINE)
    return {event: set(levels.split(", ")) for event, levels in rows}


def test_the_page_lists_the_events_that_the_code_logs() -> None:
    assert listed() == logged()


def test_log_methods_are_only_called() -> None:
    """A method under another name would log events that ``logged`` does not find."""
    for path, module in modules().items():
        called = {id(node.func) for node in ast.walk(module) if isinstance(node, ast.Call)}
        for node in ast.walk(module):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "log":
                assert id(node) in called or node.attr not in {*LEVELS, "log"}, f"{path}:{node.lineno}"


def test_events_are_dotted_names() -> None:
    assert [event for event in logged() if not re.fullmatch(r"[a-z_]+\.[a-z_]+", event)] == []


def test_the_page_is_in_order() -> None:
    assert list(listed()) == sorted(listed())


def test_other_pages_name_events_that_exist() -> None:
    pages = [page for page in (ROOT / "docs" / "operate").glob("*.md") if page != PAGE]
    groups = {event.partition(".")[0] for event in logged()} - {"card_holder", "feed", "files", "receipt"}
    named = {
        f"{group}.{name}"
        for page in pages
        for group, name in re.findall(r"`([a-z_]+)\.([a-z_]+)`", page.read_text())
        if group in groups
    }
    assert named <= set(logged())
