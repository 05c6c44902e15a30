"""The options of a command that are worth saying again when one of its items is done once more."""

from __future__ import annotations

import click

# What chooses among many items, or concerns the command as a whole, is no matter for one item.
_OF_ONE_ITEM = frozenset(
    {
        *("acl", "grants", "storage_class", "metadata", "content_type", "cache_control", "expires", "tags"),
        *("content_disposition", "content_encoding", "content_language", "no_guess_mime_type"),
        *("sse", "sse_kms_key_id", "sse_c", "sse_c_copy_source", "metadata_directive", "copy_props"),
        *("no_overwrite", "update", "checksum", "key_policy", "follow_symlinks", "preserve_symlinks"),
        *("preserve", "source_region", "part_size", "traffic_limit", "resume", "verify", "fsync", "sparse"),
        *("force_archive_transfer", "version_id", "expected_size"),
    }
)
# Never written to a file.
_SECRET = frozenset({"sse_c_key", "sse_c_copy_source_key"})


def repeatable_options(ctx: click.Context) -> tuple[list[str], list[str]]:
    """Return the given options that concern each item, as arguments, and the names of secret ones."""
    options: list[str] = []
    left_out: list[str] = []
    for param in ctx.command.params:
        if not isinstance(param, click.Option) or not param.name:
            continue
        if ctx.get_parameter_source(param.name) is not click.core.ParameterSource.COMMANDLINE:
            continue
        value = ctx.params.get(param.name)
        if param.name in _SECRET:
            left_out.append(param.opts[0])
        elif param.name in _OF_ONE_ITEM:
            options += _said(param, value)
    return options, left_out


def _said(param: click.Option, value: object) -> list[str]:
    if param.is_flag:
        return [param.opts[0] if value else param.secondary_opts[0]]
    values = value if isinstance(value, tuple) else (value,)
    return [text for each in values for text in (param.opts[0], str(each))]
