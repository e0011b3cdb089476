"""What scripts find in Python's log."""

import logging
import subprocess
import sys

import pytest

import tiler
from tests.conftest import ROOT
from tiler.findings import Finding
from tiler.run import notes


def test_verbs_note_what_commands_print(filled, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="tiler")
    tiler.split(filled.yaml, tile=128, out=tmp_path / "tiles")
    tiler.check(filled.yaml)
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert any(text.startswith("images cut: ") for text in said)
    assert any(text.startswith("split: detect dataset (") for text in said)
    assert said[-1].startswith("check: ")
    assert {record.name for record in caplog.records} == {"tiler"}


def test_a_callback_is_called_all_the_same(filled, tmp_path, caplog):
    for level in (logging.INFO, logging.WARNING):
        caplog.set_level(level, logger="tiler")
        seen = []
        tiler.check(filled.yaml, progress=lambda done, total, seen=seen: seen.append((done, total)))
        assert seen[-1][0] == seen[-1][1] == len(seen)


def test_progress_is_noted_now_and_then(caplog, monkeypatch):
    caplog.set_level(logging.INFO, logger="tiler")
    clock = iter([0.0, 1.0, 6.0, 7.0, 12.0, 12.5])
    monkeypatch.setattr(notes.time, "monotonic", lambda: next(clock))
    show = notes.watched("images cut", None, notes.images)
    for done in range(1, 6):
        show(done, 5)
    assert [record.getMessage() for record in caplog.records] == [
        "images cut: 2 of 5",
        "images cut: 4 of 5",
        "images cut: 5 of 5",
    ]


def test_findings_have_their_levels_and_are_few(caplog):
    caplog.set_level(logging.INFO, logger="tiler")
    found = [Finding("a.txt", "L07", "repeats", line=i) for i in range(30)]
    notes.finished("split", ["done\x1b"], [*found, Finding("b.png", "I01", "cannot be opened")])
    levels = [record.levelname for record in caplog.records]
    assert levels == ["INFO", "ERROR", *["WARNING"] * 20]
    assert caplog.records[0].getMessage() == "split: done\\x1b"
    assert caplog.records[1].getMessage() == "split: b.png: I01 cannot be opened"
    assert caplog.records[-1].getMessage() == "split: 11 more findings"


@pytest.mark.parametrize("level", ["", "logging.basicConfig(level=logging.INFO)"])
def test_nothing_is_shown_unless_asked_for(level):
    code = f"import logging, tiler\n{level}\ntiler.check('examples/scenes')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == ""
    assert bool(done.stderr) == bool(level)
