"""What is printed: nothing acts on the terminal, all encodings will do, progress in a log is a line now and then."""

from __future__ import annotations

import io
import sys

import pytest

from aploss_mx import progress
from aploss_mx.console import complain, safe_output
from aploss_mx.progress import track
from aploss_mx.text import cut, shown, visible

HIDDEN = ["\x1b", "\0", "\x07", "\b", "\r", "\x7f", "\x9b", "\u202e", "\u2066", "\u2028", "\ud800", "\udcff"]


@pytest.mark.parametrize("character", HIDDEN, ids=ascii)
def test_what_acts_on_a_terminal_is_written_as_an_escape(character):
    text = visible(f"a{character}b", lines=True)
    assert text.isascii() and text.isprintable() and text.startswith("a\\") and text.endswith("b")
    assert text[1:-1].encode().decode("unicode_escape") == character


def test_letters_of_all_scripts_stay_as_they_are():
    text = "Grüße → 猫 👩‍🚀 עברית e\u0301"
    assert visible(text) == text
    assert visible("a\nb") == "a\\nb" and visible("a\nb", lines=True) == "a\nb"


@pytest.mark.parametrize(
    "value", [10**5000, "x" * 1000, ["x" * 1000], {"a": 1}, None], ids=lambda value: type(value).__name__
)
def test_values_are_shown_in_short(value):
    assert len(shown(value)) < 150


def test_deep_values_are_shown_as_their_type():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert shown(deep) == "a list"
    assert cut("x" * 100) == "x" * 100 and cut("x" * 101).startswith("x" * 100 + " … (101 ")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_any_name_can_be_printed(monkeypatch, encoding):
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding=encoding, errors="strict")
    monkeypatch.setattr(sys, "stdout", stream)
    with safe_output():
        print("é → 猫\udcff\x1b[2J", "two\nlines")
    assert sys.stdout is stream and stream.errors == "strict"
    stream.flush()
    text = written.getvalue().decode(encoding)
    assert "\x1b" not in text and "\\udcff\\x1b[2J two\nlines\n" in text
    assert ("é" in text) == (encoding != "ascii") and ("猫" in text) == (encoding == "utf-8")


def test_a_stream_without_an_encoding_will_do(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    with safe_output():
        print("\x1b")
    assert sys.stdout.getvalue() == "\\x1b\n"


def test_complaints_go_to_standard_error(capsys):
    complain("a\x1bb\nc")
    assert capsys.readouterr() == ("", "a\\x1bb\nc\n")


# Progress ----------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets, in seconds."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_line_a_minute(capsys, clock):
    for number in track(range(150), "detecting", unit="images"):
        clock[0] = number * 1.0
    assert capsys.readouterr().err.splitlines() == ["detecting: 61 of 150 images", "detecting: 121 of 150 images"]


def test_a_log_gets_what_a_bar_would_show(capsys, clock):
    with track(total=10, initial=3, unit="steps") as bar:
        bar.set_description("epoch 1/2")
        bar.set_postfix_str("class 0.5")
        bar.update()
        clock[0] = 60.0
        bar.update(2)
    assert capsys.readouterr().err == "epoch 1/2: 6 of 10 steps, class 0.5\n"


def test_short_and_hidden_work_leaves_a_log_alone(capsys, clock):
    assert list(track(iter("abc"), "reading")) == list("abc")
    for number in track(range(3), "hidden", hidden=True):
        clock[0] = 100.0 * number
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(track(range(3), "detecting")) == [0, 1, 2]
    assert "detecting: 100%" in terminal.getvalue()
