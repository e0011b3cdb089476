"""--export coco and coco-roboflow: what other trainers read of the tiles is what the labels say."""

import contextlib
import io
import json
import os
import shutil
import signal

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

import tiler
from tests.conftest import SHARED, Dataset, needs_shared, picture, rows_of, tree
from tests.splitting.test_split import in_child
from tiler.formats import manifest
from tiler.images import writing
from tiler.splitting import coco_export

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")

BOTH = "coco,coco-roboflow"
NAMES = {"train": "train", "val": "valid"}


def split(data, out, **options):
    options = {"tile": 128, "workers": 1, "export": "coco", **options}
    return tiler.split(getattr(data, "yaml", data), out=out, **options)


def loaded(path):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def instances(out, name="train"):
    return loaded(out / f"annotations/instances_{name}.json")


def by_tile(coco):
    """The annotations of each tile, by its name, in the order of the file."""
    found = {}
    for image in coco.dataset["images"]:
        annotations = coco.imgToAnns[image["id"]]
        found[os.path.splitext(image["file_name"])[0]] = (image, annotations)
    return found


def coco_set(root, sizes, annotations, categories=((1, "a"),), name="instances_train.json"):
    """A COCO file and its images, white."""
    images = []
    (root / "pictures").mkdir(parents=True, exist_ok=True)
    for id, (width, height) in sizes.items():
        Image.new("RGB", (width, height), "white").save(root / f"pictures/i{id}.png")
        images.append({"id": id, "file_name": f"i{id}.png", "width": width, "height": height})
    filled = []
    for id, annotation in enumerate(annotations, 1):
        filled.append({"id": id, "image_id": 1, "category_id": 1, "iscrowd": 0, **annotation})
    entries = [{"id": id, "name": name} for id, name in categories]
    content = {"images": images, "annotations": filled, "categories": entries}
    (root / name).write_text(json.dumps(content))
    return root / name


def cut(file, out, **options):
    return split(file, out, images=file.parent / "pictures", **options)


# --- What is written


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": "1,0.5,0.33"},
        {"tile": "100x90", "edge": "pad"},
        {"edge": "trim", "overlap": 0, "min_visible": 0, "truncated": "keep"},
        {"background": "none", "truncated": "skip-tile"},
    ],
    ids=str,
)
def test_boxes_are_those_of_the_label_files(filled, tmp_path, options):
    split(filled, tmp_path / "out", **options)
    for name in ("train", "val"):
        tiles = by_tile(instances(tmp_path / "out", name))
        rows = rows_of(tmp_path / "out", name)
        assert set(tiles) == set(rows)
        for tile, (image, annotations) in tiles.items():
            size = np.array([image["width"], image["height"]])
            with Image.open(tmp_path / "out/images" / name / image["file_name"]) as pixels:
                assert pixels.size == tuple(size)
            want = np.array(rows[tile]).reshape(-1, 5)
            boxes = np.array([a["bbox"] for a in annotations]).reshape(-1, 4)
            centres = boxes[:, :2] + boxes[:, 2:] / 2
            assert [a["category_id"] - 1 for a in annotations] == want[:, 0].tolist()
            np.testing.assert_allclose(centres / size, want[:, 1:3], atol=1e-6)
            np.testing.assert_allclose(boxes[:, 2:] / size, want[:, 3:], atol=1e-6)


def test_tiles_without_objects_are_there_and_ids_are_unique(filled, tmp_path):
    report = split(filled, tmp_path / "out", tile=64)
    files = [instances(tmp_path / "out", name) for name in ("train", "val")]
    images = [image for coco in files for image in coco.dataset["images"]]
    annotations = [a for coco in files for a in coco.dataset["annotations"]]
    assert report.total.counts.background > 0
    assert len(images) == report.total.counts.tiles
    assert len(annotations) == report.total.objects.rows
    assert sorted(i["id"] for i in images) == list(range(1, len(images) + 1))
    assert sorted(a["id"] for a in annotations) == list(range(1, len(annotations) + 1))
    without = [i for coco in files for i in coco.dataset["images"] if not coco.imgToAnns[i["id"]]]
    assert len(without) == report.total.counts.background


