"""Detections of other libraries: stand-ins with the attributes that theirs have, and what becomes
of them.
"""

import math
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tiler
from tests.conftest import Dataset
from tiler.errors import TilerError
from tiler.geometry.instances import Instances, empty
from tiler.geometry.window import Window
from tiler.interop import foreign

SIZE = (1152, 640)
WINDOWS = [Window(0, 0, 640, 640), Window(512, 0, 640, 640)]
BOXES = [[300, 100, 640, 200.0]], [[0, 100, 388, 200.0]]  # one object, as each of the two shows it
WHOLE = [300, 100, 900, 200]


class Tensor:
    """A tensor on a device that numpy cannot read, with gradients: what torch makes of it is
    .detach().cpu().numpy().
    """

    def __init__(self, values, device="cuda", grad=True):
        self.values, self.device, self.grad = np.asarray(values, np.float32), device, grad

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        return Tensor(self.values[index], self.device, self.grad)

    def __array__(self, *_, **__):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def detach(self):
        return Tensor(self.values, self.device, False)

    def cpu(self):
        return Tensor(self.values, "cpu", self.grad)

    def numpy(self):
        if self.device != "cpu" or self.grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad")
        return self.values


@dataclass
class Results:
    """As Ultralytics': one image, None for what its task has not."""

    boxes: Any = None
    obb: Any = None
    masks: Any = None
    keypoints: Any = None
    probs: Any = None
    orig_shape: tuple[int, int] = (640, 640)
    names: dict[int, str] = field(default_factory=lambda: {0: "car", 1: "dog"})
    path: str = ""

    def __len__(self):
        return len((self.boxes or self.obb).conf)


def boxes_of(xyxy, conf=0.9, cls=0, kind=Tensor):
    n = len(xyxy)
    return SimpleNamespace(
        xyxy=kind(np.reshape(xyxy, (-1, 4))), conf=kind([conf] * n), cls=kind([float(cls)] * n)
    )


def results(task, xyxy, kind=Tensor):
    """What a model of a task gives for these boxes; outlines and keypoints lie on them."""
    boxes, xyxy = boxes_of(xyxy, kind=kind), np.reshape(xyxy, (-1, 4))
    corners = xyxy[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    if task == "obb":
        turned = SimpleNamespace(
            **vars(boxes), xyxyxyxy=kind(corners), data=kind(np.zeros((len(xyxy), 7)))
        )
        return Results(obb=turned)
    masks = SimpleNamespace(xy=list(corners), data=kind(np.zeros((len(xyxy), 4, 4))))
    points = SimpleNamespace(
        data=kind(np.concatenate([corners, np.full((len(xyxy), 4, 1), 0.5)], axis=2))
    )
    return Results(
        boxes=boxes,
        # nothing found has no masks at all
        masks=masks if task == "segment" and len(xyxy) else None,
        keypoints=points if task == "pose" else None,
    )


def ours(task, xyxy, conf=0.9):
    """The same as our columns, made on a path of its own."""
    found = Instances(
        np.zeros(len(xyxy), int),
        np.array(xyxy),
        conf=np.full(len(xyxy), conf, np.float32).astype(float),
    )
    corners = [[np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])] for x0, y0, x1, y1 in xyxy]
    if task in ("segment", "obb"):
        return replace(found, rings=tiler.Rings.of(corners), task=task)
    if task == "pose":
        return replace(
            found, keypoints=np.array([np.c_[ring[0], [0.5] * 4] for ring in corners]), task=task
        )
    return found


def same(found, known):
    assert (found.task, found.class_id.tolist(), found.boxes.tolist()) == (
        known.task,
        known.class_id.tolist(),
        known.boxes.tolist(),
    )
    np.testing.assert_allclose(found.conf, known.conf)
    if known.rings is not None:
        assert [[ring.tolist() for ring in rings] for rings in found.rings] == [
            [r.tolist() for r in rings] for rings in known.rings
        ]
    if known.keypoints is not None:
        np.testing.assert_allclose(found.keypoints, known.keypoints)


