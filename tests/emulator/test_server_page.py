"""The page in a real browser: a person's work, hostile names, and other sites that try to use it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from cosfs.emulator import Emulator
from tests.emulator.browser import Browser
from tests.emulator.conftest import sdk_for
from tests.waiting import until

BUCKET = "b-1250000000"

# Keeps what the page does again and again, to be done at once, and how much it is waiting for.
WATCHED = """
window.looks = [];
window.asking = 0;
const every = window.setInterval.bind(window);
window.setInterval = (look, pause) => { looks.push(look); return every(look, pause); };
const ask = window.fetch.bind(window);
window.fetch = (...what) => { asking += 1; return ask(...what).finally(() => { asking -= 1; }); };
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture
def page(tmp_path: Path, browser: Browser) -> Iterator[Emulator]:
    """An emulator with a page; nothing in the browser may go wrong."""
    browser.events.clear()
    with Emulator(tmp_path / "data", buckets=["b"], admin=True) as emulator:
        yield emulator
        assert browser.errors() == []
        browser.open("about:blank")


def shows(browser: Browser, text: str) -> None:
    browser.wait(f"document.body.innerText.includes({text!r})")


def test_objects_are_browsed_looked_at_and_deleted(page: Emulator, browser: Browser) -> None:
    page.put_objects(BUCKET, [(f"dir/sub/{n:03}", b"") for n in range(450)] + [("dir/a.txt", b"some words")])
    sdk_for(page).put_object(Bucket=BUCKET, Key="dir/b", Body=b"\0" * 70_000, Metadata={"x-cos-meta-a": "b"})
    browser.open(page.info.admin_url)
    browser.press(BUCKET)
    browser.press("dir/")
    browser.press("a.txt")
    shows(browser, "some words")
    shows(browser, "x-cos-hash-crc64ecma")
    browser.press("Close")
    browser.press("b")
    shows(browser, "x-cos-meta-a")
    link = browser.run("document.querySelector('dialog a[download]').href")
    assert requests.get(link, timeout=90).content == b"\0" * 70_000
    browser.press("Close")
    browser.press("sub/")
    browser.wait("document.querySelectorAll('#objects tbody tr').length === 200")
    browser.press("Show more")
    browser.wait("document.querySelectorAll('#objects tbody tr').length === 400")
    browser.press("Show more")
    browser.wait("document.querySelectorAll('#objects tbody tr').length === 450")
    browser.fill("input[type=search]", "dir/a")
    browser.press("Go")
    browser.wait("document.querySelectorAll('#objects tbody tr').length === 1")
    browser.run("window.confirm = () => true")
    browser.press("Delete")
    shows(browser, "Nothing here.")
    assert not sdk_for(page).object_exists(BUCKET, "dir/a.txt")


def test_buckets_are_made_filled_and_deleted(page: Emulator, browser: Browser) -> None:
    browser.open(page.info.admin_url)
    shows(browser, BUCKET)
    browser.fill("input[name=name]", "fresh")
    browser.press("Create")
    browser.press("fresh-1250000000")
    shows(browser, "Nothing here.")
    browser.run(
        "(() => { const data = new DataTransfer();"
        "data.items.add(new File(['up', 'loaded'], 'new file.txt'));"
        "const picker = document.querySelector('input[type=file]');"
        "picker.files = data.files; picker.dispatchEvent(new Event('change')); })()"
    )
    browser.wait(
        "[...document.querySelectorAll('#objects tbody button')]"
        ".some((each) => each.textContent === 'new file.txt')"
    )
    body = sdk_for(page).get_object(Bucket="fresh-1250000000", Key="new file.txt")["Body"]
    assert body.get_raw_stream().read() == b"uploaded"
    browser.press("Buckets")
    browser.run("window.confirm = () => true")
    row = "[...document.querySelectorAll('tr')].find((row) => row.textContent.includes('fresh'))"
    delete = f"{row}.querySelector('button')"
    browser.wait(f"!!{delete}")
    browser.run(f"{delete}.click()")
    shows(browser, "BucketNotEmpty")
    # The refusal is the browser's to log, too.
    browser.events.clear()


