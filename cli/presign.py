"""`cos presign`: URLs and forms that work without credentials."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from .options import ANY_URL, DURATION, SIZE, RenamedOption, command
from .output import json_text, utc_time

if TYPE_CHECKING:
    from cosfs.client.url import CosUrl

    from .state import State


@command("presign")
@click.argument("urls", type=ANY_URL, nargs=-1, required=True, metavar="cos://BUCKET/KEY...")
@click.option(
    "--expires-in",
    cls=RenamedOption,
    coscli=("--time", "-t"),
    type=DURATION,
    default=3600.0,
    metavar="TIME",
    help="Default 3600 seconds.",
)
@click.option(
    "--method",
    type=click.Choice(["GET", "PUT", "HEAD", "DELETE"], case_sensitive=False),
    metavar="GET|PUT|HEAD|DELETE",
    default="GET",
    help="What the URL allows; default GET.",
)
@click.option("--post", is_flag=True, help="Make a form that uploads one file, from a browser or with curl.")
@click.option("--max-size", type=SIZE, metavar="SIZE", help="With --post: the longest file that is taken.")
@click.option("--content-type", metavar="TYPE", help="The request must send this Content-Type.")
@click.option(
    "--header", "headers", multiple=True, metavar="NAME=VALUE", help="The request must send this header."
)
@click.option(
    "--query", "queries", multiple=True, metavar="NAME=VALUE", help="Put this into the URL, signed."
)
@click.option(
    "--response-content-disposition", metavar="TEXT", help="Answer with this header, to name a download."
)
@click.option("--version-id", metavar="ID", help="This version of the object.")
@click.option("--no-glob", is_flag=True, help="Take * ? [ ] in a key as they are.")
@click.pass_obj
def presign(
    state: State,
    urls: tuple[CosUrl, ...],
    expires_in: float,
    method: str,
    post: bool,
    max_size: int | None,
    content_type: str | None,
    headers: tuple[str, ...],
    queries: tuple[str, ...],
    response_content_disposition: str | None,
    version_id: str | None,
    no_glob: bool,
) -> int:
    """Print a URL with which anybody can read (or write, --method PUT) one object for a while.

    One URL a line and nothing else. A pattern in a key (quoted) stands for all objects that match,
    unless there is an object of exactly this key. With temporary credentials a URL holds their token
    and ends with them. --post prints a line for curl, or with --output json the address and the
    fields of a form; a key that ends in / leaves the name of the file to the form.

    \b
    Examples:
      cos presign cos://bucket/file.txt
      cos presign 'cos://bucket/photos/*.jpg' --expires-in 1d
      curl -T report.pdf "$(cos presign cos://bucket/report.pdf --method PUT --expires-in 10m)"
      cos presign cos://bucket/inbox/ --post --max-size 10MB
    """
    from cosfs.errors import UsageError

    if expires_in < 1:
        raise UsageError("--expires-in must be at least one second")
    if max_size is not None and not post:
        raise UsageError("--max-size is for --post")
    signed_headers = dict(_pair(text, "--header") for text in headers)
    if content_type:
        signed_headers["Content-Type"] = content_type
    params = dict(_pair(text, "--query") for text in queries)
    if response_content_disposition:
        params["response-content-disposition"] = response_content_disposition
    if version_id:
        params["versionId"] = version_id
    for url in urls:
        if not url.bucket or not (url.key or post):
            raise UsageError(f"{url}: an object is missing", hint="Write cos://bucket/key")
    if post:
        if params or method.upper() != "GET":
            raise UsageError("--post takes no --method, --query or --version-id")
        _print_forms(state, urls, expires_in, signed_headers, max_size)
        return 0
    method = method.upper()
    literal = no_glob or bool(version_id) or method == "PUT"
    return _print_urls(state, urls, method, expires_in, params, signed_headers, literal)


def _print_urls(
    state: State,
    urls: tuple[CosUrl, ...],
    method: str,
    expires_in: float,
    params: dict[str, str],
    headers: dict[str, str],
    literal: bool,
) -> int:
    client = state.client
    records = []
    for bucket, key in _objects(state, urls, literal):
        text = client.presign(method, bucket, key, expires=expires_in, params=params, headers=headers)
        # On a terminal too the URL stands alone: a table's border would be copied with it.
        if state.format not in ("json", "jsonl"):
            state.out.line(text)
            continue
        records.append({"Url": text, "Method": method, "Expires": utc_time(time.time() + expires_in)})
        if state.format == "jsonl":
            state.out.json_line(records.pop())
    if state.format == "json":
        state.out.json(records[0] if len(urls) == 1 and len(records) == 1 else records)
    _warn_of_end(state, expires_in)
    return 0


def _warn_of_end(state: State, expires_in: float) -> None:
    """Say if the credentials end before what they signed."""
    provider = state.client.credentials
    left = (provider.get().expires if provider else 0) - time.time()
    if 0 < left < expires_in:
        state.out.warn(f"the credentials end in {left / 60:.0f} minutes, and what they have signed with them")


def _full_name(state: State, url: CosUrl) -> str:
    """Return the full name of a bucket; nobody could use a URL without it, and none is printed."""
    from cosfs.errors import UsageError

    bucket = state.client.resolve_bucket(url.bucket)
    if not state.settings.client.endpoint_url and not bucket.rpartition("-")[2].isdigit():
        raise UsageError(
            f"cos://{bucket}: the name lacks the APPID, and there is no bucket of yours to take it from",
            hint=f"Write cos://{bucket}-APPID or run: cos configure set appid APPID",
        )
    return bucket


def _objects(state: State, urls: tuple[CosUrl, ...], literal: bool) -> Iterator[tuple[str, str]]:
    """Return the objects that are meant, those that a pattern matches in its place."""
    from cosfs.errors import ObjectNotFoundError

    from .listing import Range, object_pages
    from .places import find_glob

    for url in urls:
        bucket = _full_name(state, url)
        glob = None if literal else find_glob(url.key)
        if glob is None:
            yield bucket, url.key
            continue
        pages = object_pages(state.client, Range(bucket, glob.prefix))
        keys = (info.key for page in pages for info in page.items)
        found = [key for key in keys if key == url.key or glob.matches(key)]
        if url.key in found:  # as for cp: report[1].pdf is that object if there is one
            found = [url.key]
        if not found:
            raise ObjectNotFoundError(
                "no object matches the pattern", target=str(url), hint="--no-glob takes it as it is written"
            )
        yield from ((bucket, key) for key in found)


def _print_forms(
    state: State, urls: tuple[CosUrl, ...], expires_in: float, fields: dict[str, str], most: int | None
) -> None:
    records: list[dict[str, object]] = []
    for url in urls:
        bucket = _full_name(state, url)
        address, form = state.client.presign_form(
            bucket, url.key, expires=expires_in, fields=fields, most=most
        )
        line = [part for name, value in form.items() for part in ("--form-string", f"{name}={value}")]
        curl = f"curl --fail {shlex.join(line)} -F file=@FILE {shlex.quote(address)}"
        expires = utc_time(time.time() + expires_in)
        record: dict[str, object] = {
            "Url": address,
            "Method": "POST",
            "Fields": form,
            "Curl": curl,
            "Expires": expires,
        }
        if state.format == "jsonl":
            state.out.line(json_text(record))
        elif state.format == "json":
            records.append(record)
        else:
            state.out.line(curl)
    if state.format == "json":
        state.out.json(records[0] if len(records) == 1 else records)
    _warn_of_end(state, expires_in)


def _pair(text: str, option: str) -> tuple[str, str]:
    from cosfs.errors import UsageError

    name, found, value = text.partition("=")
    if not found or not name:
        raise UsageError(f"{option} {text!r} is not NAME=VALUE")
    return name, value
