"""What the tests share: small datasets, trees of hashes, and the data beside the repository."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

# The same cases in every run, so that a failure is one of the change; HYPOTHESIS_SEED=random looks
# for new ones
settings.register_profile("same", derandomize=os.environ.get("HYPOTHESIS_SEED") != "random")
settings.load_profile("same")

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"

needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the shared data is not beside the repository"
)


needs_big = pytest.mark.usefixtures("big")


@pytest.fixture(scope="module")
def big():
    for name in ("pyvips", "rasterio", "tifffile"):
        pytest.importorskip(
            name, reason="the extra `big` is not installed", exc_type=(ImportError, OSError)
        )


def tree(root):
    """{relative path: sha256} of all files under a folder."""
    found = {}
    for here, _, names in os.walk(root):
        for name in names:
            path = Path(here, name)
            found[path.relative_to(root).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def picture(width=400, height=300, seed=0, mode="RGB"):
    """Smooth noise, so that JPEG is small and no two places look alike."""
    rng = np.random.default_rng(seed)
    bands = {"L": 1, "RGB": 3, "RGBA": 4}[mode]
    small = rng.integers(0, 255, (max(2, height // 8), max(2, width // 8), bands)).astype(np.uint8)
    return Image.fromarray(small.squeeze()).resize((width, height), Image.Resampling.BILINEAR)


class Dataset:
    """A YOLO dataset in a folder, made for a test."""

    def __init__(self, root, names=("a", "b", "c"), **extra):
        self.root = Path(root)
        self.root.mkdir(parents=True, exist_ok=True)
        lines = ["train: images/train", "val: images/val", f"names: {list(names)}"]
        lines += [f"{key}: {value}" for key, value in extra.items()]
        self.yaml = self.root / "dataset.yaml"
        self.yaml.write_text("\n".join(lines) + "\n")
        for kind in ("images", "labels"):
            for split in ("train", "val"):
                (self.root / kind / split).mkdir(parents=True, exist_ok=True)

    def add(self, name, rows="", image=None, split="train", **save):
        """An image with its label rows (text), or without a label file when `rows` is None."""
        path = self.root / "images" / split / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = picture(seed=len(name)) if image is None else image
        if isinstance(image, bytes):
            path.write_bytes(image)
        else:
            image.save(path, **save)
        if rows is not None:
            label = (self.root / "labels" / split / name).with_suffix(".txt")
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_bytes(rows if isinstance(rows, bytes) else rows.encode())
        return path

    def filled(self, train=3, val=1, objects=12, size=(400, 300)):
        """Images with random small boxes."""
        for i in range(train + val):
            rng = np.random.default_rng(i)
            rows = ""
            for _ in range(objects):
                w, h = rng.uniform(0.02, 0.15, 2)
                x, y = rng.uniform(w / 2, 1 - w / 2), rng.uniform(h / 2, 1 - h / 2)
                rows += f"{rng.integers(3)} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n"
            self.add(f"p{i}.jpg", rows, picture(*size, seed=i), "train" if i < train else "val")
        return self


@pytest.fixture
def dataset(tmp_path):
    return Dataset(tmp_path / "data")


@pytest.fixture
def filled(tmp_path):
    return Dataset(tmp_path / "data").filled()


def rows_of(out, split="train"):
    """{tile: [[class, values...], ...]} of an output's label files."""
    folder = Path(out) / "labels" / split
    return {
        p.stem: [list(map(float, line.split())) for line in p.read_text().splitlines()]
        for p in sorted(folder.glob("*.txt"))
    }
