"""What an object has beside its bytes: `cos tag`, `cos acl`, `cos meta`, `cos symlink`, `cos retention`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import click

from cosfs.client.documents import access, keeping
from cosfs.client.documents.setting import Setting
from cosfs.errors import ObjectNotFoundError, UsageError

from .headers import ACLS, CONTENT_FIELDS, grant_headers, parse_metadata
from .options import OBJECT_URL, dryrun_option, group
from .output import printable
from .setting_builders import parse_tags
from .setting_commands import SettingGroup, report, unchanged
from .setting_io import BucketSetting, read_config, show, show_difference

if TYPE_CHECKING:
    from cosfs.client.model import Headers, ObjectInfo
    from cosfs.client.url import CosUrl

    from .running import Run
    from .state import State

object_argument = click.argument("url", type=OBJECT_URL, metavar="cos://BUCKET/KEY")
version_option = click.option("--version-id", default="", metavar="ID", help="This version of the object.")


def _subject(state: State, setting: Setting, url: CosUrl, version_id: str = "") -> BucketSetting:
    bucket = state.client.resolve_bucket(url.bucket)
    return BucketSetting(state, setting, bucket, key=url.key, version_id=version_id)


def _done(state: State, op: str, subject: BucketSetting) -> int:
    return report(state, op, f"{subject.bucket}/{subject.key}")


def _send(state: State, subject: BucketSetting, value: dict[str, Any], op: str, dryrun: bool) -> int:
    checked = subject.setting.check(value, "the options").value
    if dryrun:
        show_difference(state, subject, subject.get(), checked)
        return 0
    subject.put(checked)
    return _done(state, op, subject)


# --- tags


@click.group("tag", cls=SettingGroup)
def tag() -> None:
    """Tags of an object."""


@tag.command("get")
@object_argument
@version_option
@click.option("--xml", is_flag=True, help="Print them in XML, as COS has them.")
@click.pass_obj
def tag_get(state: State, url: CosUrl, version_id: str, xml: bool) -> int:
    """Print the tags of an object.

    \b
    Examples:
      cos tag get cos://bucket/file.txt
      cos tag get cos://bucket/file.txt --output table
    """
    subject = _subject(state, keeping.OBJECT_TAGGING, url, version_id)
    show(state, subject.setting, subject.get() or {}, as_xml=xml)
    return 0


_tags_option = click.option("--tags", metavar="K=V&…", help="The tags, percent-encoded where needed.")


@tag.command("put")
@object_argument
@version_option
@_tags_option
@click.option("--config", metavar="FILE|-", help="The tags as a document, JSON or XML.")
@dryrun_option
@click.pass_obj
def tag_put(
    state: State, url: CosUrl, version_id: str, tags: str | None, config: str | None, dryrun: bool
) -> int:
    """Set the tags of an object in place of those it has.

    \b
    Examples:
      cos tag put cos://bucket/file.txt --tags 'team=web&stage=test'
      cos tag put cos://bucket/file.txt --config tagging.json
    """
    if (tags is None) == (config is None):
        raise UsageError("say the tags by --tags or by --config")
    subject = _subject(state, keeping.OBJECT_TAGGING, url, version_id)
    value = (
        {"TagSet": parse_tags(tags)} if tags is not None else read_config(subject.setting, config or "")[0]
    )
    return _send(state, subject, value, "put_tags", dryrun)


@tag.command("add")
@object_argument
@version_option
@click.option("--tags", metavar="K=V&…", required=True, help="The tags, percent-encoded where needed.")
@dryrun_option
@click.pass_obj
def tag_add(state: State, url: CosUrl, version_id: str, tags: str, dryrun: bool) -> int:
    """Add tags to those an object has; one of the same key is replaced.

    \b
    Examples:
      cos tag add cos://bucket/file.txt --tags checked=yes
    """
    subject = _subject(state, keeping.OBJECT_TAGGING, url, version_id)
    before = subject.canonical(subject.get()).get("TagSet", [])
    merged = {each["Key"]: each for each in (*before, *parse_tags(tags))}
    return _send(state, subject, {"TagSet": list(merged.values())}, "add_tags", dryrun)


@tag.command("delete")
@object_argument
@version_option
@dryrun_option
@click.pass_obj
def tag_delete(state: State, url: CosUrl, version_id: str, dryrun: bool) -> int:
    """Remove all tags of an object.

    \b
    Examples:
      cos tag delete cos://bucket/file.txt
    """
    subject = _subject(state, keeping.OBJECT_TAGGING, url, version_id)
    if dryrun:
        show_difference(state, subject, subject.get(), {"TagSet": []})
        return 0
    subject.delete()
    return _done(state, "delete_tags", subject)


# --- access control lists


@click.group("acl", cls=SettingGroup)
def acl() -> None:
    """Who may do what with an object, as an access control list."""


@acl.command("get")
@object_argument
@version_option
@click.option("--xml", is_flag=True, help="Print it in XML, as COS has it.")
@click.pass_obj
def acl_get(state: State, url: CosUrl, version_id: str, xml: bool) -> int:
    """Print the access control list of an object.

    \b
    Examples:
      cos acl get cos://bucket/file.txt
    """
    subject = _subject(state, access.ACL, url, version_id)
    show(state, subject.setting, subject.get() or {}, as_xml=xml)
    return 0


@acl.command("put")
@object_argument
@click.option("--acl", "word", type=click.Choice(ACLS), help="A whole list in one word.")
@click.option(
    "--grants", multiple=True, metavar="PERMISSION=WHO", help='As in read=id="100000000011"; repeatable.'
)
@click.option("--config", metavar="FILE|-", help="The list as a document, JSON or XML.")
@dryrun_option
@click.pass_obj
def acl_put(
    state: State, url: CosUrl, word: str | None, grants: tuple[str, ...], config: str | None, dryrun: bool
) -> int:
    """Set the access control list of an object in place of the one it has.

    \b
    Examples:
      cos acl put cos://bucket/file.txt --acl public-read
      cos acl put cos://bucket/file.txt --grants 'read=id="100000000011"'
    """
    subject = _subject(state, access.ACL, url)
    headers = ({"x-cos-acl": word} if word else {}) | grant_headers(grants)
    if bool(headers) == (config is not None):
        raise UsageError("say who may do what by --acl and --grants, or by --config alone")
    if config is not None:
        return _send(state, subject, read_config(subject.setting, config)[0], "put_acl", dryrun)
    if dryrun:
        return report(
            state, "put_acl", f"{subject.bucket}/{url.key}", " ".join(headers.values()), dryrun=True
        )
    state.client.put_document(subject.bucket, "acl", None, key=url.key, headers=headers)
    return _done(state, "put_acl", subject)


# --- metadata


@group("meta")
def meta() -> None:
    """Headers and metadata of an object."""


@meta.command("get")
@object_argument
@version_option
@click.pass_obj
def meta_get(state: State, url: CosUrl, version_id: str) -> int:
    """Print the headers and the metadata of an object.

    \b
    Examples:
      cos meta get cos://bucket/file.txt
      cos meta get cos://bucket/file.txt --output json
    """
    info = state.client.head_object(state.client.resolve_bucket(url.bucket), url.key, version_id=version_id)
    assert info is not None
    show(state, keeping.OBJECT_TAGGING, _shown(info))
    return 0


def _shown(info: ObjectInfo) -> dict[str, Any]:
    assert info.headers is not None
    headers = info.headers
    found: dict[str, Any] = {
        name.replace("_", "-").title(): getattr(headers, name)
        for name in CONTENT_FIELDS
        if getattr(headers, name)
    }
    metadata = {name: unquote(value) for name, value in headers.metadata.items()}
    return found | {"StorageClass": info.storage_class, "Metadata": metadata}


@meta.command("set")
@object_argument
@click.option(
    "--metadata", multiple=True, metavar="K=V,…", help="Metadata to set (x-cos-meta-K); repeatable."
)
@click.option("--remove", multiple=True, metavar="K", help="Metadata to take away; repeatable.")
@click.option("--content-type", metavar="TYPE", help="Type of the content.")
@click.option("--cache-control", metavar="TEXT", help="How long browsers may keep it.")
@click.option("--content-disposition", metavar="TEXT", help="Name under which browsers save it.")
@click.option("--content-encoding", metavar="TEXT", help="Encoding of the content, such as gzip.")
@click.option("--content-language", metavar="TEXT", help="Language of the content.")
@click.option("--expires", metavar="DATE", help="Expires header.")
@dryrun_option
@click.pass_obj
def meta_set(
    state: State,
    /,
    url: CosUrl,
    metadata: tuple[str, ...],
    remove: tuple[str, ...],
    dryrun: bool,
    **texts: str | None,
) -> int:
    """Change headers and metadata of an object; what is not named stays as it is.

    Empty text removes a header. COS copies the object onto itself for this: its time changes, and
    with versioning there is a new version. Storage class, tags, access and encryption are kept.

    \b
    Examples:
      cos meta set cos://bucket/file.txt --metadata owner=me --cache-control no-cache
      cos meta set cos://bucket/file.txt --remove owner
    """
    bucket = state.client.resolve_bucket(url.bucket)
    changes = {name: text for name, text in texts.items() if text is not None}
    if not (changes or metadata or remove):
        raise UsageError("there is nothing to set", hint="Add --metadata K=V or --content-type TYPE")
    info = state.client.head_object(bucket, url.key)
    assert info is not None and info.headers is not None
    if info.archived:
        raise UsageError(f"{url} is archived and must be restored before its metadata can change")
    headers = _changed(info.headers, parse_metadata(metadata), remove, changes)
    if headers == info.headers:
        state.out.talk(f"{printable(str(url))} has these headers already")
        return unchanged(state, "set_meta", _subject(state, keeping.OBJECT_TAGGING, url))
    if dryrun:
        show(state, keeping.OBJECT_TAGGING, _shown(replace(info, headers=headers)))
        return 0
    return _copy_onto_itself(state, bucket, info, headers)


def _changed(before: Headers, metadata: Any, remove: tuple[str, ...], texts: dict[str, str]) -> Headers:
    gone = {name.lower().removeprefix("x-cos-meta-") for name in remove}
    kept = {name: value for name, value in before.metadata.items() if name not in gone}
    for name, text in texts.items():
        if any(ord(char) < 32 or ord(char) == 127 for char in text):
            raise UsageError(f"--{name.replace('_', '-')} holds a control character")
    return replace(before, metadata={**kept, **metadata}, **texts)  # type: ignore[arg-type]


def _copy_onto_itself(state: State, bucket: str, info: ObjectInfo, headers: Headers) -> int:
    from .access import access_headers
    from .report import Report
    from .running import run_job

    async def job(run: Run) -> None:
        from cosfs.transfer.copy import copy_object

        extra = await run.engine.run(access_headers, state.client, bucket, info.key)
        await copy_object(
            run.engine, bucket, info.key, bucket, info.key,
            info=info, headers=headers, storage_class=info.storage_class, extra=extra,
        )  # fmt: skip
        run.report.bucket("set_meta", f"{bucket}/{info.key}")

    return run_job(state, job, Report(state), verb="setting")


# --- links


@group("symlink")
def symlink() -> None:
    """Links of COS: objects that lead to another object of their bucket."""


@symlink.command("create")
@object_argument
@click.argument("target", metavar="KEY")
@click.option("--no-overwrite", is_flag=True, help="Leave an object of this name alone.")
@dryrun_option
@click.pass_obj
def symlink_create(state: State, url: CosUrl, target: str, no_overwrite: bool, dryrun: bool) -> int:
    """Make cos://BUCKET/KEY a link to another key of the bucket.

    \b
    Examples:
      cos symlink create cos://bucket/latest.txt file.txt
    """
    from .options import parse_cos_url

    if target.startswith("cos://"):
        named = parse_cos_url(target)
        if state.client.resolve_bucket(named.bucket) != state.client.resolve_bucket(url.bucket):
            raise UsageError("a link leads to an object of its own bucket")
        target = named.key
    if not target or target == url.key:
        raise UsageError("a link leads to another object")
    subject = _subject(state, keeping.OBJECT_TAGGING, url)
    if dryrun:
        return report(state, "create_symlink", f"{subject.bucket}/{url.key}", f"to {target}", dryrun=True)
    headers = {"x-cos-symlink-target": quote(target.encode("utf-8", "surrogateescape"), safe="/")}
    headers |= {"x-cos-forbid-overwrite": "true"} if no_overwrite else {}
    state.client.put_document(subject.bucket, "symlink", None, key=url.key, headers=headers)
    return _done(state, "create_symlink", subject)


@symlink.command("get")
@object_argument
@click.pass_obj
def symlink_get(state: State, url: CosUrl) -> int:
    """Print the key that a link leads to.

    \b
    Examples:
      cos symlink get cos://bucket/link.txt
    """
    bucket = state.client.resolve_bucket(url.bucket)
    answer = state.client.get_document(bucket, "symlink", key=url.key)
    target = unquote(answer.headers.get("x-cos-symlink-target", ""), errors="surrogateescape")
    if not target:
        raise ObjectNotFoundError("the object is no link", target=f"cos://{bucket}/{url.key}")
    if state.format in ("json", "jsonl"):
        state.out.json_line({"Target": target})
    else:
        state.out.line(target)
    return 0


# --- retention


@group("retention")
def retention() -> None:
    """Until when an object cannot be removed; its bucket must have object lock."""


@retention.command("get")
@object_argument
@version_option
@click.pass_obj
def retention_get(state: State, url: CosUrl, version_id: str) -> int:
    """Print until when an object is locked.

    \b
    Examples:
      cos retention get cos://bucket/file.txt
    """
    subject = _subject(state, keeping.RETENTION, url, version_id)
    value = subject.get()
    if value is None:
        raise ObjectNotFoundError("the object is not locked", target=subject.target)
    show(state, subject.setting, value)
    return 0


@retention.command("put")
@object_argument
@version_option
@click.option("--until", required=True, metavar="DATE", help="A date with its zone: 2030-01-31T00:00:00Z.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@dryrun_option
@click.pass_obj
def retention_put(state: State, url: CosUrl, version_id: str, until: str, yes: bool, dryrun: bool) -> int:
    """Lock an object until a date, which can only be moved to later.

    \b
    Examples:
      cos retention put cos://bucket/file.txt --until 2040-01-31T00:00:00Z --yes
    """
    from .prompt import confirm

    subject = _subject(state, keeping.RETENTION, url, version_id)
    value = subject.setting.check({"RetainUntilDate": until}, "--until").value
    if not (yes or dryrun):
        confirm(state, f"Nobody can remove {subject.target} before {until}. Lock it?")
    return _send(state, subject, value, "put_retention", dryrun)
