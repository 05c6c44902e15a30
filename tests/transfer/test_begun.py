"""Notes of open uploads: what they say, while their process lives and when it is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from cosfs.client.model import Upload
from cosfs.errors import NetworkError, NotFoundError
from cosfs.transfer.begun import Noted, OpenUploads, left_uploads, noted_ids

LONGEST = "\x01" * 850


@pytest.fixture
def notes(tmp_path: Path) -> OpenUploads:
    return OpenUploads(tmp_path)


def opened(notes: OpenUploads, number: int, key: str = "k") -> Upload:
    return notes.open("b-1", key, "r", lambda: Upload("b-1", key, f"id-{number}"))


def left(directory: Path) -> list[tuple[str, str]]:
    """Return the keys and ids of what dead processes have left, and touch none of it."""
    found = list(left_uploads(directory))
    try:
        return [(noted.key, noted.upload_id) for each in found for noted in each.uploads]
    finally:
        for each in found:
            each.close()


def test_note_of_a_living_process_is_left_alone(notes: OpenUploads, tmp_path: Path) -> None:
    upload = opened(notes, 1)
    assert left(tmp_path) == []
    assert noted_ids(tmp_path) == {"id-1"}
    notes.over(upload)
    notes.close()
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_over_stays_noted(notes: OpenUploads, tmp_path: Path) -> None:
    uploads = [opened(notes, number, LONGEST) for number in range(3)]
    notes.over(uploads[1])
    notes.close()
    assert left(tmp_path) == [(LONGEST, "id-0"), (LONGEST, "id-2")]


def test_note_does_not_grow(notes: OpenUploads, tmp_path: Path) -> None:
    kept = opened(notes, 0)
    notes.over(opened(notes, 1))
    [note] = tmp_path.iterdir()
    size = note.stat().st_size
    for number in range(2, 50):
        notes.over(opened(notes, number))
    assert note.stat().st_size == size
    notes.over(kept)
    notes.close()


def test_what_was_not_opened_is_not_noted(notes: OpenUploads, tmp_path: Path) -> None:
    def refused() -> Upload:
        raise NotFoundError("no such bucket")

    with pytest.raises(NotFoundError):
        notes.open("b-1", "k", "r", refused)
    notes.close()
    assert list(tmp_path.iterdir()) == []


def test_what_is_in_doubt_is_noted_until_the_work_ends(notes: OpenUploads, tmp_path: Path) -> None:
    """Then it was looked for: only a process that is killed before that leaves it."""

    def unanswered() -> Upload:
        error = NetworkError("the connection broke")
        error.uncertain = True
        raise error

    with pytest.raises(NetworkError):
        notes.open("b-1", "k", "r", unanswered)
    [note] = tmp_path.iterdir()
    assert b'"since"' in note.read_bytes()
    notes.over(notes.open("b-1", "k", "r", lambda: Upload("b-1", "k", "id-1", doubtful=True)))
    assert note.read_bytes().count(b'"since"') == 2
    notes.close()
    assert list(tmp_path.iterdir()) == []


def test_what_is_left_of_a_key_is_taken_once(notes: OpenUploads, tmp_path: Path) -> None:
    opened(notes, 1, "a")
    opened(notes, 2, "b")
    notes.close()
    later = OpenUploads(tmp_path)
    assert [noted.upload_id for noted in later.take_left("b-1", "a")] == ["id-1"]
    assert later.take_left("b-1", "a") == later.take_left("b-2", "b") == []
    assert noted_ids(tmp_path) == {"id-1", "id-2"}  # still, as it is not given up yet
    later.over(Upload("b-1", "a", "id-1"))
    later.close()
    assert left(tmp_path) == [("b", "id-2")]


def test_what_was_asked_for_stays_noted_in_the_next_process(notes: OpenUploads, tmp_path: Path) -> None:
    notes._take(Noted("b-1", "k", "r", 1.0))
    notes.close()
    second = OpenUploads(tmp_path)
    assert len(second.take_left("b-1", "k")) == 1
    [note] = tmp_path.iterdir()
    assert b'"since":1.0' in note.read_bytes()
    second.close()  # it was looked for by now
    assert list(tmp_path.iterdir()) == []


def test_damaged_note(notes: OpenUploads, tmp_path: Path) -> None:
    opened(notes, 1)
    notes.close()
    [note] = tmp_path.iterdir()
    data = note.read_bytes()
    note.write_bytes(b'{"bucket": 3}'.ljust(len(data)) + b"\0" * len(data) + data + b'{"buck')
    assert left(tmp_path) == [("k", "id-1")]


def test_no_notes_where_none_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    notes = OpenUploads(tmp_path / "file/resume")
    notes.over(opened(notes, 1))
    notes.close()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