def test_the_id_of_an_image_is_the_number_of_its_tile_in_the_manifest(filled, tmp_path):
    split(filled, tmp_path / "out")
    tiles = []
    for source in manifest.read_sources(tmp_path / "out/tiles.jsonl"):
        tiles += [f"{tile.name}.jpg" for tile in source.tiles]
    for name in ("train", "val"):
        for image in instances(tmp_path / "out", name).dataset["images"]:
            assert tiles[image["id"] - 1] == image["file_name"]


def test_categories_have_the_ids_of_the_source(tmp_path):
    annotations = [
        {"category_id": 9, "bbox": [1, 2, 30, 40]},
        {"category_id": 4, "bbox": [50, 2, 30, 40]},
    ]
    file = coco_set(tmp_path, {1: (100, 100)}, annotations, ((9, "b"), (0, "none"), (4, "a")))
    cut(file, tmp_path / "out")
    coco = instances(tmp_path / "out")
    assert {id: c["name"] for id, c in coco.cats.items()} == {0: "none", 4: "a", 9: "b"}
    assert [a["category_id"] for a in coco.dataset["annotations"]] == [9, 4]


@pytest.mark.parametrize("ids", [("x", "y"), (5, "y")])
def test_categories_whose_ids_are_text_count_from_1(tmp_path, ids):
    categories = [(id, f"name {id}") for id in ids]
    annotations = [{"category_id": ids[1], "bbox": [1, 2, 30, 40]}]
    cut(coco_set(tmp_path, {1: (100, 100)}, annotations, categories), tmp_path / "out")
    coco = instances(tmp_path / "out")
    assert sorted(coco.cats) == [1, 2]
    assert coco.dataset["annotations"][0]["category_id"] == 2


# --- Outlines


def masks_of(coco, annotations):
    return [coco.annToMask(a).astype(bool) for a in annotations]


def cropped(mask, tile, entry):
    """The part of an image's mask that a tile shows."""
    x, y, w, h = map(int, tile.split("__")[1].split("_"))
    return mask[y : y + h, x : x + w]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_masks_of_pixels_are_those_of_the_image_to_the_pixel(tmp_path_factory, seed):
    """Masks with holes, islands and several parts, cut where no label is lost."""
    tmp_path = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(seed)
    side = 120
    mask = np.zeros((side, side), np.uint8)
    for k in range(6):
        x, y = rng.integers(0, side - 20, 2)
        w, h = rng.integers(5, 60, 2)
        mask[y : y + h, x : x + w] = k % 2 == 0
    counts = coco_mask.encode(np.asfortranarray(mask))["counts"].decode()
    segmentation = {"size": [side, side], "counts": counts}
    file = coco_set(tmp_path, {1: (side, side)}, [{"segmentation": segmentation, "bbox": None}])
    cut(file, tmp_path / "out", tile=50, min_visible=0, min_size=0, task="segment")
    coco = instances(tmp_path / "out")
    for tile, (image, annotations) in by_tile(coco).items():
        want = cropped(mask.astype(bool), tile, image)
        assert len(annotations) == want.any()
        for found, annotation in zip(masks_of(coco, annotations), annotations, strict=True):
            np.testing.assert_array_equal(found, want)
            assert annotation["area"] == want.sum()


U_SHAPE = "0 0.1 0.25 0.9 0.25 0.9 0.3 0.2 0.3 0.2 0.7 0.9 0.7 0.9 0.75 0.1 0.75\n"
# a square ring, by a bridge to its hole and back
KEY_HOLE = "0 0.1 0.1 0.9 0.1 0.9 0.9 0.1 0.9 0.1 0.1 0.4 0.4 0.4 0.6 0.6 0.6 0.6 0.4 0.4 0.4\n"


@pytest.fixture
def outlines(dataset):
    dataset.add("u.png", U_SHAPE, picture(200, 200))
    dataset.add("v.png", KEY_HOLE, picture(200, 200), "val")
    return dataset


