"""Cut-outs of the worst places: which they are, and that they show the right pixels."""

import io
import json
import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import tiler
from tests.conftest import Dataset
from tiler.geometry.instances import Instances
from tiler.images.drawing import BLUE, GREEN, RED, Canvas
from tiler.scoring.report.crops import (
    CLOSEST,
    SIDE,
    WHOLE,
    Crop,
    overview,
    worst,
)

W, H = 600, 400
# the first two across a seam
BOXES = [(180, 40, 220, 70), (40, 180, 70, 220), (300, 300, 330, 330), (520, 60, 524, 64)]
COLOURS = [(200, 30, 200), (30, 200, 200), (200, 200, 30), (250, 250, 250)]


def rows(boxes, size=(W, H), classes=None):
    x0, y0, x1, y1 = np.array(boxes, float).reshape(-1, 4).T / np.array([*size, *size])[:, None]
    lines = zip(
        classes or [0] * len(x0), (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, strict=True
    )
    return "".join(
        "{} {!r} {!r} {!r} {!r}\n".format(*map(float, line)).replace(".0 ", " ", 1)
        for line in lines
    )


def painted(size=(W, H)):
    image = Image.new("RGB", size, (90, 90, 90))
    for box, colour in zip(BOXES, COLOURS, strict=True):
        image.paste(colour, box)
    return image


def dataset(root, names=("car", "bus")):
    made = Dataset(root, names=names)
    made.add("t.png", "", Image.new("L", (16, 16)), "train")  # each dataset needs one
    return made


def cut(root, pictures=1, **options):
    """A dataset of which the labels of tiles are the predictions, merged by a method that knows
    nothing of pieces.
    """
    made = dataset(root / "data", ("<b>car</b>", "bus"))
    for i in range(pictures):
        made.add(f"p{i}.png", rows(BOXES), painted(), "val")
    tiler.split(made.yaml, out=root / "tiles", tile=200, overlap=0, min_visible=0.1)
    tiler.merge(
        root / "tiles/labels/val",
        tiles=root / "tiles",
        assume_conf=0.9,
        method="nms",
        out=root / "merged",
    )
    before = root / "tiles/labels/val"
    return tiler.score(
        root / "merged",
        made.yaml,
        split="val",
        tiles=root / "tiles",
        tile_preds=before,
        assume_conf=0.9,
        **options,
    )


@pytest.fixture(scope="module")
def seams(tmp_path_factory):
    return cut(tmp_path_factory.mktemp("seams"), pictures=3)


def held(root, size, boxes, found, image=None, conf=None):
    """Metrics of one image with detections in memory, without tiles."""
    made = dataset(root)
    made.add("p.png", rows(boxes, size), image or Image.new("RGB", size), "val")
    found = np.array(found, float).reshape(-1, 4)
    confs = np.full(len(found), 0.9) if conf is None else np.array(conf)
    found = Instances(np.zeros(len(found), int), found, conf=confs)
    return tiler.score({"images/val/p.png": found}, made.yaml, split="val")


def pixels(crop):
    return np.asarray(Image.open(io.BytesIO(crop.jpeg))).astype(int)


def near(image, x, y, colour, tolerance=60):
    return np.abs(image[y, x] - colour).max() < tolerance


def has(image, colour, tolerance=60):
    return (np.abs(image - colour).max(axis=-1) < tolerance).any()


def test_errors_of_seams_come_first_in_turn_and_few_of_each_picture(seams):
    crops = worst(seams)
    assert len(crops) == 6
    assert [crop.what.split(":")[0] for crop in crops[:3]] == [
        "SeamSplit",
        "SeamTrunc",
        "SeamSplit",
    ]
    # pieces and their object are one place
    assert len({(crop.key, crop.what.split("(")[1]) for crop in crops}) == 6
    assert {crop.key for crop in crops} == {f"images/val/p{i}.png" for i in range(3)}
    assert len(worst(seams, 2)) == 2
    assert worst(seams, 0) == []


def test_the_same_metrics_give_the_same_crops(seams):
    assert worst(seams) == worst(seams)


def test_jpegs_are_as_large_as_they_say(seams):
    for crop in worst(seams):
        image = Image.open(io.BytesIO(crop.jpeg))
        assert image.format == "JPEG"
        assert image.size == (crop.width, crop.height)
        assert 256 <= min(image.size) <= max(image.size) <= 400


def test_pixels_stand_where_the_object_is(seams):
    (crop,) = [
        c
        for c in worst(seams)
        if c.key.endswith("p0.png") and "(180, 40" in c.what.replace("at ", "")
    ]
    image = pixels(crop)
    assert "enlarged 3 times" in crop.what
    x, y = 200 - 128 // 2, 0  # the view's corner: as far to the left as up, and not above the image
    for px, py in ((190, 55), (210, 55)):
        assert near(image, (px - x) * 3 + 1, (py - y) * 3 + 1, COLOURS[0])
    assert near(image, 10, 370, (90, 90, 90))
    assert has(image[:, (200 - x) * 3], (200, 200, 200), 70)  # the seam, above and below the object
    assert has(image, GREEN)
    assert has(image, RED)


def test_right_detections_are_blue_and_lie_within_their_labels(tmp_path):
    boxes = [(280, 180, 320, 220), (340, 180, 380, 220)]
    metrics = held(tmp_path, (W, H), boxes, boxes[:1], Image.new("RGB", (W, H)))
    (crop,) = worst(metrics)
    image = pixels(crop)
    assert crop.what.startswith("Miss: car, missed (at 340, 180; enlarged 3 times")
    assert has(image[:, : crop.width // 3], BLUE)
    assert not has(image[:, crop.width // 3 :], BLUE)
    assert has(image[:, crop.width // 3 :], GREEN)
    assert not has(image, RED)


def test_without_seam_errors_the_worst_others(tmp_path):
    boxes = [(10, 10, 50, 40), (200, 200, 260, 240), (500, 300, 540, 340)]
    metrics = held(
        tmp_path, (W, H), boxes, [boxes[0], (300, 50, 340, 80)], painted(), conf=[0.9, 0.95]
    )
    crops = worst(metrics)
    kinds = [crop.what.split(":")[0] for crop in crops]
    assert kinds == ["Bkg", "Miss", "Miss"]
    assert "car 0.95, nothing there (at 300, 50" in crops[0].what
    assert has(pixels(crops[0]), RED)
    assert crops[1].what.startswith("Miss: car, missed (at 200, 200")  # the larger one first


def test_tiny_objects_are_enlarged_and_large_ones_reduced(tmp_path):
    tiny = worst(held(tmp_path / "a", (W, H), [(300, 200, 303, 203)], []))[0]
    assert f"enlarged {CLOSEST} times" in tiny.what
    assert (tiny.width, tiny.height) == (SIDE, SIDE)
    large = worst(held(tmp_path / "b", (2000, 1600), [(100, 100, 1100, 900)], []))[0]
    assert "reduced 4 times" in large.what
    assert large.width == SIDE


@pytest.mark.parametrize("size", [(64, 48), (200, 200), (1000, 20), (300, 300), (9, 900)])
def test_small_and_narrow_pictures(tmp_path, size):
    w, h = size
    if min(size) < 10:
        w = h = 10  # the trainer's least
    (crop,) = worst(held(tmp_path, (max(w, 10), h), [(w / 4, h / 4, w / 2, h / 2)], []))
    image = Image.open(io.BytesIO(crop.jpeg))
    assert image.size == (crop.width, crop.height)
    assert max(image.size) <= 400


def test_whole_picture_where_the_object_fills_it(tmp_path):
    (crop,) = worst(held(tmp_path, (200, 190), [(2, 2, 198, 188)], []))
    assert (crop.width, crop.height) == (200, 190)


def test_exif_turns_the_picture(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # to be turned clockwise
    stored = Image.new("RGB", (H, W), (90, 90, 90)).transpose(Image.Transpose.ROTATE_90)
    upright = Image.new("RGB", (H, W), (90, 90, 90))
    upright.paste((250, 20, 20), (100, 500, 140, 530))
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    made = dataset(tmp_path)
    made.add("p.jpg", rows([(100, 500, 140, 530)], (H, W)), stored, "val", exif=exif, quality=95)
    (crop,) = worst(tiler.score({}, made.yaml, split="val"))
    assert near(pixels(crop), crop.width // 2, crop.height // 2, (250, 20, 20))


def test_16_bit_pictures(tmp_path):
    grey = np.full((H, W), 2000, np.uint16)
    grey[100:140, 200:260] = 3000
    (crop,) = worst(held(tmp_path, (W, H), [(200, 100, 260, 140)], [], Image.fromarray(grey)))
    image = pixels(crop)
    assert near(image, crop.width // 2, crop.height // 2, (255, 255, 255))
    assert near(image, 10, 10, (0, 0, 0))


def test_pictures_that_are_missing_or_damaged_are_left_out(tmp_path):
    metrics = cut(tmp_path, pictures=3)
    root = tmp_path / "data/images/val"
    (root / "p0.png").unlink()
    data = (root / "p1.png").read_bytes()
    (root / "p1.png").write_bytes(data[: len(data) // 2])
    assert {crop.key for crop in worst(metrics)} == {"images/val/p2.png"}
    (root / "p2.png").write_bytes(b"no image")
    assert worst(metrics) == []


def test_each_picture_is_decoded_once(seams, monkeypatch):
    from tiler.images import reading

    calls = []
    decode = reading.decode
    monkeypatch.setattr(
        reading, "decode", lambda file, header: calls.append(file.name) or decode(file, header)
    )
    worst(seams)
    assert len(calls) == len(set(calls)) == 3


@pytest.mark.parametrize("without", [{"errors": None}, {"root": None}])
def test_nothing_without_errors_or_pictures(seams, without):
    assert worst(replace(seams, **without)) == []


@pytest.mark.parametrize(
    "without", [{"layout": None}, {"seams": None}, {"layout": None, "seams": None}]
)
def test_without_tiles_no_lines(seams, without):
    crops = worst(replace(seams, **without))
    assert crops
    assert all(isinstance(crop, Crop) for crop in crops)


def test_a_crowded_picture_gives_places_that_do_not_see_one_another(tmp_path):
    rng = np.random.default_rng(0)
    at = rng.uniform(0, 350, (300, 2))
    metrics = held(tmp_path, (W, H), np.concatenate([at, at + 12], axis=1), [], painted())
    crops = worst(metrics)
    assert 3 < len(crops) <= 12  # more than three of one image, since there is no other
    assert len({crop.what for crop in crops}) == len(crops)


def test_outlines_are_drawn_as_outlines(tmp_path):
    made = dataset(tmp_path)
    corners = [(300, 180), (340, 220), (300, 260), (260, 220)]
    values = " ".join(f"{x / W!r} {y / H!r}" for x, y in corners)
    made.add("p.png", f"0 {values}\n", Image.new("RGB", (W, H)), "val")
    crop = worst(tiler.score({}, made.yaml, split="val", task="obb"))[0]
    image = pixels(crop)
    middle = image[crop.height // 2, : crop.width // 2]
    assert has(middle, GREEN)
    x, y = crop.width // 2, crop.height // 2
    assert "enlarged" not in crop.what
    # as the corner of an upright box would be
    assert not has(image[y - 45 : y - 36, x - 45 : x - 36], GREEN)


def test_names_of_a_json_do_not_lead_out_of_the_images(tmp_path):
    """An image beside --images, one by its absolute path, a fifo: none is shown, none is waited
    for.
    """
    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (640, 640), (255, 0, 255)).save(tmp_path / "secret.png")
    os.mkfifo(images / "fifo.png")
    names = ["../secret.png", str(tmp_path / "secret.png"), "x/../../secret.png", "fifo.png"]
    entries = [
        {"id": i, "file_name": name, "width": 640, "height": 640} for i, name in enumerate(names)
    ]
    box = {"category_id": 1, "area": 900, "iscrowd": 0}
    labels = [
        {**box, "id": i + 1, "image_id": i, "bbox": [100, 100, 30, 30]} for i in range(len(names))
    ]
    truth = {"images": entries, "annotations": labels, "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    found = [
        {"image_id": i, "category_id": 1, "bbox": [100, 300, 30, 30], "score": 0.5}
        for i in range(len(names))
    ]
    (tmp_path / "p.json").write_text(json.dumps(found))
    metrics = tiler.score(tmp_path / "p.json", tmp_path / "gt.json", images=images)
    assert worst(metrics) == []
    assert [f.code for f in metrics.findings] == ["I01"] * 3
    assert metrics.exit_code() == 1
    # names, of which none is opened
    assert tiler.score(tmp_path / "p.json", tmp_path / "gt.json").exit_code() == 0


def test_another_class_is_shown_however_many_errors_of_seams_there_are(tmp_path):
    """These used to take all places."""
    cut(tmp_path, pictures=3)
    for path in (tmp_path / "data/labels/val").iterdir():
        path.write_text(rows(BOXES, classes=[0, 0, 1, 0]))
    where = {
        "split": "val",
        "tiles": tmp_path / "tiles",
        "tile_preds": tmp_path / "tiles/labels/val",
        "assume_conf": 0.9,
    }
    metrics = tiler.score(tmp_path / "merged", tmp_path / "data", **where)
    crops = worst(metrics, 4)
    kinds = [crop.what.split(":")[0] for crop in crops]
    assert kinds == ["SeamSplit", "SeamTrunc", "SeamSplit", "Cls"]
    assert "Cls: <b>car</b> 0.90, another class (bus) (at 300, 300" in crops[-1].what


def test_names_stand_on_what_is_shown(tmp_path, monkeypatch):
    written = []
    write = Canvas.caption

    def caption(canvas, caption):
        written.append((caption.text, caption.colour))
        write(canvas, caption)

    monkeypatch.setattr(Canvas, "caption", caption)
    made = dataset(tmp_path)
    made.add("p.png", rows([(20, 20, 60, 60)]), Image.new("RGB", (W, H), (90, 90, 90)), "val")
    found = Instances(np.array([1]), np.array([[20, 20, 60, 60.0]]), conf=np.array([0.5]))
    (crop,) = worst(tiler.score({"images/val/p.png": found}, made.yaml, split="val"))
    assert crop.what.startswith("Cls: bus 0.50, another class (car)")
    assert {("car", GREEN), ("bus 0.50", RED)} <= set(written)
    assert crop.width <= SIDE


def test_the_whole_of_the_worst_picture(tmp_path):
    made = dataset(tmp_path)
    size = (W * 6, H * 6)
    boxes = [(100, 100, 200, 200), (3000, 2000, 3100, 2100)]
    for name in ("good", "worse"):
        made.add(f"{name}.png", rows(boxes, size), Image.new("RGB", size, (90, 90, 90)), "val")
    right = Instances(np.zeros(2, int), np.array(boxes, float), conf=np.full(2, 0.9))
    wrong = Instances(
        np.zeros(2, int), np.array([(1000.0, 1000, 1100, 1100), boxes[0]]), conf=np.full(2, 0.9)
    )
    metrics = tiler.score(
        {"images/val/good.png": right, "images/val/worse.png": wrong}, made.yaml, split="val"
    )
    crop = overview(metrics)
    assert crop.key == "images/val/worse.png"
    assert crop.what == (
        "Whole: 2 labels, 1 found, 1 detections false, 1 labels missed (3600 x 2400 px; "
        "reduced 3 times)"
    )
    assert (crop.width, crop.height) == (1200, 800) and crop.width <= WHOLE
    image = pixels(crop)
    assert has(image[320:380, 320:380], RED) and has(image[650:710, 990:1040], GREEN)
    assert not has(image[650:710, 990:1040], BLUE)
    assert overview(metrics) == crop
    assert overview(replace(metrics, root=None)) is None
