"""How a run begins and ends when its surroundings are against it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.cli.test_cli import TILER, run

LIMIT = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]) << 10,) * 2)
os.execv(sys.executable, [sys.executable, "-m", "tiler", *sys.argv[2:]])
"""


def shell(line, *arguments, cwd=None):
    return subprocess.run(
        ["sh", "-c", line, "sh", *map(str, arguments)], capture_output=True, text=True, cwd=cwd
    )


def test_ctrl_c_while_starting_is_one_line_and_130(filled):
    """As the entry script does it: until `main` is found, Python itself answers."""
    code = "from tiler.cli import main; print('on', flush=True); main()"
    for number in range(12):
        command = [sys.executable, "-c", code, "check", str(filled.yaml)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        process.stdout.readline()
        time.sleep(0.002 + 0.008 * number)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode in (0, 130), said
        assert said.startswith("tiler: stopped by SIGINT") or process.returncode == 0
        assert len(said.splitlines()) == 1


def test_a_ctrl_c_that_no_handler_takes_is_one_line_too():
    code = "import sys; sys.modules['tiler.cli.stopping'] = None\nfrom tiler import cli\n"
    code += "import builtins\nown = builtins.__import__\n"
    code += (
        "def stop(name, *a, **k):\n    if 'tiler' in name: raise KeyboardInterrupt\n    return "
        "own(name, *a, **k)\n"
    )
    code += "builtins.__import__ = stop\ncli.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "tiler: stopped by SIGINT\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize(("name", "code"), [("", 0), ("missing", 2)])
def test_a_full_disk_under_stderr_changes_no_exit_code(filled, name, code):
    line = '"$@" 2>/dev/full'
    assert shell(line, *TILER, "check", filled.root / name).returncode == code


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_a_result_that_cannot_be_printed_is_3(filled, backend):
    done = shell('"$@" >/dev/full', *TILER, "split", filled.yaml, "--dry-run", "--backend", backend)
    assert done.returncode == 3
    assert "No space left" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_reader_that_has_enough_is_no_fault(filled):
    done = shell('"$@" | true', *TILER, "check", filled.yaml, "--output-format", "json")
    assert done.stderr == ""


def test_a_working_directory_that_is_gone_is_2(filled, tmp_path):
    (tmp_path / "gone").mkdir()
    done = shell(
        'rmdir "$PWD"; exec "$@"',
        sys.executable,
        "-P",
        *TILER[1:],
        "check",
        filled.yaml,
        cwd=tmp_path / "gone",
    )
    assert done.returncode == 2
    assert done.stderr == "tiler: the working directory no longer exists; change to another\n"


@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are Linux's")
@pytest.mark.parametrize("kibibytes", [70_000, 100_000, 150_000])
@pytest.mark.parametrize("verb", ["check", "split"])
def test_too_little_address_space_is_3_with_one_line(filled, kibibytes, verb):
    command = [sys.executable, "-c", LIMIT, str(kibibytes), verb, str(filled.yaml)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=filled.root.parent)
    assert done.returncode == 3
    assert done.stderr.startswith("tiler: not enough memory")
    assert len(done.stderr.splitlines()) == 1


def test_help_needs_no_working_directory_and_no_memory(tmp_path):
    (tmp_path / "gone").mkdir()
    done = shell(
        'rmdir "$PWD"; exec "$@"',
        sys.executable,
        "-P",
        *TILER[1:],
        "check",
        "--help",
        cwd=tmp_path / "gone",
    )
    assert done.returncode == 0


def test_no_command_at_all_shows_help():
    assert "check" in run().stdout
