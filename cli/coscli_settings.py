"""`--method` of Tencent's coscli: `bucket-tagging --method put cos://b k#v` is `tagging put --tags k=v`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from urllib.parse import quote

from cosfs.errors import UsageError

_OPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "--task-id": "--id",
        "--configuration": "--config",
        "--sse-algorithm": "--sse",
        "--kms-master-key-id": "--sse-kms-key-id",
        "--kms-master-key": "--sse-kms-key-id",
    }
)
_GRANTS = ("read", "write", "read-acp", "write-acp", "full-control")


def translate(noun: str, args: Sequence[str]) -> list[str]:
    """Return the arguments of a setting's command in our own words; they stay if --method is not there."""
    if not any(arg == "--method" or arg.startswith("--method=") for arg in args):
        return list(args)
    method = ""
    left: list[str] = []
    words = iter(args)
    for word in words:
        if word == "--method":
            method = next(words, "")
        elif word.startswith("--method="):
            method = word.partition("=")[2]
        else:
            left += _option(word, words)
    if not method:
        raise UsageError("--method lacks a value", hint="It is get, put or delete")
    urls = [word for word in left if word.startswith("cos://")]
    rest = [word for word in left if not word.startswith("cos://")]
    if method == "put" and noun == "versioning":
        return [*_versioning(rest), *urls]
    if noun in ("tagging", "tag") and rest and not rest[0].startswith("-"):
        return _tagging(noun, method, urls, rest)
    if method == "put" and noun == "encryption":
        method = "enable"
    return [method, *urls, *rest]


def _option(word: str, words: Iterator[str]) -> list[str]:
    name, found, value = word.partition("=")
    if name.startswith("--grant-") and name[8:] in _GRANTS:
        given = value if found else next(words, "")
        return ["--grants", f"{name[8:]}={given}"]
    if name in _OPTIONS:
        return [f"{_OPTIONS[name]}={value}" if found else _OPTIONS[name]]
    return [word]


def _versioning(words: list[str]) -> list[str]:
    status = words[0].lower() if words else ""
    if status not in ("enabled", "suspended"):
        raise UsageError("say Enabled or Suspended", hint="Or use: cos versioning enable cos://BUCKET")
    return ["enable" if status == "enabled" else "suspend", *words[1:]]


def _tagging(noun: str, method: str, urls: list[str], words: list[str]) -> list[str]:
    if method != "put":
        raise UsageError(
            f"single tags cannot be given to {method}",
            hint=f"Set those that stay: cos {noun} put … --tags K=V",
        )
    pairs = []
    for word in words:
        name, found, value = word.partition("#")
        if not found:
            raise UsageError(f"{word!r} is not KEY#VALUE")
        pairs.append(f"{quote(name, safe='')}={quote(value, safe='')}")
    return ["put", *urls, "--tags", "&".join(pairs)]
