"""Ids in predictions.json: those of a COCO truth, so that pycocotools reads the file as it is."""

import contextlib
import io
import json
import random

import numpy as np
import pytest

import tiler
from tests.conftest import Dataset, tree
from tests.merging import lines, predicted
from tiler.errors import TilerError

NAMES = {7: "a", 3: "c", 12: "b"}  # the file's order is not that of the ids, nor that of the names
BOXES = [[30, 20, 40, 30], [100, 60, 50, 40], [200, 100, 30, 60]]


def truth(root, names=NAMES, ids=None, files=None):
    """A COCO truth and its images; the classes in turn."""
    data = Dataset(root / "data")
    for i in range(4):
        data.add(f"p{i}.jpg", split="val")
    ids = ids or [900, 17, 5, 40]
    files = files or [f"p{i}.jpg" for i in range(4)]
    images = [
        {"id": id, "file_name": name, "width": 400, "height": 300}
        for id, name in zip(ids, files, strict=True)
    ]
    annotations = [
        {
            "id": 1 + 3 * i + k,
            "image_id": id,
            "category_id": c,
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": 0,
        }
        for i, id in enumerate(ids)
        for k, (box, c) in enumerate(zip(BOXES, list(names)[: 3 if i else 2], strict=False))
    ]
    random.Random(0).shuffle(images)
    categories = [{"id": id, "name": name} for id, name in names.items()]
    path = root / "instances_val.json"
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return path


@pytest.fixture
def coco(tmp_path):
    """A truth, its split, and the labels of the tiles as predictions."""
    path = truth(tmp_path)
    tiler.split(
        path,
        images=tmp_path / "data/images/val",
        tile=128,
        overlap=32,
        out=tmp_path / "tiles",
        workers=1,
    )
    predicted(tmp_path / "tiles", tmp_path / "preds/labels")
    return path


def merge(root, out="out", **options):
    return tiler.merge(root / "preds", out=root / out, workers=1, **options)


def entries(root, out="out"):
    return json.loads((root / out / "predictions.json").read_text())


