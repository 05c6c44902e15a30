"""When a request is repeated, with a clock that only the test moves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import pytest

from cosfs.client.retry import GIVEN_UP, Attempt, Budget, Retrier
from cosfs.client.wire import StaleConnectionError
from cosfs.errors import (
    AuthenticationError,
    ClockSkewError,
    COSError,
    IntegrityError,
    NetworkError,
    NotCosError,
    ServerError,
    ThrottledError,
    UnknownHostError,
)


class Waits(threading.Event):
    """Stands in for the event of cancellation: notes how long it is waited for, and moves the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[float] = []
        self.now = 1000.0

    def wait(self, timeout: float | None = None) -> bool:
        self.waited.append(timeout or 0)
        self.now += timeout or 0
        return self.is_set()

    def clock(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def usual_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosfs.client.retry.BASE_DELAY", 0.2)


def retrier(waits: Waits, retries: int = 5, **more: object) -> Retrier:
    given: dict[str, object] = {"budget": Budget(), "uniform": lambda low, high: high, **more}
    return Retrier(retries, waits, clock=waits.clock, **given)  # type: ignore[arg-type]


def failing(*errors: COSError, headers: Mapping[str, str] | None = None) -> Callable[[Attempt], str]:
    left = list(errors)

    def operation(attempt: Attempt) -> str:
        if left:
            attempt.headers = headers or {}
            raise left.pop(0)
        return "done"

    return operation


def test_delays_double_up_to_a_limit() -> None:
    waits = Waits()
    with pytest.raises(ServerError):
        retrier(waits, 9).run(failing(*[ServerError("x")] * 20), 10_000)
    assert waits.waited == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 20.0, 20.0]


def test_jitter_begins_at_nothing() -> None:
    waits, asked = Waits(), []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return low

    retrier(waits, uniform=uniform).run(failing(*[NetworkError("x")] * 3), 100)
    assert asked == [(0, 0.2), (0, 0.4), (0, 0.8)]


def test_time_limit_ends_the_tries() -> None:
    waits = Waits()
    with pytest.raises(ServerError):
        retrier(waits, 100).run(failing(*[ServerError("x")] * 100), 5)
    assert sum(waits.waited) < 5


@pytest.mark.parametrize(
    ("text", "expected"), [("3", 3.0), ("0", 0.2), ("-5", 0.2), ("soon", 0.2), ("Wed, 21 Oct 2015", 0.2)]
)
def test_retry_after(text: str, expected: float) -> None:
    waits = Waits()
    retrier(waits).run(failing(ThrottledError("x"), headers={"retry-after": text}), 100)
    assert waits.waited == [expected]


def test_retry_after_of_an_hour_is_a_no() -> None:
    waits = Waits()
    with pytest.raises(ThrottledError):
        retrier(waits).run(failing(ThrottledError("x"), headers={"retry-after": "3600"}), 10_000)
    assert waits.waited == []


@pytest.mark.parametrize("error", [IntegrityError("x"), NotCosError("x"), COSError("x")])
def test_lasting_errors_end_at_once(error: COSError) -> None:
    waits = Waits()
    with pytest.raises(type(error)):
        retrier(waits).run(failing(error), 100)
    assert waits.waited == []


def unreachable() -> NetworkError:
    error = NetworkError("x:1 refuses connections")
    error.sent = False
    return error


def test_what_was_there_is_waited_for_whatever_the_tries_and_the_budget() -> None:
    waits = Waits()
    patient = retrier(waits, 1, reached=lambda: True, budget=Budget(0))
    patient.outage_patience = 60
    assert patient.run(failing(*[unreachable()] * 25), 5) == "done"
    assert 40 < sum(waits.waited) <= 60


def test_what_stays_away_is_given_up() -> None:
    waits = Waits()
    patient = retrier(waits, reached=lambda: True)
    patient.outage_patience = 60
    with pytest.raises(NetworkError):
        patient.run(failing(*[unreachable()] * 1000), 120)
    assert 60 <= sum(waits.waited) < 63


@pytest.mark.parametrize(("retries", "reached", "patience"), [(0, True, 60), (5, False, 60), (5, True, 0)])
def test_nothing_that_never_was_there_is_waited_for(retries: int, reached: bool, patience: float) -> None:
    waits = Waits()
    usual = retrier(waits, retries, reached=lambda: reached)
    usual.outage_patience = patience
    with pytest.raises(NetworkError):
        usual.run(failing(*[unreachable()] * 1000), 120)
    assert len(waits.waited) == retries


def test_it_is_waited_for_before_the_first_answer_if_that_was_asked_for() -> None:
    waits = Waits()
    patient = retrier(waits, 1, reached=lambda: False, budget=Budget(0))
    patient.outage_patience, patient.outage_at_start = 60, True
    assert patient.run(failing(*[unreachable()] * 25), 5) == "done"


