"""Small inputs that people reported in public about predictions on tiles: each comes out right, or
with a message that names the cause and an option that helps.
"""

import contextlib
import importlib.util
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tiler
from tests.conftest import SHARED, needs_shared
from tiler.errors import TilerError
from tiler.scoring import output

pytestmark = [needs_shared, pytest.mark.slow]

IMAGES = "ds/images/val"
CARS = [[50, 50, 90, 80], [340, 100, 380, 130], [600, 300, 640, 330], [380, 200, 440, 240]]


@pytest.fixture(scope="module")
def cases():
    file = SHARED / "reported" / "merge_cases.py"
    if not file.exists():
        pytest.skip("needs ../shared/reported")
    spec = importlib.util.spec_from_file_location("merge_cases", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def case(cases, request, tmp_path, monkeypatch):
    """The case that a test names, made in the folder where the test runs."""
    monkeypatch.chdir(tmp_path)
    getattr(cases, request.param)(Path())


def of(name):
    return pytest.mark.parametrize("case", [name], indirect=True)


def boxes(merged, key="scene.jpg"):
    return merged[key].boxes.round(1).tolist()


def cars_of(preds, **options):
    """What is merged, as whole pixels; no row was left out."""
    merged = tiler.merge(preds, **{"images": IMAGES} | options)
    assert merged.report.exit_code() == 0
    return np.round(merged["scene.jpg"].boxes).tolist()


def rejected(preds, **options):
    with pytest.raises(TilerError) as error:
        tiler.merge(preds, **{"images": IMAGES} | options)
    return str(error.value)


def written(preds, **options):
    """Its score, also as files in score/."""
    scored = tiler.score(preds, data="ds/dataset.yaml", **options)
    output.write(scored, Path("score"))
    return scored


# Names of tiles


@of("names_row_col")
def test_names_of_row_and_column(case):
    message = rejected("preds", tile=400)
    assert "320x400, shift), or" in message and "--stride" in message
    assert cars_of("preds", tile=400, stride=320) == CARS
    assert cars_of("preds", naming="{stem}_{row}_{col}", tile=400, stride=320) == CARS
    assert "--tile" in rejected("preds")


@pytest.mark.parametrize("case", ["names_xywh_single", "names_xywh_silent"], indirect=True)
def test_names_of_x_y_width_height(case):
    assert cars_of("preds") == CARS


@of("names_space_and_empty")
def test_names_with_spaces_and_empty_files(case):
    merged = tiler.merge("preds", images="images")
    (found,) = merged
    assert len(merged[found]) == 3
    assert merged.report.counts.tiles == 2


@of("names_source_like_tile")
def test_images_that_are_called_like_tiles(case):
    merged = tiler.merge("preds", images=IMAGES)
    for name in ("mosaic_0_0_720_400.jpg", "P0001__1.0__0___0.jpg"):
        assert np.round(merged[name].boxes).tolist() == CARS


# Files of other detectors


@of("coco_ids_of_tiles")
def test_numbers_of_tiles_in_coco_results(case):
    tiler.split("ds", tile=400, overlap=80, out="tiles")
    results = "coco_instances_results.json"
    for more in ({}, {"data": "tiles_coco.json"}):
        message = rejected(results, images=None, tiles="tiles", **more)
        assert "--tiles, with --images" in message
    assert cars_of(results, tiles="tiles_coco.json") == CARS


@of("mmdet_pickle")
def test_pickles_are_not_opened(case):
    message = rejected("results.pkl")
    assert "never read" in message
    assert "format_only=True" in message and "coco_instances_results.json" in message


@of("torchvision_dict")
def test_a_dict_of_torchvision(case):
    assert "--preds-base 0, 1 or coco91" in rejected("preds")
    assert cars_of("preds", preds_base="1") == CARS
    assert cars_of("preds", data="ds/dataset.yaml") == CARS


@pytest.mark.parametrize(
    ("case", "preds"),
    [
        ("voc_xml", "preds"),
        ("results_tojson", "preds"),
        ("rfdetr_jsonsink", "results.json"),
        ("d2_folder", "inference"),
        ("d2_folder", "mmdet"),
        ("d2_folder", "mmdet/results.bbox.json"),
        ("mmdet3_preds", "outputs/preds"),
    ],
    indirect=["case"],
)
def test_files_are_read_by_their_content(case, preds):
    assert cars_of(preds) == CARS


@of("results_tojson")
def test_one_file_of_a_tile_is_read_too(case):
    merged = tiler.merge("preds/scene__0_0_400_400.json", images=IMAGES)
    assert len(merged["scene.jpg"]) == 3


# Frames


@of("letterboxed")
def test_pixels_of_what_the_network_saw(case):
    message = rejected("predictions.json", preds_base="0")
    assert "imgsz 640" in message and "--boxes letterbox:640" in message
    assert cars_of("predictions.json", preds_base="0", boxes="letterbox:640") == CARS


@of("normalised_json")
def test_normalised_coordinates_where_pixels_are_meant(case):
    assert "--boxes normalised" in rejected("res.json")
    assert cars_of("res.json", boxes="normalised") == CARS
    with pytest.raises(TilerError, match="say --boxes normalised"):
        tiler.score("full.json", data="ds/dataset.yaml")
    scored = tiler.score("full.json", data="ds/dataset.yaml", boxes="normalised")
    assert scored.coco["AP"] == 1


@of("library_detections")
def test_detections_of_other_libraries(case):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(Path("lib.py").read_text(), {})
    mask, obb, boxes_only, empty, dictionary, without = said.getvalue().splitlines()
    assert mask == "mask [[300.0, 100.0, 460.0, 150.0]] rings segment"
    assert obb.endswith("rings obb")
    assert boxes_only.startswith("ultralytics boxes [[300.0, 100.0, 460.0, 150.0]]")
    assert empty == "empty [] no rings detect"
    assert "[[300.0, 100.0, 460.0, 150.0]]" in dictionary
    assert without.startswith("no confidence TilerError")


# Merging


@of("full_and_tiles")
def test_the_full_image_is_one_more_tile(case):
    merged = tiler.merge("preds", images=IMAGES)
    truck, *cars = boxes(merged)
    assert truck == [60, 150, 660, 350]
    assert len(cars) == 2


@of("class_disagrees")
def test_two_tiles_disagree_about_the_class(case):
    assert len(tiler.merge("preds", images=IMAGES)["scene.jpg"]) == 2
    one = tiler.merge("preds", images=IMAGES, class_agnostic=True)["scene.jpg"]
    assert one.boxes.round().tolist() == [[300, 100, 460, 160]]
    assert one.class_id.tolist() == [1]


@of("huge_object")
def test_an_object_over_many_tiles(case):
    merged = tiler.merge("preds", images="images")
    assert boxes(merged) == [[210, 230, 1710, 1130]]


@of("same_tile_twice")
def test_several_runs(case):
    same = tiler.merge("same", images=IMAGES)
    assert np.round(same["scene.jpg"].boxes).tolist() == CARS
    assert [finding.code for finding in same.report.findings] == ["D18"]
    message = rejected("other")
    assert "predict and in predict3" in message
    assert "--runs newest" in message and "--runs all" in message
    for runs in ("newest", "all"):
        assert len(tiler.merge("other", images=IMAGES, runs=runs)["scene.jpg"]) == 4


@of("nothing_found")
def test_a_detector_that_finds_nothing(case):
    tiler.split("ds", tile=400, overlap=80, out="tiles")
    for preds in ("run", "run2", "res.json", "run3"):
        merged = tiler.merge(preds, tiles="tiles", out=f"{preds}-merged")
        assert (merged.report.exit_code(), len(merged["images/val/scene.jpg"])) == (0, 0)
        assert tiler.score(f"{preds}-merged", data="ds/dataset.yaml").coco["AP"] == 0


@of("only_some_classes")
def test_only_some_classes(case):
    assert cars_of("preds", data="ds/dataset.yaml", classes="car") == CARS
    assert "did you mean 'car'" in rejected("preds", data="ds/dataset.yaml", classes="cat")


@of("two_models_library")
def test_two_models(case):
    ensemble = tiler.merge(["m1", "m2"], images=IMAGES)["scene.jpg"]
    assert sorted(ensemble.boxes.round().tolist()) == sorted(CARS)


# Scores


@of("score_conf_cut")
def test_the_curve_ends_where_confidences_do(case):
    command = [sys.executable, "-m", "tiler", "score", "preds", "--data", "ds/dataset.yaml"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0
    assert "no detection has a confidence under 0.268" in ran.stdout
    assert "conf=0.001" in ran.stdout


@of("score_fixed_conf")
def test_counts_are_at_one_confidence(case):
    written("preds", conf=0.25)
    (row,) = Path("score/per_image.csv").read_text().splitlines()[1:]
    assert row.split(",")[3:6] == ["6", "3", "4"]
    assert "car,6,3" in Path("score/confusion.csv").read_text()


@of("count_per_picture")
def test_objects_are_counted(case):
    tiler.merge("preds", images=IMAGES, conf=0.5, out="merged")
    scored = written("merged", counts=True)
    assert scored.counts is not None
    header, *rows = Path("score/per_image.csv").read_text().splitlines()
    assert "detections" in header and len(rows) == 3


@of("class_names_differ")
def test_the_model_has_other_classes(case):
    message = rejected("preds", data="ds/dataset.yaml")
    assert "class 2" in message and "--map-classes" in message
    mapped = tiler.merge("preds", images=IMAGES, data="ds/dataset.yaml", map_classes="2=vehicle")
    assert np.round(mapped["scene.jpg"].boxes).tolist() == CARS
    tiler.merge("preds", images=IMAGES, data="model.yaml", out="merged")
    with pytest.raises(TilerError, match="person, bicycle, car, the labels vehicle"):
        tiler.score("merged", data="ds/dataset.yaml")
    scored = tiler.score("merged", data="ds/dataset.yaml", map_classes="car=vehicle")
    assert scored.coco["AP"] == 1


@of("score_of_tiles")
def test_predictions_on_tiles_are_merged_first(case):
    with pytest.raises(TilerError, match="run tiler merge first"):
        tiler.score("preds", data="ds/dataset.yaml")


@of("which_pictures_fail")
def test_the_worst_images_come_first(case):
    tiler.merge("preds", images=IMAGES, out="merged")
    written("merged")
    rows = Path("score/per_image.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == [f"images/val/{name}.jpg" for name in "bca"]
    page = Path("score/report.html").read_text()
    assert "Worst images" in page and "Worst places" in page


@of("exports_wanted")
def test_geojson_is_written(case):
    tiler.merge("preds", images=IMAGES, export="geojson", out="merged")
    (file,) = Path("merged").rglob("*.geojson")
    assert len(json.loads(file.read_text())["features"]) == 4
    assert "expected one of" in rejected("preds", export="nosuch")


@of("draw_wanted")
def test_an_output_can_be_drawn(case):
    tiler.merge("preds", images=IMAGES, out="merged")
    tiler.show("merged", out="sheet.png", images=IMAGES)
    assert Path("sheet.png").stat().st_size
