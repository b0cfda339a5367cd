"""Groups of commands whose help has a whole line for each command."""

from __future__ import annotations

from typing import Final

import click

WHOLE: Final = 1000
"""More characters than the first sentence of any help text has."""


class Group(click.Group):
    """A group of commands. Its help wraps lines that are too long; click would cut them."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands with the first sentence of each one's help."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, each.get_short_help_str(WHOLE)) for name, each in commands if each is not None])