@pytest.mark.parametrize(
    "kind",
    [Tensor, np.array, lambda values: np.asarray(values).tolist()],
    ids=["cuda", "numpy", "lists"],
)
@pytest.mark.parametrize("task", ["detect", "segment", "obb", "pose"])
def test_results_of_every_task_are_stitched_like_our_columns(task, kind):
    theirs = tiler.stitch(
        [(w, results(task, boxes, kind)) for w, boxes in zip(WINDOWS, BOXES, strict=True)], SIZE
    )
    known = tiler.stitch(
        [(w, ours(task, boxes)) for w, boxes in zip(WINDOWS, BOXES, strict=True)], SIZE
    )
    assert (len(theirs.instances), theirs.instances.boxes[0].tolist()) == (1, WHOLE)
    same(theirs.instances, known.instances)


@pytest.mark.parametrize("task", ["detect", "segment", "obb", "pose"])
def test_a_tile_without_detections_does_not_change_the_task(task):
    parts = [(WINDOWS[0], results(task, [])), (WINDOWS[1], results(task, [[100, 100, 200, 200]]))]
    for given in (parts, parts[::-1]):
        found = tiler.stitch(given, SIZE).instances
        assert (found.task, found.boxes.tolist()) == (task, [[612, 100, 712, 200]])
    assert len(tiler.stitch(parts[:1], SIZE).instances) == 0


def test_the_boxes_of_results_and_its_rectangles_are_taken_too():
    same(foreign(results("detect", BOXES[0]).boxes), ours("detect", BOXES[0]))
    same(foreign(results("obb", BOXES[0]).obb), ours("obb", BOXES[0]))


def test_corners_of_supervision_are_turned_rectangles():
    corners = np.array([[[100, 50], [150, 100], [100, 150], [50, 100.0]]])
    data = {"xyxyxyxy": corners, "class_name": np.array(["car"])}
    found = foreign(
        SimpleNamespace(
            xyxy=np.array([[50, 50, 150, 150.0]]), confidence=[0.5], class_id=[1], data=data
        )
    )
    assert (found.task, found.rings.quads().tolist(), found.area.tolist()) == (
        "obb",
        corners.tolist(),
        [5000],
    )
    plain = foreign(
        SimpleNamespace(
            xyxy=np.array([[50, 50, 150, 150.0]]), confidence=[0.5], class_id=[1], data={}
        )
    )
    assert plain.task == "detect"


def test_a_mask_of_few_pixels_is_its_box_and_keypoints_without_confidence_are_visible():
    given = results("segment", [[10, 10, 12, 11], [20, 20, 40, 40]])
    given.masks.xy[0] = np.empty((0, 2), np.float32)
    assert foreign(given).boxes.tolist() == [[10, 10, 12, 11], [20, 20, 40, 40]]
    given = results("pose", [[10, 10, 12, 11]])
    given.keypoints.data = Tensor([[[5, 6], [0, 0]]])
    assert foreign(given).keypoints.tolist() == [[[5, 6, 2], [0, 0, 0]]]
    given.keypoints = SimpleNamespace(xy=Tensor([[[5, 6], [0, 0]]]), conf=Tensor([[0.5, 0.25]]))
    assert foreign(given).keypoints.tolist() == [[[5, 6, 0.5], [0, 0, 0]]]


@pytest.mark.parametrize(
    "kind", [np.array, np.ndarray.tolist, Tensor, lambda rows: [Tensor(row) for row in rows], tuple]
)
def test_six_columns_are_boxes_confidences_and_classes(kind):
    rows = [np.array([[*box, 0.75, 1] for box in boxes]) for boxes in BOXES]
    found = tiler.stitch(
        [(tuple(vars_of(w)), kind(r)) for w, r in zip(WINDOWS, rows, strict=True)], SIZE
    ).instances
    assert (found.boxes.tolist(), found.conf.tolist(), found.class_id.tolist()) == (
        [WHOLE],
        [0.75],
        [1],
    )


def vars_of(window):
    return window.x, window.y, window.width, window.height


