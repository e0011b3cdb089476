"""`tiler.show`: what is drawn of datasets, tiles, and detections."""

import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

import tiler
from tests.conftest import SHARED, Dataset, needs_big, needs_shared, picture, tree
from tiler.errors import TilerError
from tiler.images.drawing import class_colour
from tiler.inspecting.showing import prepared
from tiler.inspecting.showing.opening import LOOKED
from tiler.inspecting.showing.sheet import MARGIN, ONE, ClassLegend, drawn, planned

GREY = (90, 90, 90)


def plain(size=(200, 100)):
    return Image.new("RGB", size, GREY)


def has(image, colour):
    return bool((np.asarray(image) == colour).all(axis=-1).any())


def row(box, size=(200, 100), class_id=0):
    x0, y0, x1, y1 = box
    w, h = size
    values = ((x0 + x1) / 2 / w, (y0 + y1) / 2 / h, (x1 - x0) / w, (y1 - y0) / h)
    return f"{class_id} {' '.join(map(repr, values))}\n"


def one(data, **options):
    """The one image of a dataset, as it stands on the sheet, and its plan."""
    showing = prepared(data, **options)
    (plan,) = showing.plans(ONE)
    return np.asarray(drawn(plan, showing.legend(), None, 0)).astype(int), plan


def test_the_line_is_where_the_label_is_and_its_pixels_are_untouched(dataset):
    dataset.add("p.png", row((60, 40, 110, 80), class_id=1), plain())
    image, plan = one(dataset.yaml)
    assert (plan.scale, plan.crops) == (1, ())
    top = len(image) - 100 - MARGIN
    part = image[top : top + 100, MARGIN : MARGIN + 200]
    assert (part[40:80, 60:110] == GREY).all()
    ring = np.zeros((100, 200), bool)
    ring[39:81, 59:111] = True
    ring[40:80, 60:110] = False
    assert (part[ring] == class_colour(1)).all()
    assert (part[:37] == GREY).all()


def test_small_objects_are_enlarged_in_crops(dataset):
    size = (3000, 2000)
    boxes = [(1000 + 12 * i, 900, 1008 + 12 * i, 906) for i in range(5)]
    image = plain(size)
    for box in boxes:
        image.paste((250, 250, 0), box)
    dataset.add("p.png", "".join(row(box, size) for box in boxes), image)
    drawn_image, plan = one(dataset.yaml)
    assert plan.zoom == 4
    (crop,) = plan.crops
    assert crop.x <= 1000
    assert crop.right >= boxes[-1][2]
    yellow = (drawn_image == (250, 250, 0)).all(axis=-1)
    # all pixels of all objects, 4 x 4 times, and those of the small whole
    assert yellow.sum() >= 5 * 8 * 6 * 16


def shuffled(root, other):
    """The same dataset with the rows of each label file in another order."""
    shutil.copytree(root, other)
    for path in sorted((other / "labels").rglob("*.txt")):
        path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    return other


def test_the_order_of_rows_does_not_matter(filled, tmp_path):
    other = shuffled(filled.root, tmp_path / "other")
    assert tiler.show(filled.root) == tiler.show(other)
    assert tiler.show(filled.root, n=1) != tiler.show(filled.root, n=2)


@pytest.mark.parametrize("task", ["segment", "obb", "pose"])
def test_every_task(tmp_path, task):
    corners = [(40, 20), (80, 30), (75, 50), (35, 40)]
    if task == "pose":
        made = Dataset(tmp_path / "d", kpt_shape=[2, 3])
        rows = row((40, 20, 80, 60)).strip() + " 0.25 0.3 2 0.35 0.5 1\n"
    else:
        made = Dataset(tmp_path / "d")
        values = " ".join(f"{x / 200!r} {y / 100!r}" for x, y in corners)
        rows = f"0 {values}\n"
    made.add("p.png", rows, plain())
    image, plan = one(made.yaml, task=task)
    assert plan.objects.labels.task == task
    assert has(image, class_colour(0))