@pytest.mark.parametrize("parts", ["separate", "bridge", "largest"])
def test_an_object_in_several_parts_is_one_annotation(outlines, tmp_path, parts):
    split(outlines, tmp_path / "out", tile=100, overlap=0, task="segment", parts=parts)
    coco = instances(tmp_path / "out")
    (_, (annotation,)) = by_tile(coco)["u__100_0_100_100"]
    assert len(annotation["segmentation"]) == 1
    split(
        outlines, tmp_path / "low", tile="100x200", overlap=0, task="segment", parts=parts,
        min_visible=0,
    )  # fmt: skip
    rows = rows_of(tmp_path / "low")["u__100_0_100_200"]
    (_, (annotation,)) = by_tile(instances(tmp_path / "low"))["u__100_0_100_200"]
    assert len(rows) == {"separate": 2, "bridge": 1, "largest": 1}[parts]
    polygons = annotation["segmentation"]
    assert len(polygons) == {"separate": 2, "bridge": 2, "largest": 1}[parts]
    assert annotation["area"] == pytest.approx(800 * len(polygons))
    assert annotation["bbox"] == pytest.approx([0, 50, 80, 100 if len(polygons) == 2 else 10])


def test_a_hole_is_no_part_of_the_mask(outlines, tmp_path):
    split(outlines, tmp_path / "out", tile=200, task="segment")
    coco = instances(tmp_path / "out", "val")
    ((_, (annotation,)),) = by_tile(coco).values()
    want = np.zeros((200, 200), bool)
    want[20:180, 20:180] = True
    want[80:120, 80:120] = False
    np.testing.assert_array_equal(coco.annToMask(annotation), want)
    assert annotation["area"] == want.sum()
    assert annotation["bbox"] == [20, 20, 160, 160]
    assert isinstance(annotation["segmentation"]["counts"], list)  # as COCO writes it


def test_obbs_and_poses(tmp_path):
    obbs = Dataset(tmp_path / "obb")
    obbs.add("a.png", "1 0.5 0.3 0.7 0.5 0.5 0.7 0.3 0.5\n", picture(100, 100))
    obbs.add("v.png", "", picture(100, 100), "val")
    split(obbs, tmp_path / "o", tile=60, overlap=0.5, task="obb", min_visible=0)
    coco = instances(tmp_path / "o")
    rows = rows_of(tmp_path / "o")
    for tile, (_, annotations) in by_tile(coco).items():
        for annotation, row in zip(annotations, rows[tile], strict=True):
            (corners,) = annotation["segmentation"]
            assert corners == pytest.approx([60 * v for v in row[1:]], abs=6e-5)
            x, y, w, h = annotation["bbox"]
            want = [min(corners[::2]), min(corners[1::2]), max(corners[::2]), max(corners[1::2])]
            assert [x, y, x + w, y + h] == pytest.approx(want, abs=1e-5)

    poses = Dataset(tmp_path / "pose", kpt_shape=[3, 3], flip_idx=[0, 2, 1])
    poses.add("a.png", "0 .5 .5 .4 .4 .35 .4 2 .65 .6 1 0 0 0\n", picture(100, 100))
    poses.add("v.png", "", picture(100, 100), "val")
    split(poses, tmp_path / "p", tile=60, overlap=0.5, min_visible=0, scale="1,0.5")
    tiles = by_tile(instances(tmp_path / "p"))
    (_, (annotation,)) = tiles["a__0_0_60_60"]
    assert annotation["keypoints"] == [35, 40, 2, 0, 0, 0, 0, 0, 0]
    assert annotation["num_keypoints"] == 1
    (_, (annotation,)) = tiles["a__s50__0_0_100_100"]
    assert annotation["keypoints"] == [17.5, 20, 2, 32.5, 30, 1, 0, 0, 0]
    assert annotation["bbox"] == [15, 15, 20, 20]
    assert instances(tmp_path / "p").cats[1]["keypoints"] == ["0", "1", "2"]


# --- Regions to be ignored


