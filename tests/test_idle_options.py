"""An option that another one leaves nothing to do: an error where it was given, and nothing in
args.yaml.
"""

import shutil

import pytest
import yaml
from PIL import Image

import tiler
from examples.simulate import simulate
from tests.cli.test_cli import run
from tests.conftest import Dataset
from tests.scoring.test_score import row
from tests.stitching.test_stitching import both, seen
from tiler.errors import TilerError
from tiler.options import METHODS, MergeOptions, PredictionOptions, ScoreOptions, SplitOptions

# Beside what (as on a command line) an option, with a value that is not its default, does nothing
SPLIT = [
    ({"background": "all"}, {"seed": 3}),
    ({"background": "none"}, {"seed": 3}),
    ({"background": "train=none,val=all"}, {"seed": 3}),
    ({"grid": "3x4"}, {"tile": 320}),
    ({"grid": "3x4"}, {"tile": 640}),  # its default, but given
    ({"grid": "3x4"}, {"edge": "balance"}),
    ({"format": "png"}, {"quality": 80}),
    ({"format": "tif"}, {"quality": 80}),
    ({"format": "webp"}, {"jpeg": "keep"}),
    ({"truncated": "keep"}, {"rescue": False}),
    ({"task": "detect"}, {"obb": "full"}),
    ({}, {"obb": "minrect"}),  # the dataset is one of boxes
    ({}, {"parts": "bridge"}),
    ({}, {"ignored": "skip"}),
    ({"layout": "tar"}, {"export": "coco"}),
]
MERGE = [
    *(({"method": method}, {"metric": "ios"}) for method in ("cvm", "center", "none")),
    *(({"method": method}, {"orphans": "drop"}) for method in METHODS if method != "cvm"),
    *(({"method": method}, {"iou": 0.4}) for method in ("soft-nms", "center", "none")),
    *(({"method": method}, {"class_agnostic": True}) for method in ("center", "none")),
    *(({"method": method}, {"groups": "0,1"}) for method in ("center", "none")),
]
FILES = [
    ({}, {"crs": "EPSG:32633"}),
    ({"export": "csv"}, {"to_crs": "EPSG:4326"}),
    ({"export": "csv"}, {"affine": "pixels"}),
    ({}, {"parts": "separate"}),
    ({}, {"naming": "sahi"}),
    ({}, {"stride": 320}),
    ({}, {"edge": "trim"}),
]
SCORE = [
    ({"analysis": "none"}, {"replicates": 50}),
    ({"analysis": "none"}, {"seed": 1}),
    ({"replicates": 0}, {"seed": 1}),
    ({"protocol": "voc,ultralytics"}, {"max_dets": "1,10"}),
    ({"task": "detect"}, {"areas": "mask"}),
    ({"analysis": "none"}, {"tile_preds": "preds"}),
]
VERBS = [
    *(("split", *case) for case in SPLIT),
    *(("merge", *case) for case in MERGE + FILES),
    *(("score", *case) for case in SCORE),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """data/, tiles/ of it, preds/ on these, and preds-merged/."""
    root = tmp_path_factory.mktemp("idle")
    data = Dataset(root / "data", names=("a", "b"))
    for name, split in (("t", "train"), ("v", "val")):
        data.add(
            f"{name}.png",
            row(0, 10, 10, 50, 50) + row(1, 90, 30, 140, 80),
            Image.new("L", (200, 100), len(name)),
            split,
        )
    tiler.split(data.yaml, out=root / "tiles", tile=100, workers=1)
    simulate(root / "tiles", root / "preds")
    tiler.merge(root / "preds", tiles=root / "tiles", out=root / "preds-merged", workers=1)
    return root


ARGUMENTS = {
    "split": ("data/dataset.yaml", "--out", "out"),
    "merge": ("preds", "--tiles", "tiles", "--out", "out"),
    "score": ("preds-merged", "--data", "data/dataset.yaml", "--split", "val"),
}


def called(verb, root, out, options):
    if verb == "split":
        return tiler.split(root / "data/dataset.yaml", out=out, workers=1, **options)
    if verb == "merge":
        return tiler.merge(root / "preds", tiles=root / "tiles", out=out, **options)
    return tiler.score(root / "preds-merged", root / "data/dataset.yaml", split="val", **options)


@pytest.mark.parametrize(("verb", "beside", "idle"), VERBS, ids=str)
def test_what_does_nothing_is_refused_by_name(made, tmp_path, verb, beside, idle):
    (name,) = idle
    with pytest.raises(TilerError, match=rf"^--(no-)?{name.replace('_', '-')}\b.*: ."):
        called(verb, made, tmp_path / "out", beside | idle)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("verb", ["split", "merge", "score"])
def test_from_the_command_line_and_a_config_likewise(made, tmp_path, verb):
    for name in ("data", "tiles", "preds", "preds-merged"):
        shutil.copytree(made / name, tmp_path / name)
    beside, idle = {"split": SPLIT, "merge": MERGE, "score": SCORE}[verb][0]
    (name, value), (other, its) = *idle.items(), *beside.items()
    by_hand = run(
        verb, *ARGUMENTS[verb], f"--{other}", str(its), f"--{name}", str(value), cwd=tmp_path
    )
    assert (by_hand.returncode, by_hand.stdout) == (2, "")
    assert by_hand.stderr == f"tiler: --{name} {value}: --{other} {its} does not use it\n"
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(beside | idle))
    done = run(verb, *ARGUMENTS[verb], "--config", "own.yaml", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, by_hand.stderr)
    assert not (tmp_path / "out").exists()


