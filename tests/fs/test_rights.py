"""Keys that may not do everything: who changes something is told, and nothing seems to be what it is not."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, cast

import pytest
import trio

from cosfs.client.client import CosClient
from cosfs.client.model import PutResult
from cosfs.config import Settings, load_settings
from cosfs.emulator import Emulator
from cosfs.emulator.members import Member
from cosfs.errors import COSError, PermissionDeniedError
from cosfs.fs import commit, deleter, rights
from cosfs.fs.helpers import PROBE
from cosfs.fs.remote import Remote
from cosfs.fs.rights import REMEMBERED, Action, Rights
from cosfs.fs.salvage import LIST
from cosfs.fs.unmounted import recover_directory
from cosfs.units import MIB
from tests.fs.conftest import Filesystems
from tests.fs.support import TRANSFER, Files, content, counted, kept_files, stored, until
from tests.objects import keys
from tests.policies import MULTIPART, READ, policy

Client = Callable[..., CosClient]
ENABLED = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
WRITE = (*READ, "PutObject", *MULTIPART)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for what COS says, should the machine stand still."""
    for module in (commit, deleter, rights):
        monkeypatch.setattr(module, "ASK_WITHIN", 60.0)


@pytest.fixture
def keys_for(emulator: Emulator, settings: Settings) -> Iterator[Client]:
    """Clients of a user, or of a new one that policies allow what is given."""
    with ExitStack() as stack:

        def make(*policies: dict[str, object], user: Member | None = None) -> CosClient:
            user = user or emulator.add_user(policies=list(policies))
            options: dict[str, object] = {
                "endpoint_url": emulator.endpoint_url,
                "region": emulator.region,
                "secret_id": user.secret_id,
                "secret_key": user.secret_key,
            }
            chosen = load_settings(options, environ={"HOME": "/nonexistent"})
            chosen = replace(chosen, client=replace(chosen.client, max_retries=0))
            return stack.enter_context(CosClient.from_settings(chosen, options))

        yield make


@contextmanager
def refused() -> Iterator[None]:
    """Expect EACCES."""
    with pytest.raises(COSError) as caught:
        yield
    assert caught.value.errno == errno.EACCES, caught.value


@pytest.fixture
async def keeping(filesystem: Filesystems, keys_for: Client, client: CosClient, bucket: str) -> Files:
    """A filesystem whose keys may write and not remove; nothing was tried yet."""
    for key in ("a", "b", "d/one", "d/two"):
        client.put_object(bucket, key, key.encode())
    return await filesystem(trusting=False, client=keys_for(policy(*WRITE)))


async def test_the_first_removal_that_is_refused_fails_and_the_file_stays_what_it_is(keeping: Files) -> None:
    node = await keeping.file("a")
    with refused():
        await keeping.unlink("a")
    assert await keeping.file("a") is node and not node.unlinked
    assert await keeping.get("a") == b"a"
    assert sorted(await keeping.list()) == ["a", "b", "d"]
    assert keeping.journal.records() == []
    async with keeping.opened("a") as fh:
        await keeping.write(fh, b"A")
    assert await keeping.stored("a") == b"A"


async def test_a_file_whose_old_name_cos_keeps_is_not_renamed(keeping: Files) -> None:
    node = await keeping.file("a")
    with refused():
        await keeping.rename("a", "new")
    assert await keeping.file("a") is node
    async with keeping.opened("a") as fh:
        await keeping.write(fh, b"changed")
    assert await keeping.stored("a") == b"changed"
    assert sorted(await keeping.list()) == ["a", "b", "d"]
    assert await keeping.keys() == ["a", "b", "d/one", "d/two"]  # nothing was copied
    assert keeping.journal.records() == []


async def test_a_file_that_was_replaced_by_a_rename_that_failed_is_shown_as_it_is(keeping: Files) -> None:
    assert await keeping.get("b") == b"b"
    with refused():
        await keeping.rename("a", "b")
    assert await keeping.get("a") == b"a"
    assert await keeping.get("b") == await keeping.stored("b") == b"b"


async def test_a_changed_file_whose_old_name_cos_keeps_is_not_renamed(keeping: Files) -> None:
    """Before anything is sent: the first removal would be refused long after."""
    async with keeping.opened("a") as fh:
        await keeping.write(fh, b"A")
        with refused():
            await keeping.rename("a", "new")
    assert await keeping.keys() == ["a", "b", "d/one", "d/two"]
    assert await keeping.stored("a") == b"A"


