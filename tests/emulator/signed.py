"""A signed HTTP connection to a served emulator: what a test says is what travels."""

from __future__ import annotations

import http.client
import itertools
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote
from xml.etree import ElementTree

from cosfs.emulator import Emulator
from tests.emulator.asking import authorization

_numbers = itertools.count()
Body = bytes | str | Iterable[bytes]


@dataclass(frozen=True)
class Answer:
    """What came back; header names as they travelled."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def tree(self) -> ElementTree.Element:
        """Return the document."""
        return ElementTree.fromstring(self.body)

    @property
    def code(self) -> tuple[int, str]:
        """Return status and error code, empty if it is none."""
        named = self.tree.findtext("Code") if self.body.startswith(b"<?xml") else None
        return self.status, named or ""

    def texts(self, path: str) -> list[str]:
        """Return the texts of all elements at a path."""
        return [node.text or "" for node in self.tree.iterfind(path)]


@dataclass(frozen=True)
class Address:
    """Where an emulator of another process is, and with which key."""

    endpoint_url: str
    secret_id: str
    secret_key: str
    region: str


class Signed:
    """A kept connection that speaks to one bucket unless told otherwise."""

    def __init__(self, emulator: Emulator | Address, bucket: str) -> None:
        self.emulator = emulator
        self.bucket = bucket
        self._connection = http.client.HTTPConnection(
            emulator.endpoint_url.removeprefix("http://"), timeout=100
        )

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    @property
    def host(self) -> str:
        """Return the name of the bucket's host."""
        return f"{self.bucket}.cos.{self.emulator.region}.myqcloud.com"

    def other(self, region: str = "") -> Signed:
        """Return a connection to another fresh bucket."""
        assert isinstance(self.emulator, Emulator)
        name = self.emulator.create_bucket(f"other{next(_numbers)}", region)
        return Signed(self.emulator, name)

    def __call__(
        self,
        method: str,
        target: str,
        body: Body = b"",
        *,
        host: str = "",
        sign: bool = True,
        **headers: str,
    ) -> Answer:
        """Send a signed request; header names are given with underscores, the target with a raw path."""
        response = self._send(method, target, body, host, sign, headers)
        return Answer(response.status, dict(response.getheaders()), response.read())

    def stream(self, target: str, size: int) -> Iterator[bytes]:
        """Read the body of a GET that must succeed, in pieces."""
        response = self._send("GET", target, b"", "", True, {})
        assert response.status == 200
        while piece := response.read(size):
            yield piece

    def _send(
        self, method: str, target: str, body: Body, host: str, sign: bool, headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        path, mark, query = target.partition("?")
        host = host or self.host
        now = int(time.time())
        signed = authorization(
            method, path, host, now - 60, now + 600, self.emulator.secret_key, self.emulator.secret_id
        )
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        data = body.encode() if isinstance(body, str) else body
        self._connection.request(
            method,
            quote(path) + mark + query,
            data,
            {"host": host, "authorization": signed if sign else "", **named},
        )
        return self._connection.getresponse()

    def ok(self, method: str, target: str, body: Body = b"", **headers: str) -> Answer:
        """Send a request that must succeed."""
        answer = self(method, target, body, **headers)
        assert answer.status < 300, (method, target, answer.status, answer.body)
        return answer

    def listed(self, query: str = "") -> list[str]:
        """Return the keys of a listing."""
        return self.ok("GET", f"/?{query}").texts("Contents/Key")

    def versioning(self, status: str = "Enabled") -> None:
        """Switch versioning."""
        document = f"<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>"
        self.ok("PUT", "/?versioning", document)

    def versions(self) -> list[tuple[str, str, str, bool]]:
        """Return kind, key, version id and whether it is the latest, in the order of the listing."""
        rows = self.ok("GET", "/?versions").tree
        return [
            (
                node.tag,
                node.findtext("Key") or "",
                node.findtext("VersionId") or "",
                node.findtext("IsLatest") == "true",
            )
            for node in rows
            if node.tag in ("Version", "DeleteMarker")
        ]
