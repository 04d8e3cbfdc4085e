"""What a training says on its way."""

from __future__ import annotations

import logging

import pytest

from training import monitor
from training.monitor import Monitor


@pytest.mark.parametrize(("every_s", "n_lines"), [(0.0, 3), (1000.0, 0)])
def test_a_log_without_a_bar_has_a_line_now_and_then(tmp_path, monkeypatch, caplog, every_s, n_lines):
    monkeypatch.setattr(monitor, "EVERY_S", every_s)
    watching = Monitor(tmp_path, 0, 10, False, False)
    with caplog.at_level(logging.INFO, "regionpairs"):
        for step in (1, 2, 3):
            watching.metrics(step, {"loss": 0.5, "images_per_s": 12.0})
    watching.close()
    assert len(caplog.records) == n_lines
    if n_lines:
        assert caplog.records[1].message == "step 2 of 10: loss 0.5, images_per_s 12"
