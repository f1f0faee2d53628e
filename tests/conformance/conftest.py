"""The laws live in the package, for authors of other stores too; here they are put to ours."""

import pytest

pytest.register_assert_rewrite("headcount.testing.conformance")
