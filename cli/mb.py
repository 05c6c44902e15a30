"""`cos mb`: make a bucket."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from .options import BUCKET_URL, command, dryrun_option
from .output import printable

if TYPE_CHECKING:
    from cosfs.client.url import CosUrl

    from .state import State

ACLS = ("private", "public-read", "public-read-write", "authenticated-read")
_FULL_NAME = re.compile(r".*-\d{5,}")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


@command("mb")
@click.argument("url", type=BUCKET_URL, metavar="cos://BUCKET")
@click.option("--acl", type=click.Choice(ACLS), default=None, help="Who may read and write it.")
@click.option("--maz", is_flag=True, help="Keep the data in several availability zones.")
@click.option("--ofs", is_flag=True, help="Make its directories real ones (metadata acceleration).")
@click.option("--tags", metavar="K=V&…", help="Tags of the bucket.")
@dryrun_option
@click.pass_obj
def mb(
    state: State, url: CosUrl, acl: str | None, maz: bool, ofs: bool, tags: str | None, dryrun: bool
) -> int:
    """Make a bucket.

    The full name ends in your APPID (name-1250000000). A name given without it gets the APPID of
    the setting `appid` or of your other buckets.

    \b
    Examples:
      cos mb cos://new-bucket
      cos mb cos://new-bucket-1250000000 --region ap-shanghai
    """
    from cosfs.errors import UsageError

    from .report import Report

    if url.key:
        raise UsageError(f"{url} names an object", hint=f"A bucket is written cos://{url.bucket}")
    if not _NAME.fullmatch(url.bucket) or len(url.bucket) > 60:
        raise UsageError(
            f"{printable(url.bucket)!r} cannot be the name of a bucket",
            hint="Use lower-case letters, digits and hyphens, at most 60 with the APPID",
        )
    name = _full_name(state, url.bucket)
    report = Report(state)
    if dryrun:
        report.would_set("make_bucket", name)
        return report.finish()
    state.client.create_bucket(
        name,
        region=state.settings.client.region,
        acl=acl or "",
        maz=maz,
        ofs=ofs,
        headers={"x-cos-tagging": tags} if tags else {},
    )
    report.bucket("make_bucket", state.client.resolve_bucket(name))
    return report.finish()


def _full_name(state: State, name: str) -> str:
    from cosfs.errors import UsageError

    if _FULL_NAME.fullmatch(name):
        return name
    appid = state.settings.client.appid
    if not appid:
        endings = {bucket.name.rpartition("-")[2] for bucket in state.client.list_buckets()}
        appid = endings.pop() if len(endings) == 1 else ""
    if not appid and state.settings.client.endpoint_url:
        return name  # an emulator knows its own APPID
    if not appid:
        raise UsageError(
            f"{name!r} lacks the APPID, and you have no other bucket to take it from",
            hint=f"Write cos://{name}-APPID or run: cos configure set appid APPID",
        )
    return f"{name}-{appid}"
