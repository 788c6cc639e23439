"""Whatever bytes lie in a task's files, every row is accounted for: read = used + quarantined + dropped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from weft.config.settings import Settings
from weft.data.prepare import prepare
from weft.data.store import read_rejects

TEXT = st.text(max_size=30) | st.sampled_from(
    ["</s>", "<s>bot\n", "\x00", "\u2028", "\ud800", "a" * 500, " ", "", "é\u0301"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
GOOD = st.fixed_dictionaries({"prompt": TEXT, "answer": TEXT})
ODD = st.dictionaries(
    st.sampled_from(["prompt", "answer", "system", "messages", "text", "input_ids", "chosen"]), VALUES, max_size=4
)
LINES = (GOOD | ODD | VALUES).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40).map(
    lambda b: b.replace(b"\n", b"")
)
GOOD_LINE = json.dumps({"prompt": "What is 1?", "answer": "It is 1."}).encode()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(LINES, max_size=12),
    end=st.sampled_from([b"\n", b"", b"\r\n"]),
    too_long=st.sampled_from(["drop", "cut"]),
    data=st.data(),
)
def test_every_row_of_any_file_is_accounted_for(
    tokenizer_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[bytes],
    end: bytes,
    too_long: str,
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    lines = [*lines, GOOD_LINE]
    text = b"\n".join(data.draw(st.permutations(lines))) + end
    assume(not text.startswith((b"\xff\xfe", b"\xfe\xff")))  # UTF-16 is refused as a whole
    (folder / "a.jsonl").write_bytes(text)
    run = Settings.model_validate(
        {
            "model": {"base": str(tokenizer_folder)},
            "tasks": {"a": {"path": str(folder / "a.jsonl"), "format": "pairs"}},
            "template": "mftcoder",
            "data": {"max_tokens": 64, "too_long": too_long, "max_bad_rows": 1.0, "cache": str(folder / "cache")},
            "output": str(folder / "run"),
        }
    )
    store = prepare(run).stores[0]
    ledger = store.ledger
    assert ledger.read == sum(1 for line in lines if line.strip(b" \t\r\n")), "a row was lost or counted twice"
    assert ledger.read == ledger.used + ledger.quarantined + sum(ledger.dropped.values())
    assert len(list(read_rejects(store))) == ledger.read - ledger.used
    for index in range(len(store)):
        ids_T, weight_T = store.sample(index)
        assert len(ids_T) == len(weight_T) <= 64
        assert weight_T[0] == 0
        assert (weight_T > 0).any()
