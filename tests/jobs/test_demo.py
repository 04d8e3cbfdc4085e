"""The demo's own manners; what it makes is the business of test_wheel.py."""

import contextlib
import os
import signal
import sys

import pytest

from jobs import demo


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_ray_ends_with_a_demo_that_is_told_to_stop(number, monkeypatch, tmp_path):
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP)}
    ended = []

    @contextlib.contextmanager
    def head():
        try:
            yield "http://127.0.0.1:1", dict(os.environ)
        finally:
            ended.append(number)

    monkeypatch.setattr(demo, "head", head)
    monkeypatch.setattr(demo.subprocess, "run", lambda *_, **__: os.kill(os.getpid(), number))
    monkeypatch.setattr(sys, "argv", ["demo.py", "--out", str(tmp_path)])
    try:
        with pytest.raises(SystemExit) as stopped:
            demo.main()
    finally:
        for n, handler in before.items():
            signal.signal(n, handler)
    assert stopped.value.code == 128 + number
    assert ended == [number]
