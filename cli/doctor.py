"""`cos doctor`: find out why something does not work."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from .options import ANY_URL, command
from .output import json_text, printable

if TYPE_CHECKING:
    from cosfs.client.endpoint import Address
    from cosfs.client.url import CosUrl
    from cosfs.config import Settings

    from .state import State

# COS refuses signatures that are this far off (RequestTimeTooSkewed).
_SKEW_LIMIT = 900.0
_SKEW_WARNING = 60.0
_COLORS = {"ok": "green", "warn": "yellow", "fail": "red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; advice says what to do when it is not ok."""

    status: Literal["ok", "warn", "fail"]
    check: str
    text: str
    advice: str = ""


@command("doctor")
@click.argument("url", type=ANY_URL, default="cos://", metavar="[cos://BUCKET/PREFIX]")
@click.option(
    "--permissions", is_flag=True, help="Write, read, list and remove a small object below the URL."
)
@click.option("--speed", is_flag=True, help="Measure the line, with 8 MiB below the URL, and the disk.")
@click.pass_obj
def doctor(state: State, url: CosUrl, permissions: bool, speed: bool) -> int:
    """Check settings, credentials, network, clock, and what mounting needs.

    One line a check: ok, warn or fail, and what to do. With a bucket, its region and access to it
    are checked as well. Nothing is written to it unless --permissions or --speed ask for it. Exit
    code 1 if a check fails.

    \b
    Examples:
      cos doctor
      cos doctor cos://bucket
      cos doctor cos://bucket/tmp/ --permissions --speed
    """
    if permissions and not url.bucket:
        from cosfs.errors import UsageError

        raise UsageError("--permissions needs a bucket", hint="Write: cos doctor cos://BUCKET --permissions")
    state.may_ask = False  # missing credentials are a finding
    failed = False
    records = []
    for finding in _findings(state, url, permissions=permissions, speed=speed):
        failed |= finding.status == "fail"
        record = {
            "Status": finding.status,
            "Check": finding.check,
            "Text": finding.text,
            "Advice": finding.advice,
        }
        if state.options.get("output") == "jsonl":
            state.out.line(json_text(record), flush=True)
        elif state.options.get("output") == "json":
            records.append(record)
        else:
            _print(state, finding)
    if state.options.get("output") == "json":
        state.out.json(records)
    return 1 if failed else 0


def _print(state: State, finding: Finding) -> None:
    status = state.out.paint(f"{finding.status:<4}", _COLORS[finding.status], stdout=True)
    state.out.line(f"{status}  {finding.check:<12} {printable(finding.text)}", flush=True)
    if finding.advice:
        state.out.line(f"{'':<4}  {'':<12} → {printable(finding.advice)}", flush=True)


def _findings(state: State, url: CosUrl, *, permissions: bool, speed: bool) -> Iterator[Finding]:
    from cosfs.errors import COSError

    try:
        settings = state.settings
    except COSError as error:
        yield failure("settings", error)
        yield from _mounting()
        return
    yield _settings(settings)
    yield from _files(settings)
    address = _address(settings, url)
    reachable = address is not None
    if address is not None:
        for finding in _network(state, settings, address):
            reachable &= finding.status != "fail"
            yield finding
    usable = True
    for finding in _account(state, settings, url, reachable):
        usable &= finding.status != "fail"
        yield finding
    if url.bucket and reachable and usable:
        yield from _probes(state, url, permissions=permissions, speed=speed)
    yield from _mounting(speed=speed)


def _probes(state: State, url: CosUrl, *, permissions: bool, speed: bool) -> Iterator[Finding]:
    from . import doctor_probes

    bucket = state.client.resolve_bucket(url.bucket)
    if permissions:
        yield from doctor_probes.permissions(state.client, bucket, url.key)
    if speed:
        yield from doctor_probes.speed(state.client, bucket, url.key)


def failure(check: str, error: Exception) -> Finding:
    from cosfs.errors import COSError, ServiceError

    if isinstance(error, ServiceError):
        code = f" ({error.code})" if error.code else ""
        return Finding("fail", check, f"{error.target}: {error.message}{code}".removeprefix(": "), error.hint)
    if isinstance(error, COSError):
        return Finding("fail", check, error.message, error.hint)
    return Finding("fail", check, str(error))


# --- settings


