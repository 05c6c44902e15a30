"""How an emulator is reached, and what a bucket holds, asked for without what is tested."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator


def options_of(emulator: Emulator) -> dict[str, str]:
    """Return the options with which a client reaches an emulator."""
    return {
        "endpoint_url": emulator.endpoint_url,
        "region": emulator.region,
        "secret_id": emulator.secret_id,
        "secret_key": emulator.secret_key,
    }


def keys(client: CosClient, bucket: str, prefix: str = "") -> list[str]:
    """Return the keys of all objects below a prefix."""
    found: list[str] = []
    marker = ""
    while True:
        page = client.list_objects(bucket, prefix=prefix, marker=marker)
        found += [info.key for info in page.objects]
        marker = page.next_marker
        if not marker:
            return found


def stored(client: CosClient, bucket: str, key: str) -> bytes:
    """Return the bytes of an object."""
    with client.get_object(bucket, key) as stream:
        return b"".join(stream.chunks())


def put(client: CosClient, bucket: str, *names: str) -> None:
    """Put objects whose content is their name."""
    for name in names:
        client.put_object(bucket, name, name.encode())
