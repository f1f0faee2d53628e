"""The law of stores. Every store passes every line that its guarantees name; none has its own copy.

Each law is a function `test_…(harness)`: its name and docstring state the law, its body is the shortest
story in which breaking it would show. To put a store to it, bring a harness (`harness.Harness`) as a
fixture, and take the laws that apply into a test module:

    import pytest
    pytest.register_assert_rewrite("headcount.testing.conformance")
    from headcount.testing.conformance import laws

    @pytest.fixture
    def harness():
        harness = MyHarness()
        yield harness
        harness.close()

    globals().update(laws(MyHarness.guarantees))

What a store does not promise is data: a law that speaks of ticks is taken only if `guarantees.expiry` is
"ticks", and so on. Nothing is ever skipped, so that a feature which is missing, but not declared to be,
is a failure.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, TypeAlias

from headcount.model import Guarantees
from headcount.testing.conformance.harness import Harness, applies

Law: TypeAlias = Callable[[Any], None]

__all__ = ["Harness", "Law", "laws"]


def laws(guarantees: Guarantees | None = None) -> dict[str, Law]:
    """The laws, by name, that a store with these guarantees has to keep; without any, all that there are."""
    found: dict[str, Law] = {}
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        for name, law in vars(importlib.import_module(module.name)).items():
            if not name.startswith("test_") or law.__module__ != module.name:
                continue
            if name in found:
                raise TypeError(f"two laws are called {name}, so that one of them would never be tested")
            if guarantees is None or applies(law, guarantees):
                found[name] = law
    return found