@pytest.mark.parametrize("ignored", ["auto", "mask", "skip"])
def test_crowds_stay_crowds_with_or_without_their_pixels(tmp_path, ignored):
    crowd = np.zeros((100, 100), np.uint8)
    crowd[20:80, 10:90] = 1
    crowd[30:50, 30:60] = 0
    counts = coco_mask.encode(np.asfortranarray(crowd))["counts"].decode()
    triangle = [[5.5, 85, 60, 97.25, 5, 99]]
    annotations = [
        {"bbox": [60, 60, 20, 20]},
        {"segmentation": {"size": [100, 100], "counts": counts}, "iscrowd": 1, "category_id": 8},
        {"segmentation": triangle, "bbox": [5, 85, 55, 14], "ignore": 1},
        {"bbox": [0, 0, 9, 9], "iscrowd": 1},
        {"bbox": [0, 0, 9, 9], "iscrowd": 1, "category_id": 77},
    ]
    file = coco_set(tmp_path, {1: (100, 100)}, annotations, ((1, "a"), (8, "b")))
    cut(file, tmp_path / "out", tile=64, overlap=0, ignored=ignored)
    coco = instances(tmp_path / "out")
    full = [crowd.astype(bool), np.zeros((100, 100), bool), np.zeros((100, 100), bool)]
    drawn = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(triangle, 100, 100)))
    full[1][:] = drawn
    full[2][:9, :9] = True
    for tile, (image, found) in by_tile(coco).items():
        regions = [a for a in found if a["iscrowd"]]
        seen = [cropped(mask, tile, image) for mask in full]
        shown = [k for k in range(3) if seen[k].any()]
        assert [a["category_id"] for a in regions] == [(8, 1, 1)[k] for k in shown]
        for annotation, mask, k in zip(regions, masks_of(coco, regions), shown, strict=True):
            different = (mask != seen[k]).sum()
            assert different <= (0 if k != 1 else 3)  # an outline that is cut may round elsewhere
            assert annotation["area"] == mask.sum()
            assert annotation["bbox"] == coco_mask.toBbox(coco.annToRLE(annotation)).tolist()


# --- Read by others


@pytest.mark.parametrize("task", ["detect", "segment", "obb", "pose"])
def test_the_labels_score_1_against_the_export(tmp_path, task):
    rows = {
        "detect": "{} {:.6f} {:.6f} .1 .14\n",
        "segment": "{0} {1:.6f} {2:.6f} {3:.6f} {2:.6f} {1:.6f} {4:.6f}\n",
        "obb": "{0} {1:.6f} {2:.6f} {3:.6f} {2:.6f} {3:.6f} {4:.6f} {1:.6f} {4:.6f}\n",
        "pose": "{} {:.6f} {:.6f} .1 .14 {:.6f} {:.6f} 2\n",
    }[task]
    extra = {"kpt_shape": [1, 3]} if task == "pose" else {}
    data = Dataset(tmp_path / "data", **extra)
    for i, name in enumerate(("train", "train", "val")):
        rng = np.random.default_rng(i)
        lines = []
        for x, y in rng.uniform(0.1, 0.8, (9, 2)):
            lines.append(rows.format(rng.integers(3), x, y, x + 0.09, y + 0.13))
        data.add(f"p{i}.png", "".join(lines), picture(400, 300, i), name)
    split(data, tmp_path / "out", task=task, min_visible=0.5)
    results = []
    coco = instances(tmp_path / "out", "val")
    for annotation in coco.dataset["annotations"]:
        if annotation.get("num_keypoints") == 0:
            continue  # by COCO's rules it cannot be found
        keys = ("image_id", "category_id", "bbox", "segmentation", "keypoints")
        results.append({key: annotation[key] for key in keys if key in annotation} | {"score": 0.5})
        if not results[-1]["segmentation"]:
            del results[-1]["segmentation"]
    (tmp_path / "results.json").write_text(json.dumps(results))
    metrics = tiler.score(
        tmp_path / "results.json",
        tmp_path / "out/annotations/instances_val.json",
        protocol="coco",
        analysis="none",
        preds_base="1",
    )
    assert metrics.coco["AP"] == 1.0


