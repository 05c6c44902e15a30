"""Accounts, their users and roles, and which of them a key belongs to.

An account has a uin and an APPID; buckets whose name ends in the APPID are its own. A key of the account
itself may do everything there, one of a user what policies allow, a temporary one what its caller or role may
and its own policy does not forbid.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cosfs.emulator.auth import ADMIN_ID, Credential
from cosfs.emulator.database import Database
from cosfs.emulator.errors import EmulatorError
from cosfs.emulator.policy import EVERYTHING, Policy, PolicyError, parse_policy

DEFAULT_UIN = "100000000001"
DEFAULT_ROLE = "emulator"
_FIRST_ROLE_ID = 4611686018427387905
Document = str | Mapping[str, Any]


def arn(account: str, uin: str = "") -> str:
    """Return the name of a user, or of the account itself, in policies and ACLs."""
    return f"qcs::cam::uin/{account}:uin/{uin or account}"


@dataclass(frozen=True, slots=True)
class Account:
    """Who buckets belong to."""

    uin: str
    appid: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class User:
    """A user of an account; policies are the CAM documents attached."""

    uin: str
    account: str
    name: str
    policies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Role:
    """A role of an account; trust is a document whose principals may take it on."""

    id: str
    account: str
    name: str
    policies: tuple[str, ...]
    trust: str
    max_seconds: int

    @property
    def arn(self) -> str:
        """Return the name under which the role is asked for."""
        return f"qcs::cam::uin/{self.account}:roleName/{self.name}"

    @property
    def arns(self) -> tuple[str, str]:
        """Return both names of the role."""
        return self.arn, f"qcs::cam::uin/{self.account}:role/{self.id}"


@dataclass(frozen=True, slots=True)
class Provider:
    """An issuer of web identities. key verifies them; without one any well-formed token is believed."""

    id: str
    account: str
    key: str
    algorithms: tuple[str, ...]
    audience: str

    @property
    def arn(self) -> str:
        """Return the name under which trust documents know it."""
        return f"qcs::cam::uin/{self.account}:oidc-provider/{self.id}"


@dataclass(frozen=True, slots=True)
class Principal:
    """The one behind a request.

    names are those that policies may call it by, account_names those of its account if it is not the account
    itself. unrestricted: everything within the own account is allowed without a look at policies.
    """

    kind: str = "anonymous"  # account, user, role, federated, admin
    account: str = ""
    appid: str = ""
    uin: str = ""
    user_id: str = ""  # as GetCallerIdentity tells it
    names: tuple[str, ...] = ()
    account_names: tuple[str, ...] = ()
    root: bool = False
    policies: tuple[Policy, ...] = ()
    session: Policy | None = None
    temporary: bool = False

    @property
    def anonymous(self) -> bool:
        """Tell whether nobody signed."""
        return self.kind == "anonymous"

    @property
    def unrestricted(self) -> bool:
        """Tell whether no policy has to be asked within the own account."""
        return self.root and self.session is None


ANONYMOUS = Principal()
ADMIN = Principal("admin", names=("*",), root=True)


def document_text(document: Document, *, of_bucket: bool = False) -> str:
    """Write a policy as text; raise EmulatorError if it is none."""
    text = document if isinstance(document, str) else json.dumps(document)
    try:
        parse_policy(text, of_bucket=of_bucket)
    except PolicyError as error:
        raise EmulatorError(f"the policy cannot be used: {error}") from error
    return text


class Accounts:
    """All accounts of an emulator; the default one and its role are always there."""

    def __init__(self, db: Database, appid: str) -> None:
        self._db = db
        self.default = Account(DEFAULT_UIN, appid, "default")
        self._principals: dict[Credential, Principal] = {}
        self.version = 0  # grows with every change
        self._load()

    def _load(self) -> None:
        self.version += 1
        self._principals.clear()
        rows = self._db.execute("SELECT uin, appid, name FROM accounts ORDER BY uin").fetchall()
        self.accounts = {row[0]: Account(*row) for row in rows} | {DEFAULT_UIN: self.default}
        self._by_appid = {account.appid: account for account in self.accounts.values()}
        self._by_appid[self.default.appid] = self.default
        users = self._db.execute("SELECT uin, account, name, policies FROM users ORDER BY uin").fetchall()
        self.users = {row[0]: User(row[0], row[1], row[2], tuple(json.loads(row[3]))) for row in users}
        given = Role(
            str(_FIRST_ROLE_ID), DEFAULT_UIN, DEFAULT_ROLE, (EVERYTHING,), trust([DEFAULT_UIN]), 43_200
        )
        columns = "id, account, name, policies, trust, max_seconds"
        roles = self._db.execute(f"SELECT {columns} FROM roles ORDER BY id").fetchall()
        kept = [Role(row[0], row[1], row[2], tuple(json.loads(row[3])), row[4], row[5]) for row in roles]
        self.roles = {(role.account, role.name): role for role in (given, *kept)}
        providers = self._db.execute("SELECT id, account, key, algorithms, audience FROM providers")
        self.providers = {
            (row[1], row[0]): Provider(row[0], row[1], row[2], tuple(json.loads(row[3])), row[4])
            for row in providers
        }

    # Accounts and users

    def owner_of(self, bucket: str) -> Account:
        """Return the account whose APPID a bucket's name ends in, the default one if it is nobody's."""
        return self._by_appid.get(bucket.rpartition("-")[2], self.default)

    def add_account(self, appid: str = "", uin: str = "", name: str = "") -> Account:
        """Make an account; what is left empty is chosen."""
        uin = uin or self._next_uin()
        appid = appid or str(max(int(known) for known in self._by_appid) + 1)
        if not (uin.isdigit() and appid.isdigit()):
            raise EmulatorError("uin and APPID of an account are decimal numbers")
        if uin in self.accounts or uin in self.users or appid in self._by_appid:
            raise EmulatorError(f"there is an account with uin {uin} or APPID {appid} already")
        self._db.execute("INSERT INTO accounts VALUES (?, ?, ?)", (uin, appid, name))
        self._load()
        return self.accounts[uin]

    def add_user(
        self, account: str = "", policies: Iterable[Document] = (), name: str = "", uin: str = ""
    ) -> User:
        """Make a user of an account, the default one if its uin is left empty."""
        account, uin = account or DEFAULT_UIN, uin or self._next_uin()
        if account not in self.accounts:
            raise EmulatorError(f"there is no account with uin {account}")
        if not uin.isdigit() or uin in self.accounts or uin in self.users:
            raise EmulatorError(f"{uin} is no new uin")
        texts = json.dumps([document_text(policy) for policy in policies])
        self._db.execute("INSERT INTO users VALUES (?, ?, ?, ?)", (uin, account, name or uin, texts))
        self._load()
        return self.users[uin]

    def set_policies(self, uin: str, policies: Iterable[Document]) -> None:
        """Replace the policies attached to a user."""
        if uin not in self.users:
            raise EmulatorError(f"there is no user with uin {uin}")
        texts = json.dumps([document_text(policy) for policy in policies])
        self._db.execute("UPDATE users SET policies = ? WHERE uin = ?", (texts, uin))
        self._load()

    def _next_uin(self) -> str:
        return str(max(int(uin) for uin in (*self.accounts, *self.users)) + 1)

    # Roles and issuers of identities

    def add_role(
        self,
        name: str,
        policies: Iterable[Document] = (EVERYTHING,),
        trusted: Document | Sequence[str] = (),
        account: str = "",
        max_seconds: int = 43_200,
    ) -> Role:
        """Make or replace a role. trusted: uins, names of principals, or a whole trust document."""
        account = account or DEFAULT_UIN
        if account not in self.accounts:
            raise EmulatorError(f"there is no account with uin {account}")
        if isinstance(trusted, str | Mapping):
            text = document_text(_with_resource(trusted), of_bucket=True)
        else:
            text = document_text(trust(trusted or [account]), of_bucket=True)
        numbers = [int(role.id) for role in self.roles.values()]
        old = self.roles.get((account, name))
        values = (old.id if old else str(max(numbers) + 1), account, name)
        texts = json.dumps([document_text(policy) for policy in policies])
        self._db.execute(
            "INSERT OR REPLACE INTO roles (id, account, name, policies, trust, max_seconds) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (*values, texts, text, max_seconds),
        )
        self._load()
        return self.roles[account, name]

    def role(self, name: str) -> Role | None:
        """Find a role by either of its names."""
        return next((role for role in self.roles.values() if name in role.arns), None)

    def add_provider(
        self, id_: str, key: str = "", algorithms: Sequence[str] = (), audience: str = "", account: str = ""
    ) -> Provider:
        """Make an issuer of web identities known, or replace it."""
        account = account or DEFAULT_UIN
        chosen = tuple(algorithms) or (("RS256",) if "-----BEGIN" in key else ("HS256",))
        self._db.execute(
            "INSERT OR REPLACE INTO providers (id, account, key, algorithms, audience) "
            "VALUES (?, ?, ?, ?, ?)",
            (id_, account, key, json.dumps(chosen), audience),
        )
        self._load()
        return self.providers[account, id_]

    # Keys

    def principal(self, credential: Credential | None, secret_id: str = "") -> Principal:
        """Return who a key belongs to."""
        if credential is None:
            return ADMIN if secret_id == ADMIN_ID else ANONYMOUS
        found = self._principals.get(credential)
        if found is None:
            if len(self._principals) > 10_000:
                self._principals.clear()
            found = self._principals[credential] = self._resolve(credential)
        return found

    def _resolve(self, credential: Credential) -> Principal:
        session: dict[str, str] = json.loads(credential.session) if credential.session else {}
        limit = parse_policy(session["policy"]) if session.get("policy") else None
        role = self.role(session.get("role", ""))
        if role is not None:
            account = self.accounts[role.account]
            user_id = f"{role.id}:{session.get('name', '')}"
            return Principal(
                "role", account.uin, account.appid, role.id, user_id, role.arns, (arn(account.uin),), False,
                tuple(map(parse_policy, role.policies)), limit, True,
            )  # fmt: skip
        if session.get("role"):  # the role is gone: its keys may do nothing
            return Principal("role", temporary=True)
        return self._member(credential, session, limit)

    def _member(self, credential: Credential, session: Mapping[str, str], limit: Policy | None) -> Principal:
        uin = credential.user or DEFAULT_UIN
        user = self.users.get(uin)
        account = self.accounts.get(user.account if user else uin)
        if account is None:  # the user is gone
            return Principal("user", temporary=True)
        names: tuple[str, ...] = (arn(account.uin, uin), arn(uin))  # a uin alone is enough to know a user
        kind, user_id = "user" if user else "account", uin
        if session.get("kind") == "federated":
            kind, user_id = "federated", f"{uin}:{session.get('name', '')}"
            names += (f"qcs::cam::uin/{account.uin}:federatedUser/{session.get('name', '')}",)
        return Principal(
            kind, account.uin, account.appid, uin, user_id, names, (arn(account.uin),) if user else (),
            user is None, tuple(map(parse_policy, user.policies)) if user else (), limit,
            bool(credential.token),
        )  # fmt: skip


def _with_resource(document: Document) -> Document:
    """Add the resource that trust documents leave out: it is the role they belong to."""
    try:
        parsed = json.loads(document) if isinstance(document, str) else document
        statements = parsed["statement"]
        items = [statements] if isinstance(statements, Mapping) else statements
        return {**parsed, "statement": [{"resource": "*", **item} for item in items]}
    except (ValueError, KeyError, TypeError):
        return document  # it will be refused with a reason


def trust(principals: Iterable[str]) -> str:
    """Write a trust document that lets these principals take on a role."""
    statement = {
        "effect": "allow",
        "action": "sts:*",
        "resource": "*",
        "principal": {"qcs": list(principals)},
    }
    return json.dumps({"version": "2.0", "statement": [statement]})
