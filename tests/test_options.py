import dataclasses
import math
import re
from pathlib import Path
from typing import get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import quick
from tiler.errors import TilerError
from tiler.evaluation import bins
from tiler.formats import plain_yaml
from tiler.geometry import grids
from tiler.options import (
    CheckOptions,
    MergeOptions,
    ModelOptions,
    PredictionOptions,
    PredictOptions,
    ReadingOptions,
    RunOptions,
    ScoreOptions,
    SplitOptions,
)
from tiler.options.fields import flag_name, option_fields
from tiler.options.scoring import PROTOCOLS
from tiler.options.values import BINS
from tiler.scoring import card

ALL = (
    SplitOptions,
    MergeOptions,
    ReadingOptions,
    PredictionOptions,
    RunOptions,
    CheckOptions,
    ModelOptions,
)

# For each option: what may be given, as text and as a value, and what it becomes.
GOOD = {
    "tile": [
        ("640", 640, 640),
        ("1024x768", (1024, 768), (1024, 768)),
        ("640X640", [640, 640], 640),
        ("10", 10.0, 10),
    ],
    "grid": [("3x4", (3, 4), (3, 4)), ("45X55", [45, 55], (45, 55)), ("1x1", (1.0, 1), (1, 1))],
    "overlap": [
        ("0.2", 0.2, 0.2),
        ("128", 128, 128),
        ("0", 0, 0),
        ("1e2", 100.0, 100),
        ("0.2x64", (0.2, 64), (0.2, 64.0)),
        ("0x0.5", [0, 0.5], (0.0, 0.5)),
        ("0.1X0.1", (0.1, 0.1), 0.1),
    ],
    "edge": [(edge, edge, edge) for edge in ("shift", "balance", "trim", "pad")],
    "scale": [
        ("1,0.5", (1, 0.5), (1, 0.5)),
        ("0.5,1,0.5", [0.5, 1], (1, 0.5)),
        ("1", 1, (1,)),
        ("0.333", 1 / 3, (0.33,)),
    ],
    "roi": [("a.geojson", Path("a.geojson"), "a.geojson")],
    "task": [
        (task, task, task) for task in ("auto", "detect", "segment", "obb", "pose", "semantic")
    ],
    "val": [("0", 0, 0), ("0.2", 0.2, 0.2)],
    "test": [("0.05", 0.05, 0.05)],
    "min_visible": [("0", 0, 0), ("1", 1, 1), (".25", 0.25, 0.25)],
    "min_size": [("0", 0, 0), ("2.5", 2.5, 2.5)],
    "truncated": [(way, way, way) for way in ("drop", "keep", "mask", "skip-tile")],
    "rescue": [("true", True, True), ("no", False, False), ("ON", 1, True), ("0", 0, False)],
    "as_split": [(split, split, split) for split in ("auto", "train", "val", "test")],
    "ignored": [(way, way, way) for way in ("auto", "mask", "skip", "objects")],
    "frame": [(frame, frame, frame) for frame in ("auto", "stored", "upright")],
    "bbox": [(form, form, form) for form in ("auto", "xywh", "xyxy")],
    "labels": [("trees.gpkg", " trees.gpkg", "trees.gpkg"), ("", "", "")],
    "class_field": [("species", "species ", "species")],
    "layer": [("2024", 2024, "2024")],
    "point_size": [("0", 0, 0), ("12.5", 12.5, 12.5)],
    "unlabelled": [("true", True, True), ("no", False, False), ("on", 1, True)],
    "obb": [(way, way, way) for way in ("aligned", "minrect", "full")],
    "parts": [(way, way, way) for way in ("separate", "bridge", "largest")],
    "background": [
        ("all", "all", "all"),
        ("none", "none", "none"),
        ("0.5", 0.5, 0.5),
        ("2", 2, 2),
        ("val=all, train=0.50", {"train": 0.5, "val": "all"}, "train=0.5,val=all"),
        ("none,val=1", {"": "none", "val": 1}, "none,val=1.0"),
        ("all,test=none", {"test": "none"}, "test=none"),
    ],
    "seed": [
        ("0", 0, 0),
        ("12345678901", 12345678901, 12345678901),
        ("9007199254740993", 2**53 + 1, 2**53 + 1),
    ],
    "export": [
        ("", "", ""),
        ("coco", ["coco"], "coco"),
        ("coco-roboflow, coco", ("coco-roboflow", "coco"), "coco,coco-roboflow"),
    ],
    "layout": [(layout, layout, layout) for layout in ("flat", "tar")],
    "min_data": [("0", 0, 0), ("1", 1, 1), (".25", 0.25, 0.25)],
    "format": [(form, form, form) for form in ("same", "jpg", "png", "webp", "tif")],
    "quality": [("1", 1, 1), ("100", 100.0, 100)],
    "jpeg": [(way, way, way) for way in ("encode", "keep")],
    "stretch": [(way, way, way) for way in ("none", "minmax", "percentile")],
    "nodata": [
        ("auto", "auto", "auto"),
        ("none", "none", "none"),
        ("-9999", -9999, "-9999"),
        ("0", 0.0, "0"),
        ("nan", math.nan, "nan"),
        ("9223372036854775807", 2**63 - 1, "9223372036854775807"),
        ("-3.4028234663852886e+38", -3.4028234663852886e38, "-3.4028234663852886e+38"),
        ("0.5", 0.5, "0.5"),
    ],
    "max_pixels": [
        ("1", 1, 1),
        ("4000000000", 4_000_000_000, 4_000_000_000),
        ("auto", "auto", "auto"),
    ],
}
BAD = {
    "tile": [
        "9",
        9,
        "65501",
        "0",
        "-640",
        "640.5",
        "x",
        "640x",
        "x640",
        "640x640x3",
        "",
        True,
        None,
        (),
        (1, 2),
        {},
    ],
    "overlap": [
        "-0.1",
        -1,
        "nan",
        "inf",
        math.inf,
        "x",
        "",
        None,
        True,
        [0.2],
        "20%",
        "0,2",
        "0.1,0.4",
        "0.2x",
        "x",
        "1x2x3",
        (0.1, -1),
        (0.1, True),
        (),
        {},
    ],
    "grid": ["3", "3x", "x4", "3x4x5", "0x4", "3x-1", "3,4", "3.5x4", "10001x1", 3, (3,), True, {}],
    "edge": ["", None, 1, [], "shfit"],
    "scale": [
        "0",
        "17",
        "-1",
        "nan",
        "inf",
        "0.004",
        "",
        ",",
        "1,",
        "x",
        None,
        (),
        [],
        True,
        {},
        [[1]],
        "1;2",
    ],
    "roi": ["", " ", 5, True, b"a.geojson", "a\0b", ["a"]],
    "task": ["detection", "", None],
    "val": ["1", "-0.1", "1.5", "20%", "nan", "x", "", None, True, [0.2]],
    "test": ["1", 1, "-1", "inf", None],
    "min_visible": ["-0.1", "1.1", "nan", "x", None, False],
    "min_size": ["-1", "nan", "inf", "x", None, True],
    "truncated": ["dorp", "", None],
    "rescue": ["maybe", "", None, 2, "y", []],
    "as_split": ["valid", "", None],
    "ignored": ["drop", None],
    "frame": ["turned", "", None],
    "bbox": ["cxcywh", "", None],
    "labels": [],
    "class_field": [],
    "layer": [],
    "point_size": ["-1", "nan", "x", None, True],
    "unlabelled": ["maybe", "", None, 2],
    "obb": [None],
    "parts": ["bridged", None],
    "background": [
        "-1",
        "some",
        "nan",
        "inf",
        None,
        True,
        [],
        {},
        "train=",
        "train=-1",
        "train=some",
        "train=1,train=2",
        "train=1,0.5",
    ],
    "seed": ["-1", "1.5", "x", None, True, "1e3", math.inf],
    "export": ["voc", "yolo", ["coco", "dota"], "csv"],
    "layout": ["zip", "", None, ["flat", "tar"]],
    "min_data": ["-0.1", "1.1", "nan", "x", None, True],
    "format": ["jpeg", ".png", None],
    "quality": ["0", "101", "95.5", None, "high"],
    "jpeg": ["lossless", "", None],
    "stretch": ["max", "", None],
    "nodata": ["", "black", None, True, [], "1;2"],
    "max_pixels": ["0", "-1", "many", None, "1e6"],
}


