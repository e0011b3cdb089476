"""Images as they are shown: 8 bits of colour, the whole reduced, parts as they are."""

import numpy as np
import pytest
from PIL import Image

from tiler.images.viewing import coloured


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
