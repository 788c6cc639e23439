"""One piece of JSON to a row: what is told of each fault, what of the text is kept, and that good rows are what json.loads gives."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.data.parse import MAX_DEPTH, RAW_CHARS, Parser, Row, kind_of
from weft.types import JsonValue, Reject, RowId

ROW = RowId("a.jsonl", 1)


def parse(data: bytes | str) -> Row | Reject:
    return Parser().line(ROW, data.encode() if isinstance(data, str) else data)


def reject(data: bytes | str) -> Reject:
    entry = parse(data)
    assert isinstance(entry, Reject), entry
    return entry


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@given(
    value=st.dictionaries(st.text(), VALUES) | st.lists(VALUES), ascii=st.booleans(), indent=st.sampled_from([None, 1])
)
def test_a_row_is_the_value_that_was_written(value: JsonValue, ascii: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii, indent=indent)
    assert parse(text) == Row(ROW, value, len(text))


@given(pairs=st.lists(st.tuples(st.sampled_from(["a", "b", 'a"', "a:", '":', "a\\", ""]), VALUES)))
def test_a_double_key_is_found_whatever_the_keys_and_the_strings_are(pairs: list[tuple[str, JsonValue]]) -> None:
    text = "{" + ", ".join(f"{json.dumps(key)} : {json.dumps(value)}" for key, value in pairs) + "}"
    entry = parse(text)
    if len({key for key, _ in pairs}) < len(pairs):
        assert isinstance(entry, Reject)
        assert (entry.reason, entry.raw) == ("duplicate_key", text)
    else:
        assert isinstance(entry, Row)
        assert entry.value == dict(pairs)


@pytest.mark.parametrize(
    "text", ['{"x": {"a": 1, "a": 1}}', '{"x": [[{"a": {}, "b": 1, "a": {}}]]}', '[{"a": 1, "\\u0061": 2}]']
)
def test_a_double_key_is_found_at_any_depth_and_in_any_spelling(text: str) -> None:
    assert reject(text).reason == "duplicate_key"


@pytest.mark.parametrize(
    ("data", "reason", "raw"),
    [
        (b'{"a": ', "bad_json", '{"a": '),
        (b'{"a": "\xff\xfe"}', "bad_utf8", '{"a": "\udcff\udcfe"}'),
        (b'{"a": "\\ud800"}', "lone_surrogate", '{"a": "\\ud800"}'),
        (b'{"a": 1, "a": 2}', "duplicate_key", '{"a": 1, "a": 2}'),
        (b'{"a": NaN}', "bad_json", '{"a": NaN}'),
        (b"3.5", "not_an_object", 3.5),
        (b'"text"', "not_an_object", "text"),
        (b"null", "not_an_object", None),
        (b'\xef\xbb\xbf{"a": }', "bad_json", '{"a": }'),
        (b'{"a": "' + b"x" * RAW_CHARS, "bad_json", ""),
        (b'"' + b"x" * RAW_CHARS + b'"', "not_an_object", ""),
        (b'{"a": "\xff' + b"x" * RAW_CHARS + b'"}', "bad_utf8", ""),
    ],
)
def test_a_reject_keeps_the_row_as_it_stood_up_to_a_limit(data: bytes, reason: str, raw: JsonValue) -> None:
    entry = reject(data)
    assert (entry.reason, entry.raw) == (reason, raw)
    json.dumps(entry.raw)


@given(data=st.binary(max_size=60))
def test_the_raw_text_of_a_reject_gives_its_bytes_back(data: bytes) -> None:
    entry = parse(data)
    if isinstance(entry, Reject) and entry.reason in ("bad_utf8", "bad_json"):
        assert isinstance(entry.raw, str)
        assert entry.raw.encode("utf-8", "surrogateescape") == data.removeprefix(b"\xef\xbb\xbf")


@pytest.mark.parametrize(
    ("number", "told"),
    [
        ("NaN", "NaN is not"),
        ("-Infinity", "Infinity is not"),
        ("1e999", "larger"),
        ("-1" + "0" * 5000, "5002 digits"),
        ("9" * 5000 + ".5", "larger"),
    ],
)
@pytest.mark.parametrize("place", ['{"a": %s}', "[%s]", '{"a": [{"b": %s}], "c": 1}'])
def test_numbers_that_json_or_python_can_not_hold_are_refused(number: str, told: str, place: str) -> None:
    entry = reject(place % number)
    assert entry.reason == "bad_json"
    assert told in entry.detail


@pytest.mark.parametrize("number", ["0", "-0", "123456789012345678901234567890", "1.5e3", "1e-999", "-0.0", "9" * 4000])
def test_numbers_are_those_of_json_loads(number: str) -> None:
    entry = parse(f"[{number}]")
    assert isinstance(entry, Row)
    assert repr(entry.value) == repr(json.loads(f"[{number}]"))


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "\\ud800"}',
        '{"a": "\\uDFFF x"}',
        '{"\\ud83d": 1}',
        '{"a": "\\ude00\\ud83d"}',
        '{"a": [["é", "\\ud800"]]}',
        '[["x", {"b": {"c\\udc00": []}}]]',
        "[" + '"x",' * 40 + '"\\udc00"]',
    ],
)
def test_half_a_surrogate_pair_is_found_wherever_it_stands(text: str) -> None:
    assert reject(text).reason == "lone_surrogate"


@pytest.mark.parametrize(
    "text", ['{"a": "\\ud83d\\ude00"}', '{"a": "é\\\\ud800"}', '{"a": "\\\\ud800"}', '{"a": "퟿\\ud7ff"}']
)
def test_what_only_looks_like_half_a_pair_is_kept(text: str) -> None:
    entry = parse(text)
    assert isinstance(entry, Row)
    assert entry.value == json.loads(text)


@pytest.mark.parametrize(("opening", "closing", "depth"), [("[", "]", 1), ('{"a":', "}", 1), ('[{"b":', "}]", 2)])
def test_nesting_is_measured_exactly(opening: str, closing: str, depth: int) -> None:
    deepest = MAX_DEPTH // depth
    assert isinstance(parse(opening * deepest + "1" + closing * deepest), Row)
    deeper = opening * deepest + "[]" + closing * deepest
    assert reject(deeper).reason == "too_deep"


def test_a_list_of_many_numbers_hides_nothing_that_nests() -> None:
    deep = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert reject("[" + "1, " * 100 + deep + "]").reason == "too_deep"


def test_one_parser_forgets_the_fault_of_the_row_before() -> None:
    parser = Parser()
    for bad in (b'{"a": NaN}', b'{"a": 1, "a": 1}', b"[" + b"9" * 5000 + b"]", b'{"a": NaN'):
        assert isinstance(parser.line(ROW, bad), Reject)
        assert isinstance(parser.line(ROW, b'{"a": 1}'), Row)


def test_kinds_are_told_in_words() -> None:
    assert [kind_of(value) for value in ({}, [], "", True, 1, 1.0, None)] == [
        "an object",
        "a list",
        "a string",
        "a truth value",
        "a number",
        "a number",
        "null",
    ]
