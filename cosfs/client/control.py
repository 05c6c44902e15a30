"""Bucket settings and everything rare, through Tencent's own SDK, which is imported at the first call.

What is wrong with the SDK stays here: it loses tokens of providers, shares one small pool, repeats
certificate errors, reads proxies of the environment for every request and logs secrets.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from cosfs.client import failures, xml
from cosfs.client.retry import Attempt
from cosfs.errors import (
    CertificateError,
    COSError,
    IntegrityError,
    NetworkError,
    NetworkTimeoutError,
    UsageError,
)

if TYPE_CHECKING:
    from cosfs.client.client import CosClient

__all__ = ["ControlPlane"]

_TIME_LIMIT = 120.0


class ControlPlane:
    """Call methods of the SDK's CosS3Client by name; errors are ours. Blocks, thread-safe."""

    def __init__(self, client: CosClient) -> None:
        self._client = client

    def call(
        self,
        method: str,
        *,
        finish: Callable[[Any], Any] | None = None,
        files: Mapping[str, Path] = MappingProxyType({}),
        **arguments: Any,
    ) -> Any:
        """Call a method of the SDK: call("get_bucket_lifecycle", Bucket="b-1250000000").

        finish reads what the answer streams, before its connection is closed. files are arguments to be
        read from disk, from the start on each try.
        """
        if method.startswith("_"):
            raise UsageError(f"{method!r} is no operation")
        bucket, key = str(arguments.get("Bucket", "")), str(arguments.get("Key", ""))
        target = f"cos://{bucket}/{key}" if key else f"cos://{bucket}"

        def operation(attempt: Attempt) -> Any:
            self._client.stats.add(request=_operation_name(method))
            # A new one each time: it is cheap, and credentials may have changed.
            sdk, session = self._make(bucket, attempt)
            with session, ExitStack() as opened:
                read = {name: opened.enter_context(path.open("rb")) for name, path in files.items()}
                try:
                    answer = getattr(sdk, method)(**arguments, **read)
                except Exception as error:
                    self._client.stats.add(errors=1)
                    raise _translate(error, target, method) from error
                return _finish(answer, finish, target) if finish is not None else answer

        return self._client.retrier.run(operation, _TIME_LIMIT, f"{method} {target!r}")

    def _make(self, bucket: str, attempt: Attempt) -> tuple[Any, Any]:
        """Return an SDK client and its HTTP session."""
        import requests
        from qcloud_cos import CosConfig, CosS3Client

        _silence()
        settings = self._client.settings
        address = self._client.address_of(bucket) if bucket else self._client.service_address
        session = requests.Session()
        session.trust_env = False
        proxy = self._client.proxy_of(bucket)
        config: dict[str, Any] = {
            "Region": (self._client.region_of(bucket) if bucket else "") or "ap-guangzhou",
            "Scheme": address.scheme,
            "Timeout": (settings.connect_timeout, settings.read_timeout),
            "VerifySSL": _verify(settings.ca_bundle, settings.verify_ssl),
            "AllowRedirects": False,
            "AutoSwitchDomainOnRetry": False,
            "UA": settings.user_agent,
            "Proxies": {"http": proxy, "https": proxy} if proxy else None,
        }
        if settings.endpoint_url and not bucket:
            config["ServiceDomain"] = address.host_header
        elif settings.endpoint_url and address.path != "/":
            # Path style is beyond the SDK, but it can send the real host name to any address.
            config |= {"IP": address.host, "Port": address.port}
        elif settings.endpoint_url:
            config["Endpoint"] = address.host_header.removeprefix(f"{bucket}.")
        if self._client.credentials is None:
            config["Anonymous"] = True
        else:
            attempt.credentials = current = self._client.credentials.get()
            config |= {"SecretId": current.secret_id, "SecretKey": current.secret_key}
            config |= {"Token": current.token or None}
        return CosS3Client(CosConfig(**config), retry=0, session=session), session


def _finish(answer: Any, finish: Callable[[Any], Any], target: str) -> Any:
    """Read an answer; one that breaks off is not asked for again, as its beginning has gone somewhere."""
    try:
        return finish(answer)
    except Exception as error:
        foreign = type(error).__module__.partition(".")[0] in ("requests", "urllib3", "qcloud_cos", "struct")
        if not foreign:
            raise
        raise IntegrityError(f"{target}: the answer broke off: {error}", hint="Try again") from error


def _operation_name(method: str) -> str:
    """Return "GetBucketLifecycle" for "get_bucket_lifecycle"."""
    return "".join(word.title() for word in method.split("_"))


def _verify(ca_bundle: str, verify: bool) -> bool | str:
    """Return what the SDK is to check certificates with: the machine's list, not that of a package."""
    if not verify:
        return False
    return ca_bundle or ssl.get_default_verify_paths().cafile or True


def _silence() -> None:
    """Keep the SDK from logging: requests with their signatures, and errors that are raised anyway."""
    import warnings

    logging.getLogger("qcloud_cos").setLevel(logging.CRITICAL + 1)
    # --no-verify-ssl has its own warning.
    warnings.filterwarnings("ignore", message="Unverified HTTPS request")


def _translate(error: Exception, target: str, method: str) -> COSError:
    from qcloud_cos import CosClientError, CosServiceError

    if isinstance(error, COSError):
        return error
    if isinstance(error, CosServiceError):
        known = error.get_digest_msg()
        document = xml.ErrorBody(None)
        if isinstance(known, dict):
            document.code = str(known.get("code", ""))
            document.message = str(known.get("message", ""))
            document.request_id = str(known.get("requestid", ""))
            document.trace_id = str(known.get("traceid", ""))
        return failures.from_document(
            document,
            failures.Failure(
                error.get_status_code(), {}, b"", target, "COS", _operation_name(method), now=time.time()
            ),
        )
    if isinstance(error, OSError) and not isinstance(error, CosClientError) and error.filename:
        return UsageError(f"{error.filename}: {error.strerror}")
    if isinstance(error, CosClientError) or type(error).__module__.startswith(("requests.", "urllib3.")):
        return _network_error(error, target)
    # The SDK raises KeyError, TypeError and others for arguments and answers it did not expect.
    return UsageError(f"{target}: {method} failed: {type(error).__name__}: {error}")


def _network_error(error: Exception, target: str) -> COSError:
    import requests

    cause = error if isinstance(error, requests.exceptions.RequestException) else error.__context__ or error
    if isinstance(cause, requests.exceptions.SSLError):
        return CertificateError(
            f"{target}: the TLS certificate cannot be trusted: {cause}",
            hint="If a proxy of yours inspects TLS, give its certificate with --ca-bundle",
        )
    if isinstance(cause, requests.exceptions.Timeout):
        return NetworkTimeoutError(f"{target}: no answer in time", hint="Check the network")
    if isinstance(cause, requests.exceptions.RequestException):
        return NetworkError(
            f"{target}: COS cannot be reached: {cause}", hint="Check the network and endpoint_url"
        )
    return UsageError(f"{target}: {error}")
