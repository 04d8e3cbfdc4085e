"""A terminal gets a view that moves; a file gets lines. What comes from data reaches neither raw."""

from __future__ import annotations

import io
import logging
import time

import pytest

from jobs import progress
from jobs.progress import watched
from pipeline.standing import PlainLog, Standing, tell

STANDING = Standing(
    "parts", "parts", 3, 8, 192, 512, 1920, 700, 5, "000002-0123456789ab",
    {"annotate": {"images_per_s_of_one": 12.5, "workers": 2, "waiting": 3, "busy_share": 0.97}},
)  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return Terminal()


def test_a_terminal_shows_images_rates_rejects_time_and_stages(terminal):
    with watched(terminal):
        tell(Standing("parts", "parts", 2, 8, 128, 512, 1280))
        time.sleep(0.05)
        tell(STANDING)
        time.sleep(0.6)
    shown = terminal.getvalue()
    for words in ("3/8 parts", "192 of 512 images", "images/s", "regions/s", "5 rejected", "left", "annotate", "97 %",
                  "000002-0123456789ab"):  # fmt: skip
        assert words in shown
    assert "\x1b[" in shown


def test_the_log_goes_on_above_the_view_and_what_it_quotes_is_escaped(terminal):
    handler = logging.StreamHandler(terminal)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        with watched(terminal):
            tell(STANDING)
            logging.getLogger("regionpairs").warning("a [bold]caption[/bold] \x1b]0;owned\x07 :smile:")
        assert handler.stream is terminal
    finally:
        root.removeHandler(handler)
    shown = terminal.getvalue()
    assert r"a [bold]caption[/bold] \x1b]0;owned\x07 :smile:" in shown
    assert "\x1b]0;" not in shown


def test_the_view_is_closed_by_what_a_run_raises(terminal):
    def run() -> None:
        with watched(terminal):
            tell(STANDING)
            raise ValueError("no samples")

    with pytest.raises(ValueError, match="no samples"):
        run()
    assert terminal.getvalue().count("\x1b[?25h") == 1  # the cursor is shown again


@pytest.mark.parametrize("term", ["dumb", None])
def test_no_view_where_the_terminal_cannot_show_one(term, monkeypatch, terminal):
    assert progress.is_terminal(terminal)
    assert not progress.is_terminal(io.StringIO())
    monkeypatch.delenv("TERM")
    if term:
        monkeypatch.setenv("TERM", term)
    assert not progress.is_terminal(terminal)


def test_a_plain_log_speaks_up_in_silence_and_holds_no_escape(monkeypatch, caplog):
    monkeypatch.setattr(progress, "TICK_S", 0.02)
    monkeypatch.setattr(progress, "PlainLog", lambda: PlainLog(every_s=0.1))
    stream = io.StringIO()
    with caplog.at_level(logging.INFO, "regionpairs"), watched(stream):
        tell(Standing("text embeddings"))
        time.sleep(0.5)
    said = [r.message for r in caplog.records]
    assert 2 <= len(said) <= 5
    assert all(m.startswith("text embeddings; ") for m in said)
    assert stream.getvalue() == ""
