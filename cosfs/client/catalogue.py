"""Which operations Tencent's SDK has and what they take, by reflection over its public methods."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from cosfs.errors import UsageError

__all__ = ["Operation", "find", "operations"]

# What is no single request, or not safe as the SDK does it, and what to use.
_ELSEWHERE: Mapping[str, str] = MappingProxyType(
    {
        "upload_file": "cos cp FILE cos://BUCKET/KEY",
        "upload_file_from_buffer": "cos cp - cos://BUCKET/KEY",
        "put_object_from_local_file": "cos cp FILE cos://BUCKET/KEY, or cos api put_object --body FILE",
        "download_file": "cos cp cos://BUCKET/KEY FILE",
        "copy": "cos cp cos://BUCKET/KEY cos://BUCKET/KEY, or cos api copy_object",
        "get_presigned_url": "cos presign cos://BUCKET/KEY",
        "get_presigned_download_url": "cos presign cos://BUCKET/KEY",
        "get_object_url": "cos presign cos://BUCKET/KEY",
        "get_auth": "cos presign cos://BUCKET/KEY",
        "ci_put_object_from_local_file": "cos api ci_put_object --body FILE",
        "ci_put_object_from_local_file_and_get_qrcode": "cos api ci_put_object --body FILE",
    }
)
# Parts of the SDK's own machinery.
_INNER = frozenset(
    {
        *("get_conf", "get_retry_exe_times", "inc_retry_exe_times", "send_request", "should_switch_domain"),
        *("handle_built_in_connection_pool_by_pid", "generate_built_in_connection_pool"),
        "get_rtmp_signed_url",
    }
)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method: what it needs, what it may be given with its defaults, and whether it takes headers too."""

    name: str
    required: tuple[str, ...]
    optional: Mapping[str, Any]
    headers: tuple[str, ...]

    @property
    def known(self) -> tuple[str, ...]:
        return (*self.required, *self.optional, *self.headers)

    def parameter(self, text: str) -> str:
        """Return the name of a parameter as the SDK spells it; raise UsageError for one that is not there."""
        plain = _plain(text)
        for name in self.known:
            if _plain(name) == plain:
                return name
        close = get_close_matches(plain, [_plain(name) for name in self.known], n=1)
        spelled = next((name for name in self.known if close and _plain(name) == close[0]), "")
        raise UsageError(
            f"{self.name} takes no {text!r}",
            hint=f"Did you mean {spelled}?" if spelled else f"cos api --list {self.name} shows what it takes",
        )


def operations() -> dict[str, Operation]:
    """Return all operations by name."""
    from qcloud_cos import CosS3Client
    from qcloud_cos.cos_comm import maplist

    found = {}
    for name, method in inspect.getmembers(CosS3Client, inspect.isfunction):
        if not name.startswith("_") and name not in _ELSEWHERE and name not in _INNER:
            found[name] = _describe(name, method, tuple(maplist))
    return found


def _describe(name: str, method: Any, headers: tuple[str, ...]) -> Operation:
    parameters = [each for each in inspect.signature(method).parameters.values() if each.name != "self"]
    plain = [each for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    required = tuple(each.name for each in plain if each.default is each.empty)
    optional = {each.name: each.default for each in plain if each.default is not each.empty}
    more = any(each.kind is each.VAR_KEYWORD for each in parameters)
    extra = tuple(header for header in headers if header not in (*required, *optional)) if more else ()
    return Operation(name, required, optional, extra)


def find(text: str) -> Operation:
    """Return an operation by its name: get_bucket_acl, get-bucket-acl or GetBucketAcl."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text).replace("-", "_").lower()
    if name in _ELSEWHERE:
        raise UsageError(f"{name} is not for cos api", hint=f"Use: {_ELSEWHERE[name]}")
    known = operations()
    if name in known:
        return known[name]
    close = get_close_matches(name, known, n=3)
    hint = f"Did you mean {' or '.join(close)}?" if close else "cos api --list shows all"
    raise UsageError(f"there is no operation {text!r}", hint=hint)


def _plain(name: str) -> str:
    return name.replace("-", "").replace("_", "").lower()
