"""Long JSON, record by record: the file that `json.dumps` of the whole would be read as."""

from __future__ import annotations

import json

import pytest

from exports.json_files import json_lines, json_list, json_lists

ITEMS = [{"a": 1, "b": "é\n"}, {"a": 2.5}, []]


@pytest.mark.parametrize("n", [0, 1, 3])
def test_lists_read_back_as_they_were_added(tmp_path, n):
    with json_list(str(tmp_path / "list.json")) as add:
        for item in ITEMS[:n]:
            add(item)
    assert json.loads((tmp_path / "list.json").read_text("utf-8")) == ITEMS[:n]
    for head in ({}, {"info": {"x": 1}}):
        with json_lists(str(tmp_path / "lists.json"), head, ("one", "two")) as lists:
            for item in ITEMS[:n]:
                lists["one"](item)
                lists["two"]([item])
        found = json.loads((tmp_path / "lists.json").read_text("utf-8"))
        assert found == {**head, "one": ITEMS[:n], "two": [[i] for i in ITEMS[:n]]}
    with json_lines(str(tmp_path / "lines.jsonl")) as add:
        for item in ITEMS[:n]:
            add(item)
    lines = (tmp_path / "lines.jsonl").read_text("utf-8").split("\n")
    assert [json.loads(line) for line in lines[:-1]] == ITEMS[:n]


def test_what_json_has_no_word_for_is_refused_and_leaves_no_file(tmp_path):
    def write(opened):
        with opened(str(tmp_path / "x.json")) as add:
            add(ITEMS[0])
            add(float("nan"))

    for opened in (json_list, json_lines):
        with pytest.raises(ValueError, match="JSON"):
            write(opened)
    with pytest.raises(KeyError), json_lists(str(tmp_path / "x.json"), {}, ("one",)) as lists:
        lists["two"](1)
    assert list(tmp_path.iterdir()) == []
