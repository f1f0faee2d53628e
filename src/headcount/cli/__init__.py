"""The command line: `headcount`. One file a command, which is imported when that command is run.

Exit codes are part of the interface; `EXIT_CODES` is what `headcount --help` prints of them.
Whatever goes wrong is said in a sentence on stderr, or with --json as one JSON object there.
"""

from __future__ import annotations

import difflib
import importlib
import json
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from headcount import __version__, errors
from headcount.cli.setup import common_options
from headcount.cli.text import shown

__all__ = ["cli", "main"]

COMMANDS = {
    "groups": "List the groups.",
    "members": "List the members of a group: who is here, who has gone, who leads.",
    "watch": "Print each change of a group, as it happens.",
    "join": "Join a group, and run a command as its member.",
    "lead": "Run a command on the one member of a group that leads.",
    "mark": "Disable, force down, expel or enable a member.",
    "forget": "Take a member off the lists.",
    "create": "Create a group.",
    "delete": "Delete an empty group.",
    "store": "Prepare the store, and look after it.",
    "demo": "See five processes live, die and recover, in about half a minute.",
}

EXIT_CODES = """\b
Exit codes
  0      done
  1      something went wrong that is none of the following
  2      the command line or a setting is not usable
  3      there is no such group or member
  4      the store did not answer, or not in time to know what it did
  5      the store refuses: access denied, read-only, another schema
  6      the membership is not ours (any more): taken, superseded, expelled or lost
  7      it did not happen in time
  128+n  ended by signal n
join and lead exit with the code of their command, once that has run; with 126 or 127 if it
cannot be run.
"""

MEANING = (
    (errors.ConfigError, 2),
    (errors.CapabilitiesTooLarge, 2),
    (errors.GroupNotFound, 3),
    (errors.MemberNotFound, 3),
    (errors.StoreUnavailable, 4),
    (errors.OutcomeUnknown, 4),
    (errors.Stale, 4),
    (errors.AccessDenied, 5),
    (errors.ReadOnlyStore, 5),
    (errors.SchemaMismatch, 5),
    (errors.NotPromised, 5),
    (errors.MemberTaken, 6),
    (errors.Superseded, 6),
    (errors.Expelled, 6),
    (errors.LockTimeout, 7),
)
"""Which exit code an error has; any other has 1."""


PLAIN = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
"""Whether colour is unwelcome even on a terminal (no-color.org)."""


class NobodyReads(Exception):
    """Whoever read our output has gone."""


class Headcount(click.Group):
    """Imports a command when it is asked for, and turns every end into an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"headcount.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the table above: a list of commands need not import them all."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else f" There are: {', '.join(COMMANDS)}."
            raise click.UsageError(f"There is no command {shown(args[0])!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise NobodyReads from error  # click would make it a 1, which means something else here

    def main(  # type: ignore[override]  # standalone_mode is gone: it always exits
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        arguments = list(sys.argv[1:] if args is None else args)
        extra.pop("standalone_mode", None)
        plain = arguments[: arguments.index("--")] if "--" in arguments else arguments
        as_json = "--json" in plain
        if PLAIN:
            extra["color"] = False
        try:
            _listen_to_the_library(as_json)
            code = super().main(arguments, prog_name or "headcount", standalone_mode=False, **extra)
            sys.stdout.flush()
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            code = error.exit_code
        except click.ClickException as error:
            code = _usage(error, as_json)
        except errors.HeadcountError as error:
            code = _failed(error, as_json)
        except (KeyboardInterrupt, click.Abort):
            code = 130
        except (NobodyReads, BrokenPipeError):
            # What is still buffered must not raise at the exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 141
        sys.exit(code if isinstance(code, int) else 0)


@click.group(
    cls=Headcount,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXIT_CODES,
)
@common_options
@click.version_option(__version__, message="headcount %(version)s")
def cli() -> None:
    """Who is here? Group membership for services, on the store that they already run.

    \b
    Where the store is, in this order:
      --url             such as sqlite:///headcount.db
      $HEADCOUNT_URL
      a file            ~/.config/headcount.toml or /etc/headcount.toml
      and else          a SQLite file of yours, under ~/.local/state/headcount

    All times are in seconds, and may be fractions.
    """


def main() -> NoReturn:
    """The entry point."""
    cli.main()


def exit_code(error: errors.HeadcountError) -> int:
    return next((code for kind, code in MEANING if isinstance(error, kind)), 1)


def _failed(error: errors.HeadcountError, as_json: bool) -> int:
    _complain(type(error).__name__, str(error), as_json)
    return exit_code(error)


def _usage(error: click.ClickException, as_json: bool) -> int:
    if as_json:
        _complain(type(error).__name__, error.format_message(), as_json)
    else:
        error.show()
    return error.exit_code


def _complain(kind: str, message: str, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"error": kind, "message": message}), err=True)
    else:
        prefix = click.style("headcount: ", fg="red")
        click.echo(prefix + shown(message), err=True, color=False if PLAIN else None)


def _listen_to_the_library(as_json: bool) -> None:
    """What the library logs is for whoever runs the command, in the same form as all else."""
    handler = logging.StreamHandler()
    template = '{"warning": %s}' if as_json else "headcount: %s"
    handler.format = lambda record: (  # type: ignore[method-assign]
        template % (json.dumps(record.getMessage()) if as_json else shown(record.getMessage()))
    )
    log = logging.getLogger("headcount")
    log.handlers[:] = [handler]
    log.propagate = False