@pytest.fixture
async def keeping_one(
    filesystem: Filesystems, keys_for: Client, client: CosClient, bucket: str, emulator: Emulator
) -> Files:
    """A filesystem whose keys may not remove `a`, though anything beside it."""
    for key in ("a", "b"):
        client.put_object(bucket, key, key.encode())
    user = emulator.add_user(policies=[policy(*WRITE, "DeleteObject"), denied(f"{bucket}/a")])
    return await filesystem(trusting=False, client=keys_for(user=user))


def denied(path: str) -> dict[str, object]:
    """A policy that forbids removing some objects."""
    made = policy("DeleteObject", resource=f"qcs::cos:*:uid/1250000000:{path}")
    (statement,) = cast("list[dict[str, object]]", made["statement"])
    statement["effect"] = "deny"
    return made


async def test_where_the_old_name_alone_cannot_be_removed_its_copy_goes(keeping_one: Files) -> None:
    with refused():
        await keeping_one.rename("a", "new")
    await keeping_one.removed()
    assert await keeping_one.keys() == await keeping_one.list() == ["a", "b"]
    assert await keeping_one.get("a") == b"a"
    assert keeping_one.journal.records() == []


async def test_what_has_replaced_another_file_by_then_stays_under_both_names(keeping_one: Files) -> None:
    """Its copy is all that is left under the new name."""
    with refused():
        await keeping_one.rename("a", "b")
    assert await keeping_one.get("a") == b"a"
    assert await keeping_one.get("b") == b"a"


async def test_attributes_changed_before_a_rename_that_fails_are_kept(
    keeping: Files, filesystem: Filesystems
) -> None:
    await keeping.chmod("a", 0o600)
    with refused():
        await keeping.rename("a", "new")
    assert await keeping.mode("a") == 0o600
    await keeping.fs.committer.drain()
    later = await filesystem()
    assert await later.mode("a") == 0o600


async def test_a_directory_whose_objects_cos_keeps_is_not_renamed(keeping: Files) -> None:
    with refused():
        await keeping.rename("d", "e")
    assert await keeping.list("d") == ["one", "two"]
    assert await keeping.get("d/one") == b"d/one"
    assert await keeping.keys() == ["a", "b", "d/one", "d/two"]  # nothing was copied
    assert keeping.journal.records() == []
    with refused():
        await keeping.rename("a", "f")
    assert await keeping.keys() == ["a", "b", "d/one", "d/two"]


async def test_an_open_file_that_cos_keeps_is_not_removed(keeping: Files) -> None:
    async with keeping.opened("a"):
        with refused():
            await keeping.unlink("a")
    assert await keeping.get("a") == b"a"
    assert keeping.journal.records() == []


