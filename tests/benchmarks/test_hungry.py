"""What the threads that decode did, as the share of an annotator tells it."""

from __future__ import annotations

import pytest

from benchmarks.hungry import _decoding
from benchmarks.null_models import Decodings, light_photos


def test_images_that_an_annotator_decodes_are_counted_with_their_seconds(monkeypatch):
    from pipeline.stages import annotator

    monkeypatch.setattr(annotator, "decode", annotator.decode)  # put back behind the test
    decodings = Decodings()
    (picture,) = light_photos(1)
    before = decodings.so_far()
    for _ in range(5):
        pixels, extension = annotator.decode(picture, 10**8)
    after = decodings.so_far()
    assert (pixels.shape, extension) == ((480, 640, 3), "jpg")
    assert (before["n"], after["n"]) == (0, 5)
    assert 0 < after["cpu_s"] <= after["clock_s"] + 0.01
    assert after["clock_s"] <= after["at"] - before["at"]


def test_shares_of_decoding_are_those_between_two_looks():
    before = {"n": 10, "cpu_s": 1.0, "clock_s": 2.0, "at": 0.0}
    after = {"n": 30, "cpu_s": 1.1, "clock_s": 2.3, "at": 0.2}
    found = _decoding(before, after, clock_s=0.2, cpu_s=0.01)  # 20 images, 5 ms each of 10; 0.3 of 2 x 0.2 s
    assert found == pytest.approx({"cpu_ms": 5.0, "share_of_cpu": 0.5, "in_hand": 0.75})