def test_requests_appear_by_themselves(page: Emulator, browser: Browser) -> None:
    with browser.prepared(WATCHED):
        browser.open(page.info.admin_url + "#/requests")
        shows(browser, "requests")
    for number in range(3):
        requests.get(f"{page.endpoint_url}/b/wanted{number}", timeout=90)
    shows(browser, "/b/wanted2")
    shows(browser, "403 AccessDenied")
    browser.wait("document.getElementById('operations').innerText === 'GetObject 3'")
    browser.fill("input[type=search]", "wanted1")
    visible = "[...document.querySelectorAll('#requests tbody tr')].filter((row) => !row.hidden).length"
    browser.wait(f"{visible} === 1")
    browser.press("Reset")
    browser.wait("document.querySelectorAll('#requests tbody tr').length === 0")
    assert page.requests.total == 0
    browser.press("Pause")
    browser.wait("asking === 0")  # what was under way has come
    requests.get(f"{page.endpoint_url}/b/later", timeout=90)
    browser.run("Promise.all(looks.map((look) => look()))")
    assert browser.run("document.querySelectorAll('#requests tbody tr').length") == 0
    browser.press("Continue")
    browser.fill("input[type=search]", "")
    shows(browser, "/b/later")


def test_faults_are_set_from_the_page(page: Emulator, browser: Browser) -> None:
    browser.open(page.info.admin_url + "#/faults")
    shows(browser, "Nothing goes wrong at present.")
    browser.fill("[name=operation]", "Get*")
    browser.fill("[name=count]", "0")
    browser.press("Add fault")
    shows(browser, "code SlowDown")
    assert requests.get(f"{page.endpoint_url}/b/k", timeout=90).status_code == 503
    browser.fill("[name=kind]", "latency")
    assert browser.run("getComputedStyle(document.querySelector('[data-field=code]')).display") == "none"
    browser.fill("[name=seconds]", "0.5")
    browser.press("Add fault")
    shows(browser, "seconds 0.5")
    assert [(fault.kind, fault.count) for fault in page.faults.active()] == [("error", 0), ("latency", 0)]
    browser.press("Remove")
    browser.wait("document.querySelectorAll('#faults tbody tr').length === 1")
    browser.press("Remove all")
    shows(browser, "Nothing goes wrong at present.")
    assert page.faults.active() == []
    browser.fill("[name=total]", "1000000")
    browser.press("Limit")
    until(lambda: page.faults.bandwidth.total == 1_000_000, "the limit is set")
    before = page.clock()
    browser.press("Move")
    until(lambda: page.clock() > before + 80_000, "the clock is moved")
    browser.wait("!document.body.innerText.includes('undefined')")
    browser.open(page.info.admin_url + "#/faults")
    browser.wait("document.querySelector('[name=total]')?.value === '1000000'")


HOSTILE = '<img src=x onerror="window.hacked=1">'


