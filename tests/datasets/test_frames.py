"""The frame of annotations where EXIF turns the image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import picture
from tests.strategies import quick
from tiler.datasets import frames
from tiler.datasets.dataset import Dataset, Source
from tiler.errors import TilerError
from tiler.formats.annotated import AnnotatedImage, Annotation

STORED, UPRIGHT = (400, 300), (300, 400)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("frames")
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture(*STORED).save(root / f"{orientation}.jpg", exif=exif.tobytes())
    picture(300, 300).save(root / "square.jpg", exif=exif.tobytes())
    return root


def settled(folder, name, size, *boxes, frame="auto"):
    """The entry of an image with these boxes (xywh), and what was said."""
    annotations = [Annotation(bbox=list(box)) for box in boxes]
    entry = AnnotatedImage(name, size, annotations)
    source = Source(name, "train", entry=entry)
    dataset = Dataset(folder / "a.json", folder, ("car",), [source], (), [], kind="COCO")
    findings = frames.settle(dataset, frame)
    return entry, " ".join(finding.message for finding in findings)


positions = st.tuples(st.integers(0, 399), st.integers(0, 399))


@quick
@given(positions, st.sampled_from([5, 6, 7, 8]), st.sampled_from([STORED, None]))
def test_the_frame_that_the_boxes_fit_alone_is_taken(folder, corner, orientation, size):
    x, y = corner
    box = (x, y, 1, 1)
    fits_stored = y + 1 <= STORED[1] + frames.SLACK
    fits_upright = x + 1 <= UPRIGHT[0] + frames.SLACK
    name = f"{orientation}.jpg"
    if fits_stored and fits_upright:
        with pytest.raises(TilerError, match="--frame stored or --frame upright"):
            settled(folder, name, size, box)
        return
    entry, said = settled(folder, name, size, box)
    if fits_stored:
        assert entry.turn == orientation
        assert "annotations of the stored image, turned with it" in said
    elif fits_upright:
        assert entry.turn == 1
        assert entry.size == (UPRIGHT if size else None)
        assert bool(said) == bool(size)
    else:
        assert (entry.turn, entry.size) == (1, size)  # rejected when it is cut


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_the_declared_size_of_the_upright_image_decides(folder, orientation):
    entry, said = settled(folder, f"{orientation}.jpg", UPRIGHT, (10, 10, 5, 5))
    assert (entry.turn, entry.size, said) == (1, UPRIGHT, "")


@pytest.mark.parametrize("name", ["2.jpg", "3.jpg", "4.jpg", "square.jpg"])
def test_sides_that_stay_the_same_tell_nothing(folder, name):
    size = (300, 300) if name == "square.jpg" else STORED
    entry, said = settled(folder, name, size, (10, 10, 5, 5))
    assert entry.turn == 1
    assert "taken for the upright image; --frame stored if they are not" in said
    entry, said = settled(folder, name, size, (10, 10, 5, 5), frame="stored")
    assert entry.turn == (8 if name == "square.jpg" else int(name[0]))
    assert "annotations of the stored image" in said
    entry, said = settled(folder, name, size, (10, 10, 5, 5), frame="upright")
    assert (entry.turn, said) == (1, "")


@pytest.mark.parametrize("frame", ["auto", "stored", "upright"])
def test_what_exif_does_not_turn_or_has_no_objects_is_left_alone(folder, frame):
    entry, said = settled(folder, "1.jpg", STORED, (350, 10, 5, 5), frame=frame)
    assert (entry.turn, said) == (1, "")
    entry, said = settled(folder, "6.jpg", STORED, frame=frame)
    assert (entry.turn, said) == (1, "")
    entry, said = settled(folder, "none.jpg", STORED, (1, 1, 5, 5), frame=frame)
    assert (entry.turn, said) == (1, "")


def test_outlines_count_and_invalid_values_do_not(folder):
    entry = AnnotatedImage("6.jpg", None, [Annotation(segmentation=[[310, 5, 390, 5, 350, 9]])])
    source = Source("6.jpg", "train", entry=entry)
    dataset = Dataset(folder / "a.json", folder, ("car",), [source], (), [], kind="COCO")
    frames.settle(dataset, "auto")
    assert entry.turn == 6
    bad = Annotation(bbox=[np.nan, "x", 1, 1])
    assert frames._extent([bad]) == (0, 0)
