"""Several people asking one emulator without a socket."""

from __future__ import annotations

from typing import Any

from cosfs.emulator.auth import Credential
from cosfs.emulator.members import Member, MembersApi
from cosfs.emulator.service import Service
from cosfs.emulator.values import Peer, Request, Response
from tests.emulator.asking import BUCKET, HOST, SECRET_ID, Asker, authorization

OWNER_ARN = "qcs::cam::uin/100000000001:uin/100000000001"
WHOLE = f"qcs::cos:ap-guangzhou:uid/1250000000:{BUCKET}/*"


class Crew(MembersApi):
    """Makes members and asks in their name; None is an anonymous request."""

    def __init__(self, ask: Asker) -> None:
        self.ask = ask

    @property
    def service(self) -> Service:
        return self.ask.service

    def send(
        self,
        who: Member | Credential | None,
        method: str,
        target: str,
        body: bytes = b"",
        *,
        host: str = HOST,
        peer: Peer | None = None,
        **headers: str,
    ) -> Response:
        """Send a request signed by somebody; header names are given with underscores."""
        key = who.credential if isinstance(who, Member) else who
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        given = {"host": host, **named}
        if method in ("PUT", "POST"):
            given.setdefault("content-length", str(len(body)))
        if key is not None:
            now = int(self.ask.now)
            path = target.partition("?")[0]
            signed = authorization(method, path, host, now - 5, now + 600, key.secret_key)
            given["authorization"] = signed.replace(SECRET_ID, key.secret_id)
            if key.token:
                given["x-cos-security-token"] = key.token
        return self.service.handle(Request(method, target.encode(), given, body, peer or Peer()))

    def status(self, who: Member | Credential | None, method: str, target: str, **more: Any) -> int:
        """Return only the status of what is answered."""
        return self.send(who, method, target, **more).status


def statement(effect: str, actions: str | list[str], resource: str = WHOLE, **more: Any) -> dict[str, Any]:
    """Write one statement; `name/cos:` is added to actions."""
    names = [actions] if isinstance(actions, str) else actions
    return {"effect": effect, "action": [f"name/cos:{name}" for name in names], "resource": resource, **more}


def policy(*statements: dict[str, Any]) -> dict[str, Any]:
    """Write a policy."""
    return {"version": "2.0", "statement": list(statements)}