@pytest.mark.parametrize(
    "nothing",
    [[], np.empty((0, 6)), Tensor(np.empty((0, 6))), np.empty(0)],
    ids=["list", "array", "tensor", "flat"],
)
def test_nothing_is_no_detections(nothing):
    assert len(foreign(nothing)) == 0
    assert tiler.stitch(
        [(WINDOWS[0], nothing), (WINDOWS[1], [[1, 1, 9, 9, 0.5, 0]])], SIZE
    ).instances.boxes.tolist() == [[513, 1, 521, 9]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([[1, 2, 3, 4, 0.5]], r"detections: expected \(N, 6\) numbers, got \(1, 5\)"),
        ([1, 2, 3, 4, 0.5, 0], r"detections: expected \(N, 6\) numbers, got \(6,\)"),
        ([[1, 2, 3, 4, 0.5, 0], [1]], r"detections: expected \(N, 6\) numbers: "),
        ([["a"] * 6], r"detections: expected \(N, 6\) numbers: "),
        (
            [[1, 2, 3, 4, 0, 0.5]],
            r"class, the last of six columns: expected whole numbers, got \[0\.5\]",
        ),
        ([[1, 2, 3, 4, 0.5, math.nan]], r"class, the last of six columns: expected whole numbers"),
        ([[1, 2, 3, 4, 7, 0]], "confidences from 0 to 1"),
        ([[1, 2, 3, 4, 0.5, -1]], "classes from 0 on, got -1"),
        ([[1, 2, math.inf, 4, 0.5, 0]], "finite numbers"),
        ([results("detect", BOXES[0])], r"got a list of 1 of these: give one, such as \[0\]"),
        (Results(probs=[0.1, 0.9]), r"Results: expected \.boxes or \.obb, got None for both"),
        ("a.txt", "detections are Instances, an Ultralytics Results, .*; got str"),
        ({"boxes": []}, "detections are Instances, .*; got dict"),
        (None, "detections are Instances, .*; got NoneType"),
        (
            Results(boxes=boxes_of(BOXES[0]), masks=SimpleNamespace(xy=[])),
            r"\.masks\.xy: expected an outline for each of 1 boxes, got 0",
        ),
        (
            Results(boxes=boxes_of(BOXES[0]), keypoints=SimpleNamespace(data=[[1, 2, 3]])),
            r"\.keypoints\.data: expected \(N, K, 2 or 3\)",
        ),
        (Results(boxes=boxes_of(BOXES[0], cls=0.5)), r"\.class_id: expected whole numbers"),
        (
            Results(boxes=SimpleNamespace(xyxy=Tensor(BOXES[0]), cls=Tensor([0]), conf=None)),
            "None for one of them",
        ),
    ],
)
def test_what_cannot_be_meant_is_an_error_that_says_so(given, message):
    with pytest.raises(TilerError, match=message):
        tiler.stitch([(WINDOWS[0], given)], SIZE)


@pytest.mark.parametrize(
    "window",
    [
        (512, 0, 640, 640),
        [512, 0, 640, 640.0],
        np.array([512, 0, 640, 640]),
        Tensor([512, 0, 640, 640]),
    ],
)
def test_a_window_is_four_numbers(window):
    parts = [(WINDOWS[0], ours("detect", BOXES[0])), (window, ours("detect", BOXES[1]))]
    assert tiler.stitch((part for part in parts), SIZE).instances.boxes.tolist() == [WHOLE]


@pytest.mark.parametrize(
    "window",
    [
        (512, 0, 640),
        (0, 0, 640, 640.5),
        (0, 0, -1, 640),
        "0,0,640,640",
        None,
        5,
        (0, 0, math.nan, 9),
    ],
)
def test_what_is_no_window_is_refused_with_its_part(window):
    with pytest.raises(
        TilerError,
        match="^parts: the window of part 1: expected a Window, or its x, y, width and height",
    ):
        tiler.stitch([(WINDOWS[0], []), (window, [])], SIZE)


@pytest.mark.parametrize("parts", [[WINDOWS[0]], [(WINDOWS[0], [], [])], [5]])
def test_what_is_no_part_is_refused(parts):
    with pytest.raises(
        TilerError, match="^parts: expected a window and its detections, got .* as part 0"
    ):
        tiler.stitch(parts, SIZE)


@pytest.mark.parametrize("size", [(640,), (0, 640), "640x640", None, (640, math.inf)])
def test_what_is_no_size_is_refused(size):
    with pytest.raises(TilerError, match="^size: "):
        tiler.stitch([], size)


