"""Writes docs/cli.md from the commands' own help: ``make docs``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from receiver.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE: Final = Path(__file__).with_name("cli.md")
WIDTH: Final = 100
HEAD: Final = """# Command line

```sh
receiver --version
receiver --help
receiver completion bash
```

Every command of the program `receiver`, as its `--help` prints it. `--json` prints one JSON document on standard
output; logs and messages go to standard error. Exit codes: 0 done, 1 failed or drift found, 2 wrong usage or
configuration. In a clone the program is `.venv/bin/receiver`; `. .venv/bin/activate` makes `receiver` available in
the shell.

## Completion

| shell | what to do |
|---|---|
| bash | add to `~/.bashrc`: `eval "$(receiver completion bash)"` |
| zsh | add to `~/.zshrc`: `eval "$(receiver completion zsh)"` |
| fish | run once: `receiver completion fish >~/.config/fish/completions/receiver.fish` |
"""


def commands(group: click.Group, context: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    """Yield every command of *group* with its context, groups before their commands."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None:
            continue
        inner = click.Context(command, info_name=name, parent=context)
        yield command, inner
        if isinstance(command, click.Group):
            yield from commands(command, inner)


def reference() -> str:
    """Return the page."""
    top = click.Context(main, info_name="receiver", terminal_width=WIDTH, help_option_names=["-h", "--help"])
    sections = [
        f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
        for command, context in commands(main, top)
    ]
    return "\n".join([HEAD, *sections])


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
