"""How long work is shown: a bar on a terminal, few plain lines elsewhere."""

import io
import re
import time

import pytest

from kellgren.progress import SECONDS_BETWEEN_LINES, shown


class Screen(io.StringIO):
    """Standard error that is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when a test says so."""
    now = [0.0]
    monkeypatch.setattr("kellgren.progress.time.monotonic", lambda: now[0])
    monkeypatch.setattr("rich.console.monotonic", lambda: now[0])
    return now


def watched(monkeypatch, screen, **settings):
    """Let standard error be `screen`, whatever the machine says of its own."""
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"TERM": "xterm", "COLUMNS": "120"} | settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stderr", screen)
    return screen


def work(clock, *, seconds, steps, pause=0.0):
    """Steps of some seconds each; `pause` is real time in which a bar may be drawn."""
    with shown("check", steps) as advance:
        for done in range(1, steps + 1):
            clock[0] += seconds
            advance(done, f"{done} knees")
            time.sleep(pause)


def test_a_pipe_sees_a_line_every_quarter_minute_and_not_one_a_case(monkeypatch, clock):
    pipe = watched(monkeypatch, io.StringIO())
    work(clock, seconds=1, steps=481)
    *lines, last = pipe.getvalue().splitlines()
    assert len(lines) == 480 // SECONDS_BETWEEN_LINES
    assert lines[0] == "check: 15/481, 15 knees, about 0:07:46 left"
    assert last == "check: done in 481.0 s, 481 knees"
    assert "\x1b" not in pipe.getvalue()


def test_quick_work_is_one_line(monkeypatch, clock):
    pipe = watched(monkeypatch, io.StringIO())
    work(clock, seconds=0.01, steps=40)
    assert pipe.getvalue() == "check: done in 0.4 s, 40 knees\n"


@pytest.mark.parametrize("seconds", [1, 100])
def test_a_terminal_sees_how_far_it_is_and_the_time_left(monkeypatch, clock, seconds):
    screen = watched(monkeypatch, Screen())
    work(clock, seconds=seconds, steps=4, pause=0.15)
    frames = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())
    left = {1: "0:00:02", 100: "0:03:20"}[seconds]
    assert re.search(rf"check .* left {left} 2 knees", frames)
    assert re.search(r"left 0:00:00 4 knees", frames)


def test_a_terminal_that_cannot_redraw_sees_lines(monkeypatch, clock):
    screen = watched(monkeypatch, Screen(), TERM="dumb")
    work(clock, seconds=20, steps=3)
    assert screen.getvalue().splitlines()[0] == "check: 1/3, 1 knees, about 0:00:40 left"


def test_work_that_fails_is_not_called_done(monkeypatch, clock):
    pipe = watched(monkeypatch, io.StringIO())
    with pytest.raises(ValueError, match="broken"), shown("check", 2):
        raise ValueError("broken")
    assert pipe.getvalue() == ""
