"""Text and JSON: byte order marks, line ends, and errors of one short line that name the file."""

from __future__ import annotations

import pytest

import storage


def test_text_with_a_byte_order_mark_and_any_line_ends(tmp_path):
    (tmp_path / "a").write_bytes("\ufeffü\r\nb\rc\n".encode())
    assert storage.read_text(str(tmp_path / "a")) == "ü\nb\nc\n"
    (tmp_path / "a").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert storage.read_json(str(tmp_path / "a")) == {"a": 1}


@pytest.mark.parametrize(
    ("read", "data", "says"),
    [
        (storage.read_text, b"a\nb\xff" + b"x" * 100_000, "not UTF-8 text: line 2, byte 3"),
        (storage.read_json, b"\xff", "not UTF-8"),
        (storage.read_json, b"", "not valid JSON: Expecting value, line 1"),
        (storage.read_json, b'{"a": 1,\n' + b"x" * 100_000, "not valid JSON"),
        (storage.read_json, b"[" * 200_000, "reasonable size"),
        (storage.read_json, b"1" * 5_000, "reasonable size"),
    ],
)
def test_what_cannot_be_read_is_named_in_one_short_line(tmp_path, read, data, says):
    (tmp_path / "bad file").write_bytes(data)
    with pytest.raises(ValueError, match=says) as raised:
        read(str(tmp_path / "bad file"))
    assert str(tmp_path / "bad file") in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400
