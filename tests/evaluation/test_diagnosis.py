"""Why detections are wrong: scenes with one error of each kind, and a loop that names errors one by
one.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import quick
from tests.test_detector import detector
from tiler.evaluation import coco
from tiler.evaluation.candidates import candidates
from tiler.evaluation.diagnosis import BARELY, FOUND_KINDS, LABEL_KINDS, curves, diagnose, unmerged
from tiler.evaluation.inputs import EvaluationInputs, GroundTruth, Predicted
from tiler.evaluation.layout import Origins, TileLayout
from tiler.evaluation.seams import visibility
from tiler.geometry import ragged
from tiler.geometry.grids import grid
from tiler.geometry.instances import Instances, concatenate, empty
from tiler.geometry.masks import Masks
from tiler.geometry.polygons import Rings
from tiler.matching import similarity
from tiler.stitching import stitch

# Two tiles side by side, and one that stands apart: what lies beyond x = 300 is in none
TILES = np.array([[0, 0, 100, 100], [100, 0, 200, 100], [200, 0, 300, 100.0]])
SIZE = np.array([[400, 100.0]])
LEFT, RIGHT, THIRD = (0,), (1,), (2,)
ERRORS = (*FOUND_KINDS[3:], *LABEL_KINDS[2:-1])  # "explained" is the last, and no error of its own


def instances(rows):
    """From (class, box) or (class, box, conf)."""
    conf = np.array([row[2] for row in rows], float) if rows and len(rows[0]) > 2 else None
    return Instances(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], float).reshape(-1, 4),
        conf=conf,
    )


def sample_of(labels, found, ignored=None, crowd=None, classes=3):
    """One image."""
    truth = instances(labels)
    flags = {
        name: np.array(value, bool)
        for name, value in (("ignored", ignored), ("crowd", crowd))
        if value is not None
    }
    detections = replace(instances(found), conf=np.array([row[2] for row in found], float))
    zero = np.zeros(len(found), int)
    return EvaluationInputs(
        GroundTruth(truth, np.zeros(len(labels), int), **flags),
        Predicted.of(detections, zero),
        1,
        classes,
    )


def layout_of(rects=TILES, size=SIZE):
    return TileLayout.of([rects], [np.ones(len(rects))], size)


def origins_of(sample, sources, raw=None):
    """`sources`: tiles of each detection as given; `raw`: (class, box, conf, tile)."""
    own = [sources[k] for k in sample.detections.place]
    flat = np.array([tile for tiles in own for tile in tiles], np.int64)
    told = {}
    if raw is not None:
        columns = replace(
            instances([row[:3] for row in raw]), conf=np.array([row[2] for row in raw], float)
        )
        told = {"raw": columns, "raw_tile": np.array([row[3] for row in raw], np.int64)}
    return Origins(flat, ragged.offsets([len(tiles) for tiles in own]), **told)


def diagnosed(sample, layout=None, origins=None, **options):
    return diagnose(sample, candidates(sample, BARELY, any_class=True), layout, origins, **options)


def names(sample, result):
    """Kinds of the detections in the order given, and of the labels."""
    kinds = np.empty(len(sample.detections), object)
    kinds[sample.detections.place] = [FOUND_KINDS[k] for k in result.found]
    return kinds.tolist(), [LABEL_KINDS[k] for k in result.labels]


def cost(result, name):
    return next(row.cost for row in result.rows if row.name == name)


def counted(result):
    return {row.name: row.count for row in result.rows if row.count}


# --- one of each

LABELS = [
    (0, [10, 10, 30, 30]),  # found twice on one tile
    (0, [90, 10, 110, 30]),  # found by both tiles
    (0, [60, 50, 140, 60]),  # half of it on each tile, the left one reported short
    (1, [210, 10, 230, 30]),  # found in the wrong place
    (1, [240, 10, 260, 30]),  # found as something else
    (1, [270, 10, 290, 30]),  # found as something else and in the wrong place
    (2, [210, 60, 230, 80]),  # seen on the tile, lost
    (2, [240, 60, 260, 80]),  # seen, not surely
    (2, [270, 60, 290, 80]),  # not seen
    (2, [320, 60, 340, 80]),  # no tile there
]
FOUND = [
    (0, [10, 10, 30, 30], 0.9, LEFT, "right"),
    (0, [10, 10, 30, 28], 0.8, LEFT, "Dup"),
    (0, [90, 10, 110, 30], 0.9, LEFT, "right"),
    (0, [100, 10, 110, 30], 0.7, RIGHT, "SeamDup"),
    (0, [65, 50, 100, 60], 0.8, LEFT, "SeamTrunc"),
    (0, [100, 50, 135, 60], 0.75, RIGHT, "SeamTrunc"),
    (1, [218, 10, 238, 30], 0.8, THIRD, "Loc"),
    (0, [240, 10, 260, 28], 0.6, THIRD, "Cls"),
    (2, [278, 10, 298, 30], 0.6, THIRD, "Both"),
    (1, [20, 80, 30, 90], 0.5, LEFT, "Bkg"),
    (2, [20, 60, 30, 70], 0.05, LEFT, "left out"),
]
OF_LABELS = [
    "found",
    "found",
    "SeamSplit",
    "explained",
    "explained",
    "Miss",
    "LostInMerge",
    "LowConf",
    "Miss",
    "NotCovered",
]
RAW = [
    (2, [210, 60, 230, 79], 0.7, 2),
    (2, [210, 60, 230, 78], 0.9, 2),
    (2, [240, 60, 260, 79], 0.1, 2),
]


def everything():
    sample = sample_of(LABELS, [row[:3] for row in FOUND])
    return sample, layout_of(), origins_of(sample, [row[3] for row in FOUND], RAW)


def test_one_of_each_kind():
    sample, layout, origins = everything()
    result = diagnosed(sample, layout, origins, conf=0.2)
    assert names(sample, result) == ([row[4] for row in FOUND], OF_LABELS)
    assert result.untold == ()
    assert tuple(row.name for row in result.rows) == ERRORS
    assert [row.count for row in result.rows] == [1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 2]
    assert all(row.cost >= 0 for row in result.rows)
    assert result.about[result.found == FOUND_KINDS.index("SeamTrunc")].tolist() == [2, 2]
    assert (result.about[result.found == FOUND_KINDS.index("Bkg")] == -1).all()
    plain = result.plain()
    assert (
        plain["rows"][0] == {"name": "SeamDup", "count": 1, "cost": cost(result, "SeamDup")}
        and plain["conf"] == 0.2
    )


def test_what_is_not_known_is_not_told():
    sample, layout, origins = everything()
    kinds = {
        (False, False): ("SeamDup", "SeamTrunc", "SeamSplit", "LostInMerge", "NotCovered"),
        (True, False): ("SeamDup", "LostInMerge"),
        (False, True): ("SeamTrunc", "SeamSplit", "LostInMerge", "NotCovered"),
    }
    for (tiles, sources), untold in kinds.items():
        result = diagnosed(
            sample, layout if tiles else None, origins if sources else None, conf=0.2
        )
        assert result.untold == untold
        assert not {row.name for row in result.rows} & set(untold)
        other = {
            "SeamDup": "Dup",
            "SeamTrunc": "Loc",
            "SeamSplit": "explained",
            "LostInMerge": "Miss",
            "NotCovered": "Miss",
        }
        expected = [
            [other[k] if k in untold else k for k in kinds]
            for kinds in ([row[4] for row in FOUND], OF_LABELS)
        ]
        # told by the predictions on tiles only
        expected[1] = ["Miss" if k == "LowConf" else k for k in expected[1]]
        assert names(sample, result) == tuple(expected)
    known = replace(origins, raw=None, raw_tile=None)
    assert diagnosed(sample, layout, known, conf=0.2).untold == ("LostInMerge",)


def test_a_weak_merged_detection_is_low_conf_and_only_that_is_added():
    sample = sample_of(
        [(0, [0, 0, 10, 10]), (0, [50, 0, 60, 10])],
        [(0, [0, 0, 10, 10], 0.9), (0, [50, 0, 60, 10], 0.1)],
    )
    result = diagnosed(sample, conf=0.5)
    assert names(sample, result) == (["right", "left out"], ["found", "LowConf"])
    assert result.ap == pytest.approx(51 / 101) and cost(result, "LowConf") == pytest.approx(
        50 / 101
    )
    assert counted(diagnosed(sample)) == {}


def test_detections_past_the_limit_are_left_out():
    sample = sample_of(
        [(0, [0, 0, 10, 10]), (0, [50, 0, 60, 10])],
        [(0, [0, 0, 10, 10], 0.9), (0, [50, 0, 60, 10], 0.8)],
    )
    assert names(sample, diagnosed(sample, max_dets=1)) == (
        ["right", "left out"],
        ["found", "LowConf"],
    )


# --- what comes first


def test_a_duplicate_comes_before_another_label_in_reach():
    sample = sample_of(
        [(0, [0, 0, 10, 10]), (0, [0, 7, 10, 17])],
        [(0, [0, 0, 10, 10], 0.9), (0, [0, 3, 10, 13], 0.8)],
    )
    # the second is of IoU .54 with the label that is taken, and of .43 with that which is free
    assert names(sample, diagnosed(sample))[0] == ["right", "Dup"]


def test_of_two_labels_taken_one_seen_on_another_tile_is_enough():
    labels = [(0, [0, 0, 10, 10]), (0, [0, 2, 10, 12])]
    found = [(0, [0, 0, 10, 10], 0.9), (0, [0, 2, 10, 12], 0.8), (0, [0, 1, 10, 11], 0.7)]
    sample = sample_of(labels, found)
    for sources, kind in (
        ([LEFT, RIGHT, RIGHT], "SeamDup"),
        ([LEFT, LEFT, RIGHT], "SeamDup"),
        ([LEFT, LEFT, LEFT], "Dup"),
    ):
        assert names(sample, diagnosed(sample, None, origins_of(sample, sources)))[0][2] == kind


def test_one_common_tile_of_several_makes_a_plain_duplicate():
    sample = sample_of([(0, [0, 0, 10, 10])], [(0, [0, 0, 10, 10], 0.9), (0, [0, 0, 10, 9], 0.8)])
    for sources, kind in (
        ([(0, 1), (1, 2)], "Dup"),
        ([(0, 1), (2,)], "SeamDup"),
        ([(0,), ()], "Dup"),
    ):
        assert (
            names(sample, diagnosed(sample, layout_of(), origins_of(sample, sources)))[0][1] == kind
        )


def test_the_same_class_comes_before_another():
    sample = sample_of([(0, [0, 0, 10, 10]), (1, [0, 0, 10, 22])], [(1, [0, 0, 10, 10], 0.9)])
    assert names(sample, diagnosed(sample))[0] == ["Loc"]  # though the other class fits exactly


def test_a_label_that_does_not_count_explains_only_duplicates():
    found = [
        (0, [0, 0, 10, 10], 0.9),
        (0, [0, 0, 10, 9], 0.8),
        (0, [0, 0, 10, 4], 0.7),
        (1, [0, 0, 10, 10], 0.6),
    ]
    sample = sample_of([(0, [0, 0, 10, 10])], found, ignored=[True])
    assert names(sample, diagnosed(sample)) == (["ignored", "Dup", "Bkg", "Bkg"], ["ignored"])
    sample = sample_of([(0, [0, 0, 10, 10])], found, crowd=[True])
    assert names(sample, diagnosed(sample)) == (
        ["ignored", "ignored", "ignored", "Bkg"],
        ["ignored"],
    )


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        ([70, 0, 100, 10], "SeamTrunc"),
        ([67, 0, 98, 10], "SeamTrunc"),  # ends 2 px before the side
        ([66, 0, 97, 10], "Loc"),
        ([72, 0, 102, 10], "SeamTrunc"),
        ([70, -5, 100, 12], "Loc"),  # less than .8 of it lies in the label
        ([110, 0, 140, 10], "Loc"),
    ],
)
def test_what_is_truncated_at_a_seam(found, kind):
    sample = sample_of([(0, [60, 0, 140, 10])], [(0, found, 0.9)])
    tile = LEFT if found[0] < 100 else RIGHT
    assert names(sample, diagnosed(sample, layout_of(), origins_of(sample, [tile])))[0] == [kind]
    assert names(sample, diagnosed(sample, layout_of()))[0] == [kind]


def test_a_detection_is_truncated_by_a_tile_that_it_comes_from_only():
    sample = sample_of([(0, [60, 0, 140, 10])], [(0, [70, 0, 100, 10], 0.9)])
    assert names(sample, diagnosed(sample, layout_of(), origins_of(sample, [THIRD])))[0] == ["Loc"]


def test_a_label_that_ends_at_the_side_is_not_truncated():
    sample = sample_of([(0, [20, 0, 100, 10])], [(0, [70, 0, 100, 10], 0.9)])
    assert names(sample, diagnosed(sample, layout_of()))[0] == ["Loc"]


def test_the_border_of_the_image_is_no_seam():
    layout = layout_of(np.array([[0, 0, 100, 100.0]]), np.array([[100, 100.0]]))
    sample = sample_of([(0, [60, 0, 140, 10])], [(0, [70, 0, 100, 10], 0.9)])
    assert names(sample, diagnosed(sample, layout))[0] == ["Loc"]


def test_large_tiles_truncate_within_a_part_of_their_side():
    layout = layout_of(
        np.array([[0, 0, 1000, 100], [1000, 0, 2000, 100.0]]), np.array([[2000, 100.0]])
    )
    sample = sample_of(
        [(0, [600, 0, 1400, 10])], [(0, [700, 0, 981, 10], 0.9), (0, [1021, 0, 1300, 10], 0.9)]
    )
    assert names(sample, diagnosed(sample, layout))[0] == ["SeamTrunc", "Loc"]


def test_pieces_of_one_tile_are_no_split():
    # the two pieces of the left tile have the bounds of half the label, those of both tiles of all
    # of it
    label, pieces = (0, [60, 0, 140, 10]), [[65, 0, 100, 10], [64, 0, 100, 9.5], [100, 0, 135, 10]]
    sample = sample_of([label], [(0, piece, 0.5) for piece in pieces[:2]])
    assert names(sample, diagnosed(sample, layout_of())) == (["SeamTrunc"] * 2, ["explained"])
    sample = sample_of([label], [(0, piece, 0.5) for piece in pieces])
    assert names(sample, diagnosed(sample, layout_of())) == (["SeamTrunc"] * 3, ["SeamSplit"])


def test_kinds_of_labels_in_their_order():
    """Seen whole by a tile beside both pieces: split before lost; and lost before not covered,
    before weak.
    """
    label = (0, [60, 0, 140, 10])
    halves = [(0, [65, 0, 100, 10], 0.9), (0, [100, 0, 135, 10], 0.8)]
    raw = [(0, [60, 0, 140, 10], 0.9, 2)]
    sample = sample_of([label], halves)
    assert names(sample, diagnosed(sample, layout_of(), origins_of(sample, [LEFT, RIGHT], raw)))[
        1
    ] == ["SeamSplit"]
    sample = sample_of([(0, [320, 0, 340, 10])], [])
    weak, confident = (
        origins_of(sample, [], [(0, [320, 0, 340, 10], conf, 2)]) for conf in (0.1, 0.9)
    )
    assert names(sample, diagnosed(sample, layout_of(), confident, conf=0.5))[1] == ["LostInMerge"]
    assert names(sample, diagnosed(sample, layout_of(), weak, conf=0.5))[1] == ["NotCovered"]


def test_what_was_merged_into_a_detection_of_another_label_is_not_lost():
    labels = [(0, [0, 0, 10, 10]), (0, [0, 2, 10, 12])]
    sample = sample_of(labels, [(0, [0, 0, 10, 10], 0.9)])
    raw = [(0, [0, 2, 10, 12], 0.9, 0)]
    assert names(sample, diagnosed(sample, layout_of(), origins_of(sample, [LEFT], raw)))[1] == [
        "found",
        "Miss",
    ]


def test_merged_below_the_confidence_is_weak_not_lost():
    sample = sample_of([(0, [0, 0, 10, 10])], [(0, [0, 0, 10, 10], 0.3)])
    origins = origins_of(sample, [LEFT], [(0, [0, 0, 10, 10], 0.9, 0)])
    assert names(sample, diagnosed(sample, layout_of(), origins, conf=0.5))[1] == ["LowConf"]


def test_a_label_in_the_wrong_place_is_not_missed_as_well():
    result = diagnosed(sample_of([(0, [0, 0, 10, 10])], [(0, [0, 0, 10, 4], 0.9)]))
    assert counted(result) == {"Loc": 1} and result.labels.tolist() == [
        LABEL_KINDS.index("explained")
    ]
    assert cost(result, "Loc") == pytest.approx(1) and cost(result, "Miss") == 0


@pytest.mark.parametrize(
    ("found", "kind", "of_label"),
    [
        ((0, [70, 0, 100, 10], 0.9), "SeamTrunc", "explained"),
        ((0, [110, 0, 140, 10], 0.9), "Loc", "explained"),
        ((1, [60, 0, 140, 10], 0.9), "Cls", "explained"),
        ((1, [70, 0, 100, 10], 0.9), "Both", "Miss"),
        ((0, [60, 50, 140, 60], 0.9), "Bkg", "Miss"),
        ((0, [110, 0, 140, 10], 0.1), "left out", "Miss"),
        ((0, [60, 0, 140, 10], 0.1), "left out", "LowConf"),
    ],
)
def test_what_explains_a_label(found, kind, of_label):
    sample = sample_of([(0, [60, 0, 140, 10])], [found])
    assert names(sample, diagnosed(sample, layout_of(), conf=0.5)) == ([kind], [of_label])


def test_what_else_a_label_may_be_comes_before_explained():
    loc = (0, [320, 0, 330, 4], 0.9)
    sample = sample_of([(0, [320, 0, 330, 10])], [loc])
    assert names(sample, diagnosed(sample, layout_of())) == (["Loc"], ["NotCovered"])
    assert names(sample, diagnosed(sample)) == (["Loc"], ["explained"])
    lost = origins_of(sample, [THIRD], [(0, [320, 0, 330, 10], 0.9, 2)])
    assert names(sample, diagnosed(sample, layout_of(), lost)) == (["Loc"], ["LostInMerge"])
    weak = sample_of([(0, [320, 0, 330, 10])], [loc, (0, [320, 0, 330, 10], 0.1)])
    assert names(weak, diagnosed(weak, conf=0.5)) == (["Loc", "left out"], ["LowConf"])


# --- costs


def test_the_cost_of_one_duplicate():
    labels = [(0, [0, 0, 10, 10]), (0, [50, 0, 60, 10])]
    found = [(0, [0, 0, 10, 10], 0.9), (0, [0, 0, 10, 9], 0.8), (0, [50, 0, 60, 10], 0.7)]
    result = diagnosed(sample_of(labels, found))
    # 51 points of recall with a precision of 1, 50 with one of 2/3
    assert result.ap == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert cost(result, "Dup") == pytest.approx(50 / 3 / 101)
    assert counted(result) == {"Dup": 1}


def test_the_cost_of_one_missed_of_four():
    boxes = [[20 * k, 0, 20 * k + 10, 10] for k in range(4)]
    result = diagnosed(sample_of([(0, b) for b in boxes], [(0, b, 0.9) for b in boxes[:3]]))
    assert cost(result, "Miss") == pytest.approx(25 / 101)  # recall .75 is the 76th point of 101
    assert counted(result) == {"Miss": 1}


def test_the_cost_of_one_label_in_pieces():
    labels = [(0, [60, 0, 140, 10]), (0, [10, 50, 20, 60])]
    found = [(0, [65, 0, 100, 10], 0.9), (0, [100, 0, 135, 10], 0.8), (0, [10, 50, 20, 60], 0.7)]
    sample = sample_of(labels, found)
    result = diagnosed(sample, layout_of(), origins_of(sample, [LEFT, RIGHT, LEFT]))
    assert counted(result) == {"SeamTrunc": 2, "SeamSplit": 1}
    assert result.ap == pytest.approx(51 / 3 / 101)
    # the first piece becomes the label, the other goes
    assert cost(result, "SeamTrunc") == cost(result, "SeamSplit") == pytest.approx(1 - 51 / 3 / 101)


def test_the_cost_of_the_wrong_class():
    sample = sample_of(
        [(0, [0, 0, 10, 10]), (1, [50, 0, 60, 10])],
        [(1, [0, 0, 10, 10], 0.9), (1, [50, 0, 60, 10], 0.8)],
    )
    result = diagnosed(sample)
    assert counted(result) == {"Cls": 1}
    assert result.ap == pytest.approx((0 + 0.5) / 2)
    assert cost(result, "Cls") == pytest.approx(0.75)


def test_the_cost_of_a_class_that_is_missed():
    sample = sample_of(
        [(0, [0, 0, 10, 10]), (1, [50, 0, 60, 10])],
        [(1, [20, 0, 30, 10], 0.9), (1, [50, 0, 60, 10], 0.8)],
    )
    result = diagnosed(sample)
    assert counted(result) == {"Bkg": 1, "Miss": 1}
    # its class has no label any more, and does not count
    assert cost(result, "Miss") == pytest.approx(0.25)


def test_the_cost_of_a_wrong_place_and_of_the_background():
    sample = sample_of(
        [(0, [0, 0, 10, 10])], [(0, [0, 0, 10, 4], 0.9), (0, [50, 50, 60, 60], 0.95)]
    )
    result = diagnosed(sample)
    assert (result.ap, cost(result, "Bkg")) == (0, 0) and cost(result, "Loc") == pytest.approx(0.5)
    result = diagnosed(sample_of([(0, [0, 0, 10, 10])], [(0, [50, 50, 60, 60], 0.95)]))
    assert np.isnan(cost(result, "Miss"))  # no label is left


def test_a_duplicate_that_fits_better_is_worth_something():
    result = diagnosed(
        sample_of([(0, [0, 0, 10, 10])], [(0, [0, 0, 10, 6.2], 0.9), (0, [0, 0, 10, 10], 0.8)])
    )
    # right at 3 thresholds of 10; from .65 on the other is, with a precision of 1/2
    assert result.ap == pytest.approx(0.3 + 0.7 / 2) and cost(result, "Dup") == pytest.approx(
        -0.7 / 2
    )


def test_of_several_for_one_label_the_most_confident_gets_it():
    found = [(0, [0, 0, 10, 4], 0.6), (0, [0, 6, 10, 10], 0.9), (0, [0, 0, 4, 10], 0.7)]
    result = diagnosed(sample_of([(0, [0, 0, 10, 10])], found))
    assert counted(result) == {"Loc": 3} and cost(result, "Loc") == pytest.approx(1)
    found.append((0, [0, 0, 10, 10], 0.1))  # now the label is taken: all three are dropped
    result = diagnosed(sample_of([(0, [0, 0, 10, 10])], found))
    assert result.ap == pytest.approx(0.25) and cost(result, "Loc") == pytest.approx(0.75)


def test_what_was_lost_in_merging_comes_back_as_the_tile_saw_it_best():
    sample = sample_of([(0, [0, 0, 10, 10])], [])
    raw = [(0, [0, 0, 10, 10], 0.4, 0), (0, [0, 0, 10, 7], 0.9, 0)]
    result = diagnosed(sample, layout_of(), origins_of(sample, [], raw))
    assert counted(result) == {"LostInMerge": 1} and cost(result, "LostInMerge") == pytest.approx(1)


def test_one_weak_detection_of_two_labels_is_added_once():
    labels = [(0, [0, 0, 10, 10]), (0, [0, 1, 10, 11]), (1, [50, 0, 60, 10])]
    sample = sample_of(labels, [(0, [0, 0, 10, 10], 0.1), (1, [50, 0, 60, 10], 0.9)])
    result = diagnosed(sample, conf=0.5)
    assert counted(result) == {"LowConf": 2}
    assert cost(result, "LowConf") == pytest.approx(51 / 101 / 2)


# --- of any scene


RECTS = np.array([[0, 0, 60, 40], [60, 0, 120, 40], [40, 0, 100, 40], [100, 0, 160, 30.0]])


def like(rng, labels):
    """Class, box, confidence and tile of a detection: of a label or what a tile shows of it, a
    little off, or of nothing.
    """
    conf, tile = rng.integers(1, 10) / 10, int(rng.integers(len(RECTS)))
    if not labels or rng.random() < 0.1:
        return int(rng.integers(2)), at_random(rng), conf, tile
    class_id, box = labels[rng.integers(len(labels))]
    box = np.array(box) + rng.choice([0, 0, 0, 0, 0, 0, -1, 2, -5], 4)
    if rng.random() < 0.7:
        box = np.concatenate(
            [np.maximum(box[:2], RECTS[tile, :2]), np.minimum(box[2:], RECTS[tile, 2:])]
        )
    box[2:] = np.maximum(box[2:], box[:2])
    return class_id if rng.random() < 0.85 else 1 - class_id, box.tolist(), conf, tile


def at_random(rng):
    x, y, w, h = rng.integers([0, 0, 1, 1], [10, 4, rng.choice([5, 17]), 4]) * 10
    return [x, y, x + w, y + h]


def scene_of(seed):
    """A scene of few places, so that boxes meet; everything about tiles may be there or not."""
    rng = np.random.default_rng(seed)
    labels = [(int(rng.integers(2)), at_random(rng)) for _ in range(rng.integers(0, 5))]
    found, raw = ([like(rng, labels) for _ in range(rng.integers(0, 12))] for _ in range(2))
    ignored = rng.random(len(labels)) < rng.choice([0, 0, 0.4])
    sample = sample_of(
        labels, [row[:3] for row in found], ignored, ignored & (rng.random(len(labels)) < 0.5)
    )
    layout = layout_of(RECTS, np.array([[220, 60.0]])) if rng.random() < 0.8 else None
    sources = [
        [row[3]] if rng.random() < 0.8 else np.flatnonzero(rng.random(4) < 0.4).tolist()
        for row in found
    ]
    kind = rng.choice(["none", "sources", "raw", "raw"])
    origins = (
        None if kind == "none" else origins_of(sample, sources, raw if kind == "raw" else None)
    )
    options = {"conf": rng.choice([0, 0, 0.3, 0.6]), "max_dets": rng.choice([None, None, 1, 2])}
    return sample, layout, origins, options


scenes = st.integers(0, 10**9).map(scene_of)


def loop(sample, layout, origins, conf, max_dets):
    """Kinds of detections and labels as the definitions read, one by one."""
    truth, found = sample.labels.instances, sample.detections.instances
    counts = ~sample.labels.ignored

    def iou(d, g, boxes=found.boxes):
        return similarity.of_boxes(boxes[d][None], truth.boxes[g][None])[0]

    kept = (found.conf >= conf) & (sample.detections.rank < (max_dets or 10**6))
    pairs = candidates(sample)
    match = coco.matched(sample, pairs.take(kept[pairs.detection]), np.array([0.5]))[:, 0]
    owner = {
        match[d]: d
        for d in range(len(found))
        if match[d] >= 0 and not sample.labels.crowd[match[d]]
    }

    def sources(d):
        if origins is not None:
            return origins.tile[origins.offsets[d] : origins.offsets[d + 1]].tolist()
        x, y = (found.boxes[d][:2] + found.boxes[d][2:]) / 2
        return [
            t for t, (x0, y0, x1, y1) in enumerate(layout.rects) if x0 <= x <= x1 and y0 <= y <= y1
        ]

    def cutters(d, g):
        (x0, y0, x1, y1), (a, b, c, e) = found.boxes[d], truth.boxes[g]
        common = max(0, min(x1, c) - max(x0, a)) * max(0, min(y1, e) - max(y0, b))
        if layout is None or common < 0.8 * ((x1 - x0) * (y1 - y0)):
            return set()
        cut = set()
        for t in sources(d):
            left, top, right, bottom = layout.rects[t]
            inner = layout.interior[t]
            near_x, near_y = max(2, 0.02 * (right - left)), max(2, 0.02 * (bottom - top))
            if (
                (inner[0] and abs(x0 - left) <= near_x and a < left)
                or (inner[1] and abs(y0 - top) <= near_y and b < top)
                or (inner[2] and abs(x1 - right) <= near_x and c > right)
                or (inner[3] and abs(y1 - bottom) <= near_y and e > bottom)
            ):
                cut.add(t)
        return cut

    kinds, about = [], []
    for d in range(len(found)):
        same = [g for g in range(len(truth)) if truth.class_id[g] == found.class_id[d]]
        others = [
            g for g in range(len(truth)) if truth.class_id[g] != found.class_id[d] and counts[g]
        ]
        dups = [g for g in same if g in owner and iou(d, g) >= 0.5]
        apart = [
            g
            for g in dups
            if origins
            and sources(d)
            and sources(owner[g])
            and not {*sources(d)} & {*sources(owner[g])}
        ]
        off = [g for g in same if counts[g] and 0.1 <= iou(d, g) < 0.5]
        chosen = [
            ("left out", [-1] if not kept[d] else []),
            (
                "right" if match[d] >= 0 and counts[match[d]] else "ignored",
                [match[d]] if match[d] >= 0 else [],
            ),
            ("SeamDup", apart),
            ("Dup", dups),
            ("SeamTrunc", [g for g in off if cutters(d, g)]),
            ("Loc", off),
            ("Cls", [g for g in others if iou(d, g) >= 0.5]),
            ("Both", [g for g in others if 0.1 <= iou(d, g) < 0.5]),
            ("Bkg", [-1]),
        ]
        kind, those = next((kind, those) for kind, those in chosen if those)
        kinds.append(kind)
        about.append(max(those, key=lambda g: (iou(d, g) if g >= 0 else 0, g)))
    raw = unmerged(sample, origins, layout) if origins and layout else None
    shown = (
        visibility(truth.boxes, sample.labels.image, layout).share
        if layout
        else np.ones(len(truth))
    )
    of_labels = []
    for g in range(len(truth)):
        pieces = [d for d in range(len(found)) if kinds[d] == "SeamTrunc" and about[d] == g]
        split = bool(pieces) and not set.intersection(*(cutters(d, g) for d in pieces))
        if split:
            union = np.concatenate(
                [found.boxes[pieces, :2].min(axis=0), found.boxes[pieces, 2:].max(axis=0)]
            )
            split = iou(0, g, union[None]) >= 0.5
        merged = [
            d
            for d in range(len(found))
            if found.class_id[d] == truth.class_id[g] and iou(d, g) >= 0.5
        ]
        seen = []
        if raw is not None:
            its = raw.detections.instances
            seen = [
                its.conf[r]
                for r in range(len(its))
                if its.class_id[r] == truth.class_id[g] and iou(r, g, its.boxes) >= 0.5
            ]
        chosen = [
            ("ignored", not counts[g]),
            ("found", g in owner),
            ("SeamSplit", split),
            ("LostInMerge", not merged and any(c >= conf for c in seen)),
            ("NotCovered", shown[g] < 0.25),
            ("LowConf", any(not kept[d] for d in merged) or any(c < conf for c in seen)),
            (
                "explained",
                any(
                    k in ("Loc", "Cls", "SeamTrunc") and a == g
                    for k, a in zip(kinds, about, strict=True)
                ),
            ),
            ("Miss", True),
        ]
        of_labels.append(next(kind for kind, fits in chosen if fits))
    return kinds, about, of_labels


@settings(quick, max_examples=400)
@given(scenes)
def test_every_detection_and_every_label_is_of_the_one_kind_that_the_definitions_say(scene):
    sample, layout, origins, options = scene
    result = diagnosed(sample, layout, origins, **options)
    kinds, about, labels = loop(sample, layout, origins, **options)
    assert [FOUND_KINDS[k] for k in result.found] == kinds
    assert result.about.tolist() == about
    assert [LABEL_KINDS[k] for k in result.labels] == labels
    told = {row.name: row.count for row in result.rows}
    assert set(told) | set(result.untold) == set(ERRORS)
    assert sum(told.values()) == sum(k in told for k in kinds + labels)
    assert all(kind not in result.untold for kind in kinds + labels)


def put_right(sample, layout, origins, result, name):
    """AP (.5:.95) after the fix of one kind, everything made and matched anew."""
    truth, found = sample.labels.instances, sample.detections.instances
    code = (FOUND_KINDS if name in FOUND_KINDS else LABEL_KINDS).index(name)
    there = FOUND_KINDS.index("left out") != result.found
    rows = {d: (found.class_id[d], found.boxes[d], found.conf[d]) for d in np.flatnonzero(there)}
    taken = {
        g
        for d, g in enumerate(result.about)
        if FOUND_KINDS[result.found[d]] in ("right", "ignored")
    }
    ignored = sample.labels.ignored.copy()
    of_label = np.flatnonzero(result.labels == code) if name in LABEL_KINDS[2:] else []
    if name in FOUND_KINDS:
        for d in sorted(np.flatnonzero(result.found == code), key=lambda d: (-found.conf[d], d)):
            del rows[d]
            g = result.about[d]
            if name in ("SeamTrunc", "Loc", "Cls") and g not in taken:
                taken.add(g)
                rows[d] = (
                    truth.class_id[g],
                    found.boxes[d] if name == "Cls" else truth.boxes[g],
                    found.conf[d],
                )
    elif name == "SeamSplit":
        for g in of_label:
            pieces = np.flatnonzero(
                (result.found == FOUND_KINDS.index("SeamTrunc")) & (result.about == g)
            )
            for d in pieces:
                del rows[d]
            rows[pieces[0]] = (truth.class_id[g], truth.boxes[g], found.conf[pieces].max())
    elif name in ("Miss", "NotCovered"):
        ignored[of_label] = True
    else:
        raw = (
            unmerged(sample, origins, layout).detections.instances
            if origins and layout and origins.raw
            else empty()
        )
        for g in of_label:
            pool = [] if name == "LostInMerge" else [(d, found) for d in np.flatnonzero(~there)]
            for r in range(len(raw)):
                if (raw.conf[r] < result.conf) == (name == "LowConf"):
                    pool.append((len(found) + r, raw))
            same = [(k, own, k - (len(found) if own is raw else 0)) for k, own in pool]
            same = [row for row in same if row[1].class_id[row[2]] == truth.class_id[g]]
            k, own, i = max(
                same,
                key=lambda row: (
                    similarity.of_boxes(row[1].boxes[[row[2]]], truth.boxes[[g]])[0],
                    -row[0],
                ),
            )
            rows[k] = (own.class_id[i], own.boxes[i], own.conf[i])
    fixed = instances([rows[k] for k in sorted(rows)])
    fixed = replace(fixed, conf=np.array([rows[k][2] for k in sorted(rows)], float))
    again = replace(
        sample,
        labels=replace(sample.labels, ignored=ignored),
        detections=Predicted.of(fixed, np.zeros(len(rows), int)),
    )
    return curves(again, candidates(again)).ap()


@quick
@given(scenes)
def test_costs_are_those_of_the_sample_made_anew(scene):
    sample, layout, origins, options = scene
    result = diagnosed(sample, layout, origins, **options)
    for row in result.rows:
        expected = put_right(sample, layout, origins, result, row.name) - result.ap
        assert row.cost == pytest.approx(expected, nan_ok=True) or row.count == row.cost == 0


@quick
@given(scenes)
def test_without_what_is_wrong_and_with_what_is_missed_all_is_well(scene):
    sample, layout, origins, options = scene
    result = diagnosed(sample, layout, origins, **options)
    kinds = np.array(FOUND_KINDS)[result.found]
    missed = np.flatnonzero(
        ~np.isin(result.labels, [LABEL_KINDS.index("ignored"), LABEL_KINDS.index("found")])
    )
    good = np.isin(kinds, ["right", "ignored"])
    boxes = np.concatenate(
        [sample.detections.instances.boxes[good], sample.labels.instances.boxes[missed]]
    )
    classes = np.concatenate(
        [sample.detections.instances.class_id[good], sample.labels.instances.class_id[missed]]
    )
    conf = np.concatenate([sample.detections.instances.conf[good], np.zeros(len(missed))])
    best = replace(
        sample,
        detections=Predicted.of(Instances(classes, boxes, conf=conf), np.zeros(len(conf), int)),
    )
    ap = curves(best, candidates(best)).ap(iou=0.5)
    assert ap == pytest.approx(1) if (~sample.labels.ignored).any() else np.isnan(ap)


@quick
@given(scenes)
def test_what_is_far_from_its_class_and_what_is_missed_never_cost_less_than_nothing(scene):
    sample, layout, origins, options = scene
    result = diagnosed(sample, layout, origins, **options)
    for row in result.rows:
        assert row.name not in ("Both", "Bkg", "Miss", "NotCovered") or not row.cost < -1e-12
        assert row.count or row.cost == 0


def test_an_image_without_tiles_is_not_said_to_be_uncovered():
    label = Instances(np.zeros(2, int), np.array([[320, 0, 340, 10], [320, 0, 340, 10.0]]))
    none = Predicted.of(replace(empty(), conf=np.empty(0)), np.empty(0, int))
    sample = EvaluationInputs(GroundTruth(label, np.array([0, 1])), none, images=2, classes=1)
    layout = TileLayout.of([TILES, TILES[:0]], [np.ones(3), np.ones(0)], np.repeat(SIZE, 2, axis=0))
    assert names(sample, diagnosed(sample, layout))[1] == ["NotCovered", "Miss"]


def test_nothing_at_all():
    nothing = EvaluationInputs(
        GroundTruth(empty(), np.empty(0, int)),
        Predicted.of(replace(empty(), conf=np.empty(0)), np.empty(0, int)),
        0,
        1,
    )
    result = diagnosed(
        nothing, TileLayout.of([], [], np.empty((0, 2))), origins_of(nothing, [], [])
    )
    assert (
        len(result.found) == len(result.labels) == 0
        and counted(result) == {}
        and np.isnan(result.ap)
    )
    only_labels = sample_of([(0, [0, 0, 10, 10])], [])
    assert names(
        only_labels, diagnosed(only_labels, layout_of(), origins_of(only_labels, [], []))
    ) == ([], ["Miss"])
    only_found = sample_of([], [(0, [0, 0, 10, 10], 0.5)])
    result = diagnosed(only_found, layout_of(), origins_of(only_found, [LEFT], []))
    assert names(only_found, result) == (["Bkg"], []) and np.isnan(cost(result, "Bkg"))


@pytest.mark.parametrize("task", ["obb", "segment", "pose"])
def test_other_tasks_know_the_same_kinds(task):
    def shaped(given):
        if task == "pose":
            x0, y0, x1, y1 = given.boxes.T
            points = np.stack(
                [
                    np.stack([x0, x1, x0], -1),
                    np.stack([y0, y1, y1], -1),
                    np.full((len(given), 3), 2.0),
                ],
                axis=-1,
            )
            return replace(given, keypoints=points, task=task)
        quads = given.boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
        return replace(given, rings=Rings.from_quads(quads), task=task)

    sample, layout, origins = everything()
    sizes = layout.sizes.astype(np.int64)
    parts = []
    for rows in (sample.labels, sample.detections):
        own = shaped(rows.instances)
        masks = Masks.of_rings(own.rings, sizes[rows.image]) if task == "segment" else None
        parts.append(replace(rows, instances=own, masks=masks))
    given = replace(sample, labels=parts[0], detections=parts[1], task=task)
    result = diagnosed(given, layout, replace(origins, raw=shaped(origins.raw)), conf=0.2)
    plain = diagnosed(sample, layout, origins, conf=0.2)
    if task == "pose":  # keypoints tell places apart otherwise than areas
        assert sum(row.count for row in result.rows) > 0
        return
    assert (
        result.found.tolist() == plain.found.tolist()
        and result.labels.tolist() == plain.labels.tolist()
    )
    for row, other in zip(result.rows, plain.rows, strict=True):
        assert row.name == other.name and row.cost == pytest.approx(other.cost)


# --- mergers


def stitched(method, overlap, noise=None, seed=0):
    """A scene of objects of all sizes on tiles of 320 px, merged: its sample, tiles and sources.

    Without noise each tile reports what it shows of each object, more confident the more that is.
    """
    truth = detector.scenes("mixed", seed, 1280)
    windows = grid(1280, 1280, 320, overlap)
    if noise is None:
        parts = []
        for k, window in enumerate(windows):
            shown = window.clip(truth)
            parts.append(
                (
                    window,
                    replace(
                        shown, conf=0.2 + 0.7 * shown.visible - 1e-6 * (len(truth) * k + shown.row)
                    ),
                )
            )
    else:
        parts = detector.detect(truth, windows, (1280, 1280), noise, seed)
    out = stitch(parts, (1280, 1280), method=method)
    sample = EvaluationInputs(
        GroundTruth(truth, np.zeros(len(truth), int)),
        Predicted.of(out.instances, np.zeros(len(out.instances), int)),
        images=1,
        classes=3,
    )
    layout = layout_of(np.array([w.bounds for w in windows], float), np.array([[1280, 1280.0]]))
    own = [np.unique(out.tile[out.into == k]) for k in sample.detections.place]
    raw = concatenate([shown.moved(w.x, w.y) for w, shown in parts])
    return (
        sample,
        layout,
        Origins(np.concatenate(own), ragged.offsets([len(o) for o in own]), raw, out.tile),
    )


@pytest.mark.parametrize("noise", [None, detector.Noise()])
@pytest.mark.parametrize("overlap", [0, 64])
def test_a_merger_that_does_less_leaves_more_at_the_seams(overlap, noise):
    errors = {}
    for method in ("cvm", "nms", "none"):
        sample, layout, origins = stitched(method, overlap, noise)
        result = diagnosed(sample, layout, origins)
        errors[method] = {row.name: row for row in result.rows}
    for few, more in (("cvm", "nms"), ("nms", "none")):
        for name in ("SeamDup", "SeamTrunc", "SeamSplit"):
            assert errors[few][name].count <= errors[more][name].count
    if noise is None:
        assert not any(row.count for row in errors["cvm"].values())
    if overlap:  # seen by several tiles
        assert (
            errors["cvm"]["SeamDup"].count
            == 0
            < errors["nms"]["SeamDup"].count
            < errors["none"]["SeamDup"].count / 3
        )
        assert errors["none"]["SeamDup"].cost > 0.05 + errors["nms"]["SeamDup"].cost
    else:  # cut into pieces
        assert errors["cvm"]["SeamSplit"].count == 0 and errors["cvm"]["SeamTrunc"].count < 10
        assert errors["nms"]["SeamSplit"].count >= 10 and errors["nms"]["SeamTrunc"].count > 50
        assert errors["nms"]["SeamSplit"].cost > 0.04
