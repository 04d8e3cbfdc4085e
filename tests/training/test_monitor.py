"""What a training says on its way."""

from __future__ import annotations

from pipeline.standing import Standing, listening
from training.monitor import Monitor


def test_a_log_without_a_bar_says_the_step_the_time_left_and_the_loss(tmp_path):
    heard: list[Standing] = []
    with listening(heard.append):
        watching = Monitor(tmp_path, 0, 10, False, False)
        for step in (1, 2, 3):
            watching.advance()
            watching.metrics(step, {"loss": 0.5, "images_per_s": 12.0})
        watching.close()
    assert [(s.step, s.done, s.total) for s in heard] == [("training", step, 10) for step in range(4)]
    assert heard[-1].current == "loss 0.5, images_per_s 12"
