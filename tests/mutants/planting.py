"""How a mistake is planted: a changed line, method, constant or statement, for as long as one hunt lasts.

A plant that no longer finds its place raises `NoPlace`: a mutant that plants nothing would otherwise be
one that is never caught, or worse, one that is "caught" by something else.
"""

from __future__ import annotations
import __future__

import ast
import inspect
import textwrap
from collections.abc import Callable, MutableMapping
from types import FunctionType
from typing import Any, cast

import pytest

from headcount.stores.sql.statements import statements


class NoPlace(Exception):
    """What a mutant wants to change is not there any more: look what has become of it, and plant it anew."""


class Planter:
    """Plants, and takes everything out again when its `patch` is undone."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        self._sources: dict[FunctionType, str] = {}

    def edit(self, where: Callable[..., Any] | property, old: str, new: str, **names: object) -> None:
        """Change the text of a function, and compile it again. `old` stands in it exactly once. Whoever has
        imported the function by name gets the mistake too: the code is changed, not the name.

        `names`: what the new text needs besides what its module knows."""
        function = _plain(where)
        source = self._sources.get(function) or textwrap.dedent(inspect.getsource(function))
        if source.count(old) != 1:
            raise NoPlace(f"{function.__qualname__} says {source.count(old)} times, not once: {old}")
        self._sources[function] = changed = source.replace(old, new)
        code = _compiled(function, changed)
        if code.co_freevars != function.__code__.co_freevars:
            raise NoPlace(f"{function.__qualname__} closes over other names once it is changed")
        for name, value in names.items():
            if name in function.__globals__:
                raise NoPlace(f"{function.__module__} has a {name!r} of its own")
            self._patch.setitem(function.__globals__, name, value)
        self._patch.setattr(function, "__code__", code)

    def put(self, owner: object, name: str, value: object) -> None:
        """Put something else in the place of a method or a constant."""
        if not hasattr(owner, name):
            raise NoPlace(f"{owner!r} has no {name!r}")
        self._patch.setattr(owner, name, value)

    def sql(self, part: str, name: str, old: str, new: str) -> None:
        """Change a named statement of SQL."""
        found = statements(part)
        if found.get(name, "").count(old) != 1:
            raise NoPlace(f"the statement {name!r} of {part} does not say once: {old}")
        changed = found[name].replace(old, new)
        self._patch.setitem(cast("MutableMapping[str, str]", found), name, changed)


def _plain(where: Callable[..., Any] | property) -> FunctionType:
    found = where.fget if isinstance(where, property) else where
    found = inspect.unwrap(found) if callable(found) else found
    if not isinstance(found, FunctionType):
        raise NoPlace(f"{where!r} is not written in Python")
    return found


def _compiled(function: FunctionType, source: str) -> Any:
    tree = ast.parse(source)
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list = []
    flags = __future__.annotations.compiler_flag
    module = compile(tree, f"<a mutant of {function.__qualname__}>", "exec", flags, dont_inherit=True)
    scratch: dict[str, Any] = {}
    exec(module, function.__globals__, scratch)
    return scratch[function.__name__].__code__
