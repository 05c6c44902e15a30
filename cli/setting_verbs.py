"""What some settings can be told besides get, put and delete: enable, suspend, disable, list, post."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from cosfs.client.documents import access, keeping, serving
from cosfs.client.documents.setting import Setting
from cosfs.errors import UsageError

from .headers import grant_headers
from .options import parse_cos_url
from .output import Column, table
from .setting_commands import make_verb, remove, report, store, yes_option
from .setting_io import BucketSetting, ask_first, full_bucket, read_config, show_difference

if TYPE_CHECKING:
    from cosfs.client.url import CosUrl

    from .options import Command
    from .state import State

_BUCKET_ACLS = ("private", "public-read", "public-read-write", "authenticated-read")
dryrun = click.option("--dryrun", "-n", "--dry-run", is_flag=True, help="Only show what would change.")


def _switch(setting: Setting, name: str, document: dict[str, Any], text: str, *more: str) -> Command:
    """Make a verb that sends one fixed document."""

    def verb(state: State, url: CosUrl, dryrun: bool) -> int:
        subject = BucketSetting(state, setting, full_bucket(state, url))
        return store(state, subject, document, f"{name}_{setting.name}", dryrun=dryrun)

    return make_verb(name, verb, text, [f"cos {setting.name} {name} cos://bucket", *more], [dryrun])


def versioning() -> Sequence[click.Command]:
    """Enable and suspend versioning."""
    setting = keeping.VERSIONING
    return [
        _switch(setting, "enable", {"Status": "Enabled"}, "Keep old versions from now on."),
        _switch(
            setting, "suspend", {"Status": "Suspended"}, "Keep no new versions; those that are there stay."
        ),
    ]


def accelerate() -> Sequence[click.Command]:
    """Enable and suspend acceleration."""
    setting = serving.ACCELERATE
    return [
        _switch(setting, "enable", {"Status": "Enabled", "Type": "COS"}, "Switch global acceleration on."),
        _switch(
            setting, "suspend", {"Status": "Suspended", "Type": "COS"}, "Switch global acceleration off."
        ),
    ]


def logs() -> Sequence[click.Command]:
    """Enable and disable access logs."""
    setting = keeping.LOGGING

    def enable(state: State, url: CosUrl, target_bucket: str, target_prefix: str | None, dryrun: bool) -> int:
        bucket = full_bucket(state, url)
        target = full_bucket(state, parse_cos_url(f"cos://{target_bucket.removeprefix('cos://')}"))
        prefix = f"{bucket}/" if target_prefix is None else target_prefix
        document = {"LoggingEnabled": {"TargetBucket": target, "TargetPrefix": prefix}}
        return store(state, BucketSetting(state, setting, bucket), document, "enable_logs", dryrun=dryrun)

    def disable(state: State, url: CosUrl, yes: bool, dryrun: bool) -> int:
        subject = BucketSetting(state, setting, full_bucket(state, url))
        return remove(state, subject, "disable_logs", yes=yes, dryrun=dryrun)

    options = [
        click.option(
            "--target-bucket", required=True, metavar="BUCKET", help="Where the logs go, in the same region."
        ),
        click.option(
            "--target-prefix", metavar="PREFIX", help="What their keys begin with; BUCKET/ if left out."
        ),
        dryrun,
    ]
    examples = [
        "cos logs enable cos://bucket --target-bucket logs-bucket",
        "cos logs enable cos://bucket --target-bucket logs-bucket --target-prefix access/",
    ]
    return [
        make_verb("enable", enable, "Write the log of all requests into a bucket.", examples, options),
        make_verb(
            "disable", disable, "Log no more.", ["cos logs disable cos://bucket"], [yes_option, dryrun]
        ),
    ]


def encryption() -> Sequence[click.Command]:
    """Enable and disable default encryption."""
    setting = keeping.ENCRYPTION

    def enable(state: State, url: CosUrl, sse: str, sse_kms_key_id: str | None, dryrun: bool) -> int:
        if sse_kms_key_id and sse != "KMS":
            raise UsageError("--sse-kms-key-id needs --sse KMS")
        chosen = {"SSEAlgorithm": sse} | ({"KMSMasterKeyID": sse_kms_key_id} if sse_kms_key_id else {})
        document = {"Rules": [{"ApplyServerSideEncryptionByDefault": chosen}]}
        subject = BucketSetting(state, setting, full_bucket(state, url))
        return store(state, subject, document, "enable_encryption", dryrun=dryrun)

    def disable(state: State, url: CosUrl, yes: bool, dryrun: bool) -> int:
        subject = BucketSetting(state, setting, full_bucket(state, url))
        return remove(state, subject, "disable_encryption", yes=yes, dryrun=dryrun)

    options = [
        click.option(
            "--sse",
            type=click.Choice(["AES256", "KMS", "SM4"]),
            default="AES256",
            show_default=True,
            help="How; KMS has keys of its own.",
        ),
        click.option("--sse-kms-key-id", metavar="ID", help="Key for --sse KMS."),
        dryrun,
    ]
    examples = ["cos encryption enable cos://bucket", "cos encryption enable cos://bucket --sse KMS"]
    return [
        make_verb(
            "enable", enable, "Encrypt new objects that ask for nothing themselves.", examples, options
        ),
        make_verb(
            "disable",
            disable,
            "Encrypt only what asks for it.",
            ["cos encryption disable cos://bucket"],
            [yes_option, dryrun],
        ),
    ]


def object_lock() -> Sequence[click.Command]:
    """Enable object lock."""
    setting = keeping.OBJECT_LOCK

    def enable(state: State, url: CosUrl, days: int | None, yes: bool, dryrun: bool) -> int:
        from .prompt import confirm

        subject = BucketSetting(state, setting, full_bucket(state, url))
        document: dict[str, Any] = {"ObjectLockEnabled": "Enabled"}
        if days:
            document["Rule"] = {"DefaultRetention": {"Days": days}}
        if not (yes or dryrun):
            confirm(state, f"Object lock of {subject.bucket} can never be switched off again. Enable it?")
        return store(state, subject, document, "enable_object_lock", dryrun=dryrun)

    options = [
        click.option("--days", type=click.IntRange(1, 36_500), help="Lock each new object for so long."),
        yes_option,
        dryrun,
    ]
    return [
        make_verb(
            "enable",
            enable,
            "Let objects be locked; this cannot be undone. The bucket must have versioning.",
            ["cos object-lock enable cos://bucket --days 30 --yes"],
            options,
        )
    ]


# --- what there are several of


def _list_verb(noun: str, setting: Setting, element: str, text: str) -> Command:
    def list_all(state: State, url: CosUrl) -> int:
        bucket = full_bucket(state, url)
        found = list(_pages(state, setting, bucket, element))
        if state.format == "table":
            rows = [
                (str(each.get("Id", "")), str(each.get("IsEnabled", each.get("Status", ""))))
                for each in found
            ]
            table(state.out, [Column("Id"), Column("Enabled")], rows)
        elif state.format in ("json", "jsonl"):
            if state.format == "json":
                state.out.json({"Configurations": found})
            else:
                for each in found:
                    state.out.json_line(each)
        else:
            state.out.lines(str(each.get("Id", "")) for each in found)
        return 0

    return make_verb("list", list_all, text, [f"cos {noun} list cos://bucket"])


def _pages(state: State, setting: Setting, bucket: str, element: str) -> Any:
    from cosfs.client import xml

    token = ""
    while True:
        params = {"continuation-token": token} if token else {}
        root = xml.parse(state.client.get_document(bucket, setting.resource, params=params).body)
        for each in root.iterfind(element):
            yield setting.kind.read(each)
        token = (root.findtext("NextContinuationToken") or "").strip()
        if not token or (root.findtext("IsTruncated") or "").strip() != "true":
            return


def inventory() -> Sequence[click.Command]:
    """List inventories, and order one at once."""

    def post(state: State, url: CosUrl, config: str, id_: str | None, dryrun: bool) -> int:
        setting = keeping.INVENTORY_ONCE
        value, source = read_config(setting, config)
        checked = setting.check(value, source).value
        if id_ and id_ != checked["Id"]:
            raise UsageError(f"--id is {id_!r}, but the document has the Id {checked['Id']!r}")
        subject = BucketSetting(state, setting, full_bucket(state, url), checked["Id"])
        if dryrun:
            return report(state, "post_inventory", subject.bucket, checked["Id"], dryrun=True)
        subject.put(checked, once=True)
        return report(state, "post_inventory", subject.bucket)

    config = click.option(
        "--config", required=True, metavar="FILE|-", help="The document, without a schedule."
    )
    return [
        _list_verb("inventory", keeping.INVENTORY, "InventoryConfiguration", "List the inventories."),
        make_verb(
            "post",
            post,
            "Order one list, once and now.",
            ["cos inventory post cos://bucket --config once.json"],
            [config, click.option("--id", "id_", metavar="NAME", help="What the document says too."), dryrun],
        ),
    ]


def tiering() -> Sequence[click.Command]:
    """Enable and suspend tiering, and list its newer form."""
    setting = keeping.TIERING

    def send(status: str, name: str) -> Callable[..., int]:
        def verb(state: State, url: CosUrl, days: str, dryrun: bool) -> int:
            subject = BucketSetting(state, setting, full_bucket(state, url))
            document = {"Status": status, "Transition": {"Days": days, "RequestFrequent": "1"}}
            return store(state, subject, document, f"{name}_intelligent_tiering", dryrun=dryrun)

        return verb

    days = click.option(
        "--days",
        type=click.Choice(["30", "60", "90"]),
        default="30",
        show_default=True,
        help="Move what was not read for so long.",
    )
    name = setting.name
    return [
        make_verb(
            "enable",
            send("Enabled", "enable"),
            "Move what is seldom read.",
            [f"cos {name} enable cos://bucket --days 60"],
            [days, dryrun],
        ),
        make_verb(
            "suspend",
            send("Suspended", "suspend"),
            "Move nothing.",
            [f"cos {name} suspend cos://bucket"],
            [days, dryrun],
        ),
        _list_verb(
            name, keeping.TIERINGS, "IntelligentTieringConfiguration", "List the configurations by id."
        ),
    ]


# --- access control lists


def bucket_acl_put() -> click.Command:
    """Replace the ACL of a bucket, by a word, grants or a document."""
    setting = access.ACL

    def put(
        state: State,
        url: CosUrl,
        acl: str | None,
        grants: tuple[str, ...],
        config: str | None,
        yes: bool,
        dryrun: bool,
    ) -> int:
        given = [
            name for name, value in (("--acl", acl), ("--grants", grants), ("--config", config)) if value
        ]
        if not given or ("--config" in given and len(given) > 1):
            raise UsageError("say who may do what by --acl and --grants, or by --config alone")
        headers = ({"x-cos-acl": acl} if acl else {}) | grant_headers(grants)
        subject = BucketSetting(state, setting, full_bucket(state, url))
        if config is None:
            if dryrun:
                words = [acl] if acl else []
                return report(
                    state, "put_bucket_acl", subject.bucket, " ".join([*words, *grants]), dryrun=True
                )
            state.client.put_document(subject.bucket, setting.resource, None, headers=headers)
            return report(state, "put_bucket_acl", subject.bucket)
        value, source = read_config(setting, config)
        checked = setting.check(value, source).value
        if dryrun:
            show_difference(state, subject, subject.get(), checked)
            return 0
        ask_first(state, subject, checked, yes=yes)
        subject.put(checked)
        return report(state, "put_bucket_acl", subject.bucket)

    options = [
        click.option("--acl", type=click.Choice(_BUCKET_ACLS), help="A whole list in one word."),
        click.option(
            "--grants",
            multiple=True,
            metavar="PERMISSION=WHO",
            help='As in read=id="100000000011"; repeatable.',
        ),
        click.option(
            "--config", metavar="FILE|-", help="The document: a file, file://FILE or standard input."
        ),
        yes_option,
        dryrun,
    ]
    examples = [
        "cos bucket-acl put cos://bucket --acl public-read",
        "cos bucket-acl put cos://bucket --grants 'read=id=\"100000000011\"'",
        "cos bucket-acl put cos://bucket --config bucket-acl.json",
    ]
    return make_verb(
        "put", put, "Set the access control list in place of the one there is.", examples, options
    )
