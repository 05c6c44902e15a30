"""Inventories: what lists hold, when they are made, and what is refused."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from typing import Any

import pytest

from cosfs.emulator import Emulator
from tests.emulator.documents import FIELDS, inventory
from tests.emulator.signed import Signed

DAY = 86400
MONDAY = 1_899_936_000 - 6 * DAY + 3600  # 2030-03-11, an hour after midnight UTC


def manifests(target: Signed) -> list[dict[str, Any]]:
    """Return the manifests that are there, each proved by its checksum."""
    found = []
    for key in target.listed():
        if key.endswith("manifest.json"):
            body = target.ok("GET", f"/{key}").body
            checksum = target.ok("GET", f"/{key.removesuffix('json')}checksum").body.decode()
            assert checksum == hashlib.md5(body).hexdigest()
            found.append(json.loads(body))
    return found


def rows(target: Signed, manifest: dict[str, Any]) -> list[list[str]]:
    """Return the rows of a list, proved by what the manifest says."""
    (file,) = manifest["files"]
    body = target.ok("GET", f"/{file['key']}").body
    assert (hashlib.md5(body).hexdigest(), str(len(body))) == (file["md5Checksum"], file["size"])
    return list(csv.reader(io.StringIO(gzip.decompress(body).decode())))


def test_daily_list_has_the_fields_that_were_asked_for(timed: Emulator, wire: Signed) -> None:
    target = wire.other()
    timed.clock.set(MONDAY)
    etag = wire.ok("PUT", '/d/é,"x"', b"12345", x_cos_storage_class="STANDARD_IA").headers["ETag"]
    wire.ok("PUT", "/e", b"1")
    wire.ok("PUT", "/?inventory&id=all", inventory("all", target.bucket))
    timed.run_jobs()
    assert target.listed() == []
    timed.clock.advance(DAY)
    timed.run_jobs()
    timed.run_jobs()
    (manifest,) = manifests(target)
    assert manifest["fileSchema"] == "Appid, Bucket, Key, " + ", ".join(FIELDS)
    assert manifest["sourceBucket"] == wire.bucket.rpartition("-")[0]
    assert (manifest["listObjectCount"], manifest["listStorageSize"]) == ("2", "6")
    first, second = rows(target, manifest)
    assert first[:4] == ["1250000000", wire.bucket.rpartition("-")[0], "d/%C3%A9%2C%22x%22", "5"]
    assert first[5:] == [etag.strip('"'), "STANDARD_IA", "false", ""]
    assert second[2] == "e"
    target.close()


def test_versions_filters_and_metadata(timed: Emulator, wire: Signed) -> None:
    target = wire.other()
    timed.clock.set(MONDAY)
    wire.versioning()
    wire.ok("PUT", "/in/a", b"1", x_cos_tagging="t=1", x_cos_meta_color="red")
    wire.ok("PUT", "/in/a", b"22", x_cos_tagging="t=1&u=2")
    wire.ok("PUT", "/in/untagged", b"22")
    wire.ok("PUT", "/out", b"22", x_cos_tagging="t=1")
    wire.ok("DELETE", "/in/a")
    filtered = "<And><Prefix>in/</Prefix><Tag><Key>t</Key><Value>1</Value></Tag></And>"
    fields = ("Tag", "Crc64", "x-cos-meta-*")
    wire.ok(
        "PUT", "/?inventory&id=v",
        inventory("v", target.bucket, filtered=filtered, versions="All", fields=fields, frequency="Weekly"),
    )  # fmt: skip
    timed.run_jobs()
    timed.clock.advance(8 * DAY)
    timed.run_jobs()
    (manifest,) = manifests(target)
    assert manifest["fileSchema"].startswith("Appid, Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Tag")
    assert (manifest["listObjectCount"], manifest["filterObjectCount"]) == ("4", "2")
    listed = [row[2:3] + row[4:7] + row[8:] for row in rows(target, manifest)]
    assert listed == [
        ["in/a", "false", "false", "t=1&u=2", ""],
        ["in/a", "false", "false", "t=1", "x-cos-meta-color=red"],
    ]
    target.close()


@pytest.mark.parametrize(("frequency", "days"), [("Daily", 1), ("Weekly", 7), ("Monthly", 21)])
def test_lists_come_when_they_are_due(timed: Emulator, wire: Signed, frequency: str, days: int) -> None:
    target = wire.other()
    timed.clock.set(MONDAY)
    wire.ok("PUT", "/?inventory&id=i", inventory("i", target.bucket, frequency=frequency))
    timed.run_jobs()
    for passed in range(1, days + 1):
        assert manifests(target) == []
        timed.clock.set(MONDAY + passed * DAY)
        timed.run_jobs()
    assert len(manifests(target)) == 1
    target.close()


def test_disabled_ones_are_not_made(timed: Emulator, wire: Signed) -> None:
    target = wire.other()
    timed.clock.set(MONDAY)
    wire.ok("PUT", "/?inventory&id=i", inventory("i", target.bucket, enabled="false"))
    timed.run_jobs()
    timed.clock.advance(3 * DAY)
    timed.run_jobs()
    assert target.listed() == []
    target.close()


def test_one_off(timed: Emulator, wire: Signed) -> None:
    target = wire.other()
    timed.clock.set(MONDAY)
    timed.put_objects(wire.bucket, ((f"k{n:05}", b"xy") for n in range(2500)))
    order = inventory("once", target.bucket, frequency="")
    assert wire.ok("POST", "/?inventory&id=once", order).texts("JobId")[0]
    timed.run_jobs()
    (manifest,) = manifests(target)
    assert manifest["listObjectCount"] == "2500"
    assert [row[2] for row in rows(target, manifest)] == [f"k{n:05}" for n in range(2500)]
    assert wire("POST", "/?inventory&id=once", order).code == (400, "InvalidRequest")  # once a day
    assert wire.ok("GET", "/?inventory").texts("InventoryConfiguration/Id") == []
    scheduled = inventory("other", target.bucket)
    assert wire("POST", "/?inventory&id=other", scheduled).code == (400, "MalformedXML")
    target.close()


def test_documents_that_cannot_work(timed: Emulator, wire: Signed) -> None:
    good = inventory("i", wire.bucket)
    refused = {
        inventory("other", wire.bucket): "InvalidArgument",
        inventory("i", "nowhere-1250000000"): "TargetBucketNameInvalid",
        good.replace("Daily", "Hourly"): "MalformedXML",
        good.replace("CSV", "ORC"): "MalformedXML",
        good.replace(">Current<", ">Newest<"): "MalformedXML",
        good.replace("<Field>Size</Field>", "<Field>Colour</Field>"): "MalformedXML",
        good.replace("qcs::cos:", "arn:"): "InvalidArgument",
        good.replace("true", "yes"): "MalformedXML",
    }
    for document, code in refused.items():
        assert wire("PUT", "/?inventory&id=i", document).code == (400, code)
    assert wire.ok("PUT", "/?inventory&id=i", good)
