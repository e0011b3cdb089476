from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import quick
from tiler.datasets import box_layouts
from tiler.datasets.dataset import Dataset, Source
from tiler.errors import TilerError
from tiler.formats.annotated import AnnotatedImage, Annotation

SIZE = (400, 300)


def require(boxes, size=SIZE, kind="COCO"):
    entry = AnnotatedImage("a.jpg", size, [Annotation(bbox=box) for box in boxes])
    source = Source("a.jpg", "train", entry=entry)
    root = Path("/none")
    found = Dataset(root / "a.json", root, ("car",), [source], (), [], kind=kind)
    box_layouts.require_pixels(found)


inside = st.tuples(
    st.integers(0, 300), st.integers(0, 200), st.integers(2, 100), st.integers(2, 100)
)


@quick
@given(st.lists(inside, min_size=1, max_size=12))
def test_boxes_within_their_images_are_never_doubted(boxes):
    require([list(box) for box in boxes])


@quick
@given(st.lists(inside, min_size=1, max_size=12))
def test_corners_are_asked_about_if_a_fifth_reaches_out(boxes):
    corners = [[x, y, x + w, y + h] for x, y, w, h in boxes]
    reaching = sum(2 * x + w > 409 or 2 * y + h > 307 for x, y, w, h in boxes)
    if reaching >= 0.2 * len(boxes):
        with pytest.raises(TilerError, match=f"{reaching} of {len(boxes)} .* --bbox xyxy"):
            require(corners)
    else:
        require(corners)


def test_a_few_boxes_that_reach_out_are_boxes():
    require([[10, 10, 20, 20]] * 9 + [[390, 10, 395, 20]])


def test_boxes_that_reach_out_and_are_no_corners_are_boxes():
    require([[390, 290, 50, 50]] * 10)


@pytest.mark.parametrize("box", [[0.2, 0.2, 0.1, 0.1], [0, 0, 1, 1], ["0.5", "0.5", "0.1", "0.1"]])
def test_parts_of_the_sides(box):
    with pytest.raises(TilerError, match="parts of the image's sides"):
        require([box] * 3)
    require([box, [10, 10, 20, 20]])
    with pytest.raises(TilerError, match="those of Pascal VOC are pixels"):
        require([box], kind="Pascal VOC")


def test_only_coco_has_two_layouts():
    require([[350, 250, 390, 290]] * 10, kind="CSV")


def test_nothing_to_judge():
    require([])
    require([None, "x", [1, 2], [np.nan] * 4])
    require([[390, 10, 395, 20]], size=None)  # an image that cannot be opened
