"""`cos whoami`: whose credentials are used, where they come from, until when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .options import command
from .output import Column, fields, table, utc_time
from .secrets import mask

if TYPE_CHECKING:
    from .state import State


@command("whoami")
@click.pass_obj
def whoami(state: State) -> int:
    """Show whose credentials are used, which source they come from, and when they end.

    STS says to whom they belong (GetCallerIdentity); nothing in COS is asked for.

    \b
    Examples:
      cos whoami
      cos whoami --profile production --output json
    """
    from cosfs.client.credentials import find_sts
    from cosfs.errors import COSError, CredentialsError

    provider = state.client.credentials
    if provider is None:
        raise CredentialsError("no credentials are used with --no-sign-request", hint="Leave it out")
    current = provider.get()
    sts = find_sts(state.settings)
    identity = sts.caller_identity(current)
    try:
        appid = sts.appid(current)
    except COSError:
        appid = state.settings.client.appid  # CAM may not be allowed; nothing else depends on it
    record = {
        "Source": str(getattr(provider, "source", "")),
        "SecretId": mask(current.secret_id),
        "AccountId": identity.account,
        "AppId": appid,
        "Arn": identity.arn,
        "UserId": identity.user_id,
        "PrincipalId": identity.principal,
        "Type": identity.kind,
        "Expires": utc_time(current.expires) if current.expires else "",
    }
    show_record(state, record)
    return 0


def show_record(state: State, record: dict[str, str]) -> None:
    """Print one record in the format that is asked for."""
    if state.format == "json":
        state.out.json(record)
    elif state.format == "jsonl":
        state.out.json_line(record)
    elif state.format == "table":
        table(state.out, [Column("Name"), Column("Value")], [(n, v or "-") for n, v in record.items()])
    else:
        fields(state.out, record.items())
