"""`cos presign`: a URL that works without credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .options import DURATION, OBJECT_URL, command
from .output import utc_time

if TYPE_CHECKING:
    from cosfs.client.url import CosUrl

    from .state import State


@command("presign")
@click.argument("url", type=OBJECT_URL, metavar="cos://BUCKET/KEY")
@click.option("--expires-in", type=DURATION, default=3600.0, metavar="TIME", help="Default 3600 seconds.")
@click.option(
    "--method",
    type=click.Choice(["GET", "PUT", "HEAD", "DELETE"], case_sensitive=False),
    default="GET",
    help="What the URL allows; default GET.",
)
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
@click.pass_obj
def presign(
    state: State,
    url: CosUrl,
    expires_in: float,
    method: str,
    content_type: str | None,
    headers: tuple[str, ...],
    queries: tuple[str, ...],
    response_content_disposition: str | None,
    version_id: str | None,
) -> int:
    """Print a URL with which anybody can read (or write, --method PUT) one object for a while.

    The URL alone is printed. With temporary credentials it holds their token and ends with them.

    \b
    Examples:
      cos presign cos://bucket/file.txt
      curl -T report.pdf "$(cos presign cos://bucket/report.pdf --method PUT --expires-in 10m)"
    """
    from cosfs.errors import UsageError

    if expires_in < 1:
        raise UsageError("--expires-in must be at least one second")
    signed_headers = dict(_pair(text, "--header") for text in headers)
    if content_type:
        signed_headers["Content-Type"] = content_type
    params = dict(_pair(text, "--query") for text in queries)
    if response_content_disposition:
        params["response-content-disposition"] = response_content_disposition
    if version_id:
        params["versionId"] = version_id
    client = state.client
    bucket = client.resolve_bucket(url.bucket)
    method = method.upper()
    text = client.presign(method, bucket, url.key, expires=expires_in, params=params, headers=signed_headers)
    _print(state, text, method, expires_in)
    return 0


def _print(state: State, text: str, method: str, expires_in: float) -> None:
    import time

    # On a terminal too the URL stands alone: a table's border would be copied with it.
    if state.format in ("json", "jsonl"):
        record = {"Url": text, "Method": method, "Expires": utc_time(time.time() + expires_in)}
        state.out.json(record) if state.format == "json" else state.out.json_line(record)
    else:
        state.out.line(text)


def _pair(text: str, option: str) -> tuple[str, str]:
    from cosfs.errors import UsageError

    name, found, value = text.partition("=")
    if not found or not name:
        raise UsageError(f"{option} {text!r} is not NAME=VALUE")
    return name, value
