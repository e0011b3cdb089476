"""The types of the options, for type checkers: one TypedDict for each verb.

They are written from the dataclasses of options, by

    python -m tests.options.test_arguments
"""

import inspect
import os
import re
import subprocess
import sys

import pytest

import tiler
from tests.conftest import ROOT

FILE = ROOT / "tiler" / "options" / "arguments.py"
HEAD = '''"""What the verbs take as `**options`, for type checkers and editors.

Written from the dataclasses of options by `python -m tests.options.test_arguments`; do not edit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypedDict
'''


def verbs():
    """The public functions with options, by name; of a class, how it is made."""
    found = {}
    for name in tiler.__all__:
        member = getattr(tiler, name)
        if inspect.isclass(member):
            member = vars(member).get("__init__")
        if hasattr(member, "__signature__"):
            found[name] = member
    return found


def written():
    """The text of the module."""
    blocks = [HEAD]
    for name, function in sorted(verbs().items()):
        title = name[:1].upper() + name[1:]
        lines = [f"class {title}Arguments(TypedDict, total=False):"]
        lines.append(f'    """Of `tiler.{name}`."""\n')
        lines += [f"    {option.name}: {option.annotation}" for option in options(function)]
        blocks.append("\n".join(lines) + "\n")
    return "\n\n".join(blocks)


def options(function):
    """The parameters that stand for `**options`."""
    code = function.__code__
    own = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    parameters = inspect.signature(function).parameters.values()
    return [parameter for parameter in parameters if parameter.name not in own]


def test_the_types_are_those_of_the_dataclasses():
    advice = "run python -m tests.options.test_arguments"
    assert FILE.read_text() == written(), advice


@pytest.mark.parametrize("name", sorted(verbs()))
def test_every_option_can_be_given_and_is_shown_with_its_default(name):
    function = verbs()[name]
    title = name[:1].upper() + name[1:]
    assert function.__annotations__["options"] == f"Unpack[{title}Arguments]"
    for option in options(function):
        assert option.kind is option.KEYWORD_ONLY
        assert option.default is not option.empty


def test_help_lists_the_options(capsys):
    help(tiler.merge)
    shown = capsys.readouterr().out
    assert 'orphans: Literal["keep", "decay", "drop"] = \'decay\'' in shown
    assert "**options" not in shown.split("Merge files of")[0]


def test_the_names_are_listed():
    assert dir(tiler) == tiler.__all__


SCRIPT = """
from pathlib import Path

import tiler

report: tiler.SplitReport = tiler.split(
    Path("scenes"), tile=(640, 512), overlap=0.2, scale=[1, 0.5], background={"train": 0.5}
)
tiler.split("scenes", overlap=128, export=["coco"], roi=Path("roi.geojson"), workers=2)
tiler.stitch([], (100, 100), iou={"car": 0.5}, groups=[["car", "bus"]], max_det=300)
merged = tiler.merge("preds", tiles="tiles", affine=(1, 0, 0, 0, 1, 0), map_classes={2: "car"})
metrics = tiler.score(merged, data="scenes", bins=(16, 32), max_dets=[1, 10], preds_base=1)
tiler.plan("scenes", tile=(320, 640), overlap=0.2)
tiler.check("scenes", task="detect", as_split="val")
tiler.show("scenes", n=2, conf=0.5)
for source, found in merged.items():
    print(source, found[:3].xyxy, found.confidence, found.to_dataframe("polars"))

tiler.split("scenes", tiel=640)  # wrong
tiler.split("scenes", edge="shfit")  # wrong
tiler.split("scenes", tile=640.5)  # wrong
tiler.merge("preds", orphans=True)  # wrong
tiler.merge("preds").itmes()  # wrong
"""


def test_a_type_checker_finds_what_is_misspelt(tmp_path):
    pytest.importorskip("mypy", reason="needs mypy")
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "mypy", "--strict", "script.py"]
    done = subprocess.run(
        [*command, "--cache-dir", str(ROOT / ".mypy_cache")],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    lines = SCRIPT.splitlines()
    wrong = [number for number, line in enumerate(lines, 1) if line.endswith("# wrong")]
    found = re.findall(r"^script\.py:(\d+): error", done.stdout, re.M)
    assert [int(number) for number in found] == wrong, done.stdout
    assert 'keyword argument "tiel"' in done.stdout


if __name__ == "__main__":
    FILE.write_text(written())