def test_detections_of_an_image_of_another_size_than_their_window_are_refused():
    """Such as corners in place of a width and a height."""
    found = results("detect", [[10, 10, 20, 20]])
    with pytest.raises(
        TilerError,
        match="an image of 640 x 640 px, in a window of 1152 x 640 px: a window is x, y, width",
    ):
        tiler.stitch([((512, 0, 1152, 640), found)], (4000, 640))
    border = replace(found, orig_shape=(640, 100))  # cut off at the image's border
    assert tiler.stitch([((3900, 0, 640, 640), border)], (4000, 640)).instances.boxes.tolist() == [
        [3910, 10, 3920, 20]
    ]


def test_classes_are_named_by_the_detections_by_a_list_or_by_a_mapping():
    parts = [(w, results("detect", boxes)) for w, boxes in zip(WINDOWS, BOXES, strict=True)]
    for names in (None, ["car", "dog"], {0: "car", 1: "dog"}):
        assert len(tiler.stitch(parts, SIZE, names, method="nms", iou={"car": 0.01}).instances) == 1
        assert len(tiler.stitch(parts, SIZE, names, method="nms", iou={"dog": 0.01}).instances) == 2
        assert len(tiler.stitch(parts, SIZE, names, conf="car=0.95").instances) == 0
        for option in ("iou", "conf"):
            with pytest.raises(TilerError, match=f"--{option}: no class 'dgo'; did you mean 'dog'"):
                tiler.stitch(parts, SIZE, names, **{option: {"dgo": 0.3}})
        with pytest.raises(TilerError, match="--groups: no class 'bus'"):
            tiler.stitch(parts, SIZE, names, groups=[["car", "bus"]])
    with pytest.raises(TilerError, match="--iou: no class 'dog'; class names are not known here"):
        tiler.stitch([], SIZE, iou={"dog": 0.3})


@pytest.mark.parametrize("names", [{"0": "car"}, {-1: "car"}, {10**9: "car"}, {0.5: "car"}])
def test_names_that_are_no_classes_are_refused(names):
    with pytest.raises(
        TilerError, match="^names: expected a list, or a mapping of classes from 0 on"
    ):
        tiler.stitch([], SIZE, names)


def test_a_threshold_for_one_class_leaves_the_others_the_default():
    boxes = [[0, 0, 100, 100.0]], [[0, 40, 100, 140.0]]  # an IoU of 0.43
    parts = [
        ((0, 0, 640, 640), [[*boxes[0][0], 0.9, c] for c in (0, 1)]),
        ((0, 0, 639, 640), [[*boxes[1][0], 0.8, c] for c in (0, 1)]),
    ]
    found = tiler.stitch(
        parts, (640, 640), ["car", "dog"], method="nms", iou={"dog": 0.4}
    ).instances
    assert sorted(found.class_id.tolist()) == [0, 0, 1]


def test_score_takes_the_same(tmp_path):
    data = Dataset(tmp_path / "data", names=("car", "dog", "bus"))
    data.add("p0.png", "0 0.5 0.5 0.5 0.5\n", split="val")
    data.add("p1.png", "", split="val")
    box = [100, 75, 300, 225]
    sound = tiler.score(
        {"p0": Instances(np.array([0]), np.array([box]), conf=np.array([0.9]))},
        data.yaml,
        split="val",
    )
    result = replace(
        results("detect", [box]), path=str(data.root / "images/val/p0.png"), orig_shape=(300, 400)
    )
    nothing = replace(results("detect", []), path=str(data.root / "images/val/p1.png"))
    for given in (
        {result.path: result, nothing.path: nothing},
        {data.root / "images/val/p0.png": result.boxes},
        {"p0": [[*box, 0.9, 0]]},
        [result, nothing],
    ):
        assert tiler.score(given, data.yaml, split="val").coco == pytest.approx(
            sound.coco, nan_ok=True
        )
    assert sound.coco["AP"] == pytest.approx(1)