def test_stitch_refuses_it_too():
    with pytest.raises(TilerError, match="--metric ios: --method cvm does not use it"):
        both(seen(), seen(), metric="ios")


@pytest.mark.parametrize("cls", [SplitOptions, MergeOptions, PredictionOptions, ScoreOptions])
def test_defaults_are_in_nobodys_way(cls):
    """A config of all defaults, such as configs/default.yaml, is one of any method."""
    cls().require_in_effect()
    cls.of(cls().plain()).require_in_effect()


@pytest.mark.parametrize("method", METHODS)
def test_args_hold_what_the_method_uses_and_are_a_config(made, tmp_path, method):
    tiler.merge(
        made / "preds", tiles=made / "tiles", out=tmp_path / "one", method=method, workers=1
    )
    args = yaml.safe_load((tmp_path / "one/args.yaml").read_text())
    idle = {name for beside, option in MERGE if beside == {"method": method} for name in option}
    assert not idle & set(args) and not {"parts", "affine", "crs"} & set(args)
    assert args["method"] == method and "conf" in args and ("orphans" in args) == (method == "cvm")
    for place in ("preds", "tiles"):  # as they lie from the output on
        assert (tmp_path / "one" / args[place]).resolve().exists()
        del args[place]
    tiler.merge(made / "preds", tiles=made / "tiles", out=tmp_path / "two", workers=1, **args)
    for name in ("predictions.json", "args.yaml"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    other = "cvm" if method != "cvm" else "nms"  # and of another method
    config = ["--config", str(tmp_path / "one/args.yaml"), "--method", other]
    assert (
        run(
            "merge",
            "preds",
            "--tiles",
            "tiles",
            "--out",
            str(tmp_path / "three"),
            *config,
            cwd=made,
        ).returncode
        == 0
    )


def test_args_of_split_hold_what_the_dataset_uses_and_are_a_config(made, tmp_path):
    for number, options in enumerate(({"format": "png"}, {"background": 0.5, "seed": 3})):
        one, two = tmp_path / f"one{number}", tmp_path / f"two{number}"
        tiler.split(made / "data/dataset.yaml", out=one, workers=1, **options)
        args = yaml.safe_load((one / "args.yaml").read_text())
        assert not {"obb", "parts"} & set(args)
        assert ("seed" in args, "quality" in args) == ("seed" in options, "format" not in options)
        tiler.split(made / "data/dataset.yaml", out=two, workers=1, **args)
        for name in ("tiles.jsonl", "args.yaml"):
            assert (one / name).read_bytes() == (two / name).read_bytes()
