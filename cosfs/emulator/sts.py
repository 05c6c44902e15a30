"""STS: temporary keys for callers, roles and web identities, and who a key belongs to."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from cosfs.emulator import access, identity_tokens, tc3
from cosfs.emulator.accounts import Principal, Role
from cosfs.emulator.auth import Credential
from cosfs.emulator.context import Call
from cosfs.emulator.policy import PolicyError, Question, Verdict, parse_policy
from cosfs.emulator.sessions import iso, issue
from cosfs.emulator.tc3 import ApiError
from cosfs.emulator.values import Request, Response

UNKNOWN = "TencentCloudApi"
_VERSION = "2018-08-13"
_CAM_VERSION = "2019-01-16"
_LONGEST_POLICY = 6144
_SESSION_NAME = re.compile(r"[\w+=,.@-]{2,128}", re.ASCII)
_ROOT_SECONDS, _USER_SECONDS = 7200, 129_600
Answer = dict[str, Any]


@dataclass(slots=True)
class Api:
    """One request to STS."""

    call: Call
    values: Mapping[str, Any]
    caller: Principal
    credential: Credential | None  # None: the action needs no signature

    def text(self, name: str, *, needed: bool = True) -> str:
        """Return a parameter that is a text."""
        value = self.values.get(name)
        if value in (None, "") and needed:
            raise ApiError("MissingParameter", f"The request is missing the required parameter {name}.")
        if value is not None and not isinstance(value, str):
            raise ApiError("InvalidParameterValue", f"{name} must be a text.")
        return value or ""

    def seconds(self, default: int, most: int) -> int:
        """Return DurationSeconds."""
        value = self.values.get("DurationSeconds")
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ApiError("InvalidParameter.ParamError", "DurationSeconds must be a positive number.")
        if value > most:
            raise ApiError("InvalidParameter.OverTimeError", f"DurationSeconds can be {most} at most.")
        return value

    def policy(self, *, needed: bool) -> str:
        """Return the decoded Policy."""
        text = unquote(self.text("Policy", needed=needed))
        if not text:
            return ""
        if len(text) > _LONGEST_POLICY:
            raise ApiError("InvalidParameter.PolicyTooLong", "The policy is too long.")
        try:
            json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ApiError("InvalidParameter.StrategyFormatError", "The policy is not JSON.") from error
        try:
            parse_policy(text)
        except PolicyError as error:
            raise ApiError(
                "InvalidParameter.StrategyInvalid", f"The policy is not valid: {error}."
            ) from error
        return text

    def session_name(self) -> str:
        """Return RoleSessionName."""
        name = self.text("RoleSessionName")
        if not _SESSION_NAME.fullmatch(name):
            raise ApiError(
                "InvalidParameter.ParamError", "RoleSessionName must be 2 to 128 of letters, digits, +=,.@_-"
            )
        return name

    def role(self) -> Role:
        """Return the role that RoleArn names."""
        role = self.call.emulation.accounts.role(self.text("RoleArn"))
        if role is None:
            raise ApiError("ResourceNotFound.RoleNotFound", "The role does not exist.")
        return role

    def refuse_temporary(self) -> None:
        """Refuse keys that end themselves."""
        if self.caller.temporary:
            raise ApiError("FailedOperation.TempKeyNotAllowed", "Temporary keys may not do this.")

    def keys(self, session: Mapping[str, str], seconds: int, user: str = "") -> Answer:
        """Make keys and tell them."""
        made = issue(self.call.store, {**session, "by": self.caller.uin}, seconds, user)
        told = {"Token": made.token, "TmpSecretId": made.secret_id, "TmpSecretKey": made.secret_key}
        return {"Credentials": told, "ExpiredTime": int(made.expires), "Expiration": iso(made.expires)}


# Actions


def get_federation_token(api: Api) -> Answer:
    """Give keys that may do what the caller may and the policy says."""
    api.refuse_temporary()
    assert api.credential is not None
    name = api.text("Name")
    if not re.fullmatch(r"[A-Za-z][\w-]*", name, re.ASCII):
        raise ApiError("InvalidParameter.ParamError", "Name must consist of letters.")
    policy = api.policy(needed=True)
    seconds = api.seconds(1800, _ROOT_SECONDS if api.caller.root else _USER_SECONDS)
    return api.keys({"kind": "federated", "name": name, "policy": policy}, seconds, api.credential.user)


def get_session_token(api: Api) -> Answer:
    """Give keys that may do what the caller may."""
    api.refuse_temporary()
    assert api.credential is not None
    seconds = api.seconds(1800, _ROOT_SECONDS if api.caller.root else _USER_SECONDS)
    return api.keys({"kind": "session"}, seconds, api.credential.user)


def assume_role(api: Api) -> Answer:
    """Give keys of a role to someone whom it trusts."""
    role, name, policy = api.role(), api.session_name(), api.policy(needed=False)
    if len(api.values.get("Tags") or ()) > 50:
        raise ApiError("InvalidParameter.OverLimit", "There can be 50 tags at most.")
    external = api.text("ExternalId", needed=False)
    keys = {"sts:external_id": external, "sts:externalid": external, **_second_factor(api)}
    if not _trusts(api, role, "sts:AssumeRole", api.caller, keys):
        raise ApiError("UnauthorizedOperation", "The role does not trust the caller, or the caller may not.")
    seconds = api.seconds(min(7200, role.max_seconds), role.max_seconds)
    return api.keys({"kind": "role", "role": role.arn, "name": name, "policy": policy}, seconds)


def _second_factor(api: Api) -> Mapping[str, str]:
    """Check the code of an MFA device if one is named; return what trust documents may ask for."""
    serial = api.text("SerialNumber", needed=False)
    if not serial:
        return {}
    code = api.text("TokenCode")
    if api.call.emulation.mfa_devices.get(serial) != code:
        raise ApiError("AuthFailure.MFAFailure", "The code of the MFA device is wrong.")
    return {"sts:serial_number": serial}


def assume_role_with_web_identity(api: Api) -> Answer:
    """Give keys of a role to the bearer of a token that one of its trusted issuers signed."""
    role, name, policy = api.role(), api.session_name(), api.policy(needed=False)
    provider = api.call.emulation.accounts.providers.get((role.account, api.text("ProviderId")))
    if provider is None:
        raise ApiError("InvalidParameter.WebIdentityTokenError", "The provider is not known.")
    try:
        now = api.call.store.clock.machine()
        claims = identity_tokens.verify(api.text("WebIdentityToken"), provider, now)
    except identity_tokens.TokenError as error:
        raise ApiError("InvalidParameter.WebIdentityTokenError", str(error)) from error
    keys = {f"oidc:{key}": value for key, value in claims.items() if isinstance(value, str)}
    issuer = Principal("identity", names=(provider.arn,))
    if not _trusts(api, role, "sts:AssumeRoleWithWebIdentity", issuer, keys):
        raise ApiError("UnauthorizedOperation", "The role does not trust the issuer of the token.")
    seconds = api.seconds(min(7200, role.max_seconds), role.max_seconds)
    return api.keys({"kind": "role", "role": role.arn, "name": name, "policy": policy}, seconds)


def get_caller_identity(api: Api) -> Answer:
    """Tell whom the key belongs to."""
    caller = api.caller
    arn, kind, principal = caller.names[0] if caller.names else "", "CAMUser", caller.uin
    if caller.kind == "role":
        arn, kind = f"qcs::sts:{caller.account}:assumed-role/{caller.uin}", "CAMRole"
        assert api.credential is not None
        principal = json.loads(api.credential.session).get("by") or caller.account
    elif caller.kind == "federated":
        arn, kind = caller.names[-1], "FederatedUser"
    return {
        "Arn": arn, "AccountId": caller.account, "UserId": caller.user_id, "PrincipalId": principal,
        "Type": kind,
    }  # fmt: skip


def get_user_app_id(api: Api) -> Answer:
    """Tell the APPID of the caller's account; this one is CAM's."""
    caller = api.caller
    account = api.call.emulation.accounts.accounts[caller.account]
    return {"Uin": caller.uin, "OwnerUin": caller.account, "AppId": int(account.appid)}


def _trusts(api: Api, role: Role, action: str, who: Principal, values: Mapping[str, str]) -> bool:
    """Ask a role's trust document; users of a trusted account need a policy of their own as well."""

    def lookup(key: str) -> tuple[str, ...] | None:
        return (values[key],) if values.get(key) else None

    owners = (f"uin/{role.account}",)
    question = Question(action, (*role.arns, *_last_parts(role)), "", owners, who.names, lookup)
    trust = parse_policy(role.trust, of_bucket=True)
    own = access.own_verdict(who, question)
    given = trust.ask(question)
    if Verdict.DENY in (own, given):
        return False
    if given is Verdict.ALLOW:
        return True
    by_account = Question(action, question.resources, "", owners, who.account_names, lookup)
    return bool(who.account_names) and own is trust.ask(by_account) is Verdict.ALLOW