def load_res(path, found):
    """pycocotools' AP of a file as it is."""
    coco = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        gt = coco.COCO(str(path))
        evaluation = COCOeval(gt, gt.loadRes(str(found)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[0]


def test_a_split_keeps_the_ids_and_merge_gives_them_back(coco, tmp_path):
    head = json.loads((tmp_path / "tiles/tiles.jsonl").read_text().splitlines()[0])
    assert (head["names"], head["categories"]) == (["c", "a", "b"], [3, 7, 12])
    assert {line["source"]: line["image_id"] for line in lines(tmp_path / "tiles/tiles.jsonl")} == {
        "p0.jpg": 900,
        "p1.jpg": 17,
        "p2.jpg": 5,
        "p3.jpg": 40,
    }
    merge(tmp_path, tiles=tmp_path / "tiles")
    assert load_res(coco, tmp_path / "out/predictions.json") == pytest.approx(1)
    assert {(e["file_name"], e["image_id"]) for e in entries(tmp_path)} == {
        ("p0.jpg", 900),
        ("p1.jpg", 17),
        ("p2.jpg", 5),
        ("p3.jpg", 40),
    }
    metrics = tiler.score(tmp_path / "out/predictions.json", coco)
    assert (metrics.findings, metrics.coco["AP"]) == ([], pytest.approx(1))


@pytest.mark.parametrize("known", ["tiles", "images"])
def test_the_ids_of_data_are_given_whatever_was_split(coco, tmp_path, known):
    """A YOLO set was cut, with its classes in another order; the truth is a file of its own."""
    data = Dataset(tmp_path / "yolo", names=("a", "b", "c"))
    data.add("t.jpg")
    order = {"a": 0, "b": 1, "c": 2}
    content = json.loads(coco.read_text())
    for image in content["images"]:
        rows = ""
        for note in content["annotations"]:
            if note["image_id"] == image["id"]:
                x, y, w, h = note["bbox"]
                rows += (
                    f"{order[NAMES[note['category_id']]]} {(x + w / 2) / 400} {(y + h / 2) / 300} "
                    f"{w / 400} {h / 300}\n"
                )
        data.add(image["file_name"], rows, split="val")
    tiler.split(data.yaml, tile=128, overlap=32, out=tmp_path / "cut", workers=1)
    predicted(tmp_path / "cut", tmp_path / "own/labels")
    where = (
        {"tiles": tmp_path / "cut"} if known == "tiles" else {"images": data.root / "images/val"}
    )
    # nothing but the truth tells names, so these are its own, in the order of its ids
    if known == "images":
        for path in (tmp_path / "own/labels").glob("*.txt"):
            rows = [row.split() for row in path.read_text().splitlines()]
            path.write_text(
                "".join(
                    " ".join([str("cab".index("abc"[int(c)])), *rest]) + "\n" for c, *rest in rows
                )
            )
    merged = tiler.merge(tmp_path / "own", data=coco, out=tmp_path / "out", workers=1, **where)
    assert (merged.report.findings, merged.report.names) == (
        [],
        list("abc") if known == "tiles" else list("cab"),
    )
    assert load_res(coco, tmp_path / "out/predictions.json") == pytest.approx(1)
    assert tiler.score(tmp_path / "out", coco).coco["AP"] == pytest.approx(1)


def test_without_a_truth_in_coco_format_classes_count_from_0(tmp_path):
    data = Dataset(tmp_path / "data").filled(train=1, val=1)
    tiler.split(data.yaml, tile=128, out=tmp_path / "tiles", workers=1)
    predicted(tmp_path / "tiles", tmp_path / "preds/labels")
    head, *sources = map(json.loads, (tmp_path / "tiles/tiles.jsonl").read_text().splitlines())
    assert "categories" not in head
    assert not any("image_id" in source for source in sources)
    merge(tmp_path, tiles=tmp_path / "tiles", data=data.yaml)
    merge(tmp_path, "zero", tiles=tmp_path / "tiles", category_base=0)
    assert entries(tmp_path) == entries(tmp_path, "zero")
    assert {e["image_id"] for e in entries(tmp_path)} == {"p0", "p1"}
    assert min(e["category_id"] for e in entries(tmp_path)) == 0


def test_a_base_that_is_given_is_what_it_says(coco, tmp_path):
    for base in ("0", "1", "coco91"):
        merge(
            tmp_path, base, tiles=tmp_path / "tiles", data=coco, category_base=base, export="dota"
        )
        assert {e["image_id"] for e in entries(tmp_path, base)} == {"p0", "p1", "p2", "p3"}
        low = int(base != "0")
        assert {e["category_id"] for e in entries(tmp_path, base)} == {low, low + 1, low + 2}
    merge(tmp_path, tiles=tmp_path / "tiles", export="dota")
    assert tree(tmp_path / "out/dota") == tree(tmp_path / "0/dota")  # whose names are not those ids
    assert [
        fate.tile[:2]
        for fate in tiler.merging.explain(tmp_path / "preds", "p2", tiles=tmp_path / "tiles")
    ][:1] == ["p2"]


def test_ids_that_are_words_or_paths(tmp_path):
    path = truth(
        tmp_path,
        ids=["x", "p0", "7", "007"],
        files=["val/p0.jpg", "val/p1.jpg", "val/p2.jpg", "val/p3.jpg"],
    )
    tiler.split(path, images=tmp_path / "data/images", tile=128, out=tmp_path / "tiles", workers=1)
    predicted(tmp_path / "tiles", tmp_path / "preds/labels")
    for out, more in (
        ("out", {}),
        ("given", {"data": path}),
        ("names", {"images": tmp_path / "data/images/val", "data": path}),
    ):
        merge(
            tmp_path, out, **({"tiles": tmp_path / "tiles"} if "images" not in more else {}), **more
        )
        assert {e["image_id"] for e in entries(tmp_path, out)} == {"x", "p0", "7", "007"}
        assert load_res(path, tmp_path / out / "predictions.json") == pytest.approx(1)


@pytest.mark.parametrize(
    "change",
    [
        lambda images: images.pop(0),
        lambda images: images[0].update(file_name="other/q.jpg"),
        lambda images: images[0].update(file_name=f"other/{images[0]['file_name']}", width=401),
    ],
    ids=["missing", "another name", "another size"],
)
def test_an_image_that_the_truth_has_not_keeps_its_name_and_is_said(coco, tmp_path, change):
    content = json.loads(coco.read_text())
    name, id = content["images"][0]["file_name"], content["images"][0]["id"]
    change(content["images"])
    content["annotations"] = [note for note in content["annotations"] if note["image_id"] != id]
    other = tmp_path / "other.json"
    other.write_text(json.dumps(content))
    report = merge(tmp_path, tiles=tmp_path / "tiles", data=other).report
    assert [str(f) for f in report.findings] == [
        f"D14 1 images ({name}) are not in other.json: predictions.json has them by their names"
    ]
    ids = {e["file_name"]: e["image_id"] for e in entries(tmp_path)}
    assert ids[name] == name.removesuffix(".jpg")
    assert sorted(ids[e] for e in ids if e != name) == sorted({900, 17, 5, 40} - {id})


def test_two_images_of_one_name_have_no_id_by_it(tmp_path):
    path = truth(tmp_path)
    Dataset(tmp_path / "two").add("t.jpg")
    for name in ("a/p0.jpg", "b/p0.jpg"):
        Dataset(tmp_path / "two").add(name, "0 0.5 0.5 0.1 0.1\n", split="val")
    tiler.split(tmp_path / "two/dataset.yaml", tile=128, out=tmp_path / "tiles", workers=1)
    predicted(tmp_path / "tiles", tmp_path / "preds/labels")
    report = merge(tmp_path, tiles=tmp_path / "tiles", data=path).report
    assert [f.code for f in report.findings] == ["D14"]
    assert 900 not in {e["image_id"] for e in entries(tmp_path)}


def test_a_class_that_the_truth_has_not_is_refused_by_name(coco, tmp_path):
    content = json.loads(coco.read_text())
    content["categories"][0]["name"] = "bicycle"
    other = tmp_path / "other.json"
    other.write_text(json.dumps(content))
    with pytest.raises(
        TilerError,
        match=r"--category-base auto: class 'a' of the tiles is none of other\.json; say what",
    ):
        merge(tmp_path, tiles=tmp_path / "tiles", data=other)
    assert not (tmp_path / "out").exists()
    merge(tmp_path, tiles=tmp_path / "tiles", data=other, category_base=0)


def test_other_ids_are_another_output(coco, tmp_path):
    merge(tmp_path, tiles=tmp_path / "tiles", data=coco)
    assert merge(tmp_path, tiles=tmp_path / "tiles", data=coco).report.unchanged
    coco.write_text(
        coco.read_text()
        .replace('"id": 900', '"id": 901')
        .replace('"image_id": 900', '"image_id": 901')
    )
    with pytest.raises(TilerError, match="changed since"):
        merge(tmp_path, tiles=tmp_path / "tiles", data=coco)


# --- ids of what is read


def results(path, ids, name=False):
    rows = [
        {
            "image_id": 1,
            **({"file_name": "p0.jpg"} if name else {}),
            "category_id": c,
            "bbox": [10 + 30 * k, 10, 20, 20],
            "score": 0.9,
        }
        for k, c in enumerate(ids)
    ]
    path.write_text(json.dumps(rows))
    return path


def ground(path, ids, labels):
    notes = [
        {
            "id": 1 + k,
            "image_id": 1,
            "category_id": c,
            "bbox": [10 + 30 * k, 10, 20, 20],
            "area": 400,
            "iscrowd": 0,
        }
        for k, c in enumerate(labels)
    ]
    images = [{"id": 1, "file_name": "p0.jpg", "width": 400, "height": 300}]
    categories = [{"id": i, "name": f"c{i}"} for i in ids]
    path.write_text(json.dumps({"images": images, "annotations": notes, "categories": categories}))
    return path


@pytest.mark.parametrize("name", [False, True])
@pytest.mark.parametrize(
    ("known", "given"),
    [
        ([0, 1, 2], [1, 2, 3]),
        ([0, 1, 2], [1, 2]),
        ([0, 1, 2], [3]),
        ([0], [1]),
        ([2, 5, 8], [1, 2, 3]),
        ([2, 3], [1, 2]),
    ],
)
def test_score_asks_where_ids_may_count_from_1_or_be_those_of_the_truth(
    tmp_path, known, given, name
):
    labels = [known[i - 1] for i in given]
    gt, dt = (
        ground(tmp_path / "gt.json", known, labels),
        results(tmp_path / "predictions.json", given, name),
    )
    with pytest.raises(
        TilerError,
        match=(
            r"may count from 1, or be those of the ground truth .*: say --preds-base 0, 1 or "
            r"coco91"
        ),
    ) as e:
        tiler.score(dt, gt)
    assert e.value.exit_code == 2
    assert tiler.score(dt, gt, preds_base=1).coco["AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("known", "given"),
    [
        ([0, 1, 2], [0, 1, 2]),
        ([0, 1, 2], [0, 2]),
        ([1, 2, 3], [1, 2, 3]),
        ([1, 2, 3], [2]),
        ([1, 2, 3], [3, 1]),
        ([3, 7, 9], [3, 7, 9]),
    ],
)
def test_ids_of_the_truth_are_taken_for_what_they_are(tmp_path, known, given):
    gt, dt = ground(tmp_path / "gt.json", known, given), results(tmp_path / "dt.json", given)
    metrics = tiler.score(dt, gt)
    assert (metrics.findings, metrics.coco["AP"]) == ([], pytest.approx(1))


def test_ids_that_count_from_0_against_a_truth_from_1(tmp_path):
    gt, dt = ground(tmp_path / "gt.json", [1, 2, 3], [1, 2]), results(tmp_path / "dt.json", [0, 1])
    metrics = tiler.score(dt, gt)
    assert ("category ids from 0" in metrics.card["predictions"], metrics.coco["AP"]) == (
        True,
        pytest.approx(1),
    )


@pytest.mark.parametrize("kept", [True, False])
def test_merge_takes_the_ids_of_a_truth_that_no_detector_counts(coco, tmp_path, kept):
    """Results of a toolbox that was trained on the truth, with ids 3, 7 and 12."""
    rows = []
    for path in sorted((tmp_path / "preds/labels").glob("*.txt")):
        w, h = map(int, path.stem.split("_")[-2:])
        for line in path.read_text().splitlines():
            c, x, y, bw, bh, conf = map(float, line.split())
            box = np.array([(x - bw / 2) * w, (y - bh / 2) * h, bw * w, bh * h]).tolist()
            rows.append(
                {
                    "image_id": path.stem,
                    "category_id": [3, 7, 12][int(c)],
                    "bbox": box,
                    "score": conf,
                }
            )
    (tmp_path / "dt.json").write_text(json.dumps(rows))
    out = tmp_path / "out"
    merged = tiler.merge(
        tmp_path / "dt.json",
        tiles=tmp_path / "tiles",
        data=None if kept else coco,
        out=out,
        workers=1,
    )
    assert "category ids of the ground truth" in merged.report.predictions
    assert load_res(coco, out / "predictions.json") == pytest.approx(1)
    metrics = tiler.score(out, coco)
    assert (metrics.coco["AP"], metrics.efficiency.tile.ap) == (pytest.approx(1), pytest.approx(1))
