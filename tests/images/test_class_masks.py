import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.strategies import quick
from tiler.errors import SourceRefused
from tiler.geometry.window import Window
from tiler.images import class_masks
from tiler.images.class_masks import ClassMask

TEST_COLOURS = bytes(range(18))


@st.composite
def masks(draw):
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    seed = draw(st.integers(0, 2**32 - 1))
    values = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    palette = draw(st.sampled_from([None, bytes(range(256)) * 3]))
    return ClassMask(values, palette)


@quick
@given(masks())
def test_what_is_written_is_read_back(mask):
    again = class_masks.read(io.BytesIO(mask.png()))
    assert np.array_equal(again.values, mask.values)
    assert again.palette == mask.palette


@quick
@given(masks(), st.integers(0, 11), st.integers(0, 11), st.integers(1, 20), st.integers(1, 20))
def test_a_tile_is_a_slice(mask, x, y, width, height):
    padded = np.full((40, 40), 255, np.uint8)
    padded[: mask.size[1], : mask.size[0]] = mask.values
    tile = mask.tile(Window(x, y, width, height), (width, height), 255)
    assert np.array_equal(tile.values, padded[y : y + height, x : x + width])


@quick
@given(masks(), st.integers(1, 8))
def test_turned_as_pillow_turns_it(mask, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    buffer = io.BytesIO()
    Image.fromarray(mask.values).save(buffer, "PNG", exif=exif)
    turned = class_masks.read(buffer)
    assert np.array_equal(turned.values, mask.turned(orientation).values)


def test_a_short_palette_gets_a_colour_for_what_is_ignored():
    """Pillow writes as few bits as the palette has colours, and 255 needs eight."""
    image = Image.fromarray(np.array([[0, 5]], np.uint8))
    image.putpalette(TEST_COLOURS)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    tile = class_masks.read(buffer).tile(Window(0, 0, 3, 1), (3, 1), 255)
    again = class_masks.read(io.BytesIO(tile.png()))
    assert again.values.tolist() == [[0, 5, 255]]
    assert again.palette[:18] == TEST_COLOURS
    assert again.palette[-3:] == bytes((224, 224, 192))


@quick
@given(st.data())
def test_damage_is_refused_or_read(data):
    """Whatever a file holds, it is one of our errors, or values."""
    content = bytearray(ClassMask(np.arange(200, dtype=np.uint8).reshape(10, 20)).png())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    try:
        mask = class_masks.read(io.BytesIO(bytes(content)))
    except SourceRefused:
        return
    assert mask.values.dtype == np.uint8


def test_a_bomb_is_refused_by_its_header():
    buffer = io.BytesIO()
    Image.new("1", (40_000, 40_000)).save(buffer, "PNG")
    with pytest.raises(SourceRefused, match="more than --max-pixels"):
        class_masks.read(buffer)
