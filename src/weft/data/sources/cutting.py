"""Stretches of a file that can be read apart: they begin and end at line ends."""

from __future__ import annotations

import io
from typing import NamedTuple

from weft.data.sources.json_lines import shape
from weft.data.sources.kinds import SourceFile
from weft.data.sources.streams import BLOCK_BYTES, begins_as_utf16, open_stream
from weft.errors import DataError

CHUNK_BYTES = 16 * 2**20


class Chunk(NamedTuple):
    """Bytes `start` to `stop` of a file, of which the first line is `first_line`; the whole of a file that can't be cut."""

    file: SourceFile
    start: int
    stop: int
    first_line: int


def chunks(file: SourceFile, chunk_bytes: int = CHUNK_BYTES) -> list[Chunk]:
    """A file's chunks in order, each at least `chunk_bytes` long but for the last: a pure function of the file's bytes.

    Whatever the chunks, their rows one after another are the same. Raises DataError if the file can't be read.
    """
    try:
        size = file.num_bytes
        if size <= chunk_bytes or not _can_be_cut(file):
            return [Chunk(file, 0, size, 1)]
        return _cut(file, chunk_bytes)
    except OSError as error:
        raise DataError(f"{file.name}: can't be read: {error}") from error


def _can_be_cut(file: SourceFile) -> bool:
    if file.kind not in ("lines", "json", "text") or file.is_packed or begins_as_utf16(file.path):
        return False
    if file.kind == "json":
        stream = open_stream(file.path)
        try:
            return shape(stream) == "lines"
        finally:
            stream.close()
    return file.kind == "lines" or (file.kind == "text" and file.sample_by == "line")


def _cut(file: SourceFile, chunk_bytes: int) -> list[Chunk]:
    found: list[Chunk] = []
    start, first_line = 0, 1
    position, num_lines = 0, 0
    with io.FileIO(file.path) as raw:
        while block := raw.read(BLOCK_BYTES):
            used = 0
            while used < len(block):
                enough = max(used, start + chunk_bytes - position - 1)  # where a line end may end the chunk
                end = block.find(b"\n", enough) + 1 if enough < len(block) else 0
                stop = end or len(block)
                num_lines += block.count(b"\n", used, stop)
                used = stop
                if end:
                    found.append(Chunk(file, start, position + end, first_line))
                    start, first_line = position + end, first_line + num_lines
                    num_lines = 0
            position += len(block)
    if position > start:
        found.append(Chunk(file, start, position, first_line))
    return found