def test_hostile_names_stay_text(page: Emulator, browser: Browser) -> None:
    keys = [
        HOSTILE,
        f"{HOSTILE}/inner",
        "javascript:window.hacked=1",
        "\"'><script>window.hacked=1</script>",
        "&lt;b&gt;",
    ]
    page.put_objects(BUCKET, [(key, b"<script>window.hacked=1</script>") for key in keys])
    client = sdk_for(page)
    client.put_object(Bucket=BUCKET, Key="meta", Body=b"x", Metadata={"x-cos-meta-a": HOSTILE})
    page.faults.error("Get*", HOSTILE, 418, key=HOSTILE + "2", count=0)
    requests.get(f"{page.endpoint_url}/b/{HOSTILE}2", timeout=90)
    requests.get(f"{page.endpoint_url}/b/x", headers={"Host": HOSTILE}, timeout=90)
    for place, text in (
        (f"#/buckets/{BUCKET}/", HOSTILE),
        (f"#/buckets/{BUCKET}/%3Cimg%20src%3Dx%20onerror%3D%22window.hacked%3D1%22%3E%2F", "inner"),
        ("#/requests", "onerror"),
        ("#/faults", HOSTILE),
        (f"#/buckets/{HOSTILE}/{HOSTILE}", "NoSuchBucket"),
    ):
        browser.open(page.info.admin_url + place)
        shows(browser, text)
        assert browser.run("document.images.length + document.querySelectorAll('body script').length") == 0
    browser.open(f"{page.info.admin_url}#/buckets/{BUCKET}/")
    browser.press(HOSTILE)
    shows(browser, "<script>window.hacked=1</script>")
    browser.press("Close")
    browser.press("meta")
    shows(browser, "x-cos-meta-a")
    assert browser.run("window.hacked === undefined && document.images.length === 0")
    browser.events.clear()  # the answers 404 are in its log


def test_an_object_that_is_a_page_cannot_use_the_admin_path(page: Emulator, browser: Browser) -> None:
    """It has the origin of the page, and must not have its rights."""
    script = (
        "<body>text<script>document.title = 'ran';"
        "fetch('/_emulator/api/faults', {method: 'POST', body: JSON.stringify({kind: 'error'})})</script>"
    )
    client = sdk_for(page)
    client.put_object(Bucket=BUCKET, Key="evil.html", Body=script, ContentType="text/html", ACL="public-read")
    browser.open(f"{page.endpoint_url}/b/evil.html")
    shows(browser, "text")
    assert browser.run("document.title") != "ran"
    assert page.faults.active() == []
    browser.events.clear()


def test_other_sites_cannot_use_the_admin_path(page: Emulator, browser: Browser, tmp_path: Path) -> None:
    target = page.endpoint_url
    script = f"""<body>waiting<script>
      const ask = (path, options) => fetch('{target}/_emulator/' + path, options).catch(() => 0);
      const fault = JSON.stringify({{kind: 'error', count: 0}});
      Promise.all([
        ask('api/faults', {{method: 'POST', body: fault, mode: 'no-cors'}}),
        ask('api/faults', {{method: 'POST', body: fault}}),
        ask('api/faults', {{method: 'POST', body: fault, headers: {{'Content-Type': 'application/json'}}}}),
        ask('api/requests').then((answer) => document.title = answer ? 'read' : 'kept'),
        ask('cos?bucket=b&key=k', {{method: 'PUT', body: 'x'}}),
        ask('cos?bucket=b', {{method: 'POST', body: 'x', mode: 'no-cors'}}),
      ]).then(() => document.body.textContent = 'tried');
    </script>"""
    with Emulator(tmp_path / "other", buckets=["b"]) as other:
        client = sdk_for(other)
        client.put_object(
            Bucket=BUCKET, Key="e.html", Body=script, ContentType="text/html", ACL="public-read"
        )
        browser.open(f"{other.endpoint_url}/b/e.html")
        shows(browser, "tried")
        assert browser.run("document.title") == "kept"
    assert page.faults.active() == []
    assert not sdk_for(page).object_exists(BUCKET, "k")
    browser.events.clear()


def test_a_name_that_was_made_to_mean_this_machine_shows_no_page(page: Emulator, browser: Browser) -> None:
    port = page.endpoint_url.rpartition(":")[2]
    browser.open(f"http://rebound.test:{port}/_emulator")
    browser.wait("document.readyState === 'complete' && location.hostname === 'rebound.test'")
    assert "<Error>" in browser.text() and "Buckets" not in browser.text()
    assert browser.run("fetch('/_emulator/api/status').then((answer) => answer.status)") != 200
    browser.events.clear()
