"""The output folder of a merge: what is in it, and how it is written so that a run can resume."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from tiler.errors import TilerError
from tiler.formats import provenance
from tiler.formats.exports import CSV_HEAD, geojson_head
from tiler.merging.dataset_json import DATASET, DATASET_HEAD, numbered_lines
from tiler.merging.mapping import FEATURES, GEOPACKAGE, has_layer
from tiler.merging.training import TRAINING, in_training_set
from tiler.merging.work import MergeJob, MergeOutcome, Work
from tiler.run.folders import Folder
from tiler.run.staging import writing
from tiler.types import Task

PER_IMAGE = (("labels", ".txt"), ("geojson", ".geojson"))
OWN = (
    provenance.NAME,
    "predictions.json",
    DATASET,
    "report.json",
    "args.yaml",
    "detections.csv",
    FEATURES,
    GEOPACKAGE,
)
LISTS = ("predictions.json", DATASET, FEATURES)  # of entries, with commas

LONGEST = 245  # bytes of a name, to which a suffix is added

Stamp = tuple[int, int]  # see `Folder.stamp`
Mark = tuple[int, str]  # of a shared file: an end, and the digest of all up to there


def default(preds: Path, *others: Path) -> Path:
    """`<PREDS>-merged` beside the predictions; for the labels/ of a run, beside the run. Of an
    ensemble all are in the name.

    >>> default(Path("runs/predict/labels")).as_posix()
    'runs/predict-merged'
    >>> default(Path("val/predictions.json")).as_posix()
    'val/predictions-merged'
    >>> default(Path("runs/a"), Path("runs/b/labels")).as_posix()
    'runs/a+b-merged'
    """
    place = _named_place(preds)
    stems = [_stem(place), *(_stem(_named_place(other)) for other in others)]
    return place.with_name(f"{'+'.join(stems)}-merged")


def _named_place(preds: Path) -> Path:
    place = preds
    if preds.name in ("", ".", ".."):
        place = Path(os.path.abspath(preds))
    if place.name == "labels" and place.parent.name:
        place = place.parent
    return place


def _stem(place: Path) -> str:
    return place.stem if os.path.isfile(place) else place.name.removesuffix(".json")


def labels_of(keys: Sequence[str]) -> list[str]:
    """The path of each image's label file, under labels/ and without .txt: the image's, without
    suffix.

    Images that differ only by their suffix keep it. A path from outside (absolute, or upward) is
    written below all the same.

    Raises:
        TilerError: two images would be one file.

    >>> labels_of(["a/b.jpg", "c.jpg", "c.png", "/d/../e.jpg"])
    ['a/b', 'c.jpg', 'c.png', 'd/__/e']
    """
    stems = [os.path.splitext(key)[0] for key in keys]
    count = Counter(stems)
    labels: dict[str, str] = {}  # the image of each
    for key, stem in zip(keys, stems, strict=True):
        label = _below(stem if count[stem] == 1 else key)
        if label in labels:
            raise TilerError(f"{labels[label]} and {key} would be written as one file")
        if any(len(part.encode("utf-8", "surrogatepass")) > LONGEST for part in label.split("/")):
            raise TilerError(f"{key[:100]}: the name is too long for its output files")
        labels[label] = key
    _require_no_folder(labels)
    return list(labels)


def _require_no_folder(labels: dict[str, str]) -> None:
    """Raises:
    TilerError: a folder of one label file would have the name of another one.
    """
    for label, key in labels.items():
        for folder in Path(label).parents:
            other = labels.get(str(folder).removesuffix(".txt"))
            if folder.suffix == ".txt" and other is not None:
                raise TilerError(f"{other} and {key} would be a file and a folder of the same name")


def _below(path: str) -> str:
    """A path that leads below the folder it is looked up in."""
    parts = []
    for part in path.replace("\\", "/").replace(":", "/").split("/"):
        if part == "..":
            parts.append("__")
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def ids_of(keys: Sequence[str]) -> list[str]:
    """image_id of each image: its name without folder and suffix, if no other image has that; else
    its path.

    >>> ids_of(["a/x.jpg", "b/x.jpg", "b/y.jpg"])
    ['a/x.jpg', 'b/x.jpg', 'y']
    """
    names = [os.path.splitext(os.path.basename(key))[0] for key in keys]
    count = Counter(names)
    return [name if count[name] == 1 else key for name, key in zip(names, keys, strict=True)]


def owned_in(folder: Folder) -> Callable[[str], bool]:
    """A test whether a path in an output is that of one of its own files."""
    sources = provenance.read_sources(folder.path / provenance.NAME, folder.opened)
    labels = set(labels_of([source.source for source in sources]))

    def owned(path: str) -> bool:
        kind, _, below = path.partition("/")
        stem, suffix = os.path.splitext(below)
        if not below:
            return path in OWN
        if kind == "dota":
            return below.startswith("Task1_") and suffix == ".txt" and "/" not in below
        if kind == TRAINING:
            return in_training_set(path, labels)
        return (kind, suffix) in PER_IMAGE and stem in labels

    return owned


class Record(msgspec.Struct):
    """What the journal holds of an image that is done.

    Attributes:
        shared: the files that images share, with where this one's part ends.
        own: its own files.
    """

    outcome: MergeOutcome
    shared: dict[str, Mark]
    own: dict[str, Stamp]


class Shared:
    """A file to which each image adds its part, with the digest of its content."""

    def __init__(self) -> None:
        self.end = 0
        self._hash = hashlib.blake2b(digest_size=16)

    @property
    def mark(self) -> Mark:
        return self.end, self._hash.hexdigest()

    def grown(self, text: bytes) -> Shared:
        """The file with more text."""
        longer = Shared()
        longer.end = self.end + len(text)
        longer._hash = self._hash.copy()
        longer._hash.update(text)
        return longer


class Writer:
    """Writes images one after the other into a tree.

    Files that images share grow at their end, so a run that resumes cuts them back to the end of
    the last image that is confirmed.
    """

    def __init__(self, tree: Folder, starts: dict[str, bytes]) -> None:
        self.tree = tree
        self.starts = starts
        self.shared: dict[str, Shared] = {}
        self.detections = 0

    def resumes(self, record: Record) -> bool:
        """Whether an image's files are as an earlier run left them, after those of the images
        before it; then the next one is written behind it.
        """
        try:
            for name, stamp in record.own.items():
                if self.tree.stamp(name) != stamp:
                    return False
            shared = {name: self._read_on(name, end) for name, (end, _) in record.shared.items()}
        except (OSError, TilerError):
            return False
        for name, file in shared.items():
            if file.mark != record.shared[name]:
                return False
        self.shared = shared
        self.detections += record.outcome.counts.detections
        return True

    def _read_on(self, name: str, end: int) -> Shared:
        """A shared file up to its expected end."""
        before = self.shared.get(name, Shared())
        with self.tree.open(name) as file:
            file.seek(before.end)
            return before.grown(file.read(end - before.end))

    def begin(self) -> None:
        """Start, or resume behind the last image that was confirmed."""
        with writing():
            for name, text in self.starts.items():
                if name not in self.shared:
                    self.tree.write(name, text)
                    self.shared[name] = Shared().grown(text)
            for name, shared in self.shared.items():
                with self.tree.append(name) as file:
                    file.truncate(shared.end)
            for name, _ in list(self.tree.walk()):
                if name.startswith("dota/") and name not in self.shared:
                    self.tree.remove(name)

    def add(self, item: Work) -> Record:
        """Write an image's files, and its part of the shared ones."""
        with writing():
            for name, text in item.files.items():
                self.tree.make(os.path.dirname(name))
                self.tree.write(name, text)
            for name, text in item.streams.items():
                if text and name == DATASET:
                    text = numbered_lines(text, self.detections + 1)
                if text:
                    self._append(name, text)
            self.detections += item.outcome.counts.detections
            own = {name: self.tree.stamp(name) for name in item.files}
        shared = {name: file.mark for name, file in self.shared.items()}
        return Record(item.outcome, shared, own)

    def _append(self, name: str, text: bytes) -> None:
        before = self.shared.get(name)
        if before is None:
            self.tree.make(os.path.dirname(name))
            self.tree.write(name, b"")
            before = Shared()
        if name in LISTS:
            is_first = before.end == len(self.starts[name])
            text = (b"\n" if is_first else b",\n") + text
        with self.tree.append(name) as file:
            file.write(text)
        self.shared[name] = before.grown(text)

    def finish(self, ends: dict[str, bytes]) -> dict[str, int]:
        """Write the ends of the lists. Returns the shared files and their bytes.

        Args:
            ends: by the name of a list; without the line break after its last entry.
        """
        for name, end in ends.items():
            entries = self.shared[name]
            if entries.end > len(self.starts[name]):
                end = b"\n" + end
            with writing(), self.tree.append(name) as file:
                file.write(end)
            self.shared[name] = entries.grown(end)
        return {name: file.end for name, file in sorted(self.shared.items())}


def starts_of(task: Task, head: bytes, job: MergeJob) -> dict[str, bytes]:
    """How the files that all images share begin."""
    starts = {provenance.NAME: head, "predictions.json": b"[", DATASET: DATASET_HEAD}
    if "csv" in job.exports:
        starts["detections.csv"] = CSV_HEAD[task].encode()
    if has_layer(job.files):
        starts[FEATURES] = geojson_head(job.layer.crs)
    return starts
