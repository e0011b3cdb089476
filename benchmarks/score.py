"""How long scoring takes, and what pycocotools takes for the same: whole processes, in turn,
medians.

    python benchmarks/score.py [--repeats 3] [--pycocotools] [--peers PYTHON]

Two scenes, made of random numbers: `coco` has the size of COCO's validation set with 100 detections
an image; `small` has about 2000 small objects on each of 200 large images. Boxes are in eighths of
a pixel and confidences have five decimals, so that corners, sides and text all hold the same
numbers.

From columns: a process of its own has the columns in memory, sorts the detections, finds the
candidates and evaluates COCO's four size ranges under three limits. Reading the scene and starting
Python are left out; peak memory is that of the whole process. pycocotools is given the same rows as
its user has them, after loading: `evaluate` and `accumulate`, once. It is slow, so it gets a part
of the images, and so does tiler for the ratio; with --pycocotools also all of `coco`. Both must say
the same, to 1e-12.

From files: `tiler.score` of `coco`, CPU from before the import to the numbers, from JSON and from
what `tiler merge` writes, with a dataset.yaml (the images are headers only); and the whole command
`tiler score`. In turn with it, what others take from the same JSON files to COCO's twelve numbers:
hotcoco, ultrafast-pycocotools and faster-coco-eval, as far as an interpreter (--peers) has them.

Steps: what else `tiler score` may be asked for on `coco`, as tiler/scoring/measuring.py calls it,
    cut into 2 x 2 tiles.
"""

from __future__ import annotations

import argparse
import shutil
import struct
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import measure
import msgspec
import numpy as np
from merge import Job, machine, medians, python_with

Columns = dict[str, np.ndarray[Any, Any]]

# What is to be reached: seconds of CPU, and MiB
GOALS: dict[str, tuple[float, float | None]] = {
    "coco": (1.0, 400),
    "small": (1.7, 400),
    "from JSON": (1.5, 300),
}
RATIO_GOAL = 20.0
SAME = 1e-12