@pytest.mark.parametrize("task", ["detect", "segment", "pose"])
def test_cut_again_the_tiles_have_the_same_annotations(filled, outlines, tmp_path, task):
    data = {"detect": filled, "segment": outlines}.get(task)
    if task == "pose":
        data = Dataset(tmp_path / "pose", kpt_shape=[2, 3])
        data.add("a.png", "0 .5 .5 .4 .4 .35 .4 2 .65 .6 1\n", picture(300, 200))
        data.add("v.png", "", picture(100, 100), "val")
    split(data, tmp_path / "out", task=task)
    first = tmp_path / "out/annotations/instances_train.json"
    again = split(
        first, tmp_path / "again", images=tmp_path / "out/images/train", task=task, min_visible=0
    )
    assert again.exit_code() == 0
    before, after = json.loads(first.read_text()), instances(tmp_path / "again").dataset
    assert [c["id"] for c in after["categories"]] == [c["id"] for c in before["categories"]]
    one = by_tile(loaded(first))
    two = by_tile(instances(tmp_path / "again"))
    for tile, (image, annotations) in one.items():
        copy, copied = two[f"{tile}__0_0_{image['width']}_{image['height']}"]
        assert len(annotations) == len(copied)
        for annotation, other in zip(annotations, copied, strict=True):
            for key in ("bbox", "area", "keypoints"):
                assert annotation.get(key) == pytest.approx(other.get(key), abs=1e-3)
            for key in ("iscrowd", "category_id", "num_keypoints"):
                assert annotation.get(key) == other.get(key)
            assert type(annotation["segmentation"]) is type(other["segmentation"])
        del copy


def test_roboflows_layout_has_every_tile_in_the_folder_of_its_split(filled, tmp_path):
    split(filled, tmp_path / "out", export=BOTH)
    split(filled, tmp_path / "yolo", export="")
    for name, folder in NAMES.items():
        robo = loaded(tmp_path / "out" / folder / "_annotations.coco.json").dataset
        plain = instances(tmp_path / "out", name).dataset
        assert robo["annotations"] == plain["annotations"]
        assert robo["categories"] == plain["categories"]
        for image, other in zip(robo["images"], plain["images"], strict=True):
            assert image == {**other, "file_name": f"images/{other['file_name']}"}
        assert len(plain["images"]) > 0
        for kind in ("images", "labels"):
            moved = tree(tmp_path / "out" / folder / kind)
            assert moved == tree(tmp_path / "yolo" / kind / name)
    config = yaml.safe_load((tmp_path / "out/dataset.yaml").read_text())
    assert (config["train"], config["val"]) == ("train/images", "valid/images")
    assert tiler.check(tmp_path / "out").exit_code() == 0
    again = tiler.split(tmp_path / "out", out=tmp_path / "again", tile=128, workers=1)
    assert again.total.objects.objects == again.total.objects.whole


@pytest.mark.parametrize("export", ["coco", "coco-roboflow"])
def test_supervision_reads_it(outlines, tmp_path, export):
    supervision = pytest.importorskip("supervision")
    split(outlines, tmp_path / "out", tile=100, overlap=0, task="segment", export=export)
    for name, folder in NAMES.items():
        places = {
            "coco": (f"images/{name}", f"annotations/instances_{name}.json"),
            "coco-roboflow": (folder, f"{folder}/_annotations.coco.json"),
        }
        images, annotations = places[export]
        found = supervision.DetectionDataset.from_coco(
            str(tmp_path / "out" / images), str(tmp_path / "out" / annotations), force_masks=True
        )
        assert len(found) == 4
        for _, image, detections in found:
            assert image.shape == (100, 100, 3)
            x0, y0, x1, y1 = detections.xyxy.T
            assert (detections.mask.sum(axis=(1, 2)) <= (x1 - x0 + 1) * (y1 - y0 + 1)).all()


def by_row(out):
    """The tiles of each source: window, and annotation by the source row of its object."""
    tiles = by_tile(instances(out, "val"))
    for source in manifest.read_sources(out / "tiles.jsonl"):
        if source.split == "val":
            for tile in source.tiles:
                rows = list(dict.fromkeys(row for row, _ in tile.rows))
                annotations = tiles[tile.name][1]
                yield source.source, tile, dict(zip(rows, annotations, strict=True))