def test_score_tells_classes_of_results_by_their_names(tmp_path):
    data = Dataset(tmp_path / "data", names=("bus", "car"))
    data.add("p0.png", "1 0.5 0.5 0.5 0.5\n", split="val")
    result = replace(results("detect", [[100, 75, 300, 225]]), path="p0.png")
    assert tiler.score([result], data.yaml, split="val").coco["AP"] == pytest.approx(1)
    many = replace(result, names={**{k: f"other {k}" for k in range(79)}, 79: "car"})
    many.boxes.cls = Tensor([79.0])
    assert tiler.score([many], data.yaml, split="val").coco["AP"] == pytest.approx(1)
    other = replace(
        results("detect", [[100, 75, 300, 225]]), path="p0.png", names={0: "lorry", 1: "car"}
    )
    with pytest.raises(
        TilerError, match="the detections: merged with class 'lorry', which .* does not have"
    ):
        tiler.score([other], data.yaml, split="val")


@pytest.mark.parametrize("given", [[[1, 2, 3, 4, 0.5, 0]], np.zeros((1, 6)), 5, None])
def test_score_says_what_it_takes(tmp_path, given):
    with pytest.raises(
        TilerError,
        match=(
            r"predictions are a path, what tiler\.merge returns, .*; got "
            r"(list|ndarray|int|NoneType)"
        ),
    ):
        tiler.score(given, "dataset.yaml")


@pytest.mark.parametrize("name", ["preds", "tiles", "images", "data", "out"])
def test_merge_takes_paths_and_says_so(tmp_path, name):
    given = {"preds": tmp_path, name: [results("detect", BOXES[0])]}
    preds = given.pop("preds")
    kind = "Results" if name == "preds" else "list"  # preds may be a list of paths
    with pytest.raises(TilerError, match=f"^{name}: expected a path, got {kind}"):
        tiler.merge(preds, **given)


def test_ours_stay_what_they_are():
    found = replace(empty("obb"), conf=np.empty(0))
    assert foreign(found) is found


# --- supervision


def sv_like(xyxy, mask=None, data=None, conf=0.9, cls=0):
    """As supervision's `Detections`."""
    n = len(xyxy)
    return SimpleNamespace(
        xyxy=np.reshape(np.array(xyxy, float), (-1, 4)),
        mask=mask,
        confidence=np.full(n, conf),
        class_id=np.full(n, cls),
        tracker_id=None,
        data=data or {},
    )


def mask_of(xyxy, size=(640, 640)):
    mask = np.zeros((1, size[1], size[0]), bool)
    x0, y0, x1, y1 = map(int, xyxy)
    mask[0, y0:y1, x0:x1] = True
    return mask


def corners_of(xyxy):
    return np.reshape(xyxy, (-1, 4))[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)


def shown(task, xyxy):
    """One object as supervision has it, with the shape that its task has."""
    corners = corners_of(xyxy)
    if task == "segment":
        return sv_like(xyxy, mask=mask_of(xyxy[0]))
    if task == "obb":
        return sv_like(xyxy, data={"xyxyxyxy": corners})
    points = np.concatenate([corners, np.full((len(corners), 4, 1), 0.5)], axis=2)
    return sv_like(xyxy, data={"keypoints": points})


@pytest.mark.parametrize("task", ["segment", "obb", "pose"])
def test_shapes_of_supervision_are_stitched_like_ours(task):
    theirs = tiler.stitch(
        [(w, shown(task, boxes)) for w, boxes in zip(WINDOWS, BOXES, strict=True)], SIZE
    ).instances
    known = tiler.stitch(
        [(w, ours(task, boxes, np.float64(0.9))) for w, boxes in zip(WINDOWS, BOXES, strict=True)],
        SIZE,
    ).instances
    assert (theirs.task, theirs.boxes.tolist()) == (task, [WHOLE])
    assert theirs.boxes.tolist() == known.boxes.tolist()
    if task == "segment":
        assert theirs.rings.geometry()[0].equals(known.rings.geometry()[0])


@pytest.mark.parametrize("kind", [np.array, Tensor, lambda mask: mask.astype(np.uint8)])
def test_a_mask_becomes_its_exact_outline_with_holes(kind):
    mask = np.zeros((1, 20, 30), bool)
    mask[0, 2:12, 3:23] = True
    mask[0, 5:8, 6:9] = False
    found = foreign(sv_like([[0, 0, 9, 9]], mask=kind(mask)))
    assert (found.task, found.boxes.tolist(), found.area.tolist()) == (
        "segment",
        [[3, 2, 23, 12]],
        [200 - 9],
    )
    assert len(found.rings[0]) == 2