@pytest.fixture(scope="module")
def merged(tmp_path_factory):
    """A dataset, its tiles, and what merging the labels of the tiles gives."""
    root = tmp_path_factory.mktemp("merged")
    Dataset(root / "data").filled(train=2, val=1)
    tiler.split(root / "data", tile=200, out=root / "tiles")
    preds = root / "preds"
    for split in ("train", "val"):
        for path in (root / "tiles/labels" / split).glob("*.txt"):
            preds.mkdir(exist_ok=True)
            texts = path.read_text().splitlines()
            lines = [f"{text} {0.2 + 0.1 * (i % 8)}" for i, text in enumerate(texts)]
            (preds / path.name).write_text("\n".join(lines))
    tiler.merge(preds, tiles=root / "tiles", out=root / "out")
    return root


def test_tiles_are_shown_as_they_were_cut(merged):
    showing = prepared(merged / "tiles", n=4)
    assert showing.title().startswith("tiles: 4 of")
    cut = [plan.cut for plan in showing.plans(ONE)]
    assert any(cut)
    for image, _ in showing.shown:
        assert image.origin.startswith("images/")
        assert image.origin != image.key


def test_a_dataset_with_the_windows_of_its_tiles(merged):
    showing = prepared(merged / "data", tiles=merged / "tiles")
    assert {len(tiles) for tiles in showing.tiles.values()} == {6}
    assert tiler.show(merged / "data", tiles=merged / "tiles") != tiler.show(merged / "data")


def test_merged_detections_with_images_or_with_their_dataset(merged):
    alone = prepared(merged / "out", images=merged / "data")
    assert len(alone.shown) == 3
    for _, objects in alone.shown:
        assert objects.labels is None
        assert (objects.detections.conf >= 0.25).all()
        assert objects.below > 0
    both = prepared(merged / "out", data=merged / "data", conf=0.0)
    for image, objects in both.shown:
        assert len(objects.labels) == 12
        assert objects.below == 0
        assert len(both.tiles[image.key]) == 6
    assert both.sheet().mode == "RGB"


def test_predictions_on_tiles_with_the_tiles_as_their_dataset(merged):
    showing = prepared(merged / "preds", data=merged / "tiles", n=3)
    for _, objects in showing.shown:
        assert objects.detections is not None
        assert len(objects.labels) == len(objects.detections) + objects.below


def test_coco_with_results_by_id(tmp_path):
    import json

    (tmp_path / "images").mkdir()
    plain().save(tmp_path / "images/p.png")
    plain().save(tmp_path / "images/q.png")
    images = [
        {"id": 7, "file_name": "p.png", "width": 200, "height": 100},
        {"id": 9, "file_name": "q.png", "width": 200, "height": 100},
    ]
    box = {"category_id": 3, "bbox": [10, 20, 30, 40], "area": 1200}
    annotations = [
        {"id": 1, "image_id": 7, "iscrowd": 0, **box},
        {"id": 2, "image_id": 7, "iscrowd": 1, "category_id": 3, "bbox": [100, 20, 50, 50]},
    ]
    truth = {"images": images, "annotations": annotations, "categories": [{"id": 3, "name": "a"}]}
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    found = [{"image_id": 9, "score": 0.5, **box}]
    (tmp_path / "found.json").write_text(json.dumps(found))
    labels = prepared(tmp_path / "gt.json", images=tmp_path / "images")
    assert [len(objects.ignored) for _, objects in labels.shown] == [1, 0]
    with pytest.raises(TilerError, match="these are predictions: --data"):
        prepared(tmp_path / "found.json")
    showing = prepared(
        tmp_path / "found.json", data=tmp_path / "gt.json", images=tmp_path / "images"
    )
    ((image, objects),) = showing.shown
    assert image.key.endswith("q.png")
    assert objects.detections.boxes.tolist() == [[10, 20, 40, 60]]


@pytest.mark.parametrize(
    ("image", "found"),
    [
        ("images/train/p0.jpg", "images/train/p0.jpg"),
        ("p0.jpg", "images/train/p0.jpg"),
        ("p3", "images/val/p3.jpg"),
        ("val/p3", "images/val/p3.jpg"),
    ],
)
def test_one_image_by_its_name(filled, image, found):
    ((shown, _),) = prepared(filled.root, image).shown
    assert shown.key == found
    ((by_path, _),) = prepared(filled.root, str(filled.root / found)).shown
    assert by_path.key == found