@dataclass(frozen=True)
class Scene:
    """Labels and detections of some images.

    Attributes:
        size: width and height of the images, px.
        sides: of the objects, px, from and to.
        skew: class k is as frequent as (k + 1) ** -skew.
        right: the share of detections that are of an object; their sides are off by `noise` of its
            size.
        limits: of detections of a class in an image.
        part: so many images pycocotools gets.
    """

    images: int
    classes: int
    labels: int
    detections: int
    size: tuple[int, int]
    sides: tuple[float, float]
    skew: float
    right: float
    noise: tuple[float, float]
    limits: tuple[int, int, int]
    part: int

    def columns(self, seed: int = 0) -> Columns:
        """Labels and detections in the order of the images; boxes xyxy in px."""
        rng = np.random.default_rng(seed)
        chance = np.arange(1, self.classes + 1) ** -self.skew
        label_class = rng.choice(self.classes, self.labels, p=chance / chance.sum())
        label_image = np.sort(rng.integers(0, self.images, self.labels))
        label_boxes = self._boxes(rng, self.labels)
        right = round(self.right * self.detections)
        wrong = self.detections - right
        of = rng.permutation(self.labels)[np.arange(right) % self.labels]
        off = rng.normal(0, 1, (right, 4)) * rng.uniform(*self.noise, (right, 1))
        near = label_boxes[of] + off * np.tile(label_boxes[of, 2:] - label_boxes[of, :2], 2)
        image = np.concatenate([label_image[of], rng.integers(0, self.images, wrong)])
        order = np.argsort(image, kind="stable")
        return {
            "label_image": label_image,
            "label_class": label_class,
            "label_boxes": label_boxes,
            "image": image[order],
            "class_id": np.concatenate([label_class[of], rng.integers(0, self.classes, wrong)])[
                order
            ],
            "boxes": self._sound(np.concatenate([near, self._boxes(rng, wrong)]))[order],
            "conf": np.concatenate([rng.beta(3, 3, right), rng.beta(1, 5, wrong)])[order].round(5),
            **{
                name: np.array(getattr(self, name))
                for name in ("size", "images", "classes", "limits")
            },
        }

    def _boxes(self, rng: np.random.Generator, count: int) -> np.ndarray[Any, Any]:
        side = np.exp(
            rng.uniform(*np.log(self.sides), (count, 1)) + rng.uniform(-0.3, 0.3, (count, 2))
        )
        low = rng.uniform(0, 1, (count, 2)) * np.maximum(np.array(self.size) - side, 1)
        return self._sound(np.concatenate([low, low + side], axis=1))

    def _sound(self, boxes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Inside the image, a pixel large at least, in eighths."""
        low = np.clip(np.minimum(boxes[:, :2], boxes[:, 2:]), 0, np.array(self.size) - 1)
        high = np.clip(np.maximum(boxes[:, :2], boxes[:, 2:]), low + 1, self.size)
        return np.round(np.concatenate([low, high], axis=1) * 8) / 8


SCENES = {
    "coco": Scene(
        5000, 80, 36_782, 500_000, (640, 480), (8, 300), 1.6, 0.5, (0.01, 0.25), (1, 10, 100), 500
    ),
    "small": Scene(
        200,
        10,
        400_000,
        400_000,
        (4000, 4000),
        (10, 45),
        0.0,
        0.9,
        (0.06, 0.1),
        (100, 1500, 3000),
        20,
    ),
}


def first(scene: Columns, images: int) -> Columns:
    """The first images of a scene."""
    part = {
        name: values[scene["label_image"] < images]
        for name, values in scene.items()
        if name.startswith("label_")
    }
    part |= {
        name: scene[name][scene["image"] < images]
        for name in ("image", "class_id", "boxes", "conf")
    }
    return scene | part | {"images": np.array(images)}


def make_json(root: Path, scene: Columns) -> None:
    """COCO's ground truth and results. Ids begin with 1: what pycocotools finds for a label 0 it
    counts as missed.
    """
    width, height = scene["size"].tolist()

    def rows(image: str, classes: str, boxes: str) -> Any:
        xyxy = scene[boxes]
        xywh = np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1)
        return zip(
            (scene[image] + 1).tolist(), (scene[classes] + 1).tolist(), xywh.tolist(), strict=True
        )

    images, classes = range(int(scene["images"])), range(int(scene["classes"]))
    truth = {
        "images": [
            {"id": i + 1, "file_name": f"{i:06}.png", "width": width, "height": height}
            for i in images
        ],
        "categories": [{"id": k + 1, "name": f"class {k}"} for k in classes],
        "annotations": [
            {
                "id": n,
                "image_id": i,
                "category_id": k,
                "bbox": xywh,
                "area": xywh[2] * xywh[3],
                "iscrowd": 0,
            }
            for n, (i, k, xywh) in enumerate(rows("label_image", "label_class", "label_boxes"), 1)
        ],
    }
    found = zip(rows("image", "class_id", "boxes"), scene["conf"].tolist(), strict=True)
    results = [
        {"image_id": i, "category_id": k, "bbox": xywh, "score": conf}
        for (i, k, xywh), conf in found
    ]
    root.mkdir()
    (root / "gt.json").write_bytes(msgspec.json.encode(truth))
    (root / "results.json").write_bytes(msgspec.json.encode(results))


def make_tree(root: Path, scene: Columns) -> None:
    """A YOLO dataset, and the detections as `tiler merge` writes them, each image predicted
    whole.
    """
    from tiler.formats import exports, jsonl, provenance
    from tiler.geometry import boxes
    from tiler.geometry.instances import Instances

    width, height = scene["size"].tolist()
    names = [f"class {k}" for k in range(int(scene["classes"]))]
    header = struct.pack(
        ">8sI4sIIBBBBBI", b"\x89PNG\r\n\x1a\n", 13, b"IHDR", width, height, 8, 2, 0, 0, 0, 0
    )
    images, labels, merged = root / "images/val", root / "labels/val", root / "predict-merged"
    for folder in (images, labels, merged / "labels/images/val"):
        folder.mkdir(parents=True)
    (root / "dataset.yaml").write_text(f"path: .\nval: images/val\nnames: {names}\n")
    lines = [
        jsonl.line(
            provenance.ProvenanceHead(
                "0", provenance.SCHEMA, "detect", names, {}, "predict", "manifest.jsonl"
            )
        )
    ]
    rows = np.column_stack(
        [scene["label_class"], boxes.to_cxcywh(scene["label_boxes"]) / np.tile(scene["size"], 2)]
    )
    found = Instances(scene["class_id"], scene["boxes"], conf=scene["conf"])
    edges = np.arange(int(scene["images"]) + 1)
    ends, label_ends = (
        np.searchsorted(scene["image"], edges),
        np.searchsorted(scene["label_image"], edges),
    )
    for i in edges[:-1]:
        key = f"images/val/{i:06}"
        own = found.take(np.arange(ends[i], ends[i + 1]))
        (root / f"{key}.png").write_bytes(header)
        np.savetxt(
            labels / f"{i:06}.txt", rows[label_ends[i] : label_ends[i + 1]], "%d" + " %.9g" * 4
        )
        (merged / f"labels/{key}.txt").write_text(exports.yolo_text(own, width, height))
        tile = provenance.TileRows(f"{i:06}", 0, 0, width, height, 1.0, len(own))
        sources = [[(0, row)] for row in range(len(own))]
        lines.append(
            jsonl.line(
                provenance.MergedImage(f"{key}.png", width, height, "", [tile], sources, [], [], [])
            )
        )
    (merged / provenance.NAME).write_bytes(b"".join(lines))


BEFORE = """
import json, sys, time
"""
SCENE = """
import numpy as np
scene = dict(np.load(sys.argv[1]))
limits = scene["limits"].tolist()
def means(precision, recall):  # (IoU, recall, class, size, limit); -1 where there is no label
    known = lambda values: float(values[values > -1].mean())
    ap = known(precision[..., 0, -1])
    return {"AP": ap, "precision": known(precision), "recall": known(recall)}
"""
OURS = """
from tiler.evaluation import coco
from tiler.evaluation.bins import ALL, COCO
from tiler.evaluation.candidates import candidates
from tiler.evaluation.inputs import EvaluationInputs, GroundTruth, Predicted
from tiler.geometry.instances import Instances
labels = Instances(scene["label_class"], scene["label_boxes"])
given = Instances(scene["class_id"], scene["boxes"], conf=scene["conf"])
def sampled():
    truth = GroundTruth(labels, scene["label_image"])
    found = Predicted.of(given, scene["image"])
    return EvaluationInputs(truth, found, int(scene["images"]), int(scene["classes"]))
"""
EVALUATION = """
def work():
    sample = sampled()
    curves = coco.evaluate(sample, candidates(sample), (ALL, *COCO.bins), limits)
    return means(curves.precision, curves.recall)
"""
PYCOCOTOOLS = """
import contextlib, io
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
with contextlib.redirect_stdout(io.StringIO()):
    truth = COCO(sys.argv[2] + "/gt.json")
    found = truth.loadRes(sys.argv[2] + "/results.json")
def work():
    with contextlib.redirect_stdout(io.StringIO()):
        run = COCOeval(truth, found, "bbox")
        run.params.maxDets = limits
        run.evaluate()
        run.accumulate()
    return means(run.eval["precision"], run.eval["recall"])
"""
FILES = """
def work():
    import tiler
    metrics = tiler.score(sys.argv[1], sys.argv[2], protocol="coco", analysis="none")
    return {"AP": metrics.coco["AP"]}
"""
PEER = """
def work():
    import contextlib, importlib, io
    module, name = sys.argv[3].split(":")
    coco, cocoeval = (importlib.import_module(m) for m in module.split(","))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO(sys.argv[2])
        run = getattr(cocoeval, name)(truth, truth.loadRes(sys.argv[1]), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return {"AP": float(run.stats[0])}
"""
PEERS = {  # the modules of COCO and of the evaluation, and the class of that
    "hotcoco": "hotcoco,hotcoco:COCOeval",
    "ultrafast-pycocotools": "ultrafast_pycocotools.coco,ultrafast_pycocotools.cocoeval:COCOeval",
    "faster-coco-eval": "faster_coco_eval,faster_coco_eval:COCOeval_faster",
}
STEPS = """
from tiler.evaluation import bootstrap, confusion, diagnosis, seams, ultralytics
from tiler.evaluation.layout import Origins, TileLayout
width, height = scene["size"].tolist()
left, top = (side * 0.4 * np.arange(2) for side in (width, height))  # tiles of 0.6 of the side
rects = np.array([[x, y, x + 0.6 * width, y + 0.6 * height] for y in top for x in left])
def work():
    spent, last = {}, time.process_time()
    def lap(name):
        nonlocal last
        now = time.process_time()
        spent[name], last = now - last, now
    sample = sampled()
    lap("sorting")
    pairs = candidates(sample, diagnosis.BARELY, any_class=True)
    lap("candidates of any class, IoU from 0.1")
    same = given.class_id[sample.detections.place[pairs.detection]] == labels.class_id[pairs.label]
    own = pairs.take(same & (pairs.iou >= 0.499))
    lap("those of the same class, IoU from 0.5")
    coco.evaluate(sample, own, (ALL, *COCO.bins), (*limits, sample.most()))
    lap("COCO under one more limit, all")
    box = ultralytics.evaluate(sample, own)
    lap("Ultralytics 8.4")
    ultralytics.evaluate(sample, own, legacy=True)
    lap("Ultralytics 8.3")
    confusion.confusion(sample, pairs)
    lap("confusion matrix")
    matched = coco.matched(sample, own)
    lap("who is matched")
    for count in (1, 11):
        bootstrap.draws(sample, own, bootstrap.weights(sample.images, count), (ALL, *COCO.bins))
        lap(f"bootstrap {count}")
    one, eleven = spent.pop("bootstrap 1"), spent.pop("bootstrap 11")
    replicate = (eleven - one) / 10
    spent["bootstrap, a replicate of 4 sizes"] = replicate
    spent["bootstrap, before the first"] = one - 2 * replicate
    images = sample.images
    sizes = np.tile(scene["size"], (images, 1))
    layout = TileLayout.of([rects] * images, [np.ones(4)] * images, sizes)
    boxes = sample.detections.instances.boxes
    x, y = (boxes[:, :2] + boxes[:, 2:]).T / 2
    quarter = 2 * (y > height / 2) + (x > width / 2)
    origins = Origins(4 * sample.detections.image + quarter, np.arange(len(x) + 1))
    lap("tiles as arrays")
    visible = seams.visibility(labels.boxes, scene["label_image"], layout)
    seams.table(sample, own, matched, visible)
    seams.gap(sample, matched, visible)
    seams.density(sample, matched, layout, box.conf)
    lap("seams: table, gap, density")
    seams.by_resolution(sample, own, np.ones(images))
    lap("seams: by resolution")
    diagnosis.diagnose(sample, pairs, layout, origins, box.conf)
    lap("diagnosis")
    return spent
"""
AFTER = """
cpu, wall = time.process_time(), time.perf_counter()
figures = work()
cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
try:
    lines = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    peak = int(lines[0].split()[1]) / 1024
except OSError:
    peak = float("nan")
print(json.dumps({"cpu": cpu, "wall": wall, "peak": peak, **figures}))
"""


def job(script: str, *arguments: Path | str, python: str = sys.executable) -> Job:
    return Job([python, "-c", BEFORE + script + AFTER, *map(str, arguments)])


def peers_from_files(python: str, *paths: Path) -> dict[str, Job]:
    """The peers that an interpreter has, on the same files."""
    jobs = {}
    for name, names in PEERS.items():
        module = names.split(",")[0]
        if python_with(module, [python]):
            jobs[name] = job(PEER, *paths, names, python=python)
    return jobs


def print_results(
    results: dict[str, dict[str, float]], goals: dict[str, tuple[float, float | None]] = GOALS
) -> None:
    print(f"{'':22} {'CPU s':>8} {'wall s':>8} {'peak MiB':>9} {'AP':>9}  goal")
    for name, m in results.items():
        goal = ""
        if name in goals:
            seconds, memory = goals[name]
            good = m["cpu"] <= seconds and (memory is None or m["peak"] <= memory)
            goal = (
                f"<= {seconds:g} s{'' if memory is None else f', {memory:.0f} MiB'}: "
                f"{'yes' if good else 'NO'}"
            )
        figures = f"{m['cpu']:8.3f} {m['wall']:8.3f} {m['peak']:9.0f} {m['AP']:9.6f}"
        print(f"{name:22} {figures}  {goal}".rstrip())


def print_ratio(name: str, ours: dict[str, float], theirs: dict[str, float]) -> None:
    """Raises:
    AssertionError: they differ.
    """
    apart = {key: abs(ours[key] - theirs[key]) for key in ("AP", "precision", "recall")}
    assert max(apart.values()) <= SAME, f"{name}: tiler and pycocotools differ: {apart}"
    ratio = theirs["cpu"] / ours["cpu"]
    goal = f"goal {RATIO_GOAL:g}: {'yes' if ratio >= RATIO_GOAL else 'NO'}"
    print(
        f"On {name} pycocotools takes {ratio:.0f} times the CPU of tiler ({goal}); they differ by "
        f"{max(apart.values()):.1g}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--pycocotools", action="store_true", help="on all of `coco` too, about a minute"
    )
    parser.add_argument(
        "--peers", default=sys.executable, metavar="PYTHON", help="which has hotcoco and others"
    )
    args = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="tiler-bench-"))
    try:
        print(f"{machine()}\nmaking scenes and files ...\n", flush=True)
        jobs: dict[str, Job] = {}
        peers: dict[str, Job] = {}
        for name, scene in SCENES.items():
            whole = scene.columns()
            part = f"{scene.part} images of {name}"
            for called, columns in ((name, whole), (part, first(whole, scene.part))):
                np.savez(work / f"{called}.npz", **columns)
                jobs[called] = job(SCENE + OURS + EVALUATION, work / f"{called}.npz")
                if name == "coco" or called == part:
                    make_json(work / called, columns)
                if called == part or (name == "coco" and args.pycocotools):
                    peers[called] = job(SCENE + PYCOCOTOOLS, work / f"{called}.npz", work / called)
            if name == "coco":
                make_tree(work / "tree", whole)
        files = {
            "JSON": (work / "coco/results.json", work / "coco/gt.json"),
            "txt": (work / "tree/predict-merged", work / "tree/dataset.yaml"),
        }
        jobs |= {f"from {kind}": job(FILES, *paths) for kind, paths in files.items()}
        others = peers_from_files(args.peers, *files["JSON"])
        jobs |= others
        results = medians(jobs, args.repeats)
        print_results(results)
        assert abs(results["from JSON"]["AP"] - results["coco"]["AP"]) <= SAME
        for name in others:
            ratio = results["from JSON"]["cpu"] / results[name]["cpu"]
            print(f"From JSON tiler takes {ratio:.2f} times the CPU of {name}")
        if python_with("pycocotools.cocoeval", [sys.executable]):
            theirs = {name: peer.once() for name, peer in peers.items()}
            print("\npycocotools, once:")
            print_results(theirs, goals={})
            for name, m in theirs.items():
                print_ratio(name, results[name], m)
        else:
            print("\npycocotools is not installed")

        tiler = [sys.executable, "-m", "tiler"]
        commands = {
            kind: [*tiler, "score", str(preds), "--data", str(data)]
            for kind, (preds, data) in files.items()
        }
        runs = {"tiler --help": [*tiler, "--help"]}
        runs |= {
            f"{kind}, coco only": [*c, "--protocol", "coco", "--analysis", "none"]
            for kind, c in commands.items()
        }
        runs |= {f"{kind}, by default": c for kind, c in commands.items()}
        print("\nThe whole command, `tiler score` of coco from files:")
        measure.print_table(
            measure.compare(runs, args.repeats, lambda name: None), "JSON, coco only"
        )

        steps = medians({"steps": job(SCENE + OURS + STEPS, work / "coco.npz")}, args.repeats)[
            "steps"
        ]
        print(f"\n{'Steps of coco':40} {'CPU s':>8}, peak {steps['peak']:.0f} MiB")
        for name, seconds in steps.items():
            if name not in ("cpu", "wall", "peak"):
                print(f"{name:40} {seconds:8.3f}")
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