def test_a_mask_without_pixels_is_its_box():
    found = foreign(sv_like([[1, 2, 5, 6]], mask=np.zeros((1, 9, 9), bool)))
    assert (found.task, found.boxes.tolist(), found.area.tolist()) == (
        "segment",
        [[1, 2, 5, 6]],
        [16],
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            sv_like(BOXES[0], mask=mask_of(BOXES[0][0]), data={"xyxyxyxy": corners_of(BOXES[0])}),
            "detections with masks and xyxyxyxy: one shape of each object",
        ),
        (
            sv_like(BOXES[0], mask=mask_of(BOXES[0][0], (1152, 640))),
            "an image of 1152 x 640 px, in a window of 640 x 640 px",
        ),
        (
            sv_like(BOXES[0], mask=np.zeros((0, 640, 640), bool)),
            "masks: expected one for each of 1 boxes, got 0",
        ),
        (sv_like(BOXES[0], mask=np.full((1, 640, 640), 7)), "masks: expected booleans, or numbers"),
        (sv_like(BOXES[0], mask=np.zeros((1, 640), bool)), r"masks: expected \(N, height, width\)"),
        (
            sv_like(BOXES[0], data={"keypoints": np.zeros((1, 4))}),
            r"\.keypoints: expected \(N, K, 2 or 3\)",
        ),
        (
            SimpleNamespace(xyxy=[[1, 2, 3, 4]], confidence=None, class_id=[0], data={}),
            r"None for one of them: \.confidence",
        ),
        (
            {"boxes": [], "scores": [], "labels": [], "segments": []},
            "detections with 'segments': of a dict, boxes, scores, labels, masks, keypoints are",
        ),
        ({"boxes": [[1, 2, 3, 4]], "scores": [0.5]}, "got dict without labels"),
    ],
)
def test_a_shape_that_would_be_lost_is_an_error(given, message):
    with pytest.raises(TilerError, match=message):
        tiler.stitch([(WINDOWS[0], given)], SIZE)


def test_nothing_found_needs_neither_classes_nor_confidences():
    empty_one = SimpleNamespace(xyxy=np.empty((0, 4)), confidence=None, class_id=None, data={})
    parts = [(WINDOWS[0], empty_one), (WINDOWS[1], shown("obb", [[100, 100, 200, 200]]))]
    found = tiler.stitch(parts, SIZE).instances
    assert (found.task, found.boxes.tolist()) == ("obb", [[612, 100, 712, 200]])


def key_points(**columns):
    """As supervision's `KeyPoints`."""
    given = {
        "xy": np.array([[[5, 6], [8, 9], [0, 0.0]]]),
        "class_id": np.array([1]),
        "detection_confidence": np.array([0.5]),
        "keypoint_confidence": None,
        "visible": None,
        "data": {},
    }
    return SimpleNamespace(**{**given, **columns})


def test_key_points_of_supervision_are_poses():
    found = foreign(key_points())
    assert (found.task, found.boxes.tolist(), found.conf.tolist(), found.class_id.tolist()) == (
        "pose",
        [[5, 6, 8, 9]],
        [0.5],
        [1],
    )
    assert found.keypoints.tolist() == [[[5, 6, 2], [8, 9, 2], [0, 0, 0]]]
    sure = foreign(key_points(keypoint_confidence=np.array([[0.25, 0.5, 0]])))
    assert sure.keypoints.tolist() == [[[5, 6, 0.25], [8, 9, 0.5], [0, 0, 0]]]
    seen = foreign(key_points(visible=np.array([[True, False, False]])))
    assert seen.keypoints.tolist() == [[[5, 6, 2], [8, 9, 0], [0, 0, 0]]]
    boxed = foreign(key_points(data={"xyxy": np.array([[1, 2, 30, 40.0]])}))
    assert boxed.boxes.tolist() == [[1, 2, 30, 40]]
    assert len(foreign(key_points(xy=np.empty((0, 3, 2)), class_id=None))) == 0
    for missing in ("detection_confidence", "class_id"):
        with pytest.raises(TilerError, match="each object needs a confidence and a class"):
            foreign(key_points(**{missing: None}))


