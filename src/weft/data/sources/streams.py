"""Bytes of a file, unpacked on the way, and the lines in them.

One idea: memory follows the longest row, whatever the file's size and however far it unpacks. What comes before a cut or damaged
place is handed out first; only the next read meets the fault.
"""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from weft.data.parse import MAX_ROW_BYTES
from weft.errors import MissingExtraError

BLOCK_BYTES = 2**20
PACKINGS = (".gz", ".zst")
_PACKED_BYTES = 1024  # 4 bytes of zstd may stand for 128 KiB: this many unpack to 32 MiB at most


class StreamFault(Exception):
    """A stream that can't be read on; `reason` is one of FILE_REASONS, `line` the line or item that is lost with all after it."""

    def __init__(self, reason: str, detail: str, line: int = 0) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail, self.line = reason, detail, line


class Stream(Protocol):
    """Bytes, a block at a time."""

    is_plain: bool
    """Whether its bytes are the file's own."""

    def read1(self, size: int) -> bytes:
        """Up to `size` bytes, b'' at the end (a packed stream may give more or fewer). Raises StreamFault, OSError."""

    def used(self) -> int:
        """Bytes of the file that were read."""

    def close(self) -> None: ...


class Cursor:
    """How far a chunk was read, in bytes of the file."""

    __slots__ = ("position",)

    def __init__(self) -> None:
        self.position = 0


def open_stream(path: Path, start: int = 0, stop: int | None = None) -> Stream:
    """A file's bytes, unpacked as its suffix says; `start` and `stop` are for plain files. Raises OSError, MissingExtraError."""
    name = path.name.lower()
    if name.endswith(".gz"):
        return _Gzip(path)
    if name.endswith(".zst"):
        return _Zstd(path)
    return _Plain(path, start, stop)


class _Plain:
    is_plain = True

    def __init__(self, path: Path, start: int, stop: int | None) -> None:
        self._file = io.FileIO(path)
        self._file.seek(start)
        self._start = start
        self._left = stop - start if stop is not None else -1

    def read1(self, size: int) -> bytes:
        block = self._file.read(size if self._left < 0 else min(size, self._left)) or b""
        if self._left >= 0:
            self._left -= len(block)
        return block

    def used(self) -> int:
        return self._file.tell() - self._start

    def close(self) -> None:
        self._file.close()


class _Gzip:
    is_plain = False

    def __init__(self, path: Path) -> None:
        self._file = io.FileIO(path)
        self._unpacked = gzip.GzipFile(fileobj=self._file)

    def read1(self, size: int) -> bytes:
        try:
            return self._unpacked.read1(size)
        except EOFError:
            raise StreamFault("truncated_file", "the gzip file ends too early; it is lost from here on") from None
        except (zlib.error, gzip.BadGzipFile) as error:
            raise StreamFault("damaged_gzip", f"all from here on is lost: {error}") from None

    def used(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._unpacked.close()
        self._file.close()


class _Zstd:
    is_plain = False

    def __init__(self, path: Path) -> None:
        try:
            import zstandard
        except ImportError as error:
            raise MissingExtraError(f"{path}: .zst files need zstandard: pip install 'weft[zstd]'") from error
        self._file = io.FileIO(path)
        self._error: type[Exception] = zstandard.ZstdError
        self._unpacker = zstandard.ZstdDecompressor()
        self._frame: Any = None
        self._packed = b""
        self._ended = False

    def read1(self, size: int) -> bytes:
        """Between 1 byte and 32 MiB."""
        while True:
            if not self._packed:
                self._packed = self._file.read(2**16) or b""
                if not self._packed:
                    if self._frame is not None:
                        raise StreamFault("truncated_file", "the zstd file ends too early; it is lost from here on")
                    return b""
            if self._frame is None:
                self._frame = self._unpacker.decompressobj()
            part, self._packed = self._packed[:_PACKED_BYTES], self._packed[_PACKED_BYTES:]
            try:
                block: bytes = self._frame.decompress(part)
            except self._error as error:
                raise StreamFault("damaged_zstd", f"all from here on is lost: {error}") from None
            if self._frame.eof:
                self._packed = self._frame.unused_data + self._packed
                self._frame = None
            if block:
                return block

    def used(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()


def begins_as_utf16(path: Path) -> bool:
    """Whether the unpacked bytes begin with UTF-16's mark."""
    stream = open_stream(path)
    head = b""
    try:
        while len(head) < 2 and (block := stream.read1(2)):
            head += block
    except StreamFault:  # whoever reads on meets it again and reports it
        return False
    finally:
        stream.close()
    return head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))


def lines(stream: Stream, cursor: Cursor, number: int = 1) -> Iterator[tuple[int, bytes | None, bool]]:
    """Each line with its number, without its b"\\n"; None where it is longer than MAX_ROW_BYTES; and whether the file ends in it.

    Only b"\\n" ends a line: CR and U+2028 belong to the text.
    """
    held: list[bytes] = []  # the beginning of a line; empty where it is too long already
    held_bytes = 0
    try:
        while block := stream.read1(BLOCK_BYTES):
            *whole, rest = block.split(b"\n")
            if whole:
                is_too_long = held_bytes > MAX_ROW_BYTES
                if held:
                    whole[0] = b"".join((*held, whole[0]))
                for line in whole:
                    if stream.is_plain:
                        cursor.position += len(line) + 1
                    yield number, (None if is_too_long or len(line) > MAX_ROW_BYTES else line), False
                    number += 1
                    is_too_long = False
                held, held_bytes = [], 0
            held_bytes += len(rest)
            if held_bytes > MAX_ROW_BYTES:
                held = []
            else:
                held.append(rest)
            cursor.position = stream.used() - (held_bytes if stream.is_plain else 0)
    except StreamFault as fault:
        fault.line = number
        raise
    if held_bytes:
        yield number, (b"".join(held) if held_bytes <= MAX_ROW_BYTES else None), True
