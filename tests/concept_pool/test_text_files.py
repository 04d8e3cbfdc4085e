"""Text files of users: byte order marks, line ends, and bytes that are no text."""

from __future__ import annotations

import pytest

from concept_pool.text_files import read_text


def test_marks_and_line_ends_are_taken_off(tmp_path):
    (tmp_path / "a[1]#%20.txt").write_bytes("\ufeffnaïve\r\ncat\n".encode())
    assert read_text(str(tmp_path / "a[1]#%20.txt")) == "naïve\ncat\n"


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "b.txt").write_bytes(b"cat\n\xff\xfe")
    with pytest.raises(ValueError, match=r"b\.txt: not UTF-8 text, see byte 4"):
        read_text(str(tmp_path / "b.txt"))
    with pytest.raises(FileNotFoundError):
        read_text(str(tmp_path / "none.txt"))
