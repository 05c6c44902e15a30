"""Requests to STS: keys of roles, keys for others, and whom a key belongs to."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import field
from functools import partial
from typing import Any
from urllib.parse import quote

from cosfs.client.auth import Credentials
from cosfs.client.endpoint import is_loopback
from cosfs.errors import ConfigError, CredentialsError, NetworkError
from cosfs.records import dataclass

__all__ = ["Identity", "Role", "Sts"]

log = logging.getLogger(__name__)

DEFAULT_ENDPOINT = "https://sts.tencentcloudapi.com"
_TIMEOUT = 20  # seconds
_VERSIONS = {"sts": "2018-08-13", "cam": "2019-01-16"}
_NETWORK_CODES = ("ClientNetworkError", "ClientError.NetworkError", "ServerNetworkError")
_HINTS = {
    "ResourceNotFound.RoleNotFound": "Check assume_role (COS_ASSUME_ROLE)",
    "UnauthorizedOperation": "The role's trust policy must allow this account (and external_id, if it asks)",
    "InvalidParameter.OverTimeError": "Ask for less with duration_seconds, or let the role's limit be raised",
    "InvalidParameter.WebIdentityTokenError": "The token may have ended, or its issuer is not known to CAM",
    "AuthFailure.SignatureExpire": "Set the clock, for example with: timedatectl set-ntp true",
    "AuthFailure.MFAFailure": "Give the code that the device shows now, with --mfa-code",
    "FailedOperation.TempKeyNotAllowed": "Use permanent keys, or a role: cos token --role ARN",
    "RequestLimitExceeded": "Try again in a second",
}


@dataclass(frozen=True, slots=True)
class Role:
    """A role and how to ask for it."""

    arn: str
    session_name: str = "cosmount"
    external_id: str = ""
    duration: int = 7200  # seconds
    mfa_serial: str = ""
    policy: str = ""  # JSON; rights that its keys lose besides


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a key belongs to."""

    arn: str
    account: str
    user_id: str
    principal: str
    kind: str


