"""The clock that opens nothing before its time, whatever the machine's clock shows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from beamhub_core.clock import ClockMark, GuardedClock, boot_id, seconds_since_boot, utc_now

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
TWO_YEARS = timedelta(days=730)


@dataclass
class Machine:
    """A machine whose clock can be set; the seconds since its boot can not."""

    passed_s: float = 0.0
    error: timedelta = timedelta()

    def wall(self) -> datetime:
        return self.truth + self.error

    def elapsed(self) -> float:
        return 1000.0 + self.passed_s

    @property
    def truth(self) -> datetime:
        """The true time."""
        return START + timedelta(seconds=self.passed_s)

    def clock(self, mark: ClockMark | None = None, boot: str = "b1") -> GuardedClock:
        return GuardedClock(self.wall, self.elapsed, boot=boot, mark=mark)


STEPS = st.lists(
    st.tuples(st.floats(0, 20_000), st.floats(-1e8, 1e8) | st.sampled_from([0.0, 730 * 86400.0])), max_size=12
)


@given(STEPS)
def test_whatever_the_machines_clock_does_this_one_gains_at_most_the_time_that_passed(
    steps: list[tuple[float, float]],
) -> None:
    machine = Machine()
    clock = machine.clock()
    for wait_s, error_s in steps:
        machine.passed_s += wait_s
        machine.error = timedelta(seconds=error_s)
        gained = clock() - machine.truth
        assert gained <= timedelta(seconds=machine.passed_s, milliseconds=1)
        assert clock() <= machine.wall()


@given(st.lists(st.floats(0, 10_000), min_size=1, max_size=10))
def test_a_right_clock_is_shown_as_it_is(waits: list[float]) -> None:
    machine = Machine()
    clock = machine.clock()
    for wait_s in waits:
        machine.passed_s += wait_s
        assert clock() == machine.wall()
        assert clock.ahead_s == 0


def test_two_years_ahead_for_half_a_minute_opens_nothing_and_leaves_no_trace() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.error = TWO_YEARS
    for _ in range(30):
        machine.passed_s += 1
        assert clock() - machine.truth <= timedelta(seconds=30)
    assert clock.ahead_s > 700 * 86400
    machine.error = timedelta()
    assert clock() == machine.truth
    machine.passed_s += 1
    assert clock() == machine.truth


def test_after_a_pause_the_clock_catches_up_in_as_long_as_the_pause_was() -> None:
    machine = Machine(error=timedelta())
    clock = machine.clock()
    machine.error = timedelta(minutes=10)  # the machine stood still: seconds since boot did not count
    for _ in range(599):
        machine.passed_s += 1
        clock()
    assert clock() < machine.wall()
    machine.passed_s += 1
    assert clock() == machine.wall()


def test_a_setback_is_followed_and_its_end_too() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.error = -TWO_YEARS
    machine.passed_s += 30
    assert clock() == machine.wall()
    machine.error = timedelta()
    machine.passed_s += 30
    assert clock() == machine.truth


def test_a_clock_that_began_ahead_and_was_set_right_is_not_believed_ahead_again() -> None:
    machine = Machine(error=TWO_YEARS)
    clock = machine.clock()
    machine.error = timedelta()
    clock()
    machine.passed_s += GuardedClock.SETBACK_S + 1
    clock()
    machine.error = TWO_YEARS
    machine.passed_s += 30
    assert clock() - machine.truth <= timedelta(seconds=30)


def test_a_restart_in_the_same_boot_does_not_believe_a_jump() -> None:
    machine = Machine()
    mark = machine.clock().mark()
    machine.passed_s += 60
    machine.error = TWO_YEARS
    assert machine.clock(mark)() - machine.truth <= timedelta(seconds=60)
    assert machine.clock(mark, boot="b2")() == machine.wall()  # nothing of another boot can be compared


def test_the_real_clock_is_that_of_the_machine() -> None:
    clock = GuardedClock()
    assert abs(clock() - utc_now()) < timedelta(seconds=5)
    assert clock.mark().boot == boot_id()
    assert seconds_since_boot() > 0
