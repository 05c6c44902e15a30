"""Credentials that end: fetched, kept, and fetched again ahead of their end."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from functools import partial

from cosfs.client.auth import Credentials
from cosfs.client.waiting import offload
from cosfs.errors import COSError, CredentialsError, NetworkError, NetworkTimeoutError

__all__ = ["TemporaryCredentials", "renewal_time"]

log = logging.getLogger(__name__)

# Renewed this long before the end, or after nine tenths of a short life.
_MARGIN = 300.0
# Refused credentials are not fetched again more often than this.
_BETWEEN_REFRESHES = 10.0


class TemporaryCredentials:
    """Credentials that are fetched, kept, and fetched again shortly before they end. Thread-safe.

    From the renewal time on one thread fetches; the others use the old ones for as long as they last.
    """

    def __init__(self, clock: Callable[[], float] = time.time, source: str = "") -> None:
        self.source = source  # as a person reads it
        self._clock = clock
        self._lock = threading.Lock()
        self._current: Credentials | None = None
        self._renew_at = 0.0
        self._refreshed_at = -math.inf
        self._failed_at = -math.inf  # time.monotonic()
        self._failure: Callable[[], COSError] | None = None  # without what the error itself would keep alive
        self.limit = math.inf  # seconds that anybody waits for new ones

    @property
    def expires(self) -> float:
        """When those in use end, in Unix seconds; 0 if there are none yet."""
        current = self._current
        return current.expires if current is not None else 0.0

    def fetch(self) -> Credentials:
        """Get new credentials from where they come from."""
        raise NotImplementedError

    def renewal_of(self, credentials: Credentials, now: float) -> float:
        """Return when to fetch the ones after these."""
        return renewal_time(credentials, now)

    def get(self) -> Credentials:
        current = self._current
        if current is not None and self._clock() < self._renew_at:
            return current
        return offload(self._get)

    def _get(self) -> Credentials:
        current = self._current
        lasting = current is not None and (not current.expires or self._clock() < current.expires - 1)
        asked = time.monotonic()
        if not self._lock.acquire(blocking=not lasting):
            assert current is not None
            return current
        try:
            if self._current is not None and self._clock() < self._renew_at:
                return self._current
            self._check_failed_since(asked)
            return self._renewed()
        finally:
            self._lock.release()

    def refresh(self) -> Credentials:
        return offload(self._refresh)

    def _check_failed_since(self, asked: float) -> None:
        """Tell who has waited while somebody else got none the same, instead of letting him try as long."""
        if self._failure is not None and self._failed_at >= asked:
            raise self._failure()

    def _refresh(self) -> Credentials:
        asked = time.monotonic()
        with self._lock:
            if self._current is None:
                self._check_failed_since(asked)
            # Many requests fail at the same time with the old ones; one of them fetches.
            if self._current is None or self._clock() - self._refreshed_at >= _BETWEEN_REFRESHES:
                self._current = None
                self._renewed()
                self._refreshed_at = self._clock()
            assert self._current is not None
            return self._current

    def _renewed(self) -> Credentials:
        """Fetch; go on with the old ones for as long as they last if that fails."""
        now = self._clock()
        try:
            new = self._fetch_in_time()
        except (CredentialsError, NetworkError) as error:
            self._failed_at = time.monotonic()
            self._failure = partial(type(error), error.message, hint=error.hint)
            if self._current is None or now >= self._current.expires - 10:
                raise
            log.warning("%s; the old credentials are used for %d s more", error, self._current.expires - now)
            self._renew_at = now + 30
            return self._current
        self._current = new
        self._renew_at = self.renewal_of(new, now)
        return new

    def _fetch_in_time(self) -> Credentials:
        if self.limit == math.inf:
            return self.fetch()
        found: list[Credentials] = []
        errors: list[BaseException] = []

        def work() -> None:
            try:
                found.append(self.fetch())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=work, name="cos-credentials", daemon=True)
        thread.start()
        thread.join(self.limit)
        if errors:
            raise errors[0]
        if not found:
            raise NetworkTimeoutError(f"no new credentials came within {self.limit:.0f} s from {self.source}")
        return found[0]


def renewal_time(credentials: Credentials, now: float) -> float:
    """Return when to fetch new credentials."""
    if not credentials.expires:
        return now + 3600
    return credentials.expires - min(_MARGIN, 0.1 * max(0.0, credentials.expires - now))
