"""The metadata service of a virtual machine, as far as it hands out keys of the machine's role.

It is off until a role is named. With a role it answers for the host metadata.tencentyun.com, and by path for
hosts that are an address or localhost, unless a bucket has the name that the path begins with.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from cosfs.emulator.accounts import Accounts, Role
from cosfs.emulator.addressing import Target, is_address, without_port
from cosfs.emulator.auth import Credential
from cosfs.emulator.context import Call, Emulation
from cosfs.emulator.errors import CosError
from cosfs.emulator.sessions import InstanceRole, iso, issue
from cosfs.emulator.values import Request, Response

OPERATION = "GetInstanceRole"
_HOST = "metadata.tencentyun.com"
_PATHS = (b"/latest/meta-data/cam/security-credentials", b"/meta-data/cam/security-credentials")


def operation_of(
    request: Request, target: Target, emulation: Emulation, resolve: Callable[[str], str]
) -> str:
    """Return the operation if a request is one to the metadata service, else ''."""
    if (
        not emulation.instance_role.name
        or request.method not in ("GET", "HEAD")
        or _name(target.path) is None
    ):
        return ""
    host = without_port((target.authority or request.headers.get("host", "")).lower())
    if host == _HOST:
        return OPERATION
    bucket = target.path[1:].partition(b"/")[0].decode()
    local = (is_address(host) and not emulation.default_bucket) or host == "localhost"
    return OPERATION if local and not resolve(bucket) else ""


def _name(path: bytes) -> str | None:
    """Return the name of a role, '' for the list of roles, None if the path is about something else."""
    for prefix in _PATHS:
        if path == prefix or path.startswith(prefix + b"/"):
            return path[len(prefix) + 1 :].decode("utf-8", "replace")
    return None


def handle(call: Call) -> Response:
    """Answer the name of the role, or its keys with one field in a line, as cosfs reads them."""
    bound, name = call.emulation.instance_role, _name(call.target.path)
    if not name:
        return Response(200, {"Content-Type": "text/plain"}, bound.name.encode())
    role = find_role(call.emulation.accounts, bound.name)
    if name != bound.name or role is None:
        raise CosError("NoSuchKey", "There is no such role.", status=404)
    credential = _keys(call, bound, role)
    told = {
        "TmpSecretId": credential.secret_id,
        "TmpSecretKey": credential.secret_key,
        "ExpiredTime": int(credential.expires),
        "Expiration": iso(credential.expires),
        "Token": credential.token,
        "Code": "Success",
    }
    return Response(200, {"Content-Type": "application/json"}, json.dumps(told, indent=2).encode())


def find_role(accounts: Accounts, name: str) -> Role | None:
    """Find a role of the default account by its plain name."""
    return accounts.roles.get((accounts.default.uin, name))


def _keys(call: Call, bound: InstanceRole, role: Role) -> Credential:
    """Return the keys at hand until a quarter of their life is left, then new ones."""
    now = call.store.clock.machine()
    kept = bound.credential
    if kept is None or kept.expires - now < bound.seconds / 4:
        kept = issue(
            call.store, {"kind": "role", "role": role.arn, "name": "instance", "policy": ""}, bound.seconds
        )
        bound.credential = kept
    return kept


HANDLERS: dict[str, Callable[[Call], Response]] = {OPERATION: handle}
