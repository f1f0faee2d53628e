"""What every command knows: which store, which namespace, how long to wait, in what form to answer.

The options may stand before the command or after it; whatever is said last counts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from headcount.coordinator import Coordinator
from headcount.engine.settings import Settings, gather, named_url
from headcount.errors import ConfigError

if TYPE_CHECKING:
    from headcount.stores.base import Store

F = TypeVar("F", bound=Callable[..., Any])

NOBODY = "observer"
"""Stands where a member_id would, so that none is taken from the environment; never written anywhere."""

TIMEOUT = 10.0

LONG_TTL = 86_400.0
"""Seconds. Who opens no session has no use for a ttl; this one is long enough for every store."""


@dataclass
class Setup:
    """The common options, as far as they were given."""

    url: str | None = None
    namespace: str | None = None
    given_timeout: float | None = None
    json: bool = False

    @property
    def timeout(self) -> float:
        """Seconds that each call to the store may take."""
        return TIMEOUT if self.given_timeout is None else self.given_timeout

    def where(self) -> str:
        """The store's URL. Without one, the user's own file; said, so that nobody has to guess."""
        url = self.url or named_url()
        if url is not None:
            return url
        path = default_file()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"no store was named, and the default, {path}, cannot be made: {error.strerror}. "
                "Name one with --url or HEADCOUNT_URL"
            ) from error
        self.url = f"sqlite:///{path}"
        if not self.json:
            click.echo(
                click.style(f"headcount: no --url and no HEADCOUNT_URL, so this is {self.url}", dim=True),
                err=True,
            )
        return self.url

    def settings(self, **more: Any) -> Settings:
        """What a coordinator made with these arguments would use."""
        return gather({"url": self.where(), "namespace": self.namespace, **more}, {})

    def coordinator(self, **more: Any) -> Coordinator:
        """A member's coordinator, not yet connected."""
        # Who waits for a name to become free has not said for how long, unless --timeout does.
        timeout = self.given_timeout if more.get("on_conflict") == "wait" else self.timeout
        return Coordinator(self.where(), namespace=self.namespace, timeout=timeout, **more)

    @contextmanager
    def observer(self, *, ttl: float = LONG_TTL) -> Iterator[Coordinator]:
        """A coordinator that is nobody, whatever HEADCOUNT_MEMBER_ID says."""
        coordinator = self.coordinator(member_id=NOBODY, ttl=ttl)
        coordinator.member_id = None
        with coordinator:
            yield coordinator

    def store(self, **options: str | float | bool) -> Store:
        """The store itself, not yet opened: for who looks once and needs no threads."""
        from headcount import stores

        found = self.settings(member_id=NOBODY, ttl=LONG_TTL)
        return stores.make(found.url, namespace=found.namespace, options={**found.options, **options})


pass_setup = click.make_pass_decorator(Setup, ensure=True)


def default_file() -> Path:
    """Where a user's own store is, as the XDG base directories have it."""
    state = os.environ.get("XDG_STATE_HOME") or ""
    base = Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state"
    return base / "headcount" / "headcount.db"


class Seconds(click.ParamType[float]):
    """A number of seconds above 0."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        if not 0 < number < float("inf"):
            self.fail(f"{value!r} is not a number of seconds above 0", param, ctx)
        return number


SECONDS = Seconds()


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value is not None and param.name is not None:
        setattr(ctx.ensure_object(Setup), param.name, value)


def common_options(command: F) -> F:
    """--url, --namespace, --timeout and --json; their values end up in the `Setup`."""
    for option in (
        click.option(
            "--json", is_flag=True, default=None, expose_value=False, callback=_keep,
            help="Answer in JSON; errors too, on stderr.",
        ),
        click.option(
            "--timeout", "given_timeout", type=SECONDS, metavar="SECONDS", default=None,
            expose_value=False, callback=_keep,
            help="How long to wait for the store (10 s).",
        ),
        click.option(
            "--namespace", metavar="NAME", default=None, expose_value=False, callback=_keep,
            help="Which of several Headcounts in one store ('default').",
        ),
        click.option(
            "--url", metavar="URL", default=None, expose_value=False, callback=_keep,
            help="Where the store is, such as sqlite:///headcount.db.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command
