"""How long to wait after a failure."""

from headcount.core.backoff import Backoff


def test_waits_grow_up_to_a_bound():
    """Twice as long each time, shortened by at most a half, and never more than was said."""
    backoff = Backoff(0.1, 2.0, "a")

    for whole in (0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0):
        assert whole / 2 <= backoff.failed() <= whole


def test_it_never_waits_for_nothing():
    """Whoever fails a thousand times must neither spin nor overflow."""
    backoff = Backoff(0.05, 0.5, "a")

    assert all(0.025 <= backoff.failed() <= 0.5 for _ in range(5000))


def test_those_who_failed_together_do_not_come_back_together():
    """A thousand processes that lost the store at once would knock it over again."""
    waits = {Backoff(1.0, 1.0, f"process {n}").failed() for n in range(1000)}

    assert len(waits) > 990
    assert min(waits) < 0.55 and max(waits) > 0.95


def test_the_same_name_waits_the_same():
    """A simulated run can be repeated: the spread comes from the name, not from chance."""
    first, second = Backoff(0.1, 2.0, "a"), Backoff(0.1, 2.0, "a")

    assert [first.failed() for _ in range(9)] == [second.failed() for _ in range(9)]


def test_a_success_forgets_the_failures():
    """The next failure is a first one."""
    backoff = Backoff(0.1, 2.0, "a")
    for _ in range(9):
        backoff.failed()
    backoff.reset()

    assert backoff.failures == 0
    assert backoff.failed() <= 0.1
