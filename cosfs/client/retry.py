"""What is worth repeating, and when. The only place that repeats requests."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import field
from typing import TypeVar

from cosfs.client.auth import Credentials
from cosfs.client.failures import EXPIRED_CODES
from cosfs.client.waiting import wait_for
from cosfs.client.wire import StaleConnectionError
from cosfs.errors import (
    AuthenticationError,
    ClockSkewError,
    COSError,
    NetworkError,
    NetworkTimeoutError,
    ServiceError,
    ThrottledError,
    UnknownHostError,
)
from cosfs.records import dataclass

__all__ = ["GIVEN_UP", "Attempt", "Budget", "Retrier"]

log = logging.getLogger(__name__)

T = TypeVar("T")

# Tells whether nobody waits for the call that is worked on here any more.
GIVEN_UP: ContextVar[Callable[[], bool] | None] = ContextVar("given_up", default=None)

BASE_DELAY = 0.2
MAX_DELAY = 20.0
# A Retry-After is believed up to here; a longer one ends the tries.
MAX_RETRY_AFTER = 120.0
# Between two looks whether an outage is over.
_OUTAGE_DELAY = 2.0
# The same trouble is told again after so many seconds.
_TOLD_AGAIN = 10.0

_REPEATED_STATUS = frozenset({408, 429})
_REPEATED_CODES = frozenset(
    {"PathConflict", "UploadConflict", "RequestTimeout", "UserNetworkTooSlow", "SlowDown", "KmsFreqControl"}
)
# Damage on the way: once is bad luck, twice is something else.
_DAMAGE_CODES = frozenset({"BadDigest", "IncompleteBody", "EntitySizeNotMatch"})


class Budget:
    """How many retries the process may still make; successes and time pay it back.

    When everything fails, each request is soon tried once only instead of many times, so that
    a service in trouble is not hit harder than one that works.
    """

    CAPACITY = 500.0
    COST = 5.0
    PER_SECOND = 10.0

    def __init__(self, capacity: float = CAPACITY, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._left = capacity
        self._clock = clock
        self._since = clock()
        self._lock = threading.Lock()

    def spend(self) -> bool:
        """Take the cost of one retry; return whether there was enough."""
        with self._lock:
            now = self._clock()
            self._left = min(self._capacity, self._left + (now - self._since) * self.PER_SECOND)
            self._since = now
            if self._left < self.COST:
                return False
            self._left -= self.COST
            return True

    def earn(self) -> None:
        """Count a success."""
        # Full most of the time: then there is nothing to lock for.
        if self._left < self._capacity:
            with self._lock:
                self._left = min(self._capacity, self._left + 1.0)


PROCESS_BUDGET = Budget()


@dataclass(slots=True)
class Attempt:
    """One try as the caller sees it: its number from 0, and what went before."""

    number: int = 0
    deadline: float = 0.0
    # Whether an earlier try got no answer, or one of a service in trouble: it may have worked after all.
    uncertain: bool = False
    sent: int = 0  # set by the caller: bytes of the body that have been sent by the try that came furthest
    # Set by the caller: the headers of the last error answer.
    headers: Mapping[str, str] = field(default_factory=dict)
    # Set by the caller: the credentials of this try.
    credentials: Credentials | None = None
    unreachable_until: float = 0.0  # while nothing can be connected to: when to give up
    _once: set[str] = field(default_factory=set)
    _stale: int = 0

    def first(self, what: str) -> bool:
        """Return True the first time it is asked about what."""
        if what in self._once:
            return False
        self._once.add(what)
        return True


class Retrier:
    """Repeat an operation for as long as that makes sense.

    What cannot even be connected to costs the service nothing: if it was there before (reached), it is
    asked again for outage_patience seconds, whatever the number of tries and the budget; 0: as all else.
    With outage_at_start that holds for the first request as well, unless there is no such host.

    on_slow hears of each answer that asks for fewer requests and of each time-out.
    correct_clock is given the headers of the answer and says whether the clock was set by them;
    renew_credentials says whether there are others than those that were used. Waiting ends when cancelled
    is set. What was GIVEN_UP is not repeated: whoever gave it up may have done something else since.
    """

    def __init__(
        self,
        max_retries: int,
        cancelled: threading.Event,
        *,
        correct_clock: Callable[[Mapping[str, str]], bool] = lambda headers: False,
        renew_credentials: Callable[[object], bool] = lambda used: False,
        on_stale: Callable[[], None] = lambda: None,
        on_retry: Callable[[], None] = lambda: None,
        on_slow: Callable[[], None] = lambda: None,
        reached: Callable[[], bool] = lambda: False,
        budget: Budget | None = None,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._max_retries = max_retries
        self._cancelled = cancelled
        self._correct_clock = correct_clock
        self._renew_credentials = renew_credentials
        self._on_stale = on_stale
        self._on_retry = on_retry
        self._on_slow = on_slow
        self._reached = reached
        self.outage_patience = 0.0
        self.outage_at_start = False
        self._told: dict[str, float] = {}
        self._budget = PROCESS_BUDGET if budget is None else budget
        self._clock = clock
        self._uniform = uniform

    def run(self, operation: Callable[[Attempt], T], time_limit: float, what: str = "") -> T:
        """Run operation until it succeeds, cannot, or time_limit seconds are over.

        operation must begin from its start each time. The last error is raised.
        """
        attempt = Attempt(deadline=self._clock() + time_limit)
        while True:
            try:
                result = operation(attempt)
            except COSError as error:
                if isinstance(error, ThrottledError | NetworkTimeoutError):
                    self._on_slow()
                delay = self._delay(error, attempt)
                attempt.uncertain |= _may_have_worked(error)
                if delay is not None:
                    self._wait(delay, error, attempt, what)
                if delay is None or _is_given_up():
                    error.uncertain = attempt.uncertain
                    raise
                attempt.headers = {}
            else:
                self._budget.earn()
                return result

    def _wait(self, delay: float, error: COSError, attempt: Attempt, what: str) -> None:
        self._on_retry()
        self._tell(delay, error, attempt, what)
        if delay > 0 and wait_for(self._cancelled, delay):
            raise NetworkError("cancelled") from error

    def _tell(self, delay: float, error: COSError, attempt: Attempt, what: str) -> None:
        """Log a wait. Hundreds of requests have the same trouble at once, so it is told now and then."""
        if attempt.unreachable_until and self._is_news(error.message):
            left = max(1, round(attempt.unreachable_until - self._clock()))
            log.warning("%s; waiting for it, up to %d s", error.message, left)
        loud = attempt.number > 2 and not attempt.unreachable_until and self._is_news(error.message)
        level = logging.WARNING if loud else logging.DEBUG
        log.log(level, "try %d of %s after %.1f s: %s", attempt.number + 1, what, delay, error)

    def _is_news(self, text: str) -> bool:
        """Whether this was not told a moment ago."""
        now = self._clock()
        if now - self._told.get(text, -_TOLD_AGAIN) < _TOLD_AGAIN:
            return False
        if len(self._told) > 100:
            self._told.clear()
        self._told[text] = now
        return True

    def _delay(self, error: COSError, attempt: Attempt) -> float | None:
        """Return how long to wait before the next try, None to give up. Counts the try."""
        if self._cancelled.is_set() or _is_given_up():
            return None
        if isinstance(error, StaleConnectionError):
            # No fault of the service's; after this all connections are fresh.
            self._on_stale()
            attempt._stale += 1
            return 0.0 if attempt._stale <= 3 else None
        if isinstance(error, AuthenticationError):
            return self._cured(error, attempt)
        if self._is_outage(error):
            return self._sat_out(attempt)
        attempt.unreachable_until = 0.0
        if not is_repeatable(error, attempt) or attempt.number >= self._max_retries:
            return None
        delay = self._backoff(attempt)
        if delay is None or self._clock() + delay >= attempt.deadline or not self._budget.spend():
            return None
        attempt.number += 1
        return delay

    def _is_outage(self, error: COSError) -> bool:
        return (
            self.outage_patience > 0
            and self._max_retries > 0
            and isinstance(error, NetworkError)
            and error.retryable
            and not error.sent
            and (self._reached() or (self.outage_at_start and not isinstance(error, UnknownHostError)))
        )

    def _sat_out(self, attempt: Attempt) -> float | None:
        """Return how long to wait for what cannot be reached, None when that has lasted too long."""
        now = self._clock()
        if not attempt.unreachable_until:
            attempt.unreachable_until = now + self.outage_patience
        if now >= attempt.unreachable_until:
            return None
        delay = self._uniform(0.1, _OUTAGE_DELAY)
        attempt.deadline += delay
        return delay

    def _cured(self, error: AuthenticationError, attempt: Attempt) -> float | None:
        """Return 0 if the cause of a refused signature could be removed, once per cause."""
        if isinstance(error, ClockSkewError):
            if attempt.first("clock") and self._correct_clock(attempt.headers):
                return 0.0
        elif (
            (error.code in EXPIRED_CODES or error.code == "InvalidAccessKeyId")
            and attempt.first("credentials")
            and self._renew_credentials(attempt.credentials)
        ):
            return 0.0
        return None

    def _backoff(self, attempt: Attempt) -> float | None:
        """Return a delay with full jitter, longer if the answer asked for it."""
        delay = self._uniform(0, min(MAX_DELAY, BASE_DELAY * 2**attempt.number))
        asked = attempt.headers.get("retry-after", "").strip()
        if asked.isascii() and asked.isdigit():
            if int(asked) > MAX_RETRY_AFTER:
                return None
            delay = max(delay, float(asked))
        return delay


def _is_given_up() -> bool:
    given_up = GIVEN_UP.get()
    return given_up is not None and given_up()


def _may_have_worked(error: COSError) -> bool:
    """Whether the work may be done although there was no answer, or an error (200: inside a good answer)."""
    if isinstance(error, ServiceError):
        return error.status >= 500 or error.status == 200
    return isinstance(error, NetworkError) and error.sent


def is_repeatable(error: COSError, attempt: Attempt) -> bool:
    """Return whether the same request can succeed later."""
    if isinstance(error, ServiceError):
        if error.code in _DAMAGE_CODES:
            return attempt.first("damage")
        return error.retryable or error.status in _REPEATED_STATUS or error.code in _REPEATED_CODES
    return error.retryable
