"""Settings of other tools of Tencent Cloud: ~/.cos.yaml, ~/.cos.conf and ~/.tccli, read and never written."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from configparser import ConfigParser, Error
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Imported", "read_coscli", "read_coscmd", "read_tccli"]

# coscli stores secrets under this key, the same for everybody: it hides them from a glance only.
_COSCLI_KEY = b"coscli-secret".ljust(16, b"\0")
_SECRET = re.compile(r"[A-Za-z0-9+/=_-]+")
# Short names of regions that coscmd takes.
_REGIONS = {
    "tj": "ap-beijing-1",
    "bj": "ap-beijing",
    "gz": "ap-guangzhou",
    "sh": "ap-shanghai",
    "cd": "ap-chengdu",
    "spg": "ap-singapore",
    "hk": "ap-hongkong",
    "ca": "na-toronto",
    "ger": "eu-frankfurt",
    "cn-south": "ap-guangzhou",
    "cn-north": "ap-beijing-1",
}


@dataclass(slots=True)
class Imported:
    """What was found: settings of a profile, and what has no place in one."""

    values: dict[str, str] = field(default_factory=dict)
    buckets: dict[str, str] = field(default_factory=dict)  # name: region
    notes: list[str] = field(default_factory=list)

    def take(self, name: str, value: object) -> None:
        """Take a value if there is one."""
        if value not in (None, ""):
            self.values[name] = str(value).strip()


def read_coscli(path: Path) -> Imported:
    """Read the file of coscli."""
    import yaml

    from cosfs.errors import ConfigError

    try:
        document = yaml.safe_load(_text(path))
        base = document["cos"]["base"]
        buckets = document["cos"].get("buckets") or []
        if not isinstance(base, dict) or not isinstance(buckets, list):
            raise TypeError
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{path} is not a file of coscli") from None
    found = Imported()
    mode = str(base.get("mode") or "SecretKey")
    if mode.lower() == "cvmrole":
        found.values["credential_source"] = "CvmRole"
        found.take("cvm_role_name", base.get("cvmrolename"))
    else:
        for name, key in (
            ("secret_id", "secretid"),
            ("secret_key", "secretkey"),
            ("session_token", "sessiontoken"),
        ):
            found.take(name, _decrypted(str(base.get(key) or "")))
    _take_coscli_buckets(found, [each for each in buckets if isinstance(each, dict)])
    if str(base.get("protocol") or "https") == "http":
        found.notes.append("protocol: http was left out; requests go by https")
    return found


def _take_coscli_buckets(found: Imported, buckets: list[dict[str, Any]]) -> None:
    for bucket in buckets:
        endpoint = str(bucket.get("endpoint") or "")
        match = re.fullmatch(r"cos\.([a-z0-9-]+)\.myqcloud\.com", endpoint)
        region = str(bucket.get("region") or "") or (match[1] if match else "")
        name = str(bucket.get("name") or "")
        if name and region:
            found.buckets[name] = region
        alias = str(bucket.get("alias") or "")
        if alias and alias != name:
            found.notes.append(f"the alias {alias} was left out; write cos://{name}")
    regions = set(found.buckets.values())
    if len(regions) == 1:
        found.values["region"] = regions.pop()


def _decrypted(secret: str) -> str:
    """Return a secret of coscli, which may be stored as it is or under coscli's own key."""
    if not secret:
        return ""
    try:
        data = base64.b64decode(secret, validate=True)
        if not data or len(data) % 16:
            return secret
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        decryptor = Cipher(algorithms.AES(_COSCLI_KEY), modes.ECB()).decryptor()
        text = (decryptor.update(data) + decryptor.finalize()).rstrip(b"\0").decode("ascii")
    except ValueError:  # not base64, or not text afterwards: it was no cipher
        return secret
    return text if _SECRET.fullmatch(text) else secret


def read_coscmd(path: Path) -> Imported:
    """Read the file of coscmd."""
    from cosfs.errors import ConfigError

    parser = ConfigParser(interpolation=None)
    try:
        parser.read_string(_text(path))
        common = dict(parser["common"])
    except (Error, KeyError):
        raise ConfigError(f"{path} is not a file of coscmd") from None
    found = Imported()
    found.take("secret_id", common.get("secret_id") or common.get("access_id"))
    found.take("secret_key", common.get("secret_key"))
    found.take("session_token", common.get("token"))
    region = common.get("region", "").removeprefix("cos.")
    found.take("region", _REGIONS.get(region, region))
    appid = common.get("appid", "")
    bucket = common.get("bucket", "")
    if not appid and re.fullmatch(r".+-\d{5,}", bucket):
        appid = bucket.rpartition("-")[2]
    found.take("appid", appid)
    found.take("cos.max_concurrent_requests", common.get("max_thread"))
    if common.get("part_size", "").isdigit():
        found.take("cos.multipart_chunksize", f"{common['part_size']}MB")
    endpoint = common.get("endpoint", "")
    if endpoint:
        schema = common.get("schema", "https")
        found.take("endpoint_url", f"{schema}://{endpoint}")
    elif common.get("schema") == "http":
        found.notes.append("schema = http was left out; requests go by https")
    if common.get("anonymous", "").lower() == "true":
        found.take("no_sign_request", "true")
    if bucket:
        found.notes.append(f"there is no default bucket; write cos://{bucket}")
    return found


def read_tccli(directory: Path, profile: str) -> Imported:
    """Read one profile of tccli, which has two files."""
    credential = _json(directory / f"{profile}.credential")
    path = directory / f"{profile}.configure"
    configure = _json(path) if path.exists() else {}
    found = Imported()
    found.take("secret_id", credential.get("secretId"))
    found.take("secret_key", credential.get("secretKey"))
    found.take("session_token", credential.get("token"))
    found.take("assume_role", credential.get("role-arn") or credential.get("roleArn"))
    found.take("role_session_name", credential.get("role-session-name") or credential.get("roleSessionName"))
    system = configure.get("_sys_param")
    values = system if isinstance(system, dict) else configure
    found.take("region", values.get("region"))
    if values.get("output") in ("json", "text", "table"):
        found.take("output", values["output"])
    if credential.get("token"):
        found.notes.append("the keys are temporary and end; import them again after tccli has renewed them")
    return found


def _json(path: Path) -> Mapping[str, Any]:
    from cosfs.errors import ConfigError

    try:
        document = json.loads(_text(path))
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise ConfigError(f"{path} is not a file of tccli")
    return document


def _text(path: Path) -> str:
    from cosfs.errors import ConfigError

    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"cannot read {path}: {reason}") from None
