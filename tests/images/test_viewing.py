"""Images as they are shown: 8 bits of colour, the whole reduced, parts as they are."""

import numpy as np
import pytest
from PIL import Image

from tests.conftest import needs_big, picture
from tiler.geometry.window import Window
from tiler.images import reading
from tiler.images.header import probe
from tiler.images.viewing import coloured, views


@pytest.mark.parametrize(
    "mode", ["L", "LA", "I;16", "I;16B", "I", "F", "P", "1", "CMYK", "RGBA", "LAB", "YCbCr"]
)
def test_any_mode_becomes_colours_of_8_bits(mode):
    if mode.startswith("I;16"):
        grey = (
            np.linspace(1000, 3000, 64 * 48)
            .reshape(48, 64)
            .astype("<u2" if mode == "I;16" else ">u2")
        )
        image = Image.frombytes(mode, (64, 48), grey.tobytes())
    elif mode == "LAB":
        image = Image.new("LAB", (64, 48), (122, 128, 128))
    else:
        image = Image.linear_gradient("L").resize((64, 48)).convert(mode)
    found = coloured(image)
    assert found.mode == "RGB"
    assert found.size == (64, 48)
    if mode != "LAB":
        low, high = np.asarray(found).min(), np.asarray(found).max()
        assert low < 12
        assert high > 243


def test_flat_and_endless_grey():
    assert np.asarray(coloured(Image.new("I;16", (8, 8), 4000))).std() == 0
    values = np.array([[np.nan, np.inf], [-np.inf, 1.0]], np.float32)
    assert coloured(Image.fromarray(values)).size == (2, 2)


def seen(path, size, windows):
    with path.open("rb") as file:
        return views(file, probe(file), size, windows)


@pytest.mark.parametrize("size", [(150, 100), (40, 27), (301, 200), (600, 400)])
def test_the_whole_and_its_parts(tmp_path, size):
    ramps = [np.linspace(0, 255, 300)[None], np.linspace(255, 0, 200)[:, None], np.array([[9.0]])]
    bands = np.stack(np.broadcast_arrays(*ramps), axis=-1)
    image = Image.fromarray(bands.astype(np.uint8))
    image.save(tmp_path / "x.png")
    windows = [Window(10, 20, 30, 40), Window(0, 0, 300, 200), Window(290, 190, 10, 10)]
    whole, parts = seen(tmp_path / "x.png", size, windows)
    assert whole.size == size
    expected = np.asarray(image.resize(size, Image.Resampling.LANCZOS)).astype(int)
    assert np.abs(np.asarray(whole) - expected).max() <= 3
    for window, part in zip(windows, parts, strict=True):
        assert part == image.crop((window.x, window.y, window.right, window.bottom))


@needs_big
@pytest.mark.parametrize("orientation", range(1, 9))
def test_by_rows_it_is_the_same(tmp_path, monkeypatch, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / "x.jpg"
    picture(300, 200).save(path, exif=exif, quality=95)
    size = (60, 40) if orientation < 5 else (40, 60)
    windows = [Window(10, 100, 30, 40), Window(5, 7, 100, 20)]
    whole, parts = seen(path, size, windows)
    monkeypatch.setattr(reading, "LARGE", 1)
    by_rows, same_parts = seen(path, size, windows)
    assert by_rows.size == whole.size == size
    assert np.abs(np.asarray(by_rows).astype(int) - np.asarray(whole)).mean() < 3
    for one, other in zip(parts, same_parts, strict=True):
        assert np.abs(np.asarray(one).astype(int) - np.asarray(other)).mean() < 3


def test_transparent_pixels_are_grey_and_many_bands_are_three(tmp_path):
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert coloured(clear).getpixel((0, 0)) == (114, 114, 114)
    palette = Image.new("P", (8, 8), 3)
    palette.putpalette([0, 0, 0, 9, 9, 9, 5, 5, 5, 200, 100, 50])
    assert coloured(palette).getpixel((0, 0)) == (200, 100, 50)
    palette.info["transparency"] = 3
    assert coloured(palette).getpixel((0, 0)) == (114, 114, 114)


def test_what_has_no_data_is_black_and_does_not_count(tmp_path):
    values = np.full((100, 300), -9999, np.float32)
    values[:, 150:] = np.linspace(0, 1, 150)
    path = tmp_path / "x.tif"
    Image.fromarray(values).save(path, tiffinfo={42113: "-9999"})
    whole, (part,) = seen(path, (300, 100), [Window(140, 0, 100, 50)])
    shown = np.asarray(whole)[50, :, 0].astype(int)
    assert (shown[:150] == 0).all()
    assert shown[151] < 10
    assert shown[-1] == 255
    assert (np.diff(shown[150:]) >= 0).all()
    assert part == whole.crop((140, 0, 240, 50))