def test_a_misspelt_image_is_an_error_with_a_hint(filled):
    with pytest.raises(TilerError, match="no such image in YOLO dataset; did you mean 'p1.jpg'"):
        prepared(filled.root, "p1.jpgg")
    filled.add("p0.jpg", "", plain(), "val")
    with pytest.raises(TilerError, match=r"p0: 2 images have this name \(images/train/p0"):
        prepared(filled.root, "p0")


def test_of_many_images_some_are_looked_at(tmp_path):
    made = Dataset(tmp_path / "d")
    first = made.add("p00000.png", row((20, 20, 40, 40)), plain())
    for i in range(1, LOOKED + 200):
        path = first.with_name(f"p{i:05}.png")
        path.hardlink_to(first)
    made.add("v.png", "", plain(), "val")
    showing = prepared(made.yaml, n=2)
    assert showing.looked <= LOOKED
    assert f"of {LOOKED + 201} images, chosen from {showing.looked} of them" in showing.title()


def test_damaged_images_are_findings_and_the_others_are_shown(filled):
    (filled.root / "images/train/p0.jpg").write_bytes(b"no image")
    data = (filled.root / "images/train/p1.jpg").read_bytes()
    (filled.root / "images/train/p1.jpg").write_bytes(data[: len(data) // 2])
    label = filled.root / "labels/train/p2.txt"
    label.write_text(label.read_text() + "9 0.5 0.5 0.1 0.1\n")
    showing = prepared(filled.root)
    assert showing.sheet().mode == "RGB"
    assert sorted(f.code for f in showing.findings if f.level == "error") == ["I02", "I03", "L04"]
    assert showing.exit_code() == 1


def test_images_alone_and_one_by_one(filled):
    showing = prepared(filled.root / "images" / "train", n=2)
    assert showing.title() == "images: 2 of 3 images"
    assert [objects.labels for _, objects in showing.shown] == [None, None]
    assert showing.sheet().mode == "RGB"


def test_what_cannot_be_shown_is_an_error(filled, tmp_path):
    with pytest.raises(TilerError, match="no such file"):
        prepared(tmp_path / "nothing")
    with pytest.raises(TilerError, match="--n 3: one image is named, p0"):
        prepared(filled.root, "p0", n=3)
    with pytest.raises(TilerError, match="--conf 0.5: there are no detections"):
        prepared(filled.root, conf=0.5)
    for path in (filled.root / "images").rglob("*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(TilerError, match="no image can be shown: .* I02"):
        prepared(filled.root)


def test_merged_detections_need_a_place_of_images(merged, tmp_path):
    with pytest.raises(TilerError, match="where are its images"):
        prepared(merged / "out")
    with pytest.raises(TilerError, match="none of the images is there"):
        prepared(merged / "out", images=tmp_path)


def test_more_classes_than_colours_are_named(tmp_path):
    names = [f"kind{i}" for i in range(12)]
    made = Dataset(tmp_path / "d", names=names)
    size = (2000, 1000)
    rows = row((100, 100, 110, 110), size, 1) + row((150, 120, 160, 130), size, 9)
    made.add("p.png", rows, plain(size))
    assert prepared(made.yaml).legend().ambiguous
    assert tiler.show(made.yaml).mode == "RGB"
    assert ClassLegend((), False).name(3) == "class 3"


# --- images of every kind


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    root = tmp_path_factory.mktemp("odd")
    with tarfile.open(SHARED / "data" / "odd.tar") as archive:
        archive.extractall(root, filter="data")
    return root / "odd"


@needs_shared
@pytest.mark.parametrize("orientation", range(2, 9))
def test_turned_images_are_upright(odd, orientation):
    upright, _ = one(odd, image="exif_1.jpg")
    turned, _ = one(odd, image=f"exif_{orientation}.jpg")
    assert turned.shape == upright.shape
    assert np.abs(turned[40:] - upright[40:]).mean() < 8


@needs_shared
@pytest.mark.parametrize(
    "name",
    [
        "gray16.tif",
        "bigendian.tif",
        "float32.tif",
        "palette_trns.png",
        "rgba.png",
        "cmyk.jpg",
        "tall_1x5000.png",
        "tiny_1x1.png",
    ],
)
def test_odd_images_are_shown(odd, name):
    image, _ = one(odd, image=name)
    assert image.max() > 200
    assert len(np.unique(image)) > 3


@needs_shared
@needs_big
@pytest.mark.parametrize("name", ["rgb16.tif", "bands5.tif"])
def test_images_that_are_read_by_rows(odd, name):
    image, _ = one(odd, image=name)
    reference, _ = one(odd, image="plain.jpg")
    assert image.std() > 30
    assert reference.std() > 30


@needs_shared
def test_all_odd_images_together_give_a_sheet_and_findings(odd):
    showing = prepared(odd, n=100, task="detect")
    assert showing.sheet().width <= 2000
    assert {f.code for f in showing.findings if f.level == "error"} >= {"I02", "I03"}
    assert "X01" not in {f.code for f in showing.findings}


def test_deep_images_are_stretched_alike_in_the_whole_and_in_its_crops(dataset):
    size = (2000, 1000)
    values = np.full((1000, 2000), 2000, np.uint16)
    values[:500] = 3000
    values[480:520, 480:520] = 4000
    dataset.add("p.png", row((480, 480, 490, 490), size), Image.fromarray(values))
    showing = prepared(dataset.yaml)
    (plan,) = showing.plans(ONE)
    assert plan.crops
    image = np.asarray(drawn(plan, showing.legend(), None, 0))
    assert (image == 255).all(axis=-1).any()
    assert planned(plan.image, plan.objects, plan.tiles, 0, ONE).crops == plan.crops


# --- output


def test_a_sheet_is_written_once_and_only_over_a_sheet(filled, tmp_path):
    out = tmp_path / "x.png"
    image = tiler.show(filled.root, out=out)
    with Image.open(out) as written:
        assert written.size == image.size
    before = tree(tmp_path)
    tiler.show(filled.root, out=out)
    assert tree(tmp_path) == before
    with pytest.raises(TilerError, match="holds another sheet; use --overwrite"):
        tiler.show(filled.root, out=out, n=1)
    tiler.show(filled.root, out=out, n=1, overwrite=True)
    assert tree(tmp_path) != before
    picture().save(out)
    with pytest.raises(TilerError, match="not made by tiler show"):
        tiler.show(filled.root, out=out, overwrite=True)
    assert not [path for path in tmp_path.iterdir() if "partial" in path.name]


def test_a_folder_has_a_page_for_each_image(filled, tmp_path):
    out = tmp_path / "pages"
    tiler.show(filled.root, out=out)
    names = sorted(path.name for path in out.iterdir())
    assert len(names) == 5
    assert names[-1] == "show.json"
    assert {name.split("-")[1] for name in names[:-1]} == {f"p{i}.png" for i in range(4)}
    before = tree(out)
    tiler.show(filled.root, out=out)
    assert tree(out) == before
    with pytest.raises(TilerError, match="holds other images"):
        tiler.show(filled.root, out=out, n=2)
    tiler.show(filled.root, out=out, n=2, overwrite=True)
    assert len(list(out.iterdir())) == 3
    (out / "mine.txt").write_text("")
    with pytest.raises(TilerError, match=r"mine.txt is not made by tiler"):
        tiler.show(filled.root, out=out, overwrite=True)


def test_output_among_the_images_or_of_another_kind_is_rejected(filled, tmp_path):
    for place in (filled.root / "images/train", filled.root, filled.root / "images/train/new"):
        with pytest.raises(TilerError, match="holds"):
            tiler.show(filled.root, out=place)
    with pytest.raises(TilerError, match="expected a .png, or a folder"):
        tiler.show(filled.root, out=tmp_path / "x.jpg")
    with pytest.raises(TilerError, match="no such folder"):
        tiler.show(filled.root, out=tmp_path / "none" / "x.png")
