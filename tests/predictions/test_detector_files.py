"""Detectors' files: whatever the format, the same detections are read and merged."""

import random

import numpy as np
import pytest
from PIL import Image

import tiler
from tests.conftest import tree
from tests.predictions import read, writers
from tests.predictions.writers import NAMES, SIDE, WRITERS, coco

STEP = SIDE - 128
WIDTH = SIDE + STEP


def tiles_of(seed):
    """Rows of two tiles: objects over their seam, and some in one of them; whole px and percents,
    which every format can hold.
    """
    rng = random.Random(seed)
    tiles = {f"scene__{x}_0_{SIDE}_{SIDE}": [] for x in (0, STEP)}
    for i in range(24):
        x, y = rng.randrange(WIDTH - 90), 20 * i
        right, bottom = x + rng.randrange(20, 90), y + rng.randrange(8, 20)
        conf = rng.randrange(20, 100) / 100
        for start, rows in zip((0, STEP), tiles.values(), strict=True):
            x0, x1 = max(x - start, 0), min(right - start, SIDE)
            if x1 - x0 > 8:
                rows.append((i % 2, x0, y, x1, bottom, conf))
    return tiles


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("source")
    (root / "images" / "val").mkdir(parents=True)
    Image.new("L", (WIDTH, SIDE)).save(root / "images" / "val" / "scene.png")
    names = ", ".join(NAMES)
    (root / "dataset.yaml").write_text(f"path: .\nval: images/val\nnames: [{names}]\n")
    return root


def merged(writer, root, images):
    """The files of labels and results after merging."""
    preds = root / "preds"
    preds.mkdir()
    base = {"preds_base": "1"} if "torchvision" in writer.__name__ else {}
    if writer is coco or writer is writers.detectron2_folder:
        base = {"preds_base": "0"}
    tiler.merge(
        writer(preds, tiles_of(1)),
        images=images / "images" / "val",
        data=images / "dataset.yaml",
        out=root / "merged",
        **base,
    )
    found = tree(root / "merged")
    return {name: data for name, data in found.items() if name.startswith(("labels", "pred"))}


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.__name__)
def test_every_format_is_merged_to_the_same_bytes(tmp_path, images, writer):
    (tmp_path / "base").mkdir()
    expected = merged(coco, tmp_path / "base", images)
    assert len(expected) == 2
    assert merged(writer, tmp_path, images) == expected


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.__name__)
def test_rows_are_those_that_were_written(tmp_path, writer):
    tiles = tiles_of(2)
    base = {"preds_base": "1"} if "torchvision" in writer.__name__ else {"preds_base": "auto"}
    size = (0, 0, SIDE, SIDE)
    predictions, found = read(writer(tmp_path, tiles), size, names=NAMES, task="detect", **base)
    rows = np.array([row for rows in tiles.values() for row in rows])
    np.testing.assert_array_equal(found.instances.boxes, rows[:, 1:5])
    np.testing.assert_array_equal(found.instances.class_id, rows[:, 0])
    np.testing.assert_array_equal(found.instances.conf, rows[:, 5])
    assert predictions.counts == [len(rows) for rows in tiles.values()]
