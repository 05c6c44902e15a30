"""What `cos configure` finds out with the settings it has just written: one request, told in one sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cosfs.client.model import Bucket
    from cosfs.profiles import ConfigFile

    from .state import State


def try_settings(state: State, files: ConfigFile, profile: str) -> None:
    """List the buckets with the profile's credentials and say what came of it."""
    from cosfs.client.client import CosClient
    from cosfs.config import load_settings
    from cosfs.errors import COSError, PermissionDeniedError

    options = {**state.settings_options, "profile": profile}
    try:
        settings = load_settings(options)
        with CosClient.from_settings(settings, options) as client:
            buckets = client.list_buckets()
    except PermissionDeniedError:
        state.out.talk("COS takes these credentials; they may not list buckets, so name buckets in full")
        return
    except COSError as error:
        state.out.warn(f"a first request failed, and the settings are kept all the same: {error}")
        return
    state.out.talk(f"COS takes these credentials: {_found(buckets)}")
    regions = {bucket.region for bucket in buckets}
    if len(regions) == 1 and not settings.client.region:
        files.set("region", regions.pop(), profile)
        state.out.talk("that region is the default one now")


def _found(buckets: list[Bucket]) -> str:
    if not buckets:
        return "there is no bucket yet; cos mb cos://NAME makes one"
    regions = sorted({bucket.region for bucket in buckets})
    count = "1 bucket" if len(buckets) == 1 else f"{len(buckets)} buckets"
    return f"{count} in {', '.join(regions)}"
