"""CosClient: the only door to COS. One method per operation, one request per method."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from types import TracebackType

from cosfs.client.asking import Asking
from cosfs.client.auth import presign, sign_form
from cosfs.client.endpoint import Address
from cosfs.client.looks import Looks
from cosfs.client.movement import Movement
from cosfs.client.retry import Retrier
from cosfs.client.session import NOTHING, Known
from cosfs.client.stats import ClientStats
from cosfs.client.stream import ObjectStream
from cosfs.client.subresources import SubResources
from cosfs.client.temporary import TemporaryCredentials
from cosfs.config import Settings
from cosfs.errors import CredentialsError

__all__ = ["ClientStats", "CosClient", "ObjectStream"]


class CosClient(Asking, SubResources):
    """Speak with COS. Every method blocks, and may be called from any thread.

    Failed requests are repeated as `retry` says; what is raised in the end is one of
    cosfs.errors. credentials None sends everything unsigned.
    """

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        options: Mapping[str, object] = NOTHING,
        *,
        environ: Mapping[str, str] | None = None,
        ask_code: Callable[[str], str] | None = None,
    ) -> CosClient:
        """Make a client with the credentials that options, environment and profile give.

        ask_code gets the code of an MFA device, for a role that wants one.
        """
        if settings.client.anonymous:
            return cls(settings.client, None)
        from cosfs.client.credentials import find_credentials

        return cls(settings.client, find_credentials(settings, options, environ=environ, ask_code=ask_code))

    @property
    def slow_listeners(self) -> list[Callable[[], None]]:
        """What is called, in any thread, when COS asks for fewer requests or does not answer in time."""
        return self._session.slow_listeners

    @property
    def movement(self) -> Movement:
        """Tells whether anything comes of requests."""
        return self._session.movement

    def limit_stalls(self, seconds: float) -> None:
        """Have a request that nothing comes of end after so many seconds, with all its tries.

        So does waiting for new credentials. A request whose body moves takes as long as it takes, unless it
        moves more slowly than its share of the slowest line there is.
        """
        self._session.stall_limit = seconds
        self._session.retrier.outage_patience = 0.0
        if isinstance(self.credentials, TemporaryCredentials):
            self.credentials.limit = seconds

    def last_heard(self, bucket: str) -> float:
        """When the last bytes of an answer came from where a bucket is (time.monotonic); 0: never.

        An empty bucket means the list of all.
        """
        return self._session.last_heard(bucket)

    def place_of(self, bucket: str) -> str:
        """Return a name for where a bucket is: other buckets of that name are reached in the same way."""
        return self._session.place_of(bucket)

    def cancel(self) -> None:
        """Make every request, waiting or running, fail soon with NetworkError. For good."""
        self._session.transport.cancel()

    def close(self) -> None:
        """Close all kept connections. The client can be used again afterwards."""
        self._session.transport.close()

    def __enter__(self) -> CosClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def credentials_expire(self) -> float:
        """When the credentials in use end, in Unix seconds; 0 if never, or if none were needed yet."""
        return float(getattr(self.credentials, "expires", 0.0))

    # --- for a client in another process

    def known(self) -> Known | None:
        """Return what another client needs to send the same requests; None before the first good answer."""
        return self._session.known()

    def learn(self, known: Known) -> None:
        """Take over what another client found out."""
        self._session.learn(known)

    def looks(self, patience: float) -> Looks:
        """Return what looks at one object after the other, each tried once within patience seconds."""
        return Looks(self._session, patience)

    def has_seen(self, bucket: str) -> bool:
        """Whether a bucket is known to exist, so that what is missing is the object."""
        return bucket in self._session.seen

    def heard_elsewhere(
        self, operation: str, bucket: str, statuses: Mapping[int, int], seconds: float
    ) -> None:
        """Count answers that another client had for this one, the last of them so long after it was asked."""
        for status, count in statuses.items():
            self.stats.answered(operation, status, seconds, count=count)
        if statuses:
            self._session.hear(bucket)

    # --- for the control plane

    @property
    def retrier(self) -> Retrier:
        return self._session.retrier

    def address_of(self, bucket: str) -> Address:
        """Return where requests for a bucket go."""
        return self._session.endpoint.bucket(bucket, self.region_of(bucket))

    @property
    def service_address(self) -> Address:
        """Return where requests go that are about no bucket."""
        return self._session.endpoint.service()

    def proxy_of(self, bucket: str) -> str:
        """Return the URL of the proxy a bucket is reached through, password included; empty for none."""
        address = self.address_of(bucket) if bucket else self.service_address
        proxy = self._session.transport.proxies.choose(address)
        return proxy.full_url if proxy else ""

    # --- the rest

    def presign(
        self,
        method: str,
        bucket: str,
        key: str,
        *,
        expires: float,
        params: Mapping[str, str] = NOTHING,
        headers: Mapping[str, str] = NOTHING,
    ) -> str:
        """Return a URL that allows method on an object for expires seconds, without credentials.

        headers must be sent as given by whoever uses it. The URL of a temporary key works no
        longer than the key.
        """
        if self.credentials is None:
            raise CredentialsError(
                "a URL can only be signed with credentials", hint="Leave --no-sign-request out"
            )
        address = self._session.endpoint.object(bucket, self.region_of(bucket), key)
        now = int(self._session.now())
        query = presign(
            method,
            address.signed_path,
            params,
            {"host": address.host_header, **{n.lower(): v for n, v in headers.items()}},
            self.credentials.get(),
            now - 60,
            now + max(1, round(expires)),
        )
        return f"{address.origin}{address.path}?{query}"

    def presign_form(
        self,
        bucket: str,
        key: str,
        *,
        expires: float,
        fields: Mapping[str, str] = NOTHING,
        most: int | None = None,
    ) -> tuple[str, dict[str, str]]:
        """Return the address and the fields of a form that uploads one file, without credentials.

        A key that ends in "/" lets the form choose the rest: ${filename} in its field becomes the name
        of the file. fields (Content-Type, x-cos-acl, success_action_status) must be sent as given; most
        is the longest file, in bytes. The field `file` comes last.
        """
        if self.credentials is None:
            raise CredentialsError(
                "a form can only be signed with credentials", hint="Leave --no-sign-request out"
            )
        address = self._session.endpoint.bucket(bucket, self.region_of(bucket))
        current = self.credentials.get()
        now = int(self._session.now())
        start, end = now - 60, now + max(1, round(expires))
        conditions: list[object] = [
            {"q-sign-algorithm": "sha1"},
            {"q-ak": current.secret_id},
            {"q-sign-time": f"{start};{end}"},
            {"bucket": bucket},
            ["starts-with", "$key", key] if key.endswith("/") or not key else {"key": key},
            *({name: value} for name, value in fields.items()),
        ]
        if current.token:
            conditions.append({"x-cos-security-token": current.token})
        if most is not None:
            conditions.append(["content-length-range", 0, most])
        until = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(end))
        policy = json.dumps({"expiration": until, "conditions": conditions})
        named = f"{key}${{filename}}" if key.endswith("/") or not key else key
        signed = sign_form(policy, current, start, end)
        return f"{address.origin}{address.path}", {"key": named, **fields, **signed}