def _settings(settings: Settings) -> Finding:
    where = f"profile {settings.profile!r}"
    endpoint = f", endpoint {settings.client.endpoint_url}" if settings.client.endpoint_url else ""
    if not settings.client.region and not settings.client.endpoint_url:
        advice = "Run: cos configure set region ap-guangzhou (or where your buckets are)"
        return Finding("warn", "settings", f"{where}, no region", advice)
    return Finding("ok", "settings", f"{where}, region {settings.client.region or 'not set'}{endpoint}")


def _files(settings: Settings) -> Iterator[Finding]:
    for path in (settings.config_path, settings.credentials_path):
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError:
            continue
        if mode & 0o077:
            text = f"{path} can be read by other users (mode {mode:04o})"
            yield Finding("warn", "files", text, f"Run: chmod 600 {path}")
        else:
            yield Finding("ok", "files", f"{path} is yours alone")


# --- network


def _address(settings: Settings, url: CosUrl) -> Address | None:
    from cosfs.client.endpoint import Endpoint
    from cosfs.errors import COSError

    endpoint = Endpoint(settings.client)
    try:
        if url.bucket and settings.client.region:
            return endpoint.bucket(url.bucket, settings.client.region)
        return endpoint.service()
    except COSError:
        return None


def _network(state: State, settings: Settings, address: Address) -> Iterator[Finding]:
    from cosfs.errors import COSError

    try:
        resolved = _resolve(settings, address)
        yield from [resolved] if resolved else []
        if resolved and resolved.status == "fail":
            return
        answered, date, seconds = _ask(settings, address)
    except (COSError, OSError) as error:
        yield failure("network", error)
        return
    yield Finding("ok", "network", f"{answered} answers after {seconds * 1000:.0f} ms")
    yield _encryption(settings, address)
    yield _clock(date)


def _resolve(settings: Settings, address: Address) -> Finding | None:
    import socket

    if _proxy(settings, address):
        return Finding("ok", "network", f"through the proxy {_proxy(settings, address)}")
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        advice = "Check the network, /etc/resolv.conf, the region and endpoint_url"
        return Finding(
            "fail", "network", f"the name {address.host} cannot be resolved: {error.strerror}", advice
        )
    number = str(found[0][4][0])
    return Finding("ok", "network", f"{address.host} is {number}") if number != address.host else None


def _proxy(settings: Settings, address: Address) -> str:
    import urllib.request

    from cosfs.client.endpoint import is_loopback

    if is_loopback(address.host):
        return ""
    if settings.client.proxy:
        return settings.client.proxy.rpartition("@")[2]
    if urllib.request.proxy_bypass(address.host):
        return ""
    return urllib.request.getproxies().get(address.scheme, "").rpartition("@")[2]


def _ask(settings: Settings, address: Address) -> tuple[str, str, float]:
    """Send one request without a signature; any answer shows the way is open and carries the time."""
    from cosfs.client.http import Limits, Transport

    transport = Transport(settings.client)
    started = time.monotonic()
    limits = Limits(settings.client.read_timeout, started + settings.client.read_timeout)
    headers = {"Host": address.host_header, "User-Agent": settings.client.user_agent}
    try:
        with transport.send("HEAD", address, "/", headers, None, limits) as response:
            return address.host_header, response.headers.get("date", ""), time.monotonic() - started
    finally:
        transport.close()


def _encryption(settings: Settings, address: Address) -> Finding:
    from cosfs.client.endpoint import is_loopback

    if address.scheme == "https":
        if not settings.client.verify_ssl:
            return Finding(
                "warn", "tls", "certificates are not verified", "Leave out --no-verify-ssl, use --ca-bundle"
            )
        return Finding("ok", "tls", "the certificate is good")
    if is_loopback(address.host):
        return Finding("ok", "tls", "none, and none needed on this machine")
    return Finding("warn", "tls", "the connection is not encrypted", "Write https:// in endpoint_url")


def _clock(date: str) -> Finding:
    from email.utils import parsedate_to_datetime

    try:
        skew = time.time() - parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return Finding("warn", "clock", "the answer has no Date to compare this machine's clock with")
    how = f"this machine's clock is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}"
    advice = "Set the clock: timedatectl set-ntp true"
    if abs(skew) > _SKEW_LIMIT:
        return Finding("fail", "clock", f"{how}; COS refuses signatures that are off by 15 minutes", advice)
    if abs(skew) > _SKEW_WARNING:
        return Finding("warn", "clock", how, advice)
    return Finding("ok", "clock", "agrees with the server's to the minute")


