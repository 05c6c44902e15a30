"""Asking an emulator without a socket, signed by a few lines that share nothing with the code under test."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

from cosfs.emulator.auth import Credential
from cosfs.emulator.context import Emulation, Limits
from cosfs.emulator.service import Service
from cosfs.emulator.store import Store
from cosfs.emulator.uploads import Uploads
from cosfs.emulator.values import Request, Response

NOW = 1_700_000_000.0
BUCKET = "bucket-1250000000"
HOST = f"{BUCKET}.cos.ap-guangzhou.myqcloud.com"
SECRET_ID, SECRET_KEY = "AKIDEXAMPLE0000000000000000000000000", "ExampleSecretKey0123456789abcdef"


def authorization(
    method: str, path: str, host: str, start: int, end: int, key: str = SECRET_KEY, id_: str = SECRET_ID
) -> str:
    """Sign a path and a host the way the documentation says."""
    times = f"{start};{end}"
    sign_key = hmac.new(key.encode(), times.encode(), hashlib.sha1).hexdigest()
    text = f"{method.lower()}\n{path}\n\nhost={quote(host, safe='')}\n"
    to_sign = f"sha1\n{times}\n{hashlib.sha1(text.encode()).hexdigest()}\n"
    signature = hmac.new(sign_key.encode(), to_sign.encode(), hashlib.sha1).hexdigest()
    return (
        f"q-sign-algorithm=sha1&q-ak={id_}&q-sign-time={times}&q-key-time={times}"
        f"&q-header-list=host&q-url-param-list=&q-signature={signature}"
    )


class Asker:
    """A service over a fresh store, with a clock that stands still until it is moved."""

    def __init__(self, root: Path, limits: Limits | None = None) -> None:
        self.now = NOW
        self.root = root
        self.limits = limits or Limits(min_part_size=4)
        self.open()

    def open(self) -> None:
        """Open the store, also again after `close`."""
        self.store = Store(self.root, clock=lambda: self.now)
        self.store.add_credential(Credential(SECRET_ID, SECRET_KEY))
        emulation = Emulation(self.store, Uploads(self.store), "ap-guangzhou", "1250000000", self.limits)
        self.service = Service(emulation)

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    def raw(self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> Response:
        """Send exactly this."""
        given = {"content-length": str(len(body)), **headers} if method in ("PUT", "POST") else dict(headers)
        return self.service.handle(Request(method, target.encode(), given, body))

    def __call__(
        self, method: str, target: str, body: bytes = b"", *, host: str = HOST, **headers: str
    ) -> Response:
        """Send a signed request; header names are given with underscores. The path must need no encoding."""
        signed = authorization(method, target.partition("?")[0], host, int(self.now) - 5, int(self.now) + 600)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.raw(method, target, {"host": host, "authorization": signed, **named}, body)

    def body(self, response: Response) -> bytes:
        """Read the content of an answer, as the server would."""
        if response.content is None:
            return response.body
        data = b""
        for piece in response.content.pieces:
            if piece.file:
                with self.store.files.path(piece.file).open("rb") as file:
                    file.seek(piece.start)
                    data += file.read(piece.length)
            else:
                data += piece.data
        response.content.release()
        return data

    def get(self, key: str, query: str = "", **headers: str) -> bytes:
        """Return the bytes of an object that must be there."""
        response = self("GET", f"/{key}{query}", **headers)
        assert response.status in (200, 206), response.body
        return self.body(response)


def xml(response: Response) -> ElementTree.Element:
    """Parse the document of an answer, without namespaces."""
    tree = ElementTree.fromstring(response.body)
    for node in tree.iter():
        node.tag = node.tag.rpartition("}")[2]
    return tree


def code(response: Response) -> tuple[int, str]:
    """Return status and error code."""
    return response.status, xml(response).findtext("Code") or ""


def texts(response: Response, path: str) -> list[str]:
    """Return the texts of all elements at a path."""
    return [node.text or "" for node in xml(response).iterfind(path)]