@pytest.mark.parametrize("name", GOOD)
def test_an_option_as_text_and_as_a_value(name):
    for text, value, expected in GOOD[name]:
        for form in (text, value, expected):
            found = getattr(SplitOptions.of({name: form}), name)
            assert found == expected
            assert isinstance(found, bool) == isinstance(expected, bool)


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_value_is_refused_by_name_with_what_is_expected(name):
    shown = f"{flag_name(name)}: expected "
    for value in BAD[name]:
        with pytest.raises(TilerError) as error:
            SplitOptions.of({name: value})
        message = str(error.value)
        assert message.startswith(shown)
        assert message.endswith(f", got {value!r}")
        assert len(message) > len(f"{shown}, got {value!r}")
        assert message.isprintable()


def test_the_tables_know_every_option():
    assert set(GOOD) == set(BAD) == {field.name for field in option_fields(SplitOptions)}


@quick
@given(
    st.fixed_dictionaries(
        {}, optional={name: st.sampled_from([e for *_, e in good]) for name, good in GOOD.items()}
    )
)
def test_options_to_plain_values_and_text_and_back(given):
    options = SplitOptions.of(given)
    assert SplitOptions.of(options.plain()) == options
    assert SplitOptions.of(plain_yaml_of(options.plain())) == options
    assert dataclasses.replace(options) == options


