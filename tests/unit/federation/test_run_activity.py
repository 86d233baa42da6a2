"""A run is at work while something of it is done, and for a while after."""

from federation.run_activity import IDLE_S, RunActivity


def test_a_run_is_at_work_until_nothing_was_heard_for_a_while() -> None:
    now_s = [0.0]
    activity = RunActivity(lambda: now_s[0])
    assert activity.at_work(["a", "b"]) == {"a", "b"}  # both are new
    now_s[0] = IDLE_S - 1
    with activity.handling("a"):
        now_s[0] = 5 * IDLE_S
        # however long a step takes
        assert activity.at_work(["a", "b"]) == {"a"}
    assert activity.at_work(["a", "b"]) == {"a"}
    now_s[0] += IDLE_S
    assert activity.at_work(["a", "b"]) == set()
    with activity.handling("b"):
        pass
    assert activity.at_work(["a", "b"]) == {"b"}


def test_what_is_over_is_forgotten() -> None:
    now_s = [0.0]
    activity = RunActivity(lambda: now_s[0])
    with activity.handling("a"):
        pass
    assert activity.at_work([]) == set()
    now_s[0] = 2 * IDLE_S
    assert activity.at_work(["a"]) == {"a"}