@dataclass(frozen=True, slots=True)
class Sts:
    """Where STS is. Each method is one request; what it refuses is a CredentialsError."""

    endpoint: str = DEFAULT_ENDPOINT
    region: str = "ap-guangzhou"
    proxy: str = field(default="", repr=False)
    ca_bundle: str = ""

    def assume_role(self, base: Credentials, role: Role, mfa_code: str = "") -> Credentials:
        """Return keys of a role."""
        values: dict[str, Any] = {
            "RoleArn": role.arn,
            "RoleSessionName": role.session_name,
            "DurationSeconds": role.duration,
        }
        if role.external_id:
            values["ExternalId"] = role.external_id
        if role.policy:
            values["Policy"] = quote(role.policy, safe="")
        if role.mfa_serial:
            values |= {"SerialNumber": role.mfa_serial, "TokenCode": mfa_code}
        answer = self._call("AssumeRole", values, base, f"the role {role.arn} cannot be assumed")
        return _credentials(answer)

    def assume_role_with_web_identity(self, role: Role, provider_id: str, token: str) -> Credentials:
        """Return keys of a role for the token of an identity provider."""
        values = {
            "ProviderId": provider_id,
            "WebIdentityToken": token,
            "RoleArn": role.arn,
            "RoleSessionName": role.session_name,
            "DurationSeconds": role.duration,
        }
        if role.policy:
            values["Policy"] = quote(role.policy, safe="")
        what = f"the role {role.arn} cannot be assumed with the token of {provider_id}"
        return _credentials(self._call("AssumeRoleWithWebIdentity", values, None, what))

    def federation_token(self, base: Credentials, name: str, policy: str, duration: int) -> Credentials:
        """Return keys that may do what policy allows of the caller's own rights."""
        values = {"Name": name, "Policy": quote(policy, safe=""), "DurationSeconds": duration}
        return _credentials(self._call("GetFederationToken", values, base, "STS gives no temporary keys"))

    def caller_identity(self, base: Credentials) -> Identity:
        """Return whom a key belongs to."""
        answer = self._call("GetCallerIdentity", {}, base, "STS does not say whose keys these are")
        return Identity(
            *(str(answer.get(n) or "") for n in ("Arn", "AccountId", "UserId", "PrincipalId", "Type"))
        )

    def appid(self, base: Credentials) -> str:
        """Return the APPID of the account of a key, from CAM."""
        answer = self._call("GetUserAppId", {}, base, "CAM does not tell the APPID", "cam")
        return str(answer.get("AppId") or "")

    def _call(
        self,
        action: str,
        values: Mapping[str, Any],
        base: Credentials | None,
        what: str,
        service: str = "sts",
    ) -> Any:
        """Send one request and return its answer; what says what failed if it fails."""
        try:
            from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
        except ImportError as error:
            raise CredentialsError(
                "asking STS needs the package tencentcloud-sdk-python-sts", hint="Install it with pip"
            ) from error
        protocol, host = sts_address(self.endpoint)
        if host.startswith("sts."):
            host = f"{service}.{host.removeprefix('sts.')}"
        # The SDK logs requests and answers whole, keys and tokens included.
        logging.getLogger("tencentcloud_sdk_common").setLevel(logging.CRITICAL + 1)
        try:
            answer = self._sender(protocol, host, base, service)(action, dict(values))["Response"]
            log.debug("%s at %s: RequestId %s", action, host, answer.get("RequestId"))
            return answer
        except TencentCloudSDKException as error:
            raise _refused(error, what, host) from None  # its cause shows headers and keys
        except (KeyError, TypeError, ValueError) as error:
            raise CredentialsError(f"the answer of STS at {host} cannot be read") from error

    def _sender(self, protocol: str, host: str, base: Credentials | None, service: str) -> Callable[..., Any]:
        from tencentcloud.common.common_client import CommonClient
        from tencentcloud.common.credential import Credential
        from tencentcloud.common.profile.client_profile import ClientProfile
        from tencentcloud.common.profile.http_profile import HttpProfile

        local = is_loopback(host.partition(":")[0])
        http = HttpProfile(
            protocol=protocol,
            endpoint=host,
            reqTimeout=_TIMEOUT,
            proxy=None if local else self.proxy or None,
            certification=self.ca_bundle or None,
        )
        given = Credential(base.secret_id, base.secret_key, base.token or None) if base else None
        client = CommonClient(
            service, _VERSIONS[service], given, self.region, ClientProfile(httpProfile=http)
        )
        return partial(client.call_json, options={"SkipSign": base is None})


def sts_address(text: str) -> tuple[str, str]:
    """Return protocol and host of an STS endpoint; plain HTTP is for this machine only."""
    match = re.fullmatch(r"(?:(https?)://)?([^/?#\s@]+)/?", text)
    if match is None:
        raise ConfigError(f"sts_endpoint is not an address: {text!r}")
    protocol, host = match[1] or "https", match[2]
    if protocol == "http" and not is_loopback(host.partition(":")[0]):
        raise ConfigError(f"sts_endpoint must be https, not {text!r}", hint="Keys would travel unprotected")
    return protocol, host


def _credentials(answer: Any) -> Credentials:
    given = answer["Credentials"]
    return Credentials(
        given["TmpSecretId"], given["TmpSecretKey"], given["Token"], float(answer["ExpiredTime"])
    )


def _refused(error: Any, what: str, host: str) -> CredentialsError | NetworkError:
    code, message = str(error.get_code() or ""), str(error.get_message() or "")
    if code in _NETWORK_CODES:
        # The SDK says it in the words of three libraries, one inside the other.
        reason = re.findall(r"(?:\] |: )([A-Z][^:'\"()]+?)[)'\"]*$", message)
        why = f" ({reason[0].lower()})" if reason else ""
        return NetworkError(f"STS at {host} cannot be reached{why}", hint="Check the network and the proxy")
    hint = _HINTS.get(code, "Check secret_id and secret_key" if code.startswith("AuthFailure") else "")
    notes = f"{code}, RequestId {error.get_request_id()}" if error.get_request_id() else code
    return CredentialsError(f"{what}: {message} ({notes})", hint=hint)