def plain_yaml_of(values):
    """The values as `--config` would give them: text, and lists of text."""
    return yaml.load(plain_yaml.dump(values), Loader=plain_yaml.PlainLoader)


names = st.sampled_from(sorted(GOOD)) | st.text(max_size=8)
anything = st.one_of(
    st.text(max_size=10),
    st.text("0123456789.-+eExX,naif ", max_size=10),
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.lists(st.integers() | st.text("019.x", max_size=4), max_size=3),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
    st.just("9" * 5000),
    st.just(10**400),
)


@quick
@given(st.sampled_from(ALL), st.dictionaries(names, anything, max_size=2))
def test_anything_is_options_or_one_line_of_error(cls, given):
    try:
        options = cls.of(given)
    except TilerError as error:
        assert "\n" not in str(error)
    else:
        assert cls.of(options.plain()) == options


@pytest.mark.parametrize("cls", ALL)
def test_an_unknown_name_is_refused_with_a_guess(cls):
    with pytest.raises(TilerError) as error:
        cls.of({"worker": 1, "max_pixel": 1, "tas": 1})
    assert "\n" not in str(error.value)
    with pytest.raises(TilerError, match=r"^a.yaml: unknown option 'xyz'$"):
        cls.of({"xyz": 1}, "a.yaml: ")
    with pytest.raises(TilerError, match=r"^unknown option '5'$"):
        cls.of({5: 1})


def test_a_guess_for_a_name_and_for_a_choice():
    with pytest.raises(TilerError, match=r"unknown option 'tiel'; did you mean 'tile'\?"):
        SplitOptions.of({"tiel": 640})
    with pytest.raises(TilerError, match=r"\(did you mean 'shift'\?\), got 'shfit'"):
        SplitOptions(edge="shfit")


@pytest.mark.parametrize("cls", ALL)
def test_the_defaults_pass_their_own_checks_and_are_documented(cls):
    options = cls()
    assert cls.of(options.plain()) == options == cls.of({})
    for field in option_fields(cls):
        assert getattr(options, field.name) == field.default
        assert field.metadata["help"].endswith(".")
        assert field.metadata["group"]


@pytest.mark.parametrize("cls", ALL)
def test_options_do_not_change(cls):
    options = cls()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(options, option_fields(cls)[0].name, 5)
    assert hash(options) == hash(cls())


def test_plain_values_are_those_of_yaml():
    plain = SplitOptions(tile="1024x768", scale="1,.5").plain()
    assert (plain["tile"], plain["scale"]) == ([1024, 768], [1.0, 0.5])
    unset = {name for name, value in plain.items() if value is None}
    assert unset == {"grid", "roi"}
    assert all(
        isinstance(value, str | int | float | bool | list)
        for name, value in plain.items()
        if name not in unset
    )


def test_run_and_check_options():
    assert RunOptions(workers="4", backend="loky", overwrite="yes").workers == 4
    for bad in (
        {"workers": -1},
        {"workers": 5000},
        {"backend": "spark"},
        {"overwrite": "maybe"},
        {"dry_run": None},
    ):
        with pytest.raises(TilerError):
            RunOptions.of(bad)
    with pytest.raises(TilerError):
        CheckOptions.of({"tile": 640})


@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_a_cluster_that_cannot_run_yet_is_refused_with_the_reason(backend):
    with pytest.raises(
        TilerError,
        match=f"^--backend: expected .*; {backend} does not run yet: .*, got '{backend}'$",
    ) as caught:
        RunOptions.of({"backend": backend})
    assert caught.value.exit_code == 2


