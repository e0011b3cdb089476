"""The output folder of a merge: what is in it, and how it is written so that a run can go on."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from tiler.errors import TilerError
from tiler.findings import printable
from tiler.formats import provenance
from tiler.formats.exports import CSV_HEAD
from tiler.merging.work import Outcome, Work
from tiler.run.staging import writing
from tiler.types import Task

OWN = (provenance.NAME, "predictions.json", "report.json", "args.yaml", "detections.csv")

LONGEST = 245  # bytes of a name, to which a suffix is added


def default(preds: Path) -> Path:
    """`<PREDS>-merged` beside the predictions; of a run's labels/, beside the run.

    >>> default(Path("runs/predict/labels")).as_posix(), default(Path("val/predictions.json")).as_posix()
    ('runs/predict-merged', 'val/predictions-merged')
    """
    place = Path(os.path.abspath(preds)) if preds.name in ("", ".", "..") else preds
    if place.name == "labels" and place.parent.name:
        place = place.parent
    return place.with_name(f"{place.stem if os.path.isfile(place) else place.name.removesuffix('.json')}-merged")


def labels_of(keys: Sequence[str]) -> list[str]:
    """Where each picture's label file goes, under labels/ and without .txt: its path without suffix.

    Pictures that differ by their suffix alone keep it. A path from outside (absolute, or
    upward) is written below all the same.

    Raises:
        TilerError: two pictures would be one file.

    >>> labels_of(["a/b.jpg", "c.jpg", "c.png", "/d/../e.jpg"])
    ['a/b', 'c.jpg', 'c.png', 'd/__/e']
    """
    stems = [os.path.splitext(key)[0] for key in keys]
    count = Counter(stems)
    labels = [_below(stem if count[stem] == 1 else key) for key, stem in zip(keys, stems, strict=True)]
    seen: dict[str, str] = {}
    for label, key in zip(labels, keys, strict=True):
        if label in seen:
            raise TilerError(f"{printable(seen[label])} and {printable(key)} would be written as one file")
        seen[label] = key
        if any(len(part.encode("utf-8", "surrogatepass")) > LONGEST for part in label.split("/")):
            raise TilerError(f"{printable(key)[:100]}: too long a name for the files of its detections")
    for label in labels:
        for folder in Path(label).parents:
            other = seen.get(str(folder).removesuffix(".txt"))
            if folder.suffix == ".txt" and other is not None:
                raise TilerError(f"{printable(other)} and {printable(seen[label])}: a file and a folder would have one name")
    return labels


def _below(path: str) -> str:
    parts = [part for part in path.replace("\\", "/").replace(":", "/").split("/") if part not in ("", ".")]
    return "/".join("__" if part == ".." else part for part in parts)


def ids_of(keys: Sequence[str]) -> list[str]:
    """image_id of each picture: its name without folder and suffix, where that is its alone; else its path.

    >>> ids_of(["a/x.jpg", "b/x.jpg", "b/y.jpg"])
    ['a/x.jpg', 'b/x.jpg', 'y']
    """
    names = [os.path.splitext(os.path.basename(key))[0] for key in keys]
    count = Counter(names)
    return [name if count[name] == 1 else key for name, key in zip(names, keys, strict=True)]


def strangers(tree: Path) -> Iterator[Path]:
    """Files in an output that are not of it."""
    labels = set(labels_of([source.source for source in provenance.read_sources(tree / provenance.NAME)]))
    for here, _, files in os.walk(tree):
        parts = Path(here).relative_to(tree).parts
        for name in files:
            stem, suffix = os.path.splitext(name)
            if not parts and name in OWN:
                continue
            if parts == ("dota",) and name.startswith("Task1_") and suffix == ".txt":
                continue
            kind = (parts[0] if parts else "", suffix)
            if kind in (("labels", ".txt"), ("geojson", ".geojson")) and "/".join((*parts[1:], stem)) in labels:
                continue
            yield Path(here, name)


class Record(msgspec.Struct):
    """Of a picture that is done: its outcome, and how long each shared file was then."""

    outcome: Outcome
    ends: dict[str, int]
    sizes: dict[str, int]


class Writer:
    """Writes pictures one after the other into a tree.

    Files that pictures share grow at their end, so a run that goes on cuts them back to
    where the last picture in order had ended.
    """

    def __init__(self, tree: Path, task: Task, head: bytes, csv: bool) -> None:
        self.tree = tree
        self.starts = {provenance.NAME: head, "predictions.json": b"["}
        if csv:
            self.starts["detections.csv"] = CSV_HEAD[task].encode()
        self.ends: dict[str, int] = {}

    def begin(self, last: Record | None) -> None:
        """Start, or go on behind the picture of a record."""
        self.ends = dict(last.ends) if last is not None else {}
        with writing():
            for name, text in self.starts.items():
                if name not in self.ends:
                    (self.tree / name).write_bytes(text)
                    self.ends[name] = len(text)
            for name, end in self.ends.items():
                os.truncate(self.tree / name, end)
            for path in (self.tree / "dota").glob("*"):
                if f"dota/{path.name}" not in self.ends:
                    path.unlink()

    def add(self, done: Work) -> Record:
        """Write a picture's files, and its part of the shared ones."""
        sizes = {}
        with writing():
            for name, text in done.files.items():
                path = self.tree / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(text)
                sizes[name] = len(text)
            for name, text in done.streams.items():
                if not text:
                    continue
                if name == "predictions.json":
                    text = (b"\n" if self.ends[name] == 1 else b",\n") + text
                path = self.tree / name
                path.parent.mkdir(exist_ok=True)
                with open(path, "ab") as file:
                    file.write(text)
                self.ends[name] = self.ends.get(name, 0) + len(text)
        return Record(done.outcome, dict(self.ends), sizes)

    def finish(self) -> dict[str, int]:
        """Close what has an end. Returns the shared files and their bytes."""
        end = b"\n]\n" if self.ends["predictions.json"] > 1 else b"]\n"
        with writing(), open(self.tree / "predictions.json", "ab") as file:
            file.write(end)
        self.ends["predictions.json"] += len(end)
        return dict(sorted(self.ends.items()))

    def intact(self, record: Record) -> bool:
        """Whether a picture's own files are there in full, and those it shares at least as long as they were."""
        try:
            own = all(os.path.getsize(self.tree / name) == size for name, size in record.sizes.items())
            return own and all(os.path.getsize(self.tree / name) >= size for name, size in record.ends.items())
        except OSError:
            return False