async def test_renaming_waits_no_longer_than_it_must_for_a_silent_cos(
    filesystem: Filesystems, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cosfs.fs.deleter.ASK_WITHIN", 0.05)
    monkeypatch.setattr("cosfs.fs.rights.ASK_WITHIN", 0.05)
    files = await filesystem(trusting=False)
    await files.upload("a", b"x")
    silent = emulator.faults.latency(3600, "DeleteObject")
    with trio.fail_after(100):
        await files.rename("a", "b")
    assert await files.get("b") == b"x" and not await files.exists("a")
    assert await files.keys() == ["a", "b"]  # COS was not heard
    emulator.faults.release(silent)
    await files.removed()
    assert await files.keys() == ["b"]


async def test_where_removing_works_only_the_first_rename_asks(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem(trusting=False)
    for key in ("a", "b", "d/c"):
        await files.upload(key)
    await files.list()
    with counted(emulator) as seen:
        await files.rename("a", "a2")
        await files.rename("b", "b2")
        await files.rename("d", "d2")
        await files.removed()
    assert seen["CopyObject"] == 3
    assert seen["DeleteObject"] + seen["DeleteObjects"] <= 4
    assert await files.keys() == ["a2", "b2", "d2/c"]


async def test_a_directory_that_cos_keeps_is_not_removed(keeping: Files) -> None:
    await keeping.mkdir("new")
    with refused():
        await keeping.rmdir("new")
    assert "new" in await keeping.list()
    await keeping.put("new/file", b"x")
    assert await keeping.stored("new/file") == b"x"


async def test_an_open_file_is_not_removed_where_a_removal_was_refused(keeping: Files) -> None:
    with refused():
        await keeping.unlink("a")
    async with keeping.opened("b"):
        with refused():
            await keeping.unlink("b")
    assert await keeping.get("b") == b"b"


async def test_a_removal_that_is_refused_behind_is_told_by_fsync_and_undone(
    keeping: Files, emulator: Emulator
) -> None:
    keeping.fs.rights.worked(Action.REMOVE, keeping.bucket, "x")
    await keeping.list()
    await keeping.unlink("a")
    fh = await keeping.fs.opendir(keeping.tree.root.ino)
    with refused():
        await keeping.fs.fsyncdir(fh)
    await keeping.fs.fsyncdir(fh)  # told once
    keeping.fs.releasedir(fh)
    assert await keeping.get("a") == b"a"
    with refused():
        await keeping.unlink("b")
    (refusal,) = keeping.fs.rights.refusals()
    assert refusal.url == f"cos://{keeping.bucket}/b" and refusal.action is Action.REMOVE


async def test_removals_that_have_worked_once_are_sent_together(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem(trusting=False)
    for number in range(20):
        await files.upload(f"f{number}")
    await files.list()
    began = time.monotonic()
    with counted(emulator) as seen:
        for number in range(20):
            await files.unlink(f"f{number}")
        await files.removed()
    # A batch each DELAY: more of them where the machine is slow.
    batches = (time.monotonic() - began) // deleter.DELAY
    assert seen["DeleteObject"] + seen["DeleteObjects"] <= 3 + batches
    assert await files.keys() == []


async def test_removing_waits_no_longer_than_it_must_for_a_silent_cos(
    filesystem: Filesystems, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cosfs.fs.deleter.ASK_WITHIN", 0.05)
    files = await filesystem(trusting=False)
    await files.upload("a")
    slow = emulator.faults.latency(3600.0, "DeleteObject")
    await files.unlink("a")
    assert not await files.exists("a")
    assert await files.stored("a") == b""  # not removed yet
    emulator.faults.release(slow)
    await files.removed()
    assert await files.keys() == []


async def test_many_are_removed_one_by_one_without_the_right_to_remove_many(
    filesystem: Filesystems, keys_for: Client, client: CosClient, bucket: str
) -> None:
    for number in range(5):
        client.put_object(bucket, f"f{number}", b"")
    files = await filesystem(client=keys_for(policy(*READ, "PutObject", "DeleteObject")))
    await files.list()
    for number in range(5):
        await files.unlink(f"f{number}")
    await files.removed()
    assert await files.keys() == []


async def test_keys_that_may_only_remove_can_empty_a_directory(
    filesystem: Filesystems, keys_for: Client, client: CosClient, bucket: str
) -> None:
    client.put_object(bucket, "d/one", b"x")
    files = await filesystem(client=keys_for(policy(*READ, "DeleteObject")), metadata_ttl=0.1)
    await files.list("d")
    await files.unlink("d/one")
    await files.removed()
    assert await files.keys() == []
    await trio.sleep(0.2)
    assert await files.list() == []


async def test_it_is_asked_with_the_headers_of_a_file(
    filesystem: Filesystems, keys_for: Client, bucket: str, client: CosClient
) -> None:
    """Policies may ask for them."""
    only_text = policy("PutObject", condition={"string_equal": {"cos:content-type": "text/plain"}})
    files = await filesystem(client=keys_for(policy(*READ), only_text))
    with refused():
        await files.put("picture.png", b"x")
    await files.unlink("picture.png")
    await files.put("notes.txt", b"x")
    assert await files.stored("notes.txt") == b"x"
    with refused():
        await files.fs.rights.ask_to_write(bucket, "another.png")


async def test_where_writing_was_refused_each_call_hears_what_cos_says_of_its_key(
    filesystem: Filesystems, keys_for: Client, client: CosClient, bucket: str, emulator: Emulator
) -> None:
    for key in ("top", "mine/a", "mine/deep/b", "theirs/c"):
        client.put_object(bucket, key, b"old")
    allowed = policy("PutObject", resource=f"qcs::cos:*:uid/1250000000:{bucket}/mine/*")
    files = await filesystem(client=keys_for(policy(*READ), allowed))
    with refused():
        await files.put("new", b"x")  # nothing is known yet: closing it tells
    await files.unlink("new")
    with counted(emulator) as seen:
        with refused():
            await files.create("newer")
        with refused():
            await files.open("top", os.O_WRONLY)
        with refused():
            await files.chmod("top", 0o600)
        with refused():
            await files.truncate("theirs/c", 1)
    assert seen["PutObject"] == 4
    assert await files.keys() == ["mine/a", "mine/deep/b", "theirs/c", "top"]
    await files.put("mine/new", b"x")
    await files.put("mine/a", b"changed")
    await files.put("mine/deep/new", b"y")
    assert await files.stored("mine/a") == b"changed"
    with counted(emulator) as seen:
        await files.put("mine/another", b"z")
    assert seen["PutObject"] == 1  # where it has worked nobody is asked


async def test_asking_changes_nothing(files: Files, emulator: Emulator) -> None:
    await files.upload("there", b"as it was")
    rights = files.fs.rights
    await rights.ask_to_write(files.bucket, "there")
    await rights.ask_to_write(files.bucket, "free")
    assert await files.keys() == ["there"]
    assert await files.stored("there") == b"as it was"
    assert list(rights.refusals()) == []


async def test_a_file_refused_behind_makes_the_next_one_fail_at_once(
    filesystem: Filesystems, keys_for: Client
) -> None:
    files = await filesystem(client=keys_for(policy(*READ)), write_back="async")
    await files.put("first", b"kept in the journal")  # where writing has worked, so it is not waited for
    await until(lambda: list(files.fs.rights.refusals()))
    with refused():
        await files.create("second")
    assert await files.get("first") == b"kept in the journal"


@pytest.mark.parametrize("size", [6, 4 * MIB])
async def test_async_the_first_file_of_a_directory_is_refused_when_it_is_closed(
    filesystem: Filesystems, keys_for: Client, client: CosClient, bucket: str, emulator: Emulator, size: int
) -> None:
    client.put_object(bucket, "mine/a", b"old")
    client.put_object(bucket, "theirs/b", b"old")
    allowed = policy("PutObject", *MULTIPART, resource=f"qcs::cos:*:uid/1250000000:{bucket}/mine/*")
    mine = keys_for(policy(*READ, "ListMultipartUploads"), allowed)
    files = await filesystem("cache", client=mine, write_back="async")
    await files.put("mine/new", b"x")
    data = content(size)
    with refused():
        await files.put("theirs/new", data)
    assert await files.get("theirs/new") == data  # kept in the journal, as after every refusal
    with refused():
        await files.create("theirs/newer")
    await filesystem.kill(files)
    cache = files.fs.settings.cache_dir
    done = await recover_directory(files.client, TRANSFER, cache, give_up=True)
    assert (done.kept, done.left) == (1, 0)
    assert list(kept_files(files).values()) == [data]
    told = (cache / "recovered" / LIST).read_text()
    assert f"cos://{bucket}/theirs/new" in told and "no policy allows them" in told
    assert await files.keys() == ["mine/a", "mine/new", "theirs/b"]


async def test_async_the_first_file_of_a_directory_costs_no_request_more(
    filesystem: Filesystems, client: CosClient, bucket: str, emulator: Emulator
) -> None:
    for name in ("one", "two"):
        client.put_object(bucket, f"{name}/a", b"old")
    files = await filesystem(write_back="async")
    for name in ("one", "two"):
        await files.list(name)
    with counted(emulator) as seen:
        for name in ("one", "two"):
            for number in range(5):
                await files.put(f"{name}/new{number}", b"x")
        await files.fs.drain()
    assert seen == {"PutObject": 10}


@pytest.fixture
def held(client: CosClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Hold all PUTs until this is called."""
    put, go_on = client.put_object, threading.Event()

    def when_allowed(*args: Any, **kwargs: Any) -> PutResult:
        go_on.wait(60)
        return put(*args, **kwargs)

    monkeypatch.setattr(client, "put_object", when_allowed)
    yield go_on.set
    go_on.set()


async def test_async_a_silent_cos_is_not_waited_for_long(
    filesystem: Filesystems, bucket: str, held: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cosfs.fs.commit.ASK_WITHIN", 0.05)
    files = await filesystem(write_back="async", prefix="never written to/")
    files.fs.rights.was_refused(Action.WRITE, bucket, "x", PermissionDeniedError("no"))
    files.fs.rights.forget()
    await files.put("new", b"x")
    (waiting,) = files.fs.pending_files
    assert waiting.key == "never written to/new"
    held()
    await files.fs.drain()
    assert await files.stored("never written to/new") == b"x"


async def test_async_where_writing_has_worked_cos_is_not_waited_for(
    filesystem: Filesystems, bucket: str, held: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cosfs.fs.commit.ASK_WITHIN", 60.0)
    files = await filesystem(write_back="async")
    assert files.fs.rights.has_written(bucket, "new")
    with trio.fail_after(100):
        await files.put("new", b"x")
    held()
    await files.fs.drain()
    assert await files.stored("new") == b"x"


async def test_writing_is_known_to_work_in_a_directory_made_here(files: Files, bucket: str) -> None:
    await files.upload("e/x")
    await files.mkdir("d")
    assert files.fs.rights.has_written(bucket, "d/x")
    assert not files.fs.rights.has_written(bucket, "e/x")
    await files.put("e/y", b"y")
    assert files.fs.rights.has_written(bucket, "e/x")


async def test_large_files_are_refused_as_small_ones(filesystem: Filesystems, keys_for: Client) -> None:
    files = await filesystem(client=keys_for(policy(*READ)))
    with refused():
        await files.put("large", content(4 * MIB))
    with refused():
        await files.create("other")


async def test_rights_that_are_given_later_are_used(
    filesystem: Filesystems, keys_for: Client, emulator: Emulator, client: CosClient, bucket: str
) -> None:
    for key in ("a", "b"):
        client.put_object(bucket, key, b"x")
    user = emulator.add_user(policies=[policy(*WRITE)])
    files = await filesystem(trusting=False, client=keys_for(user=user))
    with refused():
        await files.unlink("a")
    with refused():
        await files.rename("b", "c")
    emulator.set_policies(user, [policy(*WRITE, "DeleteObject")])
    await files.unlink("a")  # it is asked for each time
    await files.rename("b", "d")  # so this is known to work now
    await files.removed()
    assert await files.keys() == ["d"]


def test_refusals_are_forgotten_after_a_while_and_by_a_refresh(
    client: CosClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    rights = Rights(Remote(client))
    error = PermissionDeniedError("no")
    rights.worked(Action.WRITE, "b", "x")
    rights.was_refused(Action.WRITE, "b", "dir/key", error)
    assert not rights.is_trusted(Action.WRITE, "b", "dir/other")
    assert not rights.is_trusted(Action.WRITE, "b", "elsewhere/other")
    assert rights.is_trusted(Action.WRITE, "another", "dir/other")
    rights.worked(Action.WRITE, "b", "elsewhere/x")
    assert rights.is_trusted(Action.WRITE, "b", "elsewhere/other")
    rights.forget()
    assert rights.is_trusted(Action.WRITE, "b", "dir/other")
    rights.was_refused(Action.WRITE, "b", "dir/key", error)
    now = time.monotonic() + REMEMBERED + 1
    monkeypatch.setattr("cosfs.fs.rights.time.monotonic", lambda: now)
    assert list(rights.refusals()) == []
    assert rights.is_trusted(Action.WRITE, "b", "dir/other")


def contents(client: CosClient, bucket: str) -> dict[str, bytes | None]:
    """All objects with their bytes."""
    return {key: stored(client, bucket, key) for key in keys(client, bucket)}


@pytest.mark.parametrize("versions", [False, True])
async def test_a_server_that_does_not_look_at_checksums_is_never_asked_with_a_key_of_the_user(
    filesystem: Filesystems, emulator: Emulator, client: CosClient, bucket: str, versions: bool
) -> None:
    if versions:
        client.put_document(bucket, "versioning", ENABLED)
    client.put_object(bucket, "d/there", b"as it was")
    emulator.faults.lenient()
    files = await filesystem(trusting=False)
    rights = files.fs.rights
    for _ in range(2):
        for key in ("d/there", "d/free", f"d/{PROBE}"):
            await rights.ask_to_write(bucket, key)
        # As after a refusal: every call would ask.
        rights.was_refused(Action.WRITE, bucket, "d/x", PermissionDeniedError("no"))
        await rights.check_write(bucket, "d/there")
    assert contents(client, bucket) == {"d/there": b"as it was"}
    page = client.list_versions(bucket)
    assert [version.key for version in page.versions] == ["d/there"]
    emulator.requests.reset()
    await rights.ask_to_write(bucket, "d/there")
    assert emulator.requests.snapshot() == {}  # it is remembered that this server cannot be asked


async def test_a_server_that_has_shown_nothing_is_asked_with_names_of_nobody(
    filesystem: Filesystems, keys_for: Client, emulator: Emulator, client: CosClient, bucket: str
) -> None:
    """A lenient one would store what is asked with where these keys may write."""
    client.put_object(bucket, "theirs/there", b"as it was")
    allowed = policy("PutObject", resource=f"qcs::cos:*:uid/1250000000:{bucket}/theirs/there")
    files = await filesystem(client=keys_for(policy(*READ), allowed))
    emulator.faults.lenient()
    with refused():
        await files.fs.rights.ask_to_write(bucket, PROBE)
    with refused():
        await files.fs.rights.ask_to_write(bucket, "theirs/there")
    (*_, refusal) = files.fs.rights.refusals()
    assert refusal.url == f"cos://{bucket}/theirs/there"
    assert f"{bucket}/theirs/there" in str(refusal.error) and PROBE not in str(refusal.error)
    assert contents(client, bucket) == {"theirs/there": b"as it was"}
