"""`cos configure`: settings and credentials in ~/.cos."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import group
from .output import Column, printable, table
from .secret_store import SECRETS as _SECRETS
from .secret_store import in_keyring, items, keep_in_keyring
from .secrets import mask

if TYPE_CHECKING:
    from cosfs.config import Settings
    from cosfs.profiles import ConfigFile

    from .imports import Imported
    from .state import State

_CREDENTIAL_ENV = {
    "secret_id": ("COS_SECRET_ID",),
    "secret_key": ("COS_SECRET_KEY",),
    "session_token": ("COS_SESSION_TOKEN", "COS_TOKEN"),
}
# Shown by `list` even when they have no value; the others only when somebody set them.
_ALWAYS_LISTED = ("region", "output", "endpoint_url", "appid")


@group("configure", invoke_without_command=True)
@click.option("--keyring", is_flag=True, help="Keep the secrets in the keyring of the system, encrypted.")
@click.option("--no-check", is_flag=True, help="Send no request to try what was written.")
@click.pass_context
def configure(ctx: click.Context, keyring: bool, no_check: bool) -> int:
    """Ask for credentials and settings and write them to ~/.cos.

    Secrets are read without echo and kept in ~/.cos/credentials, which only you can read, or with
    --keyring in the keyring of the system; secrets that are in the file move there. At the end one
    request shows whether COS takes the credentials.

    \b
    Examples:
      cos configure
      cos configure --profile production
      cos configure set region ap-shanghai
      cos configure set default.cos.max_concurrent_requests 64
      cos configure get region
      cos configure list
      cos configure import-coscli
    """
    if ctx.invoked_subcommand is None:
        _ask(ctx.find_root().obj, keyring=keyring, check=not no_check)
    return 0


def _files(state: State) -> tuple[ConfigFile, str]:
    from cosfs.profiles import ConfigFile

    profile = str(state.options.get("profile") or os.environ.get("COS_PROFILE") or "default")
    return ConfigFile.locate(config_file=str(state.options.get("config_file") or "")), profile


def _ask(state: State, *, keyring: bool, check: bool) -> None:
    from cosfs.errors import UsageError

    from .first_request import try_settings
    from .prompt import somebody_is_there

    files, profile = _files(state)
    now = items(files, profile)
    if not somebody_is_there():
        if keyring and now.get("secret_key"):
            keep_in_keyring(files, profile, {})
            state.out.talk(f"the secrets of profile {profile!r} are in the keyring")
            return
        raise UsageError(
            "cos configure asks questions and needs a terminal", hint="Use: cos configure set KEY VALUE"
        )
    answers = {
        "secret_id": _prompt("SecretId", now.get("secret_id", ""), secret=True, echo=True),
        "secret_key": _prompt("SecretKey", now.get("secret_key", ""), secret=True),
        "region": _prompt("Default region (such as ap-guangzhou)", now.get("region", "")),
        "output": _prompt("Default output format (table, json, jsonl, text)", now.get("output", "")),
    }
    changed = {key: value for key, value in answers.items() if value and value != now.get(key)}
    if changed or keyring:
        _store(files, profile, changed, keyring=keyring)
    place = "the keyring" if in_keyring(files, profile) else files.credentials_path
    state.out.talk(f"profile {profile!r} is in {files.config_path} and {place}")
    if check and items(files, profile).get("secret_key"):
        try_settings(state, files, profile)


def _prompt(text: str, current: str, *, secret: bool = False, echo: bool = False) -> str:
    from .prompt import ask

    shown = (mask(current) if secret else current) if current else "none"
    return ask(f"{text} [{shown}]", secret=secret and not echo) or current


@configure.command("set")
@click.argument("key")
@click.argument("value", required=False)
@click.option("--keyring", is_flag=True, help="Keep a secret, and the others of the profile, in the keyring.")
@click.pass_context
def configure_set(ctx: click.Context, key: str, value: str | None, keyring: bool) -> int:
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
    if keyring and name not in _SECRETS:
        raise UsageError(f"{name} is no secret", hint="Leave --keyring out")
    _store(files, profile, {name: value}, keyring=keyring)
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
    hint = f"Did you mean {nested if nested in known else close[0]}?" if close or nested in known else ""
    raise UsageError(f"there is no setting {key!r}", hint=hint or f"There are: {', '.join(sorted(known))}")


def _store(files: ConfigFile, profile: str, values: dict[str, str], *, keyring: bool = False) -> None:
    """Write values; take them back if one of them cannot be read as what it should be."""
    from cosfs.config import load_settings
    from cosfs.errors import ConfigError, UsageError

    if keyring or in_keyring(files, profile):
        keep_in_keyring(files, profile, {name: values[name] for name in values if name in _SECRETS})
        values = {name: value for name, value in values.items() if name not in _SECRETS}
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


@configure.command("import-coscli")
@click.option("--file", "path", default="~/.cos.yaml", show_default=True, metavar="FILE", help="Its file.")
@click.pass_obj
def import_coscli(state: State, path: str) -> int:
    """Take over the settings and keys of coscli.

    \b
    Examples:
      cos configure import-coscli
      cos configure import-coscli --profile work --file ./old.yaml
    """
    from .imports import read_coscli

    return _take_over(state, read_coscli(_expanded(path)), path)


@configure.command("import-coscmd")
@click.option("--file", "path", default="~/.cos.conf", show_default=True, metavar="FILE", help="Its file.")
@click.pass_obj
def import_coscmd(state: State, path: str) -> int:
    """Take over the settings and keys of coscmd.

    \b
    Examples:
      cos configure import-coscmd
      cos configure import-coscmd --profile work --file ./old.conf
    """
    from .imports import read_coscmd

    return _take_over(state, read_coscmd(_expanded(path)), path)


@configure.command("import-tccli")
@click.option("--from", "name", default="default", show_default=True, metavar="NAME", help="Its profile.")
@click.pass_obj
def import_tccli(state: State, name: str) -> int:
    """Take over the keys, region and output format of a profile of tccli.

    \b
    Examples:
      cos configure import-tccli
      cos configure import-tccli --from work --profile work
    """
    from cosfs.errors import UsageError

    from .imports import read_tccli

    if "/" in name or name in ("", ".", ".."):
        raise UsageError(f"{name!r} is no profile of tccli")
    directory = _expanded("~/.tccli")
    return _take_over(state, read_tccli(directory, name), str(directory))


def _expanded(path: str) -> Path:
    return Path(path).expanduser()


def _take_over(state: State, found: Imported, source: str) -> int:
    """Write what another tool has into the profile, and say so without showing a secret."""
    files, profile = _files(state)
    _store(files, profile, found.values)
    if found.buckets:
        import json

        from cosfs.client.regions import RegionFile

        remembered = RegionFile(str(files.config_path.parent / "cache" / "regions.json"))
        for bucket, region in found.buckets.items():
            remembered.set(bucket, region)
        found.notes.append(f"regions of buckets are remembered: {json.dumps(found.buckets)}")
    names = ", ".join(sorted(found.values)) or "nothing"
    state.out.talk(f"profile {profile!r} has from {source}: {names}")
    for note in found.notes:
        state.out.talk(note)
    return 0


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
    from cosfs.profiles import split_key

    profile, name = split_key(key, profile)
    _check_name(key, name)
    value = (items(files, profile) if name in _SECRETS else files.items(profile)).get(name)
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
    """List settings that were set, where each comes from, and secrets masked.

    Names and values are as 'cos configure set' takes them.

    \b
    Examples:
      cos configure list
      cos configure list --output json
    """
    from cosfs.config import stated_settings

    state: State = ctx.find_root().obj
    settings = state.settings
    rows = [("profile", settings.profile, settings.sources.get("profile", "default"))]
    rows += _credential_rows(state, settings)
    stated = {name: (name, value, source) for name, value, source in stated_settings(settings)}
    rows += [stated.pop(name) for name in _ALWAYS_LISTED]
    rows += [row for row in stated.values() if row[2] != "default"]
    _print_rows(state, rows)
    return 0


def _credential_rows(state: State, settings: Settings) -> list[tuple[str, str, str]]:
    """Return the credentials that would be used: from one source, never mixed."""
    files, _ = _files(state)
    stored = items(files, settings.profile)
    keyring = ", in the keyring" if in_keyring(files, settings.profile) else ""
    sources = (
        ("option", {name: str(state.options.get(name) or "") for name in _SECRETS}),
        ("environment", {name: _from_environment(name) for name in _SECRETS}),
        (f"profile{keyring}", {name: stored.get(name, "") for name in _SECRETS}),
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
