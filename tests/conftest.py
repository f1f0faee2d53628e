"""What all tests share.

HEADCOUNT_TEST_REQUIRE names what has to be here: `all`, or a list such as `postgresql,etcd`.
A test that needs a server which is not installed is skipped on a developer's machine; if the
server is required, it fails instead. So a run that requires all cannot pass by leaving out.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NoReturn

import pytest
from hypothesis import settings

from tests.servers.programs import is_required

pytest_plugins = ["tests.servers.fixtures"]

# A test must not depend on where its user's own Headcount lives.
for _name in [name for name in os.environ if name.startswith("HEADCOUNT_")]:
    if not _name.startswith("HEADCOUNT_TEST_"):
        del os.environ[_name]

# The same examples every time: a red run can be repeated, and a slow machine is no failure.
# `--hypothesis-profile=explore` looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def unavailable() -> Callable[[str, str], NoReturn]:
    """A function of (what, why) that says `what` is not here: it skips, or fails if `what` is required."""

    def say(what: str, why: str) -> NoReturn:
        if is_required(what):
            pytest.fail(f"{what} is required by HEADCOUNT_TEST_REQUIRE, but {why}", pytrace=False)
        # On a developer's machine only: where it is required, the line above has failed.
        pytest.skip(f"no {what}: {why}")

    return say
