"""`cos configure`: settings and credentials in ~/.cos."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from .options import group
from .output import Column, printable, table
from .secrets import mask

if TYPE_CHECKING:
    from cosfs.config import ConfigFile, Settings

    from .state import State

_SECRETS = ("secret_id", "secret_key", "session_token")
_CREDENTIAL_ENV = {
    "secret_id": ("COS_SECRET_ID",),
    "secret_key": ("COS_SECRET_KEY",),
    "session_token": ("COS_SESSION_TOKEN", "COS_TOKEN"),
}
# Shown by `list` even when they have no value; the others only when somebody set them.
_ALWAYS_LISTED = ("region", "output", "endpoint_url", "appid")


@group("configure", invoke_without_command=True)
@click.pass_context
def configure(ctx: click.Context) -> int:
    """Ask for credentials and settings and write them to ~/.cos.

    Secrets are read without echo and kept in ~/.cos/credentials, which only you can read.

    \b
    Examples:
      cos configure
      cos configure --profile production
      cos configure set region ap-shanghai
      cos configure set default.cos.max_concurrent_requests 64
      cos configure get region
      cos configure list
    """
    if ctx.invoked_subcommand is None:
        _ask(ctx.find_root().obj)
    return 0


def _files(state: State) -> tuple[ConfigFile, str]:
    from cosfs.profiles import ConfigFile

    profile = str(state.options.get("profile") or os.environ.get("COS_PROFILE") or "default")
    return ConfigFile.locate(config_file=str(state.options.get("config_file") or "")), profile


def _ask(state: State) -> None:
    from cosfs.errors import UsageError

    from .prompt import somebody_is_there

    if not somebody_is_there():
        raise UsageError(
            "cos configure asks questions and needs a terminal", hint="Use: cos configure set KEY VALUE"
        )
    files, profile = _files(state)
    now = files.items(profile)
    answers = {
        "secret_id": _prompt("SecretId", now.get("secret_id", ""), secret=True, echo=True),
        "secret_key": _prompt("SecretKey", now.get("secret_key", ""), secret=True),
        "region": _prompt("Default region (such as ap-guangzhou)", now.get("region", "")),
        "output": _prompt("Default output format (table, json, jsonl, text)", now.get("output", "")),
    }
    changed = {key: value for key, value in answers.items() if value and value != now.get(key)}
    if changed:
        _store(files, profile, changed)
    state.out.talk(f"profile {profile!r} is in {files.config_path} and {files.credentials_path}")


def _prompt(text: str, current: str, *, secret: bool = False, echo: bool = False) -> str:
    from .prompt import ask

    shown = (mask(current) if secret else current) if current else "none"
    return ask(f"{text} [{shown}]", secret=secret and not echo) or current


@configure.command("set")
@click.argument("key")
@click.argument("value", required=False)
@click.pass_context
def configure_set(ctx: click.Context, key: str, value: str | None) -> int:
    """Write one setting; a secret whose VALUE is left out is asked for without echo.

    KEY may name its profile: production.region, default.cos.max_concurrent_requests.

    \b
    Examples:
      cos configure set region ap-shanghai
      cos configure set default.cos.max_concurrent_requests 64
    """
    from cosfs.errors import UsageError
    from cosfs.profiles import split_key

    from .prompt import somebody_is_there

    state: State = ctx.find_root().obj
    files, profile = _files(state)
    profile, name = split_key(key, profile)
    _check_name(key, name)
    if value is None:
        if not somebody_is_there():
            raise UsageError(f"the value of {key} is missing", hint=f"Write: cos configure set {key} VALUE")
        value = _prompt(name, "", secret=name in _SECRETS)
    _store(files, profile, {name: value})
    return 0


def _check_name(key: str, name: str) -> None:
    from cosfs.config import setting_names
    from cosfs.errors import UsageError
    from cosfs.profiles import ROLE_KEYS, SECRET_KEYS

    known = [*setting_names(), *SECRET_KEYS, *ROLE_KEYS]
    if name in known:
        return
    import difflib

    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    nested = f"cos.{name}"
    hint = f"did you mean {nested if nested in known else close[0]}?" if close or nested in known else ""
    raise UsageError(f"there is no setting {key!r}", hint=hint or f"there are: {', '.join(sorted(known))}")


def _store(files: ConfigFile, profile: str, values: dict[str, str]) -> None:
    """Write values; take them back if one of them cannot be read as what it should be."""
    from cosfs.config import load_settings
    from cosfs.errors import ConfigError, UsageError

    before = {name: files.items(profile).get(name) for name in values}
    for name, value in values.items():
        files.set(name, value, profile)
    environ = {
        "HOME": os.environ.get("HOME", ""),
        "COS_SHARED_CREDENTIALS_FILE": str(files.credentials_path),
        "COS_CONFIG_FILE": str(files.config_path),
    }
    try:
        load_settings({"profile": profile}, environ=environ)
    except ConfigError as error:
        if not any(f"{name} in " in str(error) for name in values):
            return  # another setting was bad before
        for name, old in before.items():
            if old is None:
                files.unset(name, profile)
            else:
                files.set(name, old, profile)
        raise UsageError(str(error.message), hint="Nothing was written") from None


@configure.command("get")
@click.argument("key")
@click.pass_context
def configure_get(ctx: click.Context, key: str) -> int:
    """Print one setting as the files have it; exit 1 if they do not.

    \b
    Examples:
      cos configure get region
    """
    state: State = ctx.find_root().obj
    files, profile = _files(state)
    value = files.get(key, profile)
    if value is None:
        return 1
    if state.options.get("output") in ("json", "jsonl"):
        state.out.json_line(value)
    else:
        state.out.line(value)
    return 0


@configure.command("list")
@click.pass_context
def configure_list(ctx: click.Context) -> int:
    """List settings, where each comes from, and secrets masked.

    \b
    Examples:
      cos configure list
      cos configure list --output json
    """
    state: State = ctx.find_root().obj
    settings = state.settings
    rows = [("profile", settings.profile, settings.sources.get("profile", "default"))]
    rows += _credential_rows(state, settings)
    for name, value in _values(settings):
        source = settings.sources.get(name, "default")
        if source != "default" or name in _ALWAYS_LISTED:
            rows.append((name, value, source))
    _print_rows(state, rows)
    return 0


def _values(settings: Settings) -> list[tuple[str, str]]:
    """Return every setting with its value as text."""
    values = [("output", settings.output)]
    for part in (settings.client, settings.transfer):
        values += [(name, str(getattr(part, name))) for name in part.__dataclass_fields__]
    order = {name: place for place, name in enumerate(_ALWAYS_LISTED)}
    return sorted(values, key=lambda pair: order.get(pair[0], len(order)))


def _credential_rows(state: State, settings: Settings) -> list[tuple[str, str, str]]:
    """Return the credentials that would be used: from one source, never mixed."""
    files, _ = _files(state)
    stored = files.items(settings.profile)
    sources = (
        ("option", {name: str(state.options.get(name) or "") for name in _SECRETS}),
        ("environment", {name: _from_environment(name) for name in _SECRETS}),
        ("profile", {name: stored.get(name, "") for name in _SECRETS}),
    )
    for source, values in sources:
        if values["secret_id"] or values["secret_key"]:
            return [(name, mask(values[name]), source) for name in _SECRETS if values[name]]
    role = os.environ.get("COS_ASSUME_ROLE") or stored.get("assume_role", "")
    if role:
        return [("assume_role", role, "environment" if os.environ.get("COS_ASSUME_ROLE") else "profile")]
    return [("secret_id", "", "none"), ("secret_key", "", "none")]


def _from_environment(name: str) -> str:
    return next((os.environ[each] for each in _CREDENTIAL_ENV[name] if os.environ.get(each)), "")


def _print_rows(state: State, rows: list[tuple[str, str, str]]) -> None:
    form = state.format
    records = [{"Name": name, "Value": value, "Source": source} for name, value, source in rows]
    if form == "json":
        state.out.json(records)
    elif form == "jsonl":
        for record in records:
            state.out.json_line(record)
    elif form == "table":
        columns = [Column("Name"), Column("Value"), Column("Source")]
        table(state.out, columns, [(name, value or "-", source) for name, value, source in rows])
    else:
        state.out.lines("\t".join((name, printable(value), source)) for name, value, source in rows)
