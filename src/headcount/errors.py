"""The errors of Headcount. The docstring is the first half of the message; the rest says where it
came from and what to do.

Expected answers are values (`Refused`); these are surprises, and an application's mistakes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HeadcountError(Exception):
    """Something that Headcount was asked to do could not be done."""


class ConfigError(HeadcountError, ValueError):
    """A setting, an argument or a URL is not usable."""


class MissingDependency(HeadcountError, ImportError):
    """The client library of this store is not installed."""


class StoreUnavailable(HeadcountError, ConnectionError):
    """The store did not answer, and nothing was written: worth trying again."""


class OutcomeUnknown(HeadcountError, ConnectionError):
    """The store did not answer in time, and the write may have happened: look before repeating it."""


class AccessDenied(HeadcountError, PermissionError):
    """The store refuses us. Not retried."""


class ReadOnlyStore(HeadcountError):
    """The store cannot be written to. Not retried."""


class SchemaMismatch(HeadcountError):
    """The store's schema is not one that this release can work with. Not retried."""


class CorruptRow(HeadcountError):
    """A record in the store cannot be read. It is skipped, the rest is served."""


class NotPromised(HeadcountError):
    """This store cannot keep that promise."""


class GroupNotFound(HeadcountError, LookupError):
    """There is no such group."""


class MemberNotFound(HeadcountError, LookupError):
    """The group has no such member now."""


class GroupNotEmpty(HeadcountError):
    """The group still has members."""


class NotJoined(HeadcountError):
    """This needs a member of the group, and the caller is not one."""


class MemberTaken(HeadcountError):
    """Another living host is a member under this name."""


class Superseded(HeadcountError):
    """A newer process has taken this name over; this one is out for good."""


class Expelled(HeadcountError):
    """An operator has expelled this member, and it is barred until that is lifted."""


class CapabilitiesTooLarge(HeadcountError, ValueError):
    """The capabilities are larger than the store takes."""


class Stale(HeadcountError):
    """The view is older than the caller allows, and the store could not be read."""


class NotTrusted(HeadcountError):
    """The term is over, or can no longer be trusted: stop acting on it."""


class LockTimeout(HeadcountError, TimeoutError):
    """The turn did not come in time."""


class Closed(HeadcountError, RuntimeError):
    """The coordinator has been closed."""


class Forked(Closed):
    """The coordinator belongs to the parent process."""


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` if one of the known words is near, else nothing."""
    close = difflib.get_close_matches(word, list(known)[:5000], n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
