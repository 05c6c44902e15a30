"""The part of an emulator's Python API that makes accounts, users, roles and keys."""

from __future__ import annotations

import secrets
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cosfs.emulator.accounts import Role, arn
from cosfs.emulator.auth import Credential
from cosfs.emulator.errors import EmulatorError
from cosfs.emulator.metadata import find_role
from cosfs.emulator.policy import EVERYTHING
from cosfs.emulator.service import Service
from cosfs.emulator.sessions import InstanceRole

Document = str | Mapping[str, Any]
_LETTERS = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class Member:
    """An account or one of its users, with a key."""

    uin: str
    account: str
    appid: str
    credential: Credential

    @property
    def secret_id(self) -> str:
        """Return the id of the key."""
        return self.credential.secret_id

    @property
    def secret_key(self) -> str:
        """Return the secret of the key."""
        return self.credential.secret_key

    @property
    def arn(self) -> str:
        """Return the name that policies and ACLs use."""
        return arn(self.account, self.uin)


def new_credential(user: str = "") -> Credential:
    """Make a permanent key up."""
    random = "".join(secrets.choice(_LETTERS) for _ in range(64))
    return Credential("AKID" + random[:32], random[32:], user=user)


class MembersApi:
    """What an `Emulator` can be told about who is who. Everything is kept in the data directory."""

    @property
    def service(self) -> Service:
        """Return the part behind the socket."""
        raise NotImplementedError

    def add_account(self, appid: str = "", *, uin: str = "", name: str = "") -> Member:
        """Make another account with a key; uin and APPID are chosen if left out."""
        with self.service.lock:
            account = self.service.emulation.accounts.add_account(appid, uin, name)
            return Member(account.uin, account.uin, account.appid, self._new_key(account.uin))

    def add_user(
        self,
        account: Member | str = "",
        policies: Iterable[Document] = (),
        *,
        name: str = "",
        uin: str = "",
    ) -> Member:
        """Make a user of an account, the default one if left out, with CAM policies and a key.

        Without a policy a user may do only what buckets grant.
        """
        owner = account.account if isinstance(account, Member) else account
        with self.service.lock:
            accounts = self.service.emulation.accounts
            user = accounts.add_user(owner, policies, name, uin)
            appid = accounts.accounts[user.account].appid
            return Member(user.uin, user.account, appid, self._new_key(user.uin))

    def set_policies(self, user: Member | str, policies: Iterable[Document]) -> None:
        """Replace the policies of a user."""
        with self.service.lock:
            self.service.emulation.accounts.set_policies(_uin(user), policies)

    def add_key(self, member: Member | str = "") -> Credential:
        """Make one more permanent key of an account or user, the default account if left out."""
        with self.service.lock:
            return self._new_key(_uin(member))

    def add_credential(self, credential: Credential) -> None:
        """Make another key pair known, perhaps a temporary one with token and end."""
        with self.service.lock:
            self.service.emulation.store.add_credential(credential)

    def _new_key(self, uin: str) -> Credential:
        credential = new_credential(uin)
        self.service.emulation.store.add_credential(credential)
        return credential

    def add_role(
        self,
        name: str,
        policies: Iterable[Document] = (EVERYTHING,),
        trusted: Document | Sequence[Member | str] = (),
        *,
        account: Member | str = "",
        max_seconds: int = 43_200,
    ) -> Role:
        """Make or replace a role that STS hands out; `role.arn` is its name.

        trusted: who may take it on, as members, names of principals or a trust document; the account itself
        if left out.
        """
        who: Document | Sequence[str] = (
            trusted
            if isinstance(trusted, str | Mapping)
            else [each.arn if isinstance(each, Member) else each for each in trusted]
        )
        with self.service.lock:
            accounts = self.service.emulation.accounts
            return accounts.add_role(name, policies, who, _uin(account), max_seconds)

    def add_identity_provider(
        self,
        provider_id: str,
        key: str = "",
        *,
        algorithms: Sequence[str] = (),
        audience: str = "",
        account: Member | str = "",
    ) -> str:
        """Make an issuer of web identities known; return its name for trust documents.

        key: a shared secret or a public key as PEM; without one any well-formed token is believed.
        """
        with self.service.lock:
            accounts = self.service.emulation.accounts
            return accounts.add_provider(provider_id, key, algorithms, audience, _uin(account)).arn

    def set_mfa_device(self, serial: str, code: str) -> None:
        """Make known an MFA device that shows this code, for AssumeRole with SerialNumber and TokenCode."""
        with self.service.lock:
            self.service.emulation.mfa_devices[serial] = code

    def set_instance_role(self, name: str, seconds: int = 7200) -> None:
        """Let the metadata service hand out keys of a role of the default account; '' switches it off."""
        with self.service.lock:
            emulation = self.service.emulation
            if name and find_role(emulation.accounts, name) is None:
                raise EmulatorError(f"there is no role {name}; make it with add_role")
            emulation.instance_role = InstanceRole(name, seconds)


def _uin(member: Member | str) -> str:
    return member.uin if isinstance(member, Member) else member
