"""The condition keys of a request: what `cos:prefix`, `qcs:ip` and the others are worth."""

from __future__ import annotations

from xml.etree import ElementTree

from cosfs.emulator.addressing import split_query
from cosfs.emulator.context import Call
from cosfs.emulator.store import Bucket


class RequestKeys:
    """Looks keys up when a condition asks for them; None means that the request has no such thing.

    `cos:NAME` is the parameter or header NAME, in policies also written with underscores.
    """

    def __init__(self, call: Call, bucket: Bucket | None, version: str) -> None:
        self._call = call
        self._bucket = bucket
        self._version = version

    def values(self, key: str) -> tuple[str, ...] | None:
        """Return the values of a key, given in lower case."""
        call = self._call
        match key:
            case "qcs:ip":
                return (call.peer.address,)
            case "cos:secure-transport":
                return ("true" if call.peer.tls else "false",)
            case "cos:tls-version":
                version = call.peer.tls.removeprefix("TLSv")
                return (version,) if version else None
            case "cos:versionid":
                return (self._version,) if self._version else None
            case "qcs:request_tag":
                return self._request_tags()
            case "qcs:resource_tag":
                return self._bucket_tags()
        if not key.startswith("cos:"):
            return None
        name = key.removeprefix("cos:").replace("_", "-")
        if name == "content-length" and call.operation == "PostObject":
            return (str(call.body.size),)  # of the file, not of the form around it
        value = call.parameters.get(name)
        if value is None:
            value = call.headers.get(name)
        return None if value is None else (value,)

    def _request_tags(self) -> tuple[str, ...] | None:
        text = self._call.headers.get("x-cos-tagging", "")
        pairs = split_query(text.encode("latin-1"))
        return tuple(f"{k.decode(errors='replace')}&{v.decode(errors='replace')}" for k, v in pairs) or None

    def _bucket_tags(self) -> tuple[str, ...] | None:
        stored = self._call.store.setting(self._bucket, "tagging") if self._bucket is not None else None
        if stored is None:
            return None
        tags = ElementTree.fromstring(stored).iter("{*}Tag")
        return tuple(f"{tag.findtext('{*}Key')}&{tag.findtext('{*}Value')}" for tag in tags) or None
