"""Commands that change something, or show personal data: each run is recorded in receiver.audit."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from sqlalchemy.exc import DBAPIError

from receiver.cli.operator import operator
from receiver.connections import WEB
from receiver.db import one_connection
from receiver.errors import ConfigurationError, OperationRefused
from receiver.ops.audit import Act, ActOutcome, Via, arguments, record
from receiver.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class RecordedCommand(click.Command):
    """A command of which each run is recorded: who, on which object, why, and the outcome.

    *about* names the parameters that the record has: none that holds a secret or personal data. *reason* names the one
    that says why. With a flag of *unless* the command changes nothing, and no record is made. With *only_with* a record
    is made only where one of these options is used; their values are personal and not in the record.
    """

    def __init__(
        self,
        *arguments: Any,  # noqa: ANN401 - click's own
        about: Sequence[str] = (),
        reason: str | None = None,
        unless: Sequence[str] = (),
        only_with: Sequence[str] = (),
        **options: Any,  # noqa: ANN401 - click's own
    ) -> None:
        super().__init__(*arguments, **options)
        self.about = about
        self.reason = reason
        self.unless = unless
        self.only_with = only_with

    def invoke(self, ctx: click.Context) -> object:
        """Run the command, then record it. Wrong usage and configuration are not recorded: nothing was tried."""
        harmless = self.only_with and not any(ctx.params[name] for name in self.only_with)
        if harmless or any(ctx.params[flag] for flag in self.unless):
            return super().invoke(ctx)
        try:
            result: object = super().invoke(ctx)
        except (click.UsageError, ConfigurationError):
            raise
        except (SystemExit, click.exceptions.Exit) as ended:
            code = ended.code if isinstance(ended, SystemExit) else ended.exit_code
            self._record_end(ctx, ActOutcome.FAILED if code else ActOutcome.DONE)
            raise
        except BaseException as error:
            with suppress(DBAPIError):  # the command's own error says what is wrong
                if isinstance(error, OperationRefused):
                    self._record(ctx, ActOutcome.REFUSED)
                else:
                    self._record(ctx, ActOutcome.FAILED, error=type(error).__name__)
            raise
        self._record_end(ctx, ActOutcome.DONE)
        return result

    def _record_end(self, ctx: click.Context, outcome: ActOutcome) -> None:
        try:
            self._record(ctx, outcome)
        except DBAPIError:
            click.echo("receiver: the command has ended but could not be recorded in receiver.audit", err=True)
            raise

    def _record(self, ctx: click.Context, outcome: ActOutcome, *, error: str | None = None) -> None:
        settings, _ = read_settings(os.environ, required=())
        reason = ctx.params[self.reason] if self.reason else None
        act = Act(
            actor=operator(),
            via=Via.COMMAND_LINE,
            action=ctx.command_path.partition(" ")[2],
            object=arguments(self._typed(ctx)),
            reason=reason or None,
            outcome=outcome,
            error=error,
        )
        with one_connection(settings.database_url, application="audit", timeouts=WEB) as connection, connection.begin():
            record(connection, act)

    def _typed(self, ctx: click.Context) -> Iterator[tuple[str, object]]:
        """Yield the named parameters that were given, each with its option's name; none for an argument."""
        for parameter in self.params:
            name = str(parameter.name)
            if ctx.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
                continue
            option = parameter.opts[0].lstrip("-") if isinstance(parameter, click.Option) else ""
            if name in self.only_with:
                yield option, True
            elif name in self.about:
                value = ctx.params[name]
                for each in (
                    sorted(value) if isinstance(value, frozenset) else value if isinstance(value, tuple) else [value]
                ):
                    yield option, f"{each:%Y-%m-%dT%H:%M:%SZ}" if isinstance(each, datetime) else each
