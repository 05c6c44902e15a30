"""The body of a form upload (POST Object): fields and one file, taken apart while they arrive.

Fields stand before the file and are kept in memory; the file goes to the store in pieces. The form is judged
as soon as its file begins, so that one which is refused does not have to arrive whole.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from cosfs.emulator import throttle
from cosfs.emulator.addressing import check_key
from cosfs.emulator.aws import strip_prefix
from cosfs.emulator.context import Call
from cosfs.emulator.errors import CosError
from cosfs.emulator.files import INLINE_LIMIT, Received, Receiver
from cosfs.emulator.form_policy import FormPolicy, check_form_policy
from cosfs.emulator.incoming import declared_md5

_MOST_FIELD_BYTES = 1024 * 1024
_FILE = "file"
_KEPT = ("origin", "referer", "host", "content-length")  # of the request's own headers


class FormIncoming:
    """One form. What it says becomes the headers, the key and the identity of the call."""

    length = None

    def __init__(self, call: Call) -> None:
        self.rate = 0
        self._call = call
        self._fields: dict[str, bytes] = {}
        self._field_bytes = 0
        self._name = ""
        self._header = (bytearray(), bytearray())
        self._disposition = b""
        self._value = bytearray()
        self._receiver: Receiver | None = None
        self._policy = FormPolicy(call.identity)
        self._limit = call.emulation.limits.object_size
        self._ended = False
        kind, options = parse_options_header(call.headers.get("content-type", ""))
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise CosError("MalformedPOSTRequest")
        self._parser = MultipartParser(options[b"boundary"], self._callbacks())

    def _callbacks(self) -> Any:
        names = ("part_begin", "part_data", "part_end", "header_field", "header_value", "header_end")
        found = {f"on_{name}": getattr(self, f"_{name}") for name in (*names, "headers_finished")}
        return {**found, "on_end": self._end}

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the wire."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise CosError("MalformedPOSTRequest") from error

    def finish(self) -> Received:
        """End the form; return its file."""
        if not self._ended:
            raise CosError("MalformedPOSTRequest")
        if self._receiver is None:
            raise CosError("IncorrectNumberOfFilesInPostRequest")
        received = self._receiver.finish()
        self._policy.check_size(received.size)
        md5 = declared_md5(self._text("content-md5"))
        if md5 and md5 != received.md5:
            raise CosError("BadDigest")
        return received

    def discard(self) -> None:
        """Forget the form."""
        if self._receiver is not None:
            self._receiver.discard()

    def _text(self, name: str) -> str:
        return self._fields.get(name, b"").decode("utf-8", "replace")

    # What the parser finds

    def _part_begin(self) -> None:
        self._disposition = b""
        self._value = bytearray()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header[0].extend(data[start:end])
        self._count(end - start)

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1].extend(data[start:end])
        self._count(end - start)

    def _header_end(self) -> None:
        name, value = (bytes(part) for part in self._header)
        if name.lower() == b"content-disposition":
            self._disposition = value
        self._header = (bytearray(), bytearray())

    def _headers_finished(self) -> None:
        kind, options = parse_options_header(self._disposition)
        if kind != b"form-data" or b"name" not in options:
            raise CosError("MalformedPOSTRequest")
        self._name = options[b"name"].decode("utf-8", "replace").lower()
        if self._name == _FILE:
            if self._receiver is not None:
                raise CosError("IncorrectNumberOfFilesInPostRequest")
            self._begin_file(options.get(b"filename", b""))

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name != _FILE:
            self._count(end - start)
            self._value += data[start:end]
            return
        assert self._receiver is not None
        size = self._receiver.size + end - start
        if size > self._limit:
            raise CosError("EntityTooLarge")
        if self._policy.high is not None and size > self._policy.high:
            self._policy.check_size(size)
        self._receiver.write(data[start:end])

    def _part_end(self) -> None:
        # What comes after the file is ignored, as the policy does not cover it.
        if self._name != _FILE and self._receiver is None:
            self._fields.setdefault(self._name, bytes(self._value))

    def _end(self) -> None:
        self._ended = True

    def _count(self, size: int) -> None:
        self._field_bytes += size
        if self._field_bytes > _MOST_FIELD_BYTES:
            raise CosError("MalformedPOSTRequest", "The fields of the form are too long.")

    # What the form says

    def _begin_file(self, filename: bytes) -> None:
        """Judge the fields and let the call be what they say."""
        call, base = self._call, filename.replace(b"\\", b"/").rpartition(b"/")[2]
        if "key" not in self._fields:
            raise CosError("InvalidArgument", "The form has no field key.")
        self._fields["key"] = self._fields["key"].replace(b"${filename}", base)
        try:
            key = self._fields["key"].decode()
        except UnicodeDecodeError as error:
            raise CosError("InvalidURI", "The key is not UTF-8.") from error
        check_key(key)
        texts = {name: self._text(name) for name in self._fields}
        now = call.store.clock.machine()  # as for every other signature
        self._policy = check_form_policy(texts, call.name, call.store.credential, now)
        self.rate = throttle.bytes_per_second(texts, {})
        headers = {name: call.headers[name] for name in _KEPT if name in call.headers}
        headers.update((name, value.decode("latin-1")) for name, value in self._fields.items())
        if self._policy.identity.scheme == "aws":
            headers = strip_prefix(headers)
        if "acl" in headers:
            headers.setdefault("x-cos-acl", headers["acl"])
        call.identity = self._policy.identity
        call.place = replace(call.place, key=key)
        call.headers = headers
        self._receiver = call.store.files.receive(limit=INLINE_LIMIT)
