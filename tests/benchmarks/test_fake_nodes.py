"""What the fake cluster starts ends with it."""

from __future__ import annotations

import pytest

from benchmarks import fake_nodes


def of_the_cluster(folder: str) -> list[int]:
    return [
        pid for pid, words in fake_nodes.processes() if any(f"{folder}/session_" in word for word in words)
    ]


def test_a_head_that_is_ended_while_it_starts_leaves_nothing_behind(tmp_path, monkeypatch):
    """As Ray's log monitor, which lives on: a process of the head's that does not end with it."""

    def told_to_stop(*_: object) -> bool:
        if not of_the_cluster(str(tmp_path)):
            return False
        raise SystemExit(143)

    monkeypatch.setattr(fake_nodes, "_is_up", told_to_stop)
    head = ["bash", "-c", f"(exec -a {tmp_path}/session_1 sleep 60) & wait"]
    with pytest.raises(SystemExit), fake_nodes._started(head, {}, tmp_path / "head.log"):
        pass
    assert of_the_cluster(str(tmp_path)) == []
