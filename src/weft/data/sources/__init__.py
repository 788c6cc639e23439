"""Files to rows: every row of a task with a stable id, or the reason why it can't be read.

One idea: a fault costs the row it is in, never the run and never silently the rows after it. Only where a file gives no next row to
go on with (a cut gzip, a broken array, a damaged Parquet) is the rest of it lost, and then the one Reject has a reason in FILE_REASONS:
it stands for an unknown number of rows, and a budget must not count it as one.

```
paths --files--> SourceFile --chunks--> Chunk --read--> Row | Reject
```

Files that hold a row a line are cut into chunks, which may be read apart; memory follows the longest row and not the file.
"""

from weft.data.sources.cutting import CHUNK_BYTES, Chunk, chunks
from weft.data.sources.find import files, of_task, source_file
from weft.data.sources.kinds import SUFFIXES, HubSplit, SampleBy, SourceFile
from weft.data.sources.reading import FILE_REASONS, Reading, read, rows

__all__ = [
    "CHUNK_BYTES",
    "FILE_REASONS",
    "SUFFIXES",
    "Chunk",
    "HubSplit",
    "Reading",
    "SampleBy",
    "SourceFile",
    "chunks",
    "files",
    "of_task",
    "read",
    "rows",
    "source_file",
]