# --- account


def _account(state: State, settings: Settings, url: CosUrl, reachable: bool) -> Iterator[Finding]:
    from cosfs.errors import COSError, PermissionDeniedError

    try:
        client = state.client
    except COSError as error:
        yield failure("credentials", error)
        return
    if not reachable:
        yield Finding("warn", "credentials", "not tried, because COS cannot be reached")
        return
    if settings.client.anonymous:
        yield Finding("ok", "credentials", "none are used (--no-sign-request)")
    else:
        try:
            buckets = client.list_buckets()
            yield Finding("ok", "credentials", f"accepted; {len(buckets)} bucket{'s' * (len(buckets) != 1)}")
        except PermissionDeniedError as error:
            text = "accepted, but they may not list the buckets"
            yield Finding("warn", "credentials", text, "That is fine if you name buckets in full: name-APPID")
            del error
        except COSError as error:
            yield failure("credentials", error)
            return
        from .doctor_probes import identity

        yield identity(state)
    if url.bucket:
        yield _bucket(state, settings, url)


def _bucket(state: State, settings: Settings, url: CosUrl) -> Finding:
    from cosfs.errors import COSError

    try:
        bucket = state.client.head_bucket(state.client.resolve_bucket(url.bucket))
    except COSError as error:
        return failure("bucket", error)
    region = settings.client.region
    if region and bucket.region and region != bucket.region:
        text = f"{bucket.name} is in {bucket.region}, the setting is {region}"
        return Finding("warn", "bucket", text, "It is found all the same, with one more request")
    return Finding("ok", "bucket", f"{bucket.name} can be reached in {bucket.region or 'its region'}")


# --- mounting


def _mounting(*, speed: bool = False) -> Iterator[Finding]:
    from cosfs.fuse.settings import default_cache_dir

    from . import doctor_probes

    yield from _fuse_device()
    yield _fusermount()
    yield doctor_probes.allow_other()
    yield _pyfuse()
    found = _cache()
    yield found
    if speed and found.status != "fail":
        yield doctor_probes.disk(default_cache_dir())


def _fuse_device() -> Iterator[Finding]:
    device = Path("/dev/fuse")
    if not device.exists():
        advice = "Run: modprobe fuse; in a container: --device /dev/fuse --cap-add SYS_ADMIN"
        yield Finding("warn", "fuse", "/dev/fuse is missing, so nothing can be mounted", advice)
    elif not os.access(device, os.R_OK | os.W_OK):
        yield Finding("warn", "fuse", "you may not open /dev/fuse", "Ask for its mode to be 0666")
    else:
        yield Finding("ok", "fuse", "/dev/fuse is there")


def _fusermount() -> Finding:
    program = shutil.which("fusermount3")
    if program:
        return Finding("ok", "fuse", f"{program} is there")
    if os.geteuid() == 0:
        return Finding("ok", "fuse", "fusermount3 is missing, which root does not need")
    return Finding(
        "warn", "fuse", "fusermount3 is missing, so only root can mount", "Install the package fuse3"
    )


def _pyfuse() -> Finding:
    try:
        import pyfuse3  # noqa: F401
    except ImportError as error:
        text = f"libfuse or pyfuse3 cannot be loaded: {error}"
        return Finding("warn", "fuse", text, "Install the packages libfuse3-3 (or fuse3-libs) and pyfuse3")
    return Finding("ok", "fuse", "libfuse 3 and pyfuse3 can be loaded")


def _cache() -> Finding:
    from cosfs.fuse.settings import default_cache_dir
    from cosfs.units import format_size

    directory = default_cache_dir()
    place = directory
    while not place.exists() and place != place.parent:
        place = place.parent
    if not os.access(place, os.W_OK | os.X_OK):
        return Finding(
            "fail", "cache", f"{directory} cannot be written", "Use --cache-dir, or change its owner"
        )
    free = shutil.disk_usage(place).free
    text = f"{directory} can be written, {format_size(free)} free"
    if free < 1 << 30:
        return Finding("warn", "cache", text, "Make room, or use --cache-dir and --cache-size")
    return Finding("ok", "cache", text)
