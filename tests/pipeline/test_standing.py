"""How far a run has come: rates, what is left, and a log that is neither silent nor loud."""

from __future__ import annotations

import logging

import pytest

from pipeline.build import build
from pipeline.run_local import LocalRunner
from pipeline.sources.settings import SourceSettings
from pipeline.standing import Pace, PlainLog, Standing, duration, line, listening, tell
from tests.pipeline import worlds


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def plain(caplog):
    clock = Clock()
    with caplog.at_level(logging.INFO, "regionpairs"):
        yield PlainLog(clock=clock), clock, caplog


def parts(done: int, total: int = 1000, **more) -> Standing:
    return Standing("parts", "parts", done, total, n_samples=64 * done, n_regions=640 * done, **more)


def test_a_log_has_a_line_every_ten_seconds_and_one_at_the_end(plain):
    said, clock, caplog = plain
    for i in range(1001):
        clock.now = i * 0.1
        said(parts(i))
        said.tick()
    times = [r.message for r in caplog.records]
    assert len(times) == 10  # 100 seconds, the last line being the end's
    assert times[-1].startswith("parts 1000/1000 (100 %): 64000 images")
    assert "left" not in times[-1]
    assert "1:30 min left" in times[0]


def test_a_silent_step_says_every_ten_seconds_that_it_is_at_work(plain):
    said, clock, caplog = plain
    said(Standing("text embeddings"))
    for clock.now in range(35):
        said.tick()
    assert [r.message for r in caplog.records] == [f"text embeddings; {s} s so far" for s in (10, 20, 30)]


def test_what_is_over_is_not_said_again(plain):
    said, clock, caplog = plain
    said(parts(1000))
    for clock.now in range(100):
        said.tick()
    assert len(caplog.records) == 1


def test_rates_are_those_of_the_last_minute_and_of_one_step():
    pace = Pace()
    for second in range(200):  # ten parts a second, then one
        done = 10 * second if second < 100 else 1000 + (second - 100)
        pace.add(parts(done, total=2000), second)
    assert pace.images_per_s == pytest.approx(64, rel=0.02)
    assert pace.regions_per_s == pytest.approx(640, rel=0.02)
    assert pace.left_s == pytest.approx(2000 - 1099, rel=0.02)
    pace.add(Standing("another step"), 200)
    assert (pace.images_per_s, pace.left_s) == (0, None)


@pytest.mark.parametrize(
    "standings", [[], [parts(0)], [parts(0, 0)], [parts(5), parts(5)], [parts(5), parts(3)]]
)
def test_nothing_is_foretold_where_nothing_is_known(standings):
    pace = Pace()
    for standing in standings:
        pace.add(standing, 1.0)
    assert pace.left_s is None
    assert pace.images_per_s == 0
    assert all(line(s, pace) for s in standings)


def test_seconds_for_people():
    assert [duration(s) for s in (0.4, 59.4, 59.6, 200, 7500, 300000)] == [
        "0 s", "59 s", "1:00 min", "3:20 min", "2:05 h", "3.5 days",
    ]  # fmt: skip


def test_a_build_tells_its_steps_in_order_and_counts_every_image_once(tmp_path):
    heard: list[Standing] = []
    with listening(heard.append):
        built = worlds.settings(tmp_path / "data", SourceSettings(count=20, size=64))
        summary = build(built, LocalRunner())
        assert list(dict.fromkeys(s.step for s in heard)) == [
            "index",
            "concept pool",
            "text embeddings",
            "parts",
        ]
        last = heard[-1]
        assert last.finished
        assert (last.n_samples, last.of_samples) == (20, 20)
        assert (last.n_regions, last.n_pairs, last.n_rejected) == (
            summary["n_regions"], summary["n_pairs"], summary["n_rejected"],
        )  # fmt: skip
        counts = [s.n_samples for s in heard if s.step == "parts"]
        assert counts == sorted(counts)
        heard.clear()
        build(built, LocalRunner())
        assert heard == []  # nothing is to be done, and nothing is told
    tell(Standing("elsewhere"))
    assert heard == []


def test_the_time_left_grows_while_nothing_comes(plain):
    """A part that takes far longer than the ones before it must not be promised for the same minute again and again."""
    said, clock, caplog = plain
    for clock.now in (0, 20, 40):
        said(parts(int(clock.now) // 20, total=4))
    for clock.now in range(41, 100):
        said.tick()
    left = [r.message.partition(" images/s, ")[2].partition(" left")[0] for r in caplog.records]
    assert left == ["1:00 min", "40 s", "40 s", "40 s", "1:10 min", "1:20 min", "1:30 min"]
