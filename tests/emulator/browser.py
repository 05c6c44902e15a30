"""A real browser without a window: Chromium, spoken to over its DevTools pipe."""

from __future__ import annotations

import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--mute-audio"),
    *("--no-default-browser-check", "--disable-extensions", "--remote-debugging-pipe"),
    "--window-size=1200,900",
    # Not one request to anywhere else: no name is looked up but these.
    "--host-resolver-rules=MAP rebound.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)  # fmt: skip


# What it says to a script whose page goes away meanwhile for the next one.
_MOVING = ("navigated or closed", "context was destroyed", "Cannot find context", "Cannot find default")


class Browser:
    """One browser with one page."""

    def __init__(self, profile: Path) -> None:
        program = next(filter(None, map(shutil.which, _NAMES)), None)
        if program is None:
            pytest.fail("there is no Chromium; install it with: scripts/setup --tests")
        to_browser, self._write_end = os.pipe()
        self._read_end, from_browser = os.pipe()
        # The browser reads commands from descriptor 3 and writes to 4.
        script = f'exec 3<&{to_browser} 4>&{from_browser}; exec "$@"'
        command = [
            "bash",
            "-c",
            script,
            "bash",
            program,
            *_FLAGS,
            f"--user-data-dir={profile}",
            "about:blank",
        ]
        environment = {**os.environ, "HOME": str(profile), "TMPDIR": str(profile)}
        self._process = subprocess.Popen(
            command, pass_fds=(to_browser, from_browser), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
        )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        self._numbers = itertools.count(1)
        self._buffer = b""
        self.events: list[dict[str, Any]] = []
        self._session = ""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def close(self) -> None:
        """End the browser."""
        self._process.kill()
        self._process.wait()
        os.close(self._write_end)
        os.close(self._read_end)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Give a command; return its result. What happens meanwhile is in `events`."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write_end, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']['message']}")
                return answer.get("result", {})
            self.events.append(answer)

    def _receive(self) -> dict[str, Any]:
        end = time.monotonic() + 100
        while b"\0" not in self._buffer:
            if not select.select([self._read_end], [], [], max(end - time.monotonic(), 0))[0]:
                raise AssertionError("the browser does not answer")
            data = os.read(self._read_end, 1 << 20)
            if not data:
                raise AssertionError("the browser has ended")
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def open(self, url: str) -> None:
        """Go to an address, from nowhere."""
        self.send("Page.navigate", url="about:blank")
        self.send("Page.navigate", url=url)

    @contextmanager
    def prepared(self, script: str) -> Iterator[None]:
        """Pages that are opened inside run a script before their own."""
        added = self.send("Page.addScriptToEvaluateOnNewDocument", source=script)
        try:
            yield
        finally:
            self.send("Page.removeScriptToEvaluateOnNewDocument", identifier=added["identifier"])

    def run(self, script: str) -> Any:
        """Run JavaScript in the page; return its value, awaited if it is a promise."""
        result = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise AssertionError(f"{script}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait(self, condition: str) -> Any:
        """Wait until an expression of JavaScript is true; return what it is."""
        tried = f"(() => {{ try {{ return {condition} }} catch {{ return false }} }})()"
        end = time.monotonic() + 60
        while time.monotonic() < end:
            value = self._run_unless_it_moves(tried)
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError(f"never true: {condition}; the page shows {self.text()!r}")

    def _run_unless_it_moves(self, script: str) -> Any:
        try:
            return self.run(script)
        except AssertionError as error:
            if any(words in str(error) for words in _MOVING):
                return None
            raise

    def text(self) -> str:
        """Return what the page shows."""
        return str(self.run("document.body ? document.body.innerText : ''"))

    def press(self, label: str) -> None:
        """Press the first button or link with a text."""
        quoted = json.dumps(label)
        find = f"[...document.querySelectorAll('button, a')].find((each) => each.textContent === {quoted})"
        self.wait(f"!!{find}")
        self.run(f"{find}.click()")

    def fill(self, selector: str, value: str) -> None:
        """Write into a field."""
        field = f"document.querySelector({json.dumps(selector)})"
        tell = f"{field}.dispatchEvent(new Event(kind, {{bubbles: true}}))"
        self.run(f"{field}.value = {json.dumps(value)}; for (const kind of ['input', 'change']) {tell}")

    def errors(self) -> list[str]:
        """Return the exceptions of scripts and the complaints of the browser about the page."""
        found = []
        for event in self.events:
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(str(event["params"]["exceptionDetails"]))
            elif event.get("method") == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
                entry = event["params"]["entry"]
                found.append(f"{entry['text']} {entry.get('url', '')}")
        return found