def test_a_host_that_does_not_exist_is_not_waited_for_before_the_first_answer() -> None:
    error = UnknownHostError("the name of x cannot be resolved")
    error.sent = False
    waits = Waits()
    patient = retrier(waits, 2, reached=lambda: False)
    patient.outage_patience, patient.outage_at_start = 60, True
    with pytest.raises(UnknownHostError):
        patient.run(failing(*[error] * 1000), 120)
    assert len(waits.waited) == 2
    again = retrier(waits, 1, reached=lambda: True)
    again.outage_patience = 60
    assert again.run(failing(*[error] * 5), 120) == "done"


def test_attempt_knows_that_an_answer_was_lost() -> None:
    seen = []

    def operation(attempt: Attempt) -> None:
        seen.append((attempt.number, attempt.uncertain))
        if len(seen) == 1:
            raise ThrottledError("x")
        if len(seen) == 2:
            raise NetworkError("x")

    retrier(Waits()).run(operation, 100)
    assert seen == [(0, False), (1, False), (2, True)]


def test_stale_connections_cost_nothing() -> None:
    waits, told = Waits(), []
    made = retrier(waits, 0, budget=Budget(0), on_stale=lambda: told.append(1))
    assert made.run(failing(StaleConnectionError("x")), 100) == "done"
    assert waits.waited == []
    assert told == [1]
    with pytest.raises(StaleConnectionError):
        made.run(failing(*[StaleConnectionError("x")] * 10), 100)


def test_clock_is_corrected_once() -> None:
    corrected = []

    def correct(headers: Mapping[str, str]) -> bool:
        corrected.append(headers["date"])
        return True

    made = retrier(Waits(), 0, correct_clock=correct)
    assert made.run(failing(ClockSkewError("x"), headers={"date": "now"}), 100) == "done"
    with pytest.raises(ClockSkewError):
        made.run(failing(ClockSkewError("x"), ClockSkewError("x"), headers={"date": "now"}), 100)
    assert corrected == ["now", "now"]
    with pytest.raises(ClockSkewError):
        retrier(Waits()).run(failing(ClockSkewError("x")), 100)


@pytest.mark.parametrize(
    ("code", "times"),
    [("ExpiredToken", 1), ("InvalidAccessKeyId", 1), ("SignatureDoesNotMatch", 0), ("AccessDenied", 0)],
)
def test_credentials_are_renewed_once(code: str, times: int) -> None:
    renewed = []

    def renew(used: object) -> bool:
        renewed.append(1)
        return True

    made = retrier(Waits(), 0, renew_credentials=renew)
    with pytest.raises(AuthenticationError):
        made.run(failing(*[AuthenticationError("x", code=code)] * 2), 100)
    assert len(renewed) == times


def test_budget_runs_out_and_fills_again() -> None:
    waits = Waits()
    budget = Budget(20, waits.clock)
    made = retrier(waits, 100, budget=budget, uniform=lambda low, high: 0.0)
    tries = []

    def operation(attempt: Attempt) -> None:
        tries.append(1)
        raise ServerError("x")

    with pytest.raises(ServerError):
        made.run(operation, 1000)
    assert len(tries) == 5
    waits.now += 0.5
    with pytest.raises(ServerError):
        made.run(operation, 1000)
    assert len(tries) == 7
    for _ in range(5):
        made.run(lambda attempt: None, 1000)
    with pytest.raises(ServerError):
        made.run(operation, 1000)
    assert len(tries) == 9


def test_cancelled_waits_for_nothing() -> None:
    waits = Waits()
    waits.set()
    with pytest.raises(ServerError):
        retrier(waits).run(failing(ServerError("x")), 100)


def test_cancelling_ends_a_wait() -> None:
    class Cancelled(Waits):
        def wait(self, timeout: float | None = None) -> bool:
            self.set()
            return super().wait(timeout)

    with pytest.raises(NetworkError, match="cancelled"):
        retrier(Cancelled()).run(failing(ServerError("x")), 100)


@pytest.mark.parametrize("when", [1, 2])
def test_what_was_given_up_is_not_repeated(when: int) -> None:
    """Neither when that is known at once, nor when it happens while the next try waits for its time."""
    looks, tries = [], []

    def operation(attempt: Attempt) -> None:
        tries.append(attempt.number)
        raise NetworkError("x")

    def given_up() -> bool:
        looks.append(len(tries))
        return len(looks) >= when

    token = GIVEN_UP.set(given_up)
    try:
        with pytest.raises(NetworkError) as caught:
            retrier(Waits()).run(operation, 100)
    finally:
        GIVEN_UP.reset(token)
    assert (tries, caught.value.uncertain) == ([0], True)
