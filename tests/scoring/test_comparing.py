"""Two runs on the same images: the difference, and whether it is more than chance."""

import numpy as np
import pytest

import tiler
from tests.scoring.test_score import dataset, row, texts
from tiler.errors import TilerError
from tiler.scoring.comparing import compared, plain

RNG = np.random.default_rng(3)
BOXES = {f"p{i:02d}": [(*c, *(c + 24)) for c in RNG.uniform(0, 70, (5, 2))] for i in range(24)}


def rows(boxes, spread=None, seed=0):
    rng = np.random.default_rng(seed)
    text = ""
    for box in boxes:
        if spread is None:
            text += row(0, *map(float, box))
        else:
            text += row(
                0, *map(float, np.array(box) + rng.normal(0, spread, 4)), float(rng.random())
            )
    return text


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("made")
    data = dataset(root / "data", {name: rows(boxes) for name, boxes in BOXES.items()})

    def scored(spread, **options):
        preds = texts(
            root / f"{spread}",
            {name: rows(boxes, spread, i) for i, (name, boxes) in enumerate(BOXES.items())},
        )
        return tiler.score(preds, data.yaml, **options)

    return scored


def test_the_better_of_two_is_said(made):
    good, bad = made(1.0), made(4.0)
    found = compared(good, bad, ("good", "bad"))
    assert found["AP"].verdict.startswith("good is better than bad (p = ")
    assert found["AP"].difference == pytest.approx(good.coco_auto["AP"] - bad.coco_auto["AP"])
    assert found["AP"].low > 0
    back = compared(bad, good, ("bad", "good"))
    assert back["AP"].verdict == found["AP"].verdict
    assert back["AP"].difference == pytest.approx(-found["AP"].difference)
    assert set(found) == {"AP", "AP_small", "AP_medium", "AP_large"}


def test_one_run_is_not_better_than_itself(made):
    found = compared(made(1.0), made(1.0))
    assert found["AP"].verdict == "no difference is shown (p = 1; the interval contains 0)"
    assert (found["AP"].difference, found["AP"].low, found["AP"].high) == (0, 0, 0)


def test_what_is_not_there_is_null(made):
    content = plain(compared(made(1.0), made(4.0)))
    assert content["AP_large"]["difference"] is None
    assert isinstance(content["AP"]["p"], float)


def test_runs_that_cannot_be_compared(made, tmp_path):
    one = made(1.0)
    with pytest.raises(TilerError, match="a comparison needs resampled images"):
        compared(one, made(4.0, analysis="none"))
    with pytest.raises(TilerError, match="a comparison needs resampled images"):
        compared(one, made(4.0, replicates=0))
    with pytest.raises(TilerError, match="runs are compared by the same weights"):
        compared(one, made(4.0, replicates=10))
    other = dataset(tmp_path / "data", {"q": rows(BOXES["p00"])})
    with pytest.raises(TilerError, match="A and B were scored on other images"):
        compared(
            one, tiler.score(texts(tmp_path / "preds", {"q": rows(BOXES["p00"], 1.0)}), other.yaml)
        )
