"""``receiver completion``: completion of commands and options by the Tab key."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

SHELLS: Final = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands in a shell.

    \b
    For bash, add to ~/.bashrc:     eval "$(receiver completion bash)"
    For zsh, add to ~/.zshrc:       eval "$(receiver completion zsh)"
    For fish, run once:             receiver completion fish >~/.config/fish/completions/receiver.fish

    Example: receiver completion bash
    """  # noqa: D301 - \b is for click
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click has all three
    program = ctx.find_root()
    click.echo(kind(program.command, {}, "receiver", "_RECEIVER_COMPLETE").source())
