"""The bytes of objects as pieces: rows that hold data themselves or name a window of a file."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from cosfs.emulator.database import Database
from cosfs.emulator.files import FileStore
from cosfs.emulator.records import Bytes, Version
from cosfs.emulator.values import Content, Piece

_INSERT_PIECE = "INSERT INTO pieces (owner, position, length, file, start, data) VALUES (?, ?, ?, ?, ?, ?)"


class PieceStore:
    """Who owns which bytes, and which files nobody needs any more."""

    db: Database
    files: FileStore

    def put_pieces(self, owner: int, pieces: Iterable[Piece], position: int = 0) -> None:
        """Give an owner pieces, one after the other from position. Inside a transaction."""
        rows = []
        for piece in pieces:
            data = None if piece.file else piece.data
            rows.append((owner, position, piece.length, piece.file or None, piece.start, data))
            position += piece.length
        self.db.executemany(_INSERT_PIECE, rows)

    def drop_pieces(self, owner: int, gone: list[str]) -> None:
        """Take an owner's pieces away and note the files. Inside a transaction."""
        sql = "SELECT file FROM pieces WHERE owner = ? AND file IS NOT NULL"
        gone += [row[0] for row in self.db.execute(sql, (owner,))]
        self.db.execute("DELETE FROM pieces WHERE owner = ?", (owner,))

    def unreferenced(self, files: Iterable[str]) -> list[str]:
        """Return those files that no piece names any more. Inside a transaction."""
        return [file for file in set(files) if not self.is_referenced(file)]

    def is_referenced(self, file: str) -> bool:
        return self.db.one("SELECT 1 FROM pieces WHERE file = ? LIMIT 1", file) is not None

    def remove_files(self, files: Iterable[str]) -> None:
        """Unlink files that no piece names. After the transaction."""
        for file in files:
            self.files.remove(file)

    def pieces(self, owner: int, start: int, stop: int) -> list[Piece]:
        """Return the pieces that make up the bytes from start to before stop."""
        if stop <= start:
            return []
        sql = (
            "SELECT position, length, file, start, data FROM pieces "
            "WHERE owner = ?1 AND position < ?3 AND position >= "
            "(SELECT max(position) FROM pieces WHERE owner = ?1 AND position <= ?2) ORDER BY position"
        )
        found = []
        for position, length, file, offset, data in self.db.execute(sql, (owner, start, stop)):
            cut, end = max(start - position, 0), min(stop - position, length)
            if file:
                found.append(Piece(end - cut, b"", file, offset + cut))
            else:
                found.append(Piece(end - cut, data[cut:end]))
        return found

    def content(self, row: Version, start: int, stop: int) -> Content:
        """Return bytes of a version for sending; its files stay until the content is released."""
        pieces = self.pieces(row.id, start, stop)
        files = {piece.file for piece in pieces if piece.file}
        self.files.pin(files)
        return Content(pieces, partial(self.files.unpin, files))

    def all_bytes(self, row: Version) -> Bytes:
        """Describe the content of a version, to be shared by a copy."""
        return Bytes(self.pieces(row.id, 0, row.size), row.size, row.etag, row.crc64)
