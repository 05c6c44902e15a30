"""The listing or the object a command begins with, asked for while what it needs besides is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosfs.client.url import CosUrl

from .places import as_prefix

if TYPE_CHECKING:
    from cosfs.transfer.ahead import FirstObject, FirstPage

    from .copy_options import Options
    from .places import Place
    from .state import State
    from .transfer_options import Common


def first_page(state: State, options: Common, place: Place, *others: Place) -> FirstPage | None:
    """Ask for the first objects below a place, if a command with these places is certain to want them.

    others are checked against it once their buckets' full names are known, before any request.
    """
    urls = [url for url in (place, *others) if isinstance(url, CosUrl)]
    if not isinstance(place, CosUrl) or options.source_region or options.chosen.names_files or state.batch:
        return None
    if not all(state.client.is_full_name(url.bucket) for url in urls):
        return None
    from cosfs.transfer.ahead import FirstPage

    return FirstPage(state.client, place.bucket, as_prefix(place.key), options.page_size)


def first_object(state: State, options: Options, source: Place, destination: Place) -> FirstObject | None:
    """Ask for what a download of one object begins with, if its bucket's full name is known."""
    if not isinstance(source, CosUrl) or isinstance(destination, CosUrl):
        return None
    if options.source_region or state.batch or not state.client.is_full_name(source.bucket):
        return None
    from cosfs.transfer.ahead import FirstObject

    headers = options.transfer.key_headers
    return FirstObject(state.client, source.bucket, source.key, options.version_id, headers)
