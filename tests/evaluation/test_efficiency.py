"""AP on tiles, before and after merging."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evaluation.test_diagnosis import LEFT, layout_of, origins_of, sample_of, scenes, stitched
from tests.strategies import quick
from tests.test_detector import detector
from tiler.evaluation import coco
from tiler.evaluation.candidates import candidates
from tiler.evaluation.diagnosis import curves
from tiler.evaluation.efficiency import Efficiency, Precision, efficiency, weighted
from tiler.evaluation.inputs import EvaluationInputs, GroundTruth, Predicted
from tiler.evaluation.layout import Origins, TileLayout
from tiler.geometry.instances import concatenate, empty
from tiler.geometry.window import Window


def on_tiles(sample, layout, origins, least=0.0):
    """Each tile as an image: the parts of labels that it shows, in px of the full image, and its
    predictions.
    """
    windows = [
        Window(x0, y0, x1 - x0, y1 - y0) for x0, y0, x1, y1 in layout.rects.astype(int).tolist()
    ]
    parts = [w.clip(sample.labels.instances, least).moved(w.x, w.y) for w in windows]
    image = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return EvaluationInputs(
        GroundTruth(concatenate(parts), image),
        Predicted.of(origins.raw, origins.raw_tile),
        len(parts),
        sample.classes,
    )


# Two objects in the left tile, one of which the right tile shows too: tiles overlap from x = 80 to
# 120
OVERLAPPING = np.array([[0, 0, 120, 100], [80, 0, 200, 100.0]])
OBJECTS = [(0, [10, 10, 30, 30]), (0, [90, 10, 110, 30])]


def scene(found, raw):
    sample = sample_of(OBJECTS, found, classes=1)
    layout = layout_of(OVERLAPPING, np.array([[200, 100.0]]))
    return sample, layout, origins_of(sample, [LEFT] * len(found), raw)


def test_stages_by_hand():
    first, second = [10, 10, 30, 30], [90, 10, 110, 30]
    raw = [(0, second, 0.9, 0), (0, second, 0.8, 1), (0, first, 0.7, 0)]
    whole = [(0, second, 0.9), (0, first, 0.7)]
    all_of_it = (51 + 50 * 2 / 3) / 101
    for found, merged, share in (
        (whole, 1, 1),
        ([row[:3] for row in raw], all_of_it, 0),
        (whole[:1], 51 / 101, None),
    ):
        sample, layout, origins = scene(found, raw)
        result = efficiency(sample, origins, layout, on_tiles(sample, layout, origins))
        assert (result.nomerge.ap, result.ideal.ap, result.merged.ap) == pytest.approx(
            (all_of_it, 1, merged)
        )
        assert (result.tile.ap, result.tile_u.ap) == pytest.approx((1, 1))
        expected = (51 / 101 - all_of_it) / (1 - all_of_it) if share is None else share
        assert (result.merge, result.merge50) == pytest.approx((expected, expected))
        assert result.plain() == {
            **{name: {"ap": p.ap, "ap50": p.ap50} for name, p in stages(result)},
            "merge": result.merge,
            "merge50": result.merge50,
        }


def stages(result):
    return [
        (name, getattr(result, name)) for name in ("tile", "tile_u", "nomerge", "merged", "ideal")
    ]


def test_of_predictions_on_a_label_the_one_that_fits_best_is_ideal():
    raw = [
        (0, [10, 10, 30, 24], 0.9, 0),
        (0, [10, 10, 30, 29], 0.5, 0),
        (0, [10, 10, 30, 29], 0.6, 1),
        (0, [50, 50, 60, 60], 0.1, 0),
    ]
    sample, layout, origins = scene([], [*raw, (0, [10, 10, 30, 19], 0.05, 0)])
    result = efficiency(sample, origins, layout)
    # .6 is right up to an IoU of .95; two of the others are off, but on no label, and come later
    assert result.ideal.ap == pytest.approx(51 / 101) and result.ideal.ap50 == pytest.approx(
        51 / 101
    )
    assert result.nomerge.ap50 == pytest.approx(51 / 101) and result.nomerge.ap == pytest.approx(
        (5 + 5 / 2) / 10 * 51 / 101
    )
    assert result.merge == pytest.approx(-result.nomerge.ap / (result.ideal.ap - result.nomerge.ap))
    assert np.isnan(result.merge50)  # nothing to gain


def test_what_several_tiles_show_counts_once_in_all():
    # the left tile finds one of two, the right tile the one that both show
    sample, layout, origins = scene(
        [], [(0, [90, 10, 110, 30], 0.9, 0), (0, [90, 10, 110, 30], 0.8, 1)]
    )
    result = efficiency(sample, origins, layout, on_tiles(sample, layout, origins))
    assert result.tile.ap == pytest.approx(67 / 101)  # two of three
    assert result.tile_u.ap == pytest.approx(51 / 101)  # half and half of one, of two
    # a false positive where both look weighs a half, elsewhere 1
    for place, precision in (([90, 60, 100, 70], 2 / 3), ([10, 60, 20, 70], 1 / 2)):
        raw = [(0, place, 0.95, 0), (0, [90, 10, 110, 30], 0.9, 0), (0, [90, 10, 110, 30], 0.8, 1)]
        sample, layout, origins = scene([], raw)
        result = efficiency(sample, origins, layout, on_tiles(sample, layout, origins))
        assert result.tile_u.ap == pytest.approx(51 / 101 * precision)


def test_a_part_has_the_weight_of_its_object():
    """A label cut in two halves, each of which is a label of its tile: each weighs a half, as does
    what is found on it.
    """
    layout = layout_of(np.array([[0, 0, 100, 100], [100, 0, 200, 100.0]]), np.array([[200, 100.0]]))
    sample = sample_of([(0, [60, 0, 140, 10]), (0, [10, 50, 30, 70])], [], classes=1)
    origins = origins_of(sample, [], [(0, [60, 0, 100, 10], 0.9, 0)])
    result = efficiency(sample, origins, layout, on_tiles(sample, layout, origins))
    assert result.tile.ap == pytest.approx(34 / 101)  # one of three
    assert result.tile_u.ap == pytest.approx(26 / 101)  # half of one, of two


def test_what_is_not_there_is_not_a_number():
    sample, layout, origins = scene([(0, [10, 10, 30, 30], 0.9)], None)
    result = efficiency(sample, origins, layout)
    assert result.merged.ap == pytest.approx(51 / 101)
    unknown = [result.tile, result.tile_u, result.nomerge, result.ideal]
    assert (
        all(np.isnan([p.ap, p.ap50]).all() for p in unknown)
        and np.isnan([result.merge, result.merge50]).all()
    )
    nothing = EvaluationInputs(
        GroundTruth(empty(), np.empty(0, int)),
        Predicted.of(replace(empty(), conf=np.empty(0)), np.empty(0, int)),
        0,
        1,
    )
    none = Origins(
        np.empty(0, int), np.zeros(1, int), nothing.detections.instances, np.empty(0, int)
    )
    result = efficiency(nothing, none, TileLayout.of([], [], np.empty((0, 2))), nothing)
    assert all(np.isnan([p.ap, p.ap50]).all() for _, p in stages(result))


@quick
@given(scenes, st.sampled_from([0.25, 0.5, 1, 3]))
def test_with_equal_weights_it_is_the_ap_of_coco(given, weight):
    sample = given[0]
    result = weighted(
        sample, np.full(len(sample.labels), weight), np.full(len(sample.detections), weight)
    )
    expected = coco.evaluate(sample, candidates(sample), max_dets=(10**6,))
    assert [result.ap, result.ap50] == pytest.approx(
        [expected.ap(), expected.ap(iou=0.5)], nan_ok=True
    )


@quick
@given(scenes)
def test_a_weight_of_two_is_two_of_them(given):
    """Two images, of which the second is there twice or has the weight 2."""
    other = sample_of(
        [(0, [0, 0, 30, 30]), (1, [50, 0, 80, 20])],
        [(0, [0, 0, 30, 30], 0.55), (1, [50, 9, 80, 29], 0.45)],
    )

    def together(*many):
        flags = {
            name: np.concatenate([getattr(s.labels, name) for s in many])
            for name in ("crowd", "ignored")
        }
        instances = [
            concatenate([getattr(s, rows).instances for s in many])
            for rows in ("labels", "detections")
        ]
        image = [
            np.repeat(np.arange(len(many)), [len(getattr(s, rows)) for s in many])
            for rows in ("labels", "detections")
        ]
        return EvaluationInputs(
            GroundTruth(instances[0], image[0], **flags),
            Predicted.of(instances[1], image[1]),
            len(many),
            3,
        )

    both, three = together(given[0], other), together(given[0], other, other)
    expected = curves(three, candidates(three))
    result = weighted(both, 1.0 + both.labels.image, 1.0 + both.detections.image)
    assert [result.ap, result.ap50] == pytest.approx([expected.ap(), expected.ap(iou=0.5)])


@pytest.mark.parametrize("noise", [None, detector.Noise()])
@pytest.mark.parametrize("overlap", [0, 64])
def test_a_better_merger_is_more_efficient(overlap, noise):
    results = {}
    for method in ("cvm", "nms", "none"):
        sample, layout, origins = stitched(method, overlap, noise)
        results[method] = efficiency(sample, origins, layout, on_tiles(sample, layout, origins))
    joined, chosen, none = results["cvm"], results["nms"], results["none"]
    assert joined.merged.ap > chosen.merged.ap >= none.merged.ap == none.nomerge.ap
    for p in (none.tile, none.tile_u):
        assert p.ap == pytest.approx(1) if noise is None else 0.5 < p.ap < p.ap50 < 1
    assert all(
        r.tile == none.tile and r.nomerge == none.nomerge and r.ideal == none.ideal
        for r in results.values()
    )
    if overlap:
        assert none.merge == 0 and 0.5 < chosen.merge <= 1 and chosen.merge < joined.merge
    else:  # each part is seen once: there is nothing to choose from, though something to join
        assert none.ideal == none.nomerge and np.isnan([r.merge for r in results.values()]).all()


def test_share_of_what_was_to_gain():
    known = Precision(0.4, 0.5)
    assert Efficiency(
        known, known, known, Precision(0.5, 0.5), Precision(0.6, 0.9)
    ).merge == pytest.approx(0.5)
    for ideal in (known, Precision(0.3, 0.5), Precision()):
        assert np.isnan(Efficiency(known, known, known, known, ideal).merge)
