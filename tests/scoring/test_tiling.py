"""From tiles to a score: split, predict, merge, score; what is known of the tiles, and what is said
where it is not.
"""

import importlib.util
import json
import shutil
from types import SimpleNamespace

import pytest

import tiler
from tests.conftest import ROOT, SHARED, Dataset, needs_shared
from tests.merging import predicted
from tiler.errors import TilerError

SCENES = ROOT / "examples" / "scenes"


def simulate(tiles, out):
    spec = importlib.util.spec_from_file_location("simulate", ROOT / "examples" / "simulate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.simulate(tiles, out)


def cut(root, data, overlap=128, **options):
    tiler.split(data, out=root / "tiles", tile=640, overlap=overlap, workers=1, **options)
    simulate(root / "tiles", root / "preds")
    return SimpleNamespace(
        root=root,
        data=data,
        tiles=root / "tiles",
        preds=root / "preds",
        merged=root / "preds-merged",
    )


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """The scenes of the examples, cut with overlap, predicted and merged."""
    made = cut(tmp_path_factory.mktemp("scenes"), SCENES / "dataset.yaml")
    tiler.merge(made.preds, tiles=made.tiles, out=made.merged, workers=1)
    return made


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    """The same without overlap, merged and just suppressed."""
    made = cut(tmp_path_factory.mktemp("apart"), SCENES / "dataset.yaml", overlap=0)
    tiler.merge(made.preds, tiles=made.tiles, out=made.merged, workers=1)
    tiler.merge(made.preds, tiles=made.tiles, out=made.root / "nms", method="nms", workers=1)
    return made


@pytest.fixture
def here(scenes, tmp_path):
    """A copy of predictions, merged ones, and tiles without pixels."""
    for name in ("preds", "preds-merged"):
        shutil.copytree(scenes.root / name, tmp_path / name)
    shutil.copytree(scenes.tiles, tmp_path / "tiles", ignore=shutil.ignore_patterns("images"))
    root = tmp_path
    return SimpleNamespace(
        root=root,
        data=scenes.data,
        tiles=root / "tiles",
        preds=root / "preds",
        merged=root / "preds-merged",
    )


def score(made, preds=None, **options):
    options.setdefault("split", "all")
    options.setdefault("replicates", 20)
    return tiler.score(made.merged if preds is None else preds, made.data, **options)


def errors(metrics):
    return {row.name: row.count for row in metrics.errors.rows}


SEAM_ERRORS = {"SeamDup", "SeamTrunc", "SeamSplit", "LostInMerge", "NotCovered"}


def test_the_chain(scenes):
    metrics = score(scenes, tiles=scenes.tiles)
    assert (metrics.findings, metrics.card["images"], metrics.card["labels"]) == ([], 3, 480)
    assert metrics.card["left_out"] == {}
    assert metrics.card["tiles"] == "merged.jsonl"
    assert metrics.coco["AP50"] > 0.97
    assert sum(row.labels for row in metrics.seams.table) == 480
    assert len(metrics.seams.margin) == 480
    assert metrics.errors.untold == ()
    assert set(errors(metrics)) >= SEAM_ERRORS
    stages = metrics.efficiency
    assert stages.nomerge.ap < stages.merged.ap
    assert stages.merged.ap == pytest.approx(metrics.coco_auto["AP"])
    assert 0.9 < stages.merge < 1.2
    assert 0.5 < stages.tile.ap < 1
    assert 0.5 < stages.tile_u.ap < 1
    plain = metrics.plain()
    assert set(plain["seams"]) == {"gap", "table", "density", "resolution"}
    assert plain["efficiency"]["merge"] == stages.merge
    assert {row["name"] for row in plain["errors"]["rows"]} >= SEAM_ERRORS


def test_one_split_of_it(scenes):
    metrics = score(scenes, split="val", tiles=scenes.tiles)
    labels = (SCENES / "labels" / "val" / "val_00002.txt").read_text().splitlines()
    assert (metrics.card["images"], metrics.card["labels"]) == (1, len(labels))
    assert metrics.errors.untold == ()
    # that the others are predicted too is said, or is of no matter
    assert {f.code for f in metrics.findings} <= {"S04"}


def test_suppression_leaves_halves_at_seams(apart):
    ours = score(apart, tiles=apart.tiles)
    nms = score(apart, apart.root / "nms", tiles=apart.tiles, tile_preds=apart.preds)
    assert nms.card["left_out"] == ours.card["left_out"] == {}
    assert errors(ours)["SeamTrunc"] == 0
    assert errors(nms)["SeamTrunc"] > 5
    assert errors(nms)["SeamSplit"] > 0
    assert nms.efficiency.merge < ours.efficiency.merge
    assert nms.coco["AP"] < ours.coco["AP"]
    assert nms.efficiency.nomerge == ours.efficiency.nomerge  # of the same predictions on tiles
    cut_by_all = [metrics.seams.table[1] for metrics in (ours, nms)]
    assert cut_by_all[0].labels == cut_by_all[1].labels > 10
    assert cut_by_all[1].recall < cut_by_all[0].recall


def test_no_merging_at_all_leaves_duplicates_of_two_tiles(scenes, tmp_path):
    tiler.merge(
        scenes.preds, tiles=scenes.tiles, out=tmp_path / "out", method="nms", iou=0.99, workers=1
    )
    metrics = score(scenes, tmp_path / "out", tiles=scenes.tiles, tile_preds=scenes.preds)
    assert errors(metrics)["SeamDup"] > 100
    assert metrics.efficiency.merge < 0.2
    assert sum(row.labels * row.duplicates for row in metrics.seams.table if row.labels) > 100


def test_tiles_predictions_and_provenance_are_found_beside_each_other(here, monkeypatch):
    monkeypatch.chdir(here.root)
    metrics = tiler.score("preds-merged", here.data, split="all", replicates=20)
    assert metrics.efficiency is not None
    assert metrics.errors.untold == ()
    assert [
        why for why in metrics.card["left_out"].get("tiles", []) if "AP on tiles" not in why
    ] == []
    assert metrics.coco == pytest.approx(score(here, tiles=here.tiles).coco, nan_ok=True)


def test_without_provenance_the_tiles_of_the_split_tell_of_seams(here):
    whole = score(here, tiles=here.tiles)
    (here.merged / "merged.jsonl").unlink()
    metrics = score(here, tiles=here.tiles)
    assert metrics.card["tiles"] == "tiles.jsonl"
    assert metrics.coco == pytest.approx(whole.coco, nan_ok=True)
    assert metrics.plain()["seams"]["table"] == whole.plain()["seams"]["table"]
    assert metrics.efficiency is None
    assert {"SeamDup", "LostInMerge"} <= set(metrics.errors.untold)
    assert "SeamTrunc" not in metrics.errors.untold
    assert "merged.jsonl" in " ".join(metrics.card["left_out"]["tiles"])  # which is what is missing


def test_with_neither_nothing_is_known_of_seams(here):
    (here.merged / "merged.jsonl").unlink()
    shutil.rmtree(here.tiles)
    metrics = score(here)
    assert (metrics.seams, metrics.efficiency, metrics.layout) == (None, None, None)
    assert "no manifest of their tiles (--tiles)" in metrics.card["left_out"]["seams"][0]
    assert set(metrics.errors.untold) == SEAM_ERRORS
    assert metrics.card["tiles"] is None


def test_without_the_predictions_on_tiles(here):
    shutil.rmtree(here.preds)
    metrics = score(here, tiles=here.tiles)
    assert (metrics.efficiency, metrics.errors.untold) == (None, ("LostInMerge",))
    assert metrics.seams is not None
    said = " ".join(metrics.card["left_out"]["tiles"])
    assert "predictions on tiles: they are not where they were merged from (--tile-preds)" in said


def test_predictions_on_tiles_of_something_else(here, tmp_path):
    shutil.rmtree(here.preds)
    here.preds.mkdir()
    (here.preds / "q__0_0_640_640.txt").write_text("0 0.5 0.5 0.1 0.1 0.5\n")
    metrics = score(here, tiles=here.tiles)
    assert metrics.efficiency is None
    assert any("for a tile of these images" in why for why in metrics.card["left_out"]["tiles"])


def test_tiles_of_other_pictures(here, tmp_path):
    made = Dataset(tmp_path / "other").filled(size=(400, 300))
    tiler.split(made.yaml, out=tmp_path / "others", tile=128, workers=1)
    (here.merged / "merged.jsonl").unlink()
    metrics = score(here, tiles=tmp_path / "others")
    assert metrics.seams is None
    assert "no merged.jsonl of these images" in metrics.card["left_out"]["seams"][0]
    with pytest.raises(TilerError, match="--tiles .*preds: expected the output of tiler split"):
        score(here, tiles=here.preds)


def label_file(here):
    return here.merged / "labels" / "images" / "val" / "val_00002.txt"


def test_a_row_that_was_deleted_after_merging_makes_the_origins_useless(here):
    rows = label_file(here).read_text().splitlines(keepends=True)
    label_file(here).write_text("".join(rows[1:]))
    metrics = score(here, tiles=here.tiles)
    assert metrics.card["detections"] == 497
    assert any(
        why.startswith("origins of the detections")
        for why in metrics.card["left_out"].get("tiles", [])
    )
    assert metrics.efficiency is None
    assert "SeamDup" in metrics.errors.untold
    assert metrics.seams is not None


@pytest.mark.parametrize("change", ["last row deleted", "row added", "box moved"])
def test_label_files_that_were_edited_otherwise(here, change):
    rows = label_file(here).read_text().splitlines(keepends=True)
    if change == "last row deleted":
        rows = rows[:-1]
    elif change == "row added":
        rows = [*rows, rows[0]]
    else:
        rows[3] = (
            " ".join([rows[3].split()[0], "0.5", "0.5", "0.02", "0.02", rows[3].split()[-1]]) + "\n"
        )
    label_file(here).write_text("".join(rows))
    metrics = score(here, tiles=here.tiles)
    assert any(
        why.startswith("origins of the detections")
        for why in metrics.card["left_out"].get("tiles", [])
    )


@pytest.mark.parametrize(
    "part", ["nothing", "garbage", "half", "head", "no such tile", "no such row"]
)
def test_a_damaged_merged_jsonl_is_said_or_not_used(here, part):
    path = here.merged / "merged.jsonl"
    text = path.read_text()
    head, *records = text.splitlines()
    if part in ("no such tile", "no such row"):
        record = json.loads(records[0])
        record["detections"][0][0] = [9999, 0] if part == "no such tile" else [0, 9999]
        damaged = "\n".join([head, json.dumps(record), *records[1:]]) + "\n"
    else:
        damaged = {
            "nothing": "",
            "garbage": "garbage\n",
            "half": text[: len(text) // 2],
            "head": head + "\n",
        }[part]
    path.write_text(damaged)
    try:
        metrics = score(here, tiles=here.tiles)
    except TilerError as error:
        assert "merged.jsonl" in str(error)
        return
    assert metrics.card["left_out"] != {} or part == "no such row"


def test_less_sure_detections_that_are_left_out_do_not_make_the_others_of_other_tiles(here):
    metrics = score(here, tiles=here.tiles, conf=0.5)
    assert metrics.card["left_out"] == {}
    assert metrics.card["detections"] < 498
    assert errors(metrics)["SeamTrunc"] == 0


def test_predictions_of_no_file_have_no_tiles_but_those_given(here):
    from tests.scoring.test_score import texts

    preds = texts(here.root / "full", {"val_00002": label_file(here).read_text()})
    shutil.move(here.tiles, here.root.parent / f"{here.root.name}-elsewhere")
    assert score(here, preds, split=None).seams is None
    metrics = score(here, preds, split=None, tiles=here.root.parent / f"{here.root.name}-elsewhere")
    assert metrics.card["split"] == "val"
    assert sum(row.labels for row in metrics.seams.table) == metrics.card["labels"]


def test_merged_in_memory_is_as_merged_on_disk(scenes):
    merged = tiler.merge(scenes.preds, tiles=scenes.tiles, workers=1)
    metrics = score(scenes, merged, tiles=scenes.tiles)
    on_disk = score(scenes, tiles=scenes.tiles)
    for name, value in on_disk.coco.items():
        assert metrics.coco[name] == pytest.approx(value, abs=1e-6, nan_ok=True), name
    assert metrics.mean_results == pytest.approx(on_disk.mean_results, abs=1e-6)
    for one, other in zip(metrics.seams.table, on_disk.seams.table, strict=True):
        assert (one.labels, one.recall50, one.recall) == pytest.approx(
            (other.labels, other.recall50, other.recall), nan_ok=True
        )


def test_the_report_of_a_merge_on_disk_leads_to_its_files(scenes, tmp_path):
    merged = tiler.merge(scenes.preds, tiles=scenes.tiles, out=tmp_path / "out", workers=1)
    assert score(scenes, merged).coco == pytest.approx(score(scenes).coco, nan_ok=True)


# --- real images


@needs_shared
def test_the_chain_on_real_pictures(tmp_path):
    made = cut(tmp_path, SHARED / "data" / "cars_detect" / "dataset.yaml")
    tiler.merge(made.preds, tiles=made.tiles, out=made.merged, workers=1)
    metrics = score(made, tiles=made.tiles)
    assert [f for f in metrics.findings if f.level == "error"] == []
    assert (metrics.card["images"], metrics.card["labels"], metrics.card["left_out"]) == (
        8,
        197,
        {},
    )
    assert metrics.coco["AP50"] > 0.9
    assert metrics.efficiency.nomerge.ap < metrics.efficiency.merged.ap
    assert metrics.errors.untold == ()


@needs_shared
@pytest.mark.parametrize("name", ["hituav_obb", "nuclei_segment"])
def test_the_chain_of_other_tasks(tmp_path, name):
    data = SHARED / "data" / name / "dataset.yaml"
    tiler.split(
        data, out=tmp_path / "tiles", tile=256, overlap=64, workers=1, min_visible=0, min_size=0
    )
    preds = predicted(tmp_path / "tiles", tmp_path / "preds")
    tiler.merge(preds, tiles=tmp_path / "tiles", out=tmp_path / "preds-merged", workers=1)
    metrics = tiler.score(
        tmp_path / "preds-merged", data, split="all", tiles=tmp_path / "tiles", replicates=20
    )
    assert metrics.card["task"] == name.split("_")[1]
    assert metrics.coco_auto["AP50"] > 0.95
    assert metrics.seams is not None
    assert metrics.efficiency is not None


@needs_shared
def test_a_real_detectors_predictions_on_tiles(tmp_path):
    """Of Ultralytics, on tiles of its own split_dota: nothing to score before they are merged, and
    then above plain NMS.
    """
    given = SHARED / "data" / "e2e"
    shutil.copytree(given / "scenes" / "images" / "test", tmp_path / "data" / "images" / "val")
    shutil.copytree(
        given / "scenes" / "labels_detect" / "test", tmp_path / "data" / "labels" / "val"
    )
    data = tmp_path / "data" / "dataset.yaml"
    data.write_text("train: images/val\nval: images/val\nnames: [disc, box, tri]\n")
    preds = given / "preds" / "detect" / "predict"
    with pytest.raises(TilerError, match="run tiler merge first"):
        tiler.score(preds, data)
    tiler.merge(
        preds,
        images=tmp_path / "data" / "images" / "val",
        data=data,
        out=tmp_path / "predict-merged",
        workers=1,
    )
    metrics = tiler.score(tmp_path / "predict-merged", data, tile_preds=preds, replicates=20)
    assert (metrics.card["images"], metrics.card["labels"], metrics.card["split"]) == (
        2,
        300,
        "val",
    )
    assert [f for f in metrics.findings if f.level == "error"] == []
    # accept.json: NMS at an IoU of .5, any number of detections
    assert metrics.coco_auto["AP"] > 0.325
    assert metrics.efficiency.nomerge.ap < metrics.efficiency.merged.ap
    assert metrics.errors.untold == ()


def turned(here, names):
    """A dataset of the same images and labels whose classes stand in another order."""
    import yaml

    old = yaml.safe_load((SCENES / "dataset.yaml").read_text())["names"]
    old = list(old.values()) if isinstance(old, dict) else old
    root = here.root / "turned"
    shutil.copytree(SCENES, root)
    for path in root.rglob("labels/*/*.txt"):
        rows = [line.split() for line in path.read_text().splitlines()]
        path.write_text(
            "".join(" ".join([str(names.index(old[int(r[0])])), *r[1:]]) + "\n" for r in rows)
        )
    content = yaml.safe_load((root / "dataset.yaml").read_text())
    (root / "dataset.yaml").write_text(yaml.safe_dump({**content, "names": names}))
    return SimpleNamespace(**{**vars(here), "data": root / "dataset.yaml"})


def test_classes_are_told_by_their_names(here):
    """The merged predictions and the labels may number the same classes otherwise: the names
    count.
    """
    names = tiler.score(here.merged, here.data, split="all", replicates=0).names
    there = turned(here, list(names[::-1]))
    one, other = score(here), score(there)
    assert other.names == names[::-1]
    assert other.coco == pytest.approx(one.coco, nan_ok=True)
    for name in ("labels", "detections", "AP", "P", "R"):
        assert other.per_class["car"][name] == pytest.approx(one.per_class["car"][name])
    assert errors(other) == errors(one)
    assert other.efficiency.nomerge.ap == pytest.approx(one.efficiency.nomerge.ap)


def test_a_class_that_the_labels_have_not_is_refused(here):
    there = turned(here, [*tiler.score(here.merged, here.data, split="all", replicates=0).names])
    text = (here.root / "turned" / "dataset.yaml").read_text()
    (here.root / "turned" / "dataset.yaml").write_text(text.replace("truck", "lorry"))
    with pytest.raises(TilerError, match="merged with class 'truck'"):
        score(there)


def test_what_is_left_out_is_left_out_of_the_predictions_on_tiles_too(scenes):
    """Else merging would seem to lose, or to gain, what --conf and --ignore-class took away."""
    whole = score(scenes, tiles=scenes.tiles)
    sure = score(scenes, tiles=scenes.tiles, conf=0.6)
    assert errors(sure)["LostInMerge"] == 0
    assert sure.efficiency.nomerge.ap < whole.efficiency.nomerge.ap
    assert 0.8 < sure.efficiency.merge < 1.3
    fewer = score(scenes, tiles=scenes.tiles, ignore_class="person")
    assert fewer.card["labels"] < 400
    assert 0.8 < fewer.efficiency.merge < 1.3
    assert fewer.efficiency.tile.ap > 0.5


def test_pictures_without_tiles_are_left_out_of_seams(here):
    """Predictions of val only, scored on all: labels of train are missed, but not because of a
    seam.
    """
    lines = (here.merged / "merged.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if '"source":"images/train' not in line]
    assert len(kept) == 2
    (here.merged / "merged.jsonl").write_text("".join(kept))
    shutil.rmtree(here.merged / "labels" / "images" / "train")
    metrics = score(here)
    val = score(here, split="val")
    assert metrics.card["labels"] == 480
    assert metrics.card["left_out"]["tiles"][0] == "seams of 2 images without tiles"
    assert metrics.plain()["seams"]["table"] == val.plain()["seams"]["table"]
    assert (
        metrics.plain()["seams"]["density"][0]["band_area"]
        == val.plain()["seams"]["density"][0]["band_area"]
    )
    assert [row.labels for row in metrics.seams.resolution] == [
        row.labels for row in val.seams.resolution
    ]
