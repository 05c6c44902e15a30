"""Metrics over HTTP: at a socket beside the mount's control socket, and at a TCP port if asked for."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Sequence

import trio

from cosfs.errors import ConfigError, UsageError
from cosfs.fs.metrics import prometheus
from cosfs.fuse import registry
from cosfs.fuse.gauges import families
from cosfs.fuse.running import Mount
from cosfs.fuse.settings import MountSettings
from cosfs.fuse.sockets import listen, serve

log = logging.getLogger("cosfs.mount")

MAX_HEAD = 16 * 1024
SILENCE = 10.0  # seconds a client may take
TYPE = "text/plain; version=0.0.4; charset=utf-8"


def parse_address(text: str, *, remote: bool) -> tuple[str, int]:
    """Return host and port of "PORT", "127.0.0.1:PORT" or "[::1]:PORT".

    An address that other machines can reach must be meant (remote): names of buckets and how much
    is read and written are nobody else's business.
    """
    host, _, port = text.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"--metrics needs an address such as 127.0.0.1:9100, not {text!r}")
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise UsageError(f"--metrics needs an IP address, not {host!r}") from None
    if not is_loopback and not remote:
        raise UsageError(
            f"other machines could read the metrics at {text}",
            hint="Use 127.0.0.1, or add --metrics-remote if that is meant",
        )
    return ("127.0.0.1" if host == "localhost" else host), int(port)


async def export(running: Mount, tcp: Sequence[trio.SocketListener]) -> None:
    """Serve the metrics, at the mount's socket and at these listeners, until cancelled."""

    async def handle(stream: trio.SocketStream) -> None:
        try:
            with trio.move_on_after(SILENCE):
                await _answer(running, stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            log.debug("metrics: %s", exc)
        except Exception:
            log.exception("metrics")

    own = listen(registry.metrics_path(running.mount.mountpoint, ours=True))
    await serve(handle, [own, *tcp], "whoever asks for metrics")


async def tcp_listeners(mount: MountSettings) -> list[trio.SocketListener]:
    """Bind what --metrics asks for; raise COSError if that cannot be."""
    if not mount.metrics:
        return []
    text = mount.metrics
    host, port = parse_address(text, remote=mount.metrics_remote)
    try:
        return await trio.open_tcp_listeners(port, host=host)
    except OSError as exc:
        raise ConfigError(
            f"metrics cannot be served at {text}: {exc.strerror}", hint="Choose another port with --metrics"
        ) from exc


async def _answer(running: Mount, stream: trio.SocketStream) -> None:
    head = b""
    while b"\r\n\r\n" not in head and b"\n\n" not in head:
        more = await stream.receive_some(4096)
        if not more or len(head) > MAX_HEAD:
            return
        head += more
    method, _, rest = head.split(b"\n", 1)[0].partition(b" ")
    path = rest.split(b" ", 1)[0].split(b"?", 1)[0].strip()
    if method not in (b"GET", b"HEAD"):
        status, body = "405 Method Not Allowed", "only GET\n"
    elif path not in (b"/metrics", b"/"):
        status, body = "404 Not Found", "metrics are at /metrics\n"
    else:
        status, body = "200 OK", prometheus(families(running))
    data = body.encode()
    fields = {"Content-Type": TYPE, "Content-Length": len(data), "Connection": "close"}
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in fields.items())]
    answer = "\r\n".join(lines) + "\r\n\r\n"
    await stream.send_all(answer.encode() + (b"" if method == b"HEAD" else data))
    await stream.aclose()