@needs_shared
def test_real_outlines_are_drawn_as_in_the_whole_image(tmp_path):
    found = SHARED / "data/nuclei_segment"
    options = {"export": "coco", "min_visible": 0, "min_size": 0, "workers": 2}
    tiler.split(found, out=tmp_path / "whole", tile=4000, edge="trim", **options)
    tiler.split(found, out=tmp_path / "out", tile=200, **options)
    full, cut = (instances(tmp_path / name, "val") for name in ("whole", "out"))
    want = {source: objects for source, _, objects in by_row(tmp_path / "whole")}
    pixels = different = 0
    for source, tile, objects in by_row(tmp_path / "out"):
        for row, annotation in objects.items():
            mask = full.annToMask(want[source][row])
            mask = mask[tile.y : tile.y + tile.h, tile.x : tile.x + tile.w]
            shown = cut.annToMask(annotation)
            apart = int((mask != shown).sum())
            assert apart <= 2 + 0.02 * mask.sum()  # where its edge leaves the tile
            pixels += int(mask.sum())
            different += apart
    assert pixels > 40_000
    assert different < 1e-3 * pixels


# --- Complete or absent, and the same bytes


@pytest.mark.parametrize(("workers", "backend"), [(1, "threading"), (4, "threading"), (2, "loky")])
def test_workers_change_no_byte(outlines, tmp_path, workers, backend):
    options = {"tile": 64, "task": "segment", "export": BOTH}
    split(outlines, tmp_path / "one", **options)
    split(outlines, tmp_path / "many", **options, workers=workers, backend=backend)
    assert tree(tmp_path / "many") == tree(tmp_path / "one")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_and_run_again_it_ends_in_the_same_bytes(filled, tmp_path, monkeypatch):
    options = {"tile": 64, "export": BOTH, "scale": "1,0.5"}
    split(filled, tmp_path / "sound", **options)
    want = tree(tmp_path / "sound")
    real = writing.save
    for n in range(1, 120, 9):
        count = 0

        def save(tile, path, encoding, tags, opener, n=n):
            nonlocal count
            count += 1
            if count == n:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(tile, path, encoding, tags, opener)

        with monkeypatch.context() as patch:
            patch.setattr(writing, "save", save)
            child = in_child(lambda: split(filled, tmp_path / "out", **options))
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        assert not (tmp_path / "out").exists()
        split(filled, tmp_path / "out", **options)
        assert tree(tmp_path / "out") == want
        shutil.rmtree(tmp_path / "out")


def test_resumed_it_names_the_tiles_that_hold_data(tmp_path, monkeypatch):
    data = Dataset(tmp_path / "data")
    for i, name in enumerate(("train", "train", "val")):
        image = picture(200, 200, i, "RGBA")
        image.paste((0, 0, 0, 0), (100, 0, 200, 200))
        data.add(f"p{i}.png", "0 .2 .2 .1 .1\n", image, name)
    options = {"tile": 50, "overlap": 0}
    report = split(data, tmp_path / "sound", **options)
    assert report.total.counts.tiles == 24  # of 48
    real = writing.save
    count = 0

    def failing(*args):
        nonlocal count
        count += 1
        if count == 18:
            raise OSError(28, "No space left on device")
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(writing, "save", failing)
        with pytest.raises(tiler.Unfinished):
            split(data, tmp_path / "out", **options)
    split(data, tmp_path / "out", **options)
    assert tree(tmp_path / "out") == tree(tmp_path / "sound")
    assert len(instances(tmp_path / "out").imgs) == 16


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("when", [1, 2, 3, 4, 5])
def test_killed_while_the_files_are_put_together(filled, tmp_path, monkeypatch, when):
    split(filled, tmp_path / "sound", export=BOTH)
    real = coco_export.CocoTilesFile.finish
    count = 0

    def finish(file):
        nonlocal count
        count += 1
        if count == when:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(file)

    with monkeypatch.context() as patch:
        patch.setattr(coco_export.CocoTilesFile, "finish", finish)
        child = in_child(lambda: split(filled, tmp_path / "out", export=BOTH))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == (-signal.SIGKILL if when <= 4 else 0)
    if when <= 4:
        split(filled, tmp_path / "out", export=BOTH)
    assert tree(tmp_path / "out") == tree(tmp_path / "sound")