def test_dicts_of_torchvision_have_masks_and_keypoints():
    given = {"boxes": Tensor(BOXES[0]), "scores": Tensor([0.5]), "labels": Tensor([1])}
    plain = foreign(given)
    assert (plain.task, plain.boxes.tolist(), plain.class_id.tolist()) == ("detect", BOXES[0], [1])
    soft = np.full((1, 1, 640, 640), 0.25)
    soft[0, 0, 10:20, 30:50] = 0.75
    found = foreign({**given, "masks": Tensor(soft)})
    assert (found.task, found.boxes.tolist()) == ("segment", [[30, 10, 50, 20]])
    posed = foreign(
        {**given, "keypoints": Tensor([[[5, 6, 1]]]), "keypoints_scores": Tensor([[9]])}
    )
    assert (posed.task, posed.keypoints.tolist()) == ("pose", [[[5, 6, 1]]])


def test_score_asks_what_labels_of_dicts_count_from(tmp_path):
    data = Dataset(tmp_path / "data", names=("bus", "car", "dog"))
    data.add("p0.png", "1 0.5 0.5 0.5 0.5\n", split="val")

    def ap(label, **options):
        given = {"boxes": [[100, 75, 300, 225]], "scores": [0.9], "labels": [label]}
        return tiler.score({"p0": given}, data.yaml, split="val", **options).coco["AP"]

    with pytest.raises(TilerError, match="may count from 0, or from 1 .* preds_base=0 or preds_b"):
        ap(2)
    assert ap(2, preds_base="1") == pytest.approx(1)
    assert ap(1, preds_base=0) == pytest.approx(1)
    assert ap(2, preds_base=0) == 0


def test_score_tells_classes_of_supervision_by_their_names(tmp_path):
    data = Dataset(tmp_path / "data", names=("bus", "car"))
    data.add("p0.png", "1 0.5 0.5 0.5 0.5\n", split="val")
    data.add("p1.png", "", split="val")

    def given(name, cls=2):
        return sv_like([[100, 75, 300, 225]], data={"class_name": np.array([name])}, cls=cls)

    found = {"p0": given("car"), "p1": sv_like([])}
    assert tiler.score(found, data.yaml, split="val").coco["AP"] == pytest.approx(1)
    with pytest.raises(TilerError, match="class 'lorry', which .* does not have"):
        tiler.score({"p0": given("lorry")}, data.yaml, split="val")
    with pytest.raises(TilerError, match="class 2 is 'car' in some and 'bus' in others"):
        tiler.score({"p0": given("car"), "p1": given("bus")}, data.yaml, split="val")


def test_supervision_itself():
    sv = pytest.importorskip("supervision")
    mask = mask_of(BOXES[0][0]), mask_of(BOXES[1][0])
    plain = {"confidence": np.array([0.9]), "class_id": np.array([0])}
    for compact in (False, True):
        parts = []
        for window, box, pixels in zip(WINDOWS, BOXES, mask, strict=True):
            if compact:
                pixels = sv.CompactMask.from_dense(pixels, np.array(box), image_shape=(640, 640))
            parts.append((window, sv.Detections(xyxy=np.array(box), mask=pixels, **plain)))
        found = tiler.stitch(parts, SIZE).instances
        assert (found.task, found.boxes.tolist()) == ("segment", [WHOLE])
    turned = sv.Detections(
        xyxy=np.array(BOXES[0]), data={"xyxyxyxy": corners_of(BOXES[0])}, **plain
    )
    assert foreign(turned).task == "obb"
    assert len(foreign(sv.Detections.empty())) == 0
    posed = sv.KeyPoints(
        xy=np.array([[[5, 6], [8, 9.0]]]),
        class_id=np.array([0]),
        detection_confidence=np.array([0.5]),
    )
    assert (foreign(posed).task, foreign(posed).boxes.tolist()) == ("pose", [[5, 6, 8, 9]])
    assert foreign(sv.Detections(xyxy=np.array(BOXES[0]), **plain)).task == "detect"
