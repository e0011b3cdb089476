"""Attacks that once got through, each as its author wrote it down."""

import os
import re
import subprocess
import sys

import pytest

from tests.conftest import SHARED, needs_shared

ATTACK = SHARED / "tools/attack.py"
# r08, Ctrl-C while Python itself starts, is not ours to answer; cli/test_starting.py has our part
NAMES = (
    sorted(set(re.findall(r"^def (r\d\d)_", ATTACK.read_text(), re.M)) - {"r08"})
    if ATTACK.exists()
    else []
)


@pytest.mark.slow
@needs_shared
@pytest.mark.skipif(os.name != "posix", reason="pipes, links and limits of POSIX")
@pytest.mark.parametrize("name", NAMES)
def test_it_holds(tmp_path, name):
    tiler = os.path.join(os.path.dirname(sys.executable), "tiler")
    command = [sys.executable, ATTACK, tiler, name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    lines = done.stdout.splitlines()
    assert lines and all(line.startswith("holds ") for line in lines), done.stdout + done.stderr