def test_without_it_no_byte_names_it(filled, tmp_path):
    split(filled, tmp_path / "out", export="")
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file() and path.suffix != ".jpg":
            assert b"export" not in path.read_bytes()
    assert split(filled, tmp_path / "out", export="").unchanged


def test_running_again_says_so(filled, tmp_path):
    report = split(filled, tmp_path / "out", export=BOTH)
    assert sorted(report.exports) == [
        "annotations/instances_train.json",
        "annotations/instances_val.json",
        "train/_annotations.coco.json",
        "valid/_annotations.coco.json",
    ]
    before = tree(tmp_path / "out")
    assert split(filled, tmp_path / "out", export=["coco-roboflow", "coco"]).unchanged
    args = tmp_path / "out/args.yaml"
    assert "export: coco,coco-roboflow" in args.read_text()
    assert tree(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda out: (out / "valid/_annotations.coco.json").unlink(), "is missing"),
        (lambda out: (out / "annotations/instances_val.json").write_text("{}"), "has 2 bytes"),
    ],
)
def test_a_changed_file_is_noticed(filled, tmp_path, change, message):
    split(filled, tmp_path / "out", export=BOTH)
    before = tree(tmp_path / "out")
    change(tmp_path / "out")
    with pytest.raises(tiler.TilerError, match=message):
        split(filled, tmp_path / "out", export=BOTH)
    split(filled, tmp_path / "out", export=BOTH, overwrite=True)
    assert tree(tmp_path / "out") == before


@pytest.mark.parametrize(("before", "now"), [("", "coco"), ("coco", ""), ("coco", BOTH)])
def test_another_export_is_another_output(filled, tmp_path, before, now):
    split(filled, tmp_path / "out", export=before)
    with pytest.raises(tiler.TilerError, match=f"export {before or None} -> {now or None}"):
        split(filled, tmp_path / "out", export=now)
    split(filled, tmp_path / "out", export=now, overwrite=True)
    split(filled, tmp_path / "fresh", export=now)
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


@pytest.mark.parametrize("export", ["", "coco"])
def test_overwrite_deletes_no_foreign_file(filled, tmp_path, export):
    split(filled, tmp_path / "out", export=export)
    mine = tmp_path / "out/annotations/mine.json"
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("[]")
    with pytest.raises(tiler.TilerError, match=r"annotations/mine.json is not made by tiler"):
        split(filled, tmp_path / "out", export=export, overwrite=True)
    assert mine.exists()


def test_a_dry_run_writes_nothing(filled, tmp_path):
    before = sorted(os.listdir(tmp_path))
    report = split(filled, tmp_path / "out", export=BOTH, dry_run=True)
    assert report.total.counts.tiles > 0
    assert sorted(os.listdir(tmp_path)) == before


def test_a_rejected_source_has_no_images(filled, tmp_path):
    filled.add("broken.jpg", "0 .5 .5 .1 .1\n", b"no image")
    report = split(filled, tmp_path / "out")
    assert report.exit_code() == 1
    names = [i["file_name"] for i in instances(tmp_path / "out").dataset["images"]]
    assert len(names) == report.splits["train"].counts.tiles
    assert not any(name.startswith("broken") for name in names)


def test_images_without_labels_have_nothing_to_export(filled, tmp_path):
    with pytest.raises(tiler.TilerError, match="these images have no labels"):
        tiler.split(filled.root / "images/val", out=tmp_path / "out", tile=64, export="coco")
    assert not (tmp_path / "out").exists()


def test_an_unknown_format_is_rejected(filled, tmp_path):
    with pytest.raises(tiler.TilerError, match="one of coco, coco-roboflow"):
        split(filled, tmp_path / "out", export="voc")
    with pytest.raises(tiler.TilerError, match="always written"):
        split(filled, tmp_path / "out", export="yolo")
