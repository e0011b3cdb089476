"""Every command and every script in the README and the docs is run, and says what it is said to
say.
"""

import re
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT, SHARED
from tiler.findings import CODES
from tiler.images import lossless

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)


@pytest.fixture
def clone(tmp_path):
    for name in ("examples", "configs"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_commands_run(page, clone):
    made = []
    extra = blocks(page, "sh lossless") if lossless.missing() is None else []
    for block in blocks(page, "sh") + extra:
        for line in block.strip().splitlines():
            if line.startswith("python3 -m venv"):
                continue  # the set-up commands; .ci/run runs the tests' one
            assert line.startswith("tiler "), line
            done = subprocess.run(
                [sys.executable, "-m", *line.split()], cwd=clone, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{line}\n{done.stderr}"
            made.append(line)
        if page.stem != "stopping" and "args.yaml" not in block:
            shutil.rmtree(clone / "tiles", ignore_errors=True)  # each block stands for itself


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.stem)
def test_scripts_run(page, clone):
    for block in blocks(page, "python"):
        done = subprocess.run(
            [sys.executable, "-c", block], cwd=clone, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


def test_the_readme_shows_what_the_command_prints(clone):
    (shown,) = blocks(ROOT / "README.md", "text")
    command, *lines = shown.strip().splitlines()
    done = subprocess.run(
        [sys.executable, "-m", *command.split()[1:]], cwd=clone, capture_output=True, text=True
    )
    assert [line.rstrip() for line in done.stdout.splitlines()[:-1]] == lines


def test_the_prep_script_runs(clone):
    done = subprocess.run(
        [sys.executable, "examples/prepare.py"], cwd=clone, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "train with" in done.stdout


def test_every_finding_code_is_explained():
    text = "".join(
        (ROOT / "docs" / f"{page}.md").read_text() for page in ("check", "merge", "score")
    )
    rows = re.findall(r"^\| (\w\d\d) \| (error|warning|note) \| (.*?) \|$", text, re.M)
    assert sorted(rows) == sorted(
        (code, level, meaning) for code, (level, meaning) in CODES.items()
    )


def test_links_between_pages_hold():
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_example_is_small_and_its_pictures_are_large():
    from PIL import Image

    files = [p for p in (ROOT / "examples/scenes").rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 2_000_000
    for path in files:
        if path.suffix == ".jpg":
            with Image.open(path) as image:
                assert image.size == (2400, 1800)


@pytest.mark.parametrize(
    "data", ["examples/scenes", SHARED / "data" / "cars_detect"], ids=["scenes", "cars"]
)
def test_the_chain_ends_with_the_report(clone, data):
    """Split, predict (simulated), merge, score: in one script, on the example and on real
    images.
    """
    if not (clone / data).exists():
        pytest.skip("needs ../shared")
    done = subprocess.run(
        [sys.executable, "examples/chain.py", str(data), "out"],
        cwd=clone,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("the report: ")
    assert "<h1" in (clone / "out" / "score" / "report.html").read_text()
