import io
import logging
import sys

import pytest

from pipeline.export.progress import track


class Clock:
    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def lines(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("fs4"), "propagate", True)  # another test may have started logging
    caplog.set_level(logging.INFO, logger="fs4")
    return lambda: [record.getMessage() for record in caplog.records]


def test_without_a_terminal_a_line_comes_every_half_minute(lines, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    clock = Clock()
    with track(1000, clock=clock) as advance:
        for _ in range(8):  # 2 images in 8 s
            clock.seconds += 8
            advance(2)
    assert lines() == [
        "8 of 1000 images, 0.25 images/s, 1:06:08 left",
        "16 of 1000 images, 0.25 images/s, 1:05:36 left",
    ]


def test_a_long_step_and_the_end_need_no_further_line(lines, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    clock = Clock()
    with track(40, "maps", clock=clock) as advance:
        clock.seconds += 300
        advance(30)
        clock.seconds += 100
        advance(10)
    assert lines() == ["30 of 40 maps, 0.10 maps/s, 0:01:40 left"]


def test_on_a_terminal_there_is_a_bar_with_the_rate_and_the_time_left(lines, monkeypatch):
    terminal, clock = Terminal(), Clock()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("NO_COLOR", "1")
    with track(60, clock=clock) as advance:
        for _ in range(5):
            clock.seconds += 8
            advance(4)
    drawn = terminal.getvalue()
    assert "20/60" in drawn
    assert "0.5 images/s" in drawn
    assert "0:01:20" in drawn
    assert lines() == []
