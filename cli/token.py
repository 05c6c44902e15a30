"""`cos token`: temporary credentials that may do less, for programs that shall not have all rights."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import DURATION, command, complete_places
from .output import utc_time
from .whoami import show_record

if TYPE_CHECKING:
    from cosfs.client.actions import Scope
    from cosfs.client.auth import Credentials

    from .state import State


@command("token")
@click.argument("urls", nargs=-1, metavar="[cos://BUCKET/PREFIX]...", shell_complete=complete_places)
@click.option(
    "--bucket", "buckets", multiple=True, metavar="NAME", help="Only this bucket; may be given repeatedly."
)
@click.option("--prefix", "prefixes", multiple=True, metavar="PREFIX", help="Only keys that begin like this.")
@click.option(
    "--action", "actions", multiple=True, metavar="NAME", help="Only this action, such as GetObject."
)
@click.option("--read-only", is_flag=True, help="Only reading and listing.")
@click.option("--policy", metavar="FILE|-", help="A policy of your own, as JSON.")
@click.option("--role", metavar="ARN", help="Keys of this role (AssumeRole) instead of your own rights.")
@click.option(
    "--duration", type=DURATION, metavar="TIME", help="How long they work; default 30m, of roles 2h."
)
@click.option("--name", default="cosmount", show_default=True, help="Shown in the audit log of the account.")
@click.pass_obj
def token(
    state: State,
    urls: tuple[str, ...],
    buckets: tuple[str, ...],
    prefixes: tuple[str, ...],
    actions: tuple[str, ...],
    read_only: bool,
    policy: str | None,
    role: str | None,
    duration: float | None,
    name: str,
) -> int:
    """Make temporary credentials, which may do what you may, less what the options leave out.

    Lines for a shell are printed unless a terminal looks on or --output asks for json or table. Keys of
    your own are asked for with GetFederationToken, those of a role with AssumeRole.

    \b
    Examples:
      eval "$(cos token)"
      cos token cos://bucket/reports/ --read-only --duration 15m --output json
      cos token --bucket bucket-1250000000 --prefix in/ --action PutObject
    """
    from cosfs.errors import UsageError

    if read_only and actions:
        raise UsageError("--read-only and --action exclude each other")
    limits = bool(urls or buckets or prefixes or actions or read_only)
    if policy is not None and limits:
        raise UsageError("--policy says all; leave out the other limits")
    if prefixes and not buckets:
        raise UsageError("--prefix needs --bucket", hint="Or write cos://BUCKET/PREFIX")
    if duration is not None and duration < 1:
        raise UsageError("--duration must be at least one second")
    text = ""
    if policy is not None:
        text = _read(policy)
    elif limits or not role:
        from cosfs.client.actions import scoped_policy

        text = scoped_policy(_scopes(state, urls, buckets, prefixes), actions, read_only=read_only)
    _show(state, _ask(state, role, text if limits or policy else "", text, round(duration or 0), name))
    return 0


def _ask(state: State, role: str | None, limits: str, policy: str, duration: int, name: str) -> Credentials:
    """Ask STS; limits is the policy if rights are to be left out, policy that of keys of one's own."""
    from cosfs.client.credentials import find_sts
    from cosfs.client.roles import SharedCredentials
    from cosfs.client.sts import Role
    from cosfs.errors import CredentialsError

    provider = state.client.credentials
    if provider is None:
        raise CredentialsError("there are no credentials with --no-sign-request", hint="Leave it out")
    sts = find_sts(state.settings)
    if role:
        wanted = Role(role, name, duration=duration or 7200, policy=limits)
        return sts.assume_role(provider.get(), wanted)
    if isinstance(provider, SharedCredentials):
        # Keys of a role cannot ask for others, but the role can be assumed again with less rights.
        return provider.limited(limits, duration)
    current = provider.get()
    if current.token and not limits and not duration:
        return current  # temporary as they are
    return sts.federation_token(current, name, policy, duration or 1800)


def _read(name: str) -> str:
    import json

    from cosfs.errors import UsageError

    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
        json.loads(text)
    except OSError as error:
        raise UsageError(f"cannot read the policy {name}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"the policy {name} is not JSON: {error}") from None
    return text


def _scopes(
    state: State, urls: Sequence[str], buckets: Sequence[str], prefixes: Sequence[str]
) -> list[Scope]:
    from cosfs.client.actions import Scope

    from .options import parse_cos_url

    pairs = [(url.bucket, url.key) for url in map(parse_cos_url, urls)]
    pairs += [(bucket.removeprefix("cos://").strip("/"), p) for bucket in buckets for p in prefixes or ("",)]
    client = state.client
    return [Scope(client.resolve_bucket(bucket), prefix) for bucket, prefix in pairs]


def _show(state: State, made: Credentials) -> None:
    record = {
        "SecretId": made.secret_id,
        "SecretKey": made.secret_key,
        "Token": made.token,
        "Expires": utc_time(made.expires) if made.expires else "",
    }
    if state.format in ("json", "jsonl", "table"):
        show_record(state, record)
        return
    names = {"SecretId": "COS_SECRET_ID", "SecretKey": "COS_SECRET_KEY", "Token": "COS_SESSION_TOKEN"}
    for field, variable in names.items():
        state.out.line(f"export {variable}={shlex.quote(record[field])}")
    if record["Expires"]:
        state.out.line(f"# they end at {record['Expires']}")
