"""Progress: what is yielded, what is said, and who decides."""

import logging
import sys

import pytest

from colbert_research.progress import VARIABLE, about, advance, mode, progress, reporting


def lines(caplog, total: int) -> list[str]:
    with caplog.at_level(logging.INFO, "colbert_research"):
        assert list(progress(iter(range(total)), total=total, description="encode", unit="texts")) == list(range(total))
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("total", [1, 3, 7, 10, 64, 1000])
def test_a_line_every_tenth(caplog, monkeypatch, total):
    monkeypatch.setenv(VARIABLE, "log")
    said = [int(line.split()[1]) for line in lines(caplog, total)]
    expected = sorted({-(-tenth * total // 10) for tenth in range(1, 11)})  # the first item at or past each tenth
    assert said == expected
    assert caplog.records[-1].getMessage().startswith(f"encode: {total} of {total} texts, ")


@pytest.mark.parametrize("chosen", ["off", "bar"])
def test_other_modes_log_nothing_and_yield_everything(caplog, monkeypatch, capsys, chosen):
    monkeypatch.setenv(VARIABLE, chosen)
    assert lines(caplog, 50) == []
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("encode" in captured.err) == (chosen == "bar")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "about 0 s"), (89, "about 89 s"), (90, "about 2 min"), (5399, "about 90 min"), (9000, "about 2.5 h")],
)
def test_times_in_words(seconds, said):
    assert about(seconds) == said


def test_neither_the_first_line_nor_the_last_says_anything_of_time_left(caplog, monkeypatch):
    monkeypatch.setenv(VARIABLE, "log")
    first, *between, last = lines(caplog, 10)
    assert all(line.endswith(" left") for line in between)
    assert first.endswith(" s")
    assert last.endswith(" s")


def test_a_start_that_comes_once_is_no_pace(caplog, monkeypatch):
    """What many runs share is computed before the first: 5.2 h were said to be left, after 687 s, of five minutes."""
    monkeypatch.setenv(VARIABLE, "log")
    clock = iter([0.0, 687.0, 699.0])
    monkeypatch.setattr("colbert_research.progress.time.monotonic", lambda: next(clock))
    with caplog.at_level(logging.INFO, "colbert_research"), reporting(total=28, description="sweep", unit="runs"):
        advance(1)
        advance(1)
    said = [record.getMessage() for record in caplog.records]
    assert said == ["sweep: 1 of 28 runs, 687 s", "sweep: 2 of 28 runs, 699 s, about 5 min left"]


def test_nothing_to_do(caplog, monkeypatch):
    monkeypatch.setenv(VARIABLE, "log")
    assert lines(caplog, 0) == []


def test_no_silence_is_longer_than_ten_seconds(caplog, monkeypatch):
    """A thousand texts of a shard took a hundred seconds, and nothing was said."""
    monkeypatch.setenv(VARIABLE, "log")
    clock = iter(range(0, 10_000, 3))
    monkeypatch.setattr("colbert_research.progress.time.monotonic", lambda: float(next(clock)))
    with caplog.at_level(logging.INFO, "colbert_research"), reporting(total=1000, description="encode", unit="texts") as report:
        for _ in range(30):
            advance(1)
        report.at(30)
    advance(1)  # nothing is under way
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 30 * 3 // 12
    assert said[0] == "encode: 4 of 1000 texts, 12 s, about 50 min left"


def test_who_works_within_a_report_makes_no_second_one(monkeypatch, capsys):
    monkeypatch.setenv(VARIABLE, "bar")
    with reporting(total=4, description="encode", unit="texts") as report:
        advance(3)
        report.at(2)
        assert report.done == 3
        report.at(9)
    assert report.done == 4
    assert capsys.readouterr().err.count("100%") == 1


def test_a_notebook_that_is_open_gets_a_bar(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.delenv("VSCODE_PID", raising=False)
    assert mode() == "log", "papermill"
    monkeypatch.setenv("JPY_SESSION_NAME", "work.ipynb")
    assert mode() == "bar"


def test_the_terminal_decides_when_nobody_else_does(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    for watched, expected in ((True, "bar"), (False, "log")):
        monkeypatch.setattr(sys.stderr, "isatty", lambda watched=watched: watched, raising=False)
        assert mode() == expected
    monkeypatch.setenv(VARIABLE, "off")
    assert mode() == "off"


def test_an_unknown_mode(monkeypatch):
    monkeypatch.setenv(VARIABLE, "loud")
    with pytest.raises(ValueError, match="'loud': expected bar, log or off"):
        list(progress([1], total=1, description="x"))
