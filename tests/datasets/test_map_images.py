"""The place of images: GeoTIFF tags, world files, and images that have none."""

import numpy as np
import pytest
from PIL import Image

from tests.conftest import picture
from tests.formats.gis import write
from tiler.datasets import labels
from tiler.datasets.dataset import Dataset, Source
from tiler.datasets.map_images import map_images
from tiler.errors import SourceRefused
from tiler.formats import map_labels, vectors
from tiler.formats.manifest import Geo
from tiler.formats.map_labels import MapImage
from tiler.formats.yolo import Spec
from tiler.images.geo import DIRECTORY, PIXEL_SCALE, TIEPOINTS

TRANSFORM = (0.1, 0.0, 400000.0, 0.0, -0.1, 5000000.0)


@pytest.fixture
def scenes(tmp_path):
    tags = {
        PIXEL_SCALE: (0.1, 0.1, 0.0),
        TIEPOINTS: (0.0, 0.0, 0.0, 400000.0, 5000000.0, 0.0),
        DIRECTORY: (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633),
    }
    picture(80, 60).save(tmp_path / "a.tif", tiffinfo=tags)
    picture(80, 60).save(tmp_path / "b.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    picture(80, 60).save(tmp_path / "c.jpg", exif=turned)
    (tmp_path / "d.tif").write_bytes(b"II*\0")
    return tmp_path


def test_each_image_has_its_size_and_place(scenes):
    assert map_images(scenes, ["a.tif", "b.png", "c.jpg", "d.tif", "e.tif"]) == [
        MapImage("a.tif", (80, 60), Geo(TRANSFORM, "EPSG:32633")),
        MapImage("b.png", (80, 60), None),
        MapImage("c.jpg", (60, 80), None),
        MapImage("d.tif", None, None),
        MapImage("e.tif", None, None),
    ]


@pytest.mark.skipif(vectors.missing(), reason="the extra `gis` is not installed")
def test_labels_go_through_the_reader_of_every_format(scenes):
    """A polygon across the image's border, and an image that must not pass for background."""
    import shapely

    shapes = [shapely.box(400007, 4999995, 400009, 4999999)]
    path = write(scenes / "trees.gpkg", shapes, "EPSG:32633", species=["oak"])
    found = map_labels.read(path, map_images(scenes, ["a.tif", "b.png"]), "species")
    for annotation in found.images[0].annotations:
        annotation.class_id = 0
    spec = Spec("segment", 1)
    sources = [Source(entry.file_name, "train", entry=entry) for entry in found.images]
    data = Dataset(path, scenes, ("oak",), sources, (scenes,), found.findings, kind="GIS")
    first, second = data.sources
    read = labels.read(first, labels.label_file(scenes, first), spec, 80, 60)
    assert np.abs(read.instances.boxes - [[70, 10, 80, 50]]).max() < 1e-6
    assert (read.findings, read.refused) == ([], 0)
    with pytest.raises(SourceRefused, match="has no place on the map .*; not cut as background"):
        labels.read(second, labels.label_file(scenes, second), spec, 80, 60)
