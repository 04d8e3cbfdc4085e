"""One rule for what a caption is: any value in, storable text out, never an error."""

from __future__ import annotations

import json
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from concept_pool.captions import (
    MAX_CAPTION_CHARS,
    MAX_CAPTIONS,
    caption_fields,
    captions_of,
    captions_of_members,
    captions_of_record,
    captions_of_text,
    decode_text,
    parse_json,
    storable,
)


class Hostile:
    def __getattr__(self, name):
        raise RuntimeError(name)


class BadList(list):
    def __iter__(self):
        yield "a dog"
        raise OSError


@pytest.mark.parametrize(
    ("value", "expected"),
    ids=lambda _: "",
    argvalues=[
        ("  a dog \n", ["a dog"]), ("", []), (" \t\n", []),
        ("\u200b\u200d\ufeff", []), (None, []), (True, []), (False, []),
        (1984, ["1984"]), (0, ["0"]), (2.5, ["2.5"]), (3.0, ["3"]), (float("nan"), []), (float("inf"), []), (10**5000, []),
        (Decimal("1.5"), ["1.5"]), (Decimal("NaN"), []), (Decimal("sNaN"), []), (1j, []), (object(), []),
        (b"a dog", ["a dog"]), (b"caf\xe9", ["caf\ufffd"]), (bytearray(b"x"), ["x"]), (memoryview(b"xyz")[::2], ["xz"]),
        ("a dog".encode("utf-16"), ["a dog"]), (b"\xef\xbb\xbfdog", ["dog"]),
        (["a", "", None, ["b", (3,)], {"c"}], ["a", "b", "3", "c"]), ((), []), ({}, []),
        ({"en": "a red ball", "fr": "une balle", "score": 0.9, "id": 7, "ok": True}, ["a red ball", "une balle"]),
        ({"raw": "a dog", "tokens": ["a", "dog"], "sentid": 3}, ["a dog"]),
        ({"Caption": ["x", "y"], "z": "w"}, ["x", "y"]),
        ({"a": {"b": {"text": "deep"}}}, ["deep"]), ({7: "seven"}, ["seven"]),
        (np.array(["a", "b"]), ["a", "b"]), (np.float32(2.5), ["2.5"]), (np.bool_(True), []), (np.str_("x"), ["x"]),
        (np.bytes_(b"x"), ["x"]),
        (np.array([["a"], ["b"]], object), ["a", "b"]), (np.array("x"), ["x"]), (np.float64("nan"), []),
        (pa.scalar("x"), ["x"]), (pa.scalar([b"x", None]), ["x"]), (pa.array(["x", "y"]), ["x", "y"]),
        (pa.scalar(None), []),
        ("half an emoji \ud83d", ["half an emoji \ufffd"]), ("whole \ud83d\ude00", ["whole \U0001f600"]),
        ("x\0y\x1b]0;owned\x07\x9b2J\x7f", ["x y ]0;owned  2J"]), ("two\r\nlines\tand", ["two\r\nlines\tand"]),
        (Hostile(), []), (BadList(["x"]), ["a dog"]), ([Hostile()], []),
    ],
)  # fmt: skip
def test_captions_of_a_value(value, expected):
    found = captions_of(value)
    assert found == expected
    assert all(type(caption) is str for caption in found)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.decimals()
    | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner),
    max_leaves=20,
)  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(VALUES)
def test_any_value_gives_text_that_can_be_stored(value):
    for caption in captions_of(value):
        assert caption
        assert caption == caption.strip()
        assert "\0" not in caption
        assert captions_of(caption) == [caption]
        pa.array([caption])
        json.dumps(caption).encode()
    captions_of_record({"caption": value})


def test_number_and_length_of_captions_are_limited():
    assert captions_of(["y"] * 20_000) == ["y"] * MAX_CAPTIONS
    assert captions_of("x" * 10**7) == ["x" * MAX_CAPTION_CHARS]
    assert captions_of(b"x" * 10**7) == ["x" * MAX_CAPTION_CHARS]
    assert captions_of([[]] * 10**6) == []
    nested = "a dog"
    for _ in range(1000):
        nested = [nested]
    assert captions_of(nested) == []
    loop: list = ["a dog"]
    loop.append(loop)
    assert set(captions_of(loop)) == {"a dog"}


def test_lines_of_a_text():
    assert captions_of_text(b"\xef\xbb\xbfa dog\r\n\n  \na cat") == ["a dog", "a cat"]
    assert captions_of_text("a dog\u2028a cat".encode()) == ["a dog", "a cat"]
    assert captions_of_text(b"") == []


def test_fields_of_a_record():
    record = {"text": "c", "Caption": "b", "captions": ["a", "b"], "url": "u", 7: "x"}
    assert caption_fields(record) == ["captions", "Caption", "text"]
    assert captions_of_record(record) == ["a", "b", "c"]
    assert captions_of_record(record, "url") == ["u"]
    assert captions_of_record(record, "none") == []


def test_members_of_a_sample():
    assert captions_of_members(b"a dog", b'{"caption": "a dog"}') == (["a dog"], True)
    assert captions_of_members(b"a dog", b'{"caption": "a pet"}') == (["a dog", "a pet"], True)
    assert captions_of_members(b"two\nlines", b'{"caption": "two\\nlines"}') == (["two\nlines"], True)
    assert captions_of_members(b"a dog", b"{broken") == (["a dog"], False)
    assert captions_of_members(None, b'["a", "b"]') == (["a", "b"], True)
    assert captions_of_members(None, b'"a dog"') == (["a dog"], True)
    assert captions_of_members(None, None) == ([], True)


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 10**5, b"1" * 5000, b"\xff\xfe", b"\0", b"{" * 10**5])
def test_json_that_cannot_be_read_is_a_short_value_error(data):
    with pytest.raises(ValueError, match=r".") as e:
        parse_json(data)
    assert type(e.value) is ValueError
    assert len(str(e.value)) < 200


def test_text_is_decoded_by_its_mark():
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        assert decode_text("caf\u00e9".encode(encoding)) == "caf\u00e9"
    assert storable("plain") == "plain"
