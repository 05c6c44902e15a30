"""docs/configuration.md has every setting, with its environment variable and its default."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import click
import pytest

from cosfs import config, units
from cosfs.fuse.settings import MountSettings

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `([^`]+)` \|(.*)\|$", re.MULTILINE)

# Not options of their own: the positional arguments of `cos mount`.
ARGUMENTS = {"bucket", "prefix", "mountpoint"}
PARSERS = {
    "umask": lambda text: int(text, 8),
    "metadata_ttl": units.parse_duration,
    "io_timeout": units.parse_duration,
    "retry_max": units.parse_duration,
}


def rows() -> dict[str, list[str]]:
    return {name: [cell.strip().strip("`") for cell in rest.split("|")] for name, rest in ROW.findall(PAGE)}


def default_of(setting: Any) -> object:
    defaults = {"": config.Settings, "client": config.ClientSettings, "transfer": config.TransferSettings}
    fields = {field.name: field for field in dataclasses.fields(defaults[setting.layer])}
    return fields[setting.name].default


@pytest.mark.parametrize("setting", config._SETTINGS, ids=lambda setting: setting.key)
def test_setting(setting: Any) -> None:
    option, environment, default, *_ = rows()[setting.key]
    assert environment == setting.env
    assert (
        setting.parse(default) == default_of(setting) if default else default_of(setting) in ("", False, ())
    )
    if option:
        assert option == f"--{(setting.option or setting.name).replace('_', '-')}"


def test_no_setting_is_left_out() -> None:
    covered = {setting.name for setting in config._SETTINGS}
    # Nobody sets them: user_agent tells COS which program this is, regions_path lies beside the settings, and
    # outage_at_start says whether outage_timeout was set.
    fields = {
        field.name
        for layer in (config.ClientSettings, config.TransferSettings)
        for field in dataclasses.fields(layer)
    }
    assert fields - covered == {"user_agent", "regions_path", "outage_at_start"}


@pytest.mark.parametrize("field", dataclasses.fields(MountSettings), ids=lambda field: field.name)
def test_mount_setting(field: dataclasses.Field[Any]) -> None:
    if field.name in ARGUMENTS:
        return
    option = "-o" if field.name == "fuse_options" else f"--{field.name.replace('_', '-')}"
    default = rows()[option][0]
    if isinstance(field.default, int | float) and not isinstance(field.default, bool):
        assert PARSERS.get(field.name, units.parse_size)(default) == field.default
    else:
        assert default == ("" if field.default is None else str(field.default))


def test_every_option_of_mount_is_there() -> None:
    from cli.mount import mount
    from cli.options import GLOBAL_OPTIONS

    listed = rows()
    own = [each for each in mount.params if isinstance(each, click.Option) and each not in GLOBAL_OPTIONS]
    missing = [each.name for each in own if not each.hidden and not any(name in listed for name in each.opts)]
    assert missing == []
