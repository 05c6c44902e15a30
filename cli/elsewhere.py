"""What commands and options are called in other programs: whoever types such a name is told ours.

The programs are aws s3, s5cmd, rclone, mc, gsutil, coscli, coscmd and those of the shell. Nothing is taken
silently, as it may mean something else there; only `-R` is, which is `-r` wherever that is.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["ABSENT", "COMMANDS", "OPTIONS", "command_hint", "option_hint"]

# Name elsewhere: what to write behind `cos`.
COMMANDS = {
    **dict.fromkeys(("copy", "copyto", "download", "get", "put", "upload"), "cp"),
    **dict.fromkeys(("move", "moveto", "rename"), "mv"),
    **dict.fromkeys(("del", "delete", "deletefile", "remove"), "rm"),
    "purge": "rm --recursive",
    **dict.fromkeys(("dir", "list", "lsd", "lsf"), "ls"),
    "lsl": "ls --recursive",
    "lsjson": "ls --output json",
    **dict.fromkeys(("createbucket", "mkdir"), "mb"),
    **dict.fromkeys(("deletebucket", "rmdir", "rmdirs"), "rb"),
    **dict.fromkeys(("checksum", "hashsum", "md5", "md5sum", "sha1sum", "sha256sum"), "hash"),
    **dict.fromkeys(("mirror", "rsync"), "sync"),
    **dict.fromkeys(("pipe", "rcat"), "cp - cos://BUCKET/KEY"),
    "touch": "cp /dev/null cos://BUCKET/KEY",
    **dict.fromkeys(("select", "sql"), "api select_object_content"),
    "od": "cat --range",
    **dict.fromkeys(("setmeta", "attr"), "meta set"),
    **dict.fromkeys(("settier", "rewrite"), "cp --storage-class CLASS"),
    **dict.fromkeys(("anonymous", "iam"), "policy"),
    "undo": "undelete",
    "cleanup": "multipart abort --recursive",
    "listparts": "multipart ls",
    **dict.fromkeys(("bucket-version", "getbucketversioning"), "versioning get"),
    "putbucketversioning": "versioning enable",
    **dict.fromkeys(("getbucketacl", "defacl"), "bucket-acl get"),
    "putbucketacl": "bucket-acl put",
    "getobjectacl": "acl get",
    "putobjectacl": "acl put",
    **dict.fromkeys(("logging", "bucket-logging"), "logs"),
    **dict.fromkeys(("web", "bucket-website"), "website"),
    **dict.fromkeys(("ilm", "bucket-lifecycle"), "lifecycle"),
    **dict.fromkeys(("encrypt", "kms"), "encryption"),
    **dict.fromkeys(("replicate", "bucket-replication"), "replication"),
    "label": "tagging",
    "bucket-cors": "cors",
    "bucket-referer": "referer",
    "bucket-inventory": "inventory",
    "bucket-origin": "origin",
    "bucket-domain": "domain",
    "bucket-intelligenttiering": "intelligent-tiering",
    **dict.fromkeys(("object-lock-configuration", "bucket-object-lock"), "object-lock"),
    **dict.fromkeys(("info", "head-object"), "stat"),
    **dict.fromkeys(("alias", "listremotes", "login"), "configure"),
    "obscure": "configure --keyring",
    **dict.fromkeys(("share", "link"), "presign"),
    **dict.fromkeys(("about", "ncdu", "size"), "du"),
    **dict.fromkeys(("ping", "probe", "ready", "test"), "doctor"),
    **dict.fromkeys(("perfdiag", "speedtest"), "bench"),
    "unmount": "umount",
}

# Name elsewhere: how what it does is done here, or that it is not.
ABSENT = {
    "compose": "COS joins objects as parts of an upload: cos api upload_part_copy",
    "copyurl": "write: curl URL | cos cp - cos://BUCKET/KEY",
    "legalhold": "COS has no legal holds; 'cos retention' locks an object until a date",
    "bisync": "'cos sync' makes one side like the other",
    "watch": "'cos sync --watch' sends what changes in a directory",
    **dict.fromkeys(
        ("serve", "rcd", "rc"), "'cos mount' makes a bucket a directory, which any server can serve"
    ),
    **dict.fromkeys(
        ("cryptcheck", "cryptdecode"), "objects are encrypted by COS: see --sse and --sse-c of 'cos cp'"
    ),
    "batch": "'cos run' takes many commands from a file",
    **dict.fromkeys(("update", "selfupdate"), "install a newer version to update"),
}

# Options elsewhere: ours that mean it; of several the first that the command has.
OPTIONS = {
    "-a": ("--all-versions", "--acl"),
    "-c": ("--checksum",),
    "-d": ("--delete", "--expires-in"),
    "-e": ("--no-follow-symlinks",),
    "-H": ("--human-readable",),
    "-m": ("--method",),
    "-u": ("--update",),
    "-v": ("--debug",),
    "-x": ("--exclude",),
    "--attr": ("--metadata",),
    "--bwlimit": ("--max-bandwidth",),
    "--checkers": ("--concurrency",),
    "--expire": ("--expires-in",),
    "--filter": ("--include",),
    "--force-glacier-transfer": ("--force-archive-transfer",),
    "--humanize": ("--human-readable",),
    "--if-size-differ": ("--size-only", "--checksum"),
    "--if-source-newer": ("--update",),
    "--ignore-glacier-warnings": ("--ignore-archive-warnings",),
    "--limit-download": ("--max-bandwidth",),
    "--limit-upload": ("--max-bandwidth",),
    "--links": ("--preserve-symlinks",),
    "--location": ("--region",),
    "--max-age": ("--newer-than",),
    "--maxdepth": ("--max-depth", "--depth"),
    "--min-age": ("--older-than",),
    "--no-clobber": ("--no-overwrite",),
    "--raw": ("--no-glob",),
    "--remove": ("--delete",),
    "--transfers": ("--concurrency",),
    "--versions": ("--all-versions",),
    "--vid": ("--version-id",),
}
# Options elsewhere, by the command: why none is needed.
_NEEDLESS = {
    ("ls", "-l"): "sizes and times are shown without it",
    ("ls", "--long"): "sizes and times are shown without it",
    **{
        (name, option): "what is there is replaced without asking"
        for name in ("cp", "mv")
        for option in ("-f", "--force")
    },
    **{
        (name, option): "progress is shown on a terminal without it"
        for name in ("cp", "mv", "sync")
        for option in ("-P", "--progress", "--show-progress")
    },
}


def command_hint(name: str) -> str:
    """Return what to say of a command that other programs have; empty if none is known to have it."""
    if name in COMMANDS:
        return f"did you mean 'cos {COMMANDS[name]}'?"
    return ABSENT.get(name, "")


def option_hint(command: str, name: str, known: Iterable[str]) -> str:
    """Return what to say of an option of other programs; empty if there is nothing to say."""
    if (command, name) in _NEEDLESS:
        return _NEEDLESS[command, name]
    here = set(known)
    if command == "mb" and name == "-l":
        return "did you mean --region?"
    found = next((each for each in OPTIONS.get(name, ()) if each in here), "")
    return f"did you mean {found}?" if found else ""
