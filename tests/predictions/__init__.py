"""Tests of reading predictions: small folders, and tiles to read them for."""

import pickle
from pathlib import Path

import numpy as np

from tiler.predictions import Frames, Reading, open_predictions


def frames(names, rect=(0, 0, 100, 100), scale=1.0):
    """The same window for every tile."""
    return Frames(
        list(names),
        np.tile(np.array(rect, np.float64), (len(names), 1)),
        np.full(len(names), scale),
    )


def read(path, rect=(0, 0, 100, 100), scale=1.0, **reading):
    """All detections at a path, by a batch that went through pickle as to a worker."""
    predictions = open_predictions(Path(path), Reading(**reading))
    batch = pickle.loads(pickle.dumps(predictions.batch(range(len(predictions.keys)))))
    found = batch.read(frames(predictions.keys, rect, scale))
    check(predictions, found)
    return predictions, found


def check(predictions, found):
    """What every reader promises: each row is kept or refused, once, in order."""
    kept = list(zip(found.tile.tolist(), found.instances.row.tolist(), strict=True))
    assert kept == sorted(kept)
    every = kept + [(tile, row) for tile, row, _ in found.rejected]
    assert len(set(every)) == len(every) <= sum(predictions.counts)
    assert predictions.keys == sorted(predictions.keys) and len(predictions.counts) == len(
        predictions.keys
    )
    assert found.instances.task == predictions.task
    assert ((found.instances.conf >= 0) & (found.instances.conf <= 1)).all()
    assert np.isfinite(found.instances.boxes).all() and (found.instances.area > 0).all()
    assert {code for *_, code in found.rejected} <= {f.code for f in found.findings}
    if predictions.task in ("segment", "obb"):
        np.testing.assert_array_equal(found.instances.rings.bounds(), found.instances.boxes)
    assert (found.instances.keypoints is not None) == (predictions.task == "pose")


def folder(root, **files):
    """A folder of txt files: key to text or bytes; `__` in a key is a folder."""
    for key, text in files.items():
        path = Path(root, key.replace("__", "/") + ".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Path(root)


def codes(found):
    return [code for _, _, code in found.rejected]