def test_what_is_read_is_said_in_the_same_words_wherever_it_is_an_option():
    reading, predictions = option_fields(ReadingOptions), option_fields(PredictionOptions)
    names = ["task", "assume_conf", "conf_first", "classes", "map_classes", "preds_base", "boxes"]
    assert [field.name for field in reading] == names
    assert [(f.name, f.default, f.metadata) for f in predictions[-7:]] == [
        (f.name, f.default, f.metadata) for f in reading
    ]
    with pytest.raises(TilerError, match="unknown option 'export'"):
        ReadingOptions.of({"export": "csv"})


@pytest.mark.parametrize(
    ("options", "name", "given", "value"),
    [
        (MergeOptions, "method", "NMS", "nms"),
        (MergeOptions, "method", "Greedy-NMM", "greedy-nmm"),
        (MergeOptions, "metric", "IoS", "ios"),
        (SplitOptions, "format", "PNG", "png"),
        (SplitOptions, "edge", "Shift", "shift"),
        (PredictionOptions, "export", "CSV,GeoJSON", "geojson,csv"),
        (ReadingOptions, "boxes", "Normalized", "normalised"),
        (ReadingOptions, "boxes", " Letterbox:640", "letterbox:640"),
        (ScoreOptions, "protocol", "COCO,Ultralytics", "coco,ultralytics"),
    ],
)
def test_words_may_be_in_any_case(options, name, given, value):
    assert getattr(options(**{name: given}), name) == value


@pytest.mark.parametrize("given", [1.5, "1.5", "2.25", "0.2x1.5", -1, "20%", "nan", True])
def test_an_overlap_is_a_fraction_or_whole_pixels(given):
    with pytest.raises(TilerError, match="--overlap: expected a fraction of the tile below 1, or"):
        SplitOptions(overlap=given)
    assert [SplitOptions(overlap=o).overlap for o in ("0.2", 0, 1, "128", 128.0)] == [
        0.2,
        0,
        1,
        128,
        128,
    ]


@pytest.mark.parametrize(("given", "file"), [("coco", "predictions.json"), ("csv,yolo", "labels/")])
def test_an_export_that_is_always_written_is_answered_with_its_name(given, file):
    with pytest.raises(TilerError, match=f"--export: .*{file}.* is always written"):
        PredictionOptions(export=given)


def test_names_that_options_offer_are_those_that_are_there():
    """Options may not import what they configure, so these names stand in two places."""
    assert set(BINS) == set(bins.PRESETS)
    for edge in get_args(grids.Edge):
        assert SplitOptions(edge=edge).edge == edge
    with pytest.raises(TilerError, match=re.escape(", ".join(["shift", "balance", "trim", "pad"]))):
        SplitOptions(edge="none")
    assert set(PROTOCOLS) == set(card.PROTOCOLS)


def test_predict_has_the_options_of_the_verbs_that_it_joins():
    """Under their names, but for those that the model has, too; with their defaults and checks."""
    own = {item.name: item for item in option_fields(PredictOptions)}
    renamed = {"iou": "merge_iou", "conf": "merge_conf", "max_det": "merge_max_det"}
    for item in option_fields(MergeOptions):
        same = own[renamed.get(item.name, item.name)]
        assert same.default == item.default
        assert same.metadata["check"] is item.metadata["check"]
    written = {"category_base", "image_ids", "export", "affine", "crs", "to_crs"}
    assert written | {"classes", "map_classes", "task", "roi"} <= own.keys()
    assert {item.name for item in option_fields(RunOptions)} - own.keys() == {"backend"}
    assert {item.name for item in option_fields(ModelOptions)}.isdisjoint(own)


@pytest.mark.parametrize(
    "given",
    [
        {"tile": "9"},
        {"batch": -1},
        {"overlap": "x"},
        {"merge_iou": "2"},
        {"full": "perhaps"},
        {"scale": "0"},
        {"stretch": "much"},
        {"save_tiles_txt": " "},
        {"task": "semantic"},
        {"merge_max_det": "-1"},
    ],
)
def test_predict_refuses_what_cannot_be(given):
    with pytest.raises(TilerError, match=flag_name(next(iter(given)))):
        PredictOptions(**given)


def test_predict_hands_its_options_on():
    options = PredictOptions(merge_iou="0.4", merge_conf=0.2, merge_max_det=7, export="csv")
    assert options.merging() == MergeOptions(iou=0.4, conf=0.2, max_det=7)
    assert options.files("obb") == PredictionOptions(task="obb", export="csv")
    assert options.cutting(320) == SplitOptions(tile=320, format="png")
    assert options.running() == RunOptions(backend="threading")
    again = PredictOptions.of(options.plain())
    assert again == options
