"""What the operations of COS have in common, whatever they are about."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cosfs.client.auth import CredentialProvider
from cosfs.client.retry import Attempt
from cosfs.client.session import NOTHING, Call, Session
from cosfs.client.stats import ClientStats
from cosfs.config import ClientSettings
from cosfs.errors import ServiceError

__all__ = ["Operations", "add_params", "conditions_of", "not_modified", "quoted", "version_params"]


class Operations:
    """The session that requests go through, and what is asked without an answer to read."""

    def __init__(self, settings: ClientSettings, credentials: CredentialProvider | None) -> None:
        self.settings = settings
        self.credentials = credentials
        self._session = Session(settings, credentials)

    @property
    def stats(self) -> ClientStats:
        return self._session.stats

    def _drain(self, call: Call, done_before: Callable[[ServiceError], bool] = lambda error: False) -> None:
        """Send a call whose answer says no more than that it worked.

        done_before tells the error that means an earlier try, whose answer was lost, has worked.
        """

        def operation(attempt: Attempt) -> None:
            try:
                with self._session.send(call, attempt) as response:
                    self._session.document(call, response)
            except ServiceError as error:
                if not (attempt.uncertain and done_before(error)):
                    raise

        self._session.run_operation(call, operation)


def add_params(params: dict[str, str], **values: str) -> None:
    """Add the parameters that are not empty."""
    params.update({name: value for name, value in values.items() if value})


def version_params(version_id: str) -> Mapping[str, str]:
    return {"versionId": version_id} if version_id else NOTHING


def quoted(etag: str) -> str:
    return etag if etag == "*" or etag.startswith('"') else f'"{etag}"'


def conditions_of(if_match: str, if_none_match: str) -> dict[str, str]:
    conditions = {}
    if if_match:
        conditions["If-Match"] = quoted(if_match)
    if if_none_match:
        conditions["If-None-Match"] = quoted(if_none_match)
    return conditions


def not_modified(target: str) -> ServiceError:
    return ServiceError("the object has not changed", status=304, code="NotModified", target=target)