def _last_parts(role: Role) -> tuple[str, ...]:
    """Return the role as the last of the six parts of a resource."""
    return tuple(arn.rpartition(":")[2] for arn in role.arns)


_ACTIONS: Mapping[str, Callable[[Api], Answer]] = {
    "GetFederationToken": get_federation_token,
    "GetSessionToken": get_session_token,
    "AssumeRole": assume_role,
    "AssumeRoleWithWebIdentity": assume_role_with_web_identity,
    "GetCallerIdentity": get_caller_identity,
    "GetUserAppId": get_user_app_id,
}
_UNSIGNED = frozenset({"AssumeRoleWithWebIdentity"})
_OF_CAM = frozenset({"GetUserAppId"})


# Requests


def operation_of(request: Request, path: bytes) -> str:
    """Return the operation if a request is one to an API of Tencent Cloud, else ''."""
    if request.method != "POST" or path != b"/":
        return ""
    action = request.headers.get("x-tc-action")
    if action is None:
        return ""
    return action if action in _ACTIONS else UNKNOWN


def handle(call: Call) -> Response:
    """Answer an API request, always with HTTP 200."""
    try:
        return tc3.answer(_answer(call))
    except ApiError as error:
        return tc3.failure(error.code, error.message)


def _answer(call: Call) -> Answer:
    action = call.headers.get("x-tc-action", "")
    if action not in _ACTIONS:
        raise ApiError("InvalidAction", f"The action {action} does not exist.")
    version = call.headers.get("x-tc-version", "")
    service, wanted = ("cam", _CAM_VERSION) if action in _OF_CAM else ("sts", _VERSION)
    if version != wanted:
        raise ApiError("NoSuchVersion", f"The version {version} of the API does not exist.")
    caller, credential = Principal(), None
    if action not in _UNSIGNED:
        store = call.store
        credential = tc3.verify(
            *(
                call.headers,
                call.method,
                "/",
                call.body.data,
                service,
                store.credential,
                store.clock.machine(),
            )
        )
        caller = call.emulation.accounts.principal(credential)
    try:
        values = json.loads(call.body.data or b"{}")
    except (ValueError, RecursionError) as error:
        raise ApiError("InvalidRequest", "The body is not JSON.") from error
    if not isinstance(values, dict):
        raise ApiError("InvalidRequest", "The body is not a JSON object.")
    return _ACTIONS[action](Api(call, values, caller, credential))


HANDLERS: dict[str, Callable[[Call], Response]] = dict.fromkeys((*_ACTIONS, UNKNOWN), handle)
