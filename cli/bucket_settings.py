"""The commands of bucket settings: `cos lifecycle`, `cos cors` and so on; each is made when it is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from cosfs.client.documents import access, keeping, serving
from cosfs.client.documents.lifecycle import LIFECYCLE

from . import setting_builders as builders
from . import setting_verbs as verbs
from .setting_commands import Noun, make_group

if TYPE_CHECKING:
    from .options import F


def _option(*names: str, **attributes: Any) -> Callable[[F], F]:
    return click.option(*names, **attributes)


def _lifecycle() -> Noun:
    return Noun(LIFECYCLE, "What becomes of objects as they grow old: other classes, removal.")


def _policy() -> Noun:
    return Noun(access.POLICY, "Who may do what, as a policy.", config_names=("--config", "--policy"))


def _cors() -> Noun:
    return Noun(serving.CORS, "Which web pages of other sites may use the bucket.")


def _versioning() -> Noun:
    return Noun(keeping.VERSIONING, "Whether old versions are kept.", verbs=verbs.versioning())


def _logs() -> Noun:
    return Noun(keeping.LOGGING, "Where the log of all requests goes.", verbs=verbs.logs())


def _tagging() -> Noun:
    return Noun(
        keeping.TAGGING,
        "Tags of the bucket, for bills and policies.",
        options=[_option("--tags", metavar="K=V&…", help="The tags, percent-encoded.")],
        build=builders.build_tags,
        put_examples=["cos tagging put cos://bucket --tags 'team=web&stage=test'"],
    )


def _encryption() -> Noun:
    return Noun(
        keeping.ENCRYPTION, "Encryption of new objects on the server's side.", verbs=verbs.encryption()
    )


def _inventory() -> Noun:
    return Noun(
        keeping.INVENTORY, "Lists of all objects, written into a bucket regularly.", verbs=verbs.inventory()
    )


def _replication() -> Noun:
    return Noun(
        keeping.REPLICATION,
        "Copies of all that is written, in another bucket or region.",
        options=[
            _option(
                "--to", metavar="cos://BUCKET", help="Copy there. Versioning is switched on where it is not."
            ),
            _option("--prefix", metavar="PREFIX", default=None, help="Only keys that begin like this."),
            _option("--target-class", metavar="CLASS", help="Storage class of the copies."),
            _option("--role", metavar="ROLE", help="In whose name; the bucket's owner if left out."),
        ],
        build=builders.build_replication,
        before_put=builders.enable_versioning,
        put_examples=["cos replication put cos://bucket --to cos://other"],
    )


def _referer() -> Noun:
    return Noun(access.REFERER, "Which pages may link to objects.")


def _website() -> Noun:
    return Noun(
        serving.WEBSITE,
        "Serve the bucket as a website. `cos website cos://BUCKET …` means `cos website put`.",
        options=[
            _option("--index-document", metavar="NAME", help="What a directory shows, such as index.html."),
            _option("--error-document", metavar="KEY", help="What is shown in place of an error."),
        ],
        build=builders.build_website,
        put_examples=["cos website cos://bucket --index-document index.html --error-document error.html"],
    )


def _accelerate() -> Noun:
    return Noun(
        serving.ACCELERATE, "Access by the nearest point of Tencent's network.", verbs=verbs.accelerate()
    )


def _domain() -> Noun:
    certificate = Noun(
        serving.CERTIFICATE,
        "TLS certificates of the bucket's domains.",
        id_option="--domain-name",
    )
    return Noun(serving.DOMAIN, "Domains of yours that lead to the bucket.", verbs=[make_group(certificate)])


def _origin() -> Noun:
    return Noun(serving.ORIGIN, "Where objects come from that are not in the bucket.")


def _bucket_acl() -> Noun:
    return Noun(access.ACL, "Who may do what, as an access control list.", verbs=[verbs.bucket_acl_put()])


def _intelligent_tiering() -> Noun:
    return Noun(
        keeping.TIERING,
        "Moving what is seldom read to cheaper storage.",
        verbs=verbs.tiering(),
    )


def _object_lock() -> Noun:
    return Noun(keeping.OBJECT_LOCK, "Objects that nobody can remove for a while.", verbs=verbs.object_lock())


NOUNS: Mapping[str, Callable[[], Noun]] = {
    "lifecycle": _lifecycle,
    "policy": _policy,
    "cors": _cors,
    "versioning": _versioning,
    "logs": _logs,
    "tagging": _tagging,
    "encryption": _encryption,
    "inventory": _inventory,
    "replication": _replication,
    "referer": _referer,
    "website": _website,
    "accelerate": _accelerate,
    "domain": _domain,
    "origin": _origin,
    "bucket-acl": _bucket_acl,
    "intelligent-tiering": _intelligent_tiering,
    "object-lock": _object_lock,
}


def __getattr__(name: str) -> click.Command:
    """Make one command; the others are not needed."""
    if name not in NOUNS:
        raise AttributeError(name)
    return make_group(NOUNS[name]())
