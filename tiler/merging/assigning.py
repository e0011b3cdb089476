"""Which predictions are for which tile, and of which run or model they are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tiler.datasets.index import Index
from tiler.errors import TilerError
from tiler.findings import Finding
from tiler.merging.pieces import frames_of, joined
from tiler.predictions import Predictions

Place = tuple[int, int]  # number of the image and of the tile
Members = dict[int, dict[int, int]]  # by image and tile, the index of the predictions


@dataclass(slots=True)
class ModelPredictions:
    """Predictions of one model, or of one of its runs.

    Attributes:
        preds: where they are.
        index: where the tiles lie.
        members: by the number of each image, the indices of its predictions by tile.
        run: the folder below `preds` if that holds several runs, else "".
    """

    preds: Path
    predictions: Predictions
    index: Index
    members: Members = field(default_factory=dict)
    run: str = ""


def assigned(
    preds: Path, predictions: Predictions, index: Index, runs: str
) -> tuple[list[ModelPredictions], list[Finding]]:
    """The predictions by tile: of one model, or with `--runs all` of each run.

    A tile in two runs with the same rows counts once; with other rows, `runs` decides.

    Raises:
        TilerError: a tile has other rows in another run, and `runs` is stop.
    """
    found = _FoundTiles(preds, predictions, index)
    found.look_up()
    groups = found.groups(runs)
    models = []
    for folders in groups:
        name = ""
        if len(groups) > 1:
            name = ", ".join(map(_shown, folders))
        model = ModelPredictions(preds, predictions, index, run=name)
        for folder in folders:
            for (image, tile), number in found.runs[folder].items():
                model.members.setdefault(image, {}).setdefault(tile, number)
        models.append(model)
    return models, found.findings


@dataclass(slots=True)
class _FoundTiles:
    """Predictions for tiles, by the folder of the run that they are in.

    Attributes:
        runs: by folder, the index of the predictions of each tile.
        findings: predictions for what is no tile; runs that repeat others or are left out.
    """

    preds: Path
    predictions: Predictions
    index: Index
    runs: dict[str, dict[Place, int]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def look_up(self) -> None:
        """The tile of each key."""
        keys = self.predictions.keys
        names = self.index.numbered() if self.predictions.numeric else {}
        for i, key in enumerate(keys):
            place = self.index.place(names.get(key, key))
            if place is None:
                rows = self.predictions.counts[i]
                reason = f"not a tile according to the {self.index.said}; {rows} rows left out"
                self._leave_out(key, reason)
                continue
            run = self.runs.setdefault(os.path.dirname(key), {})
            if place in run:
                other = keys[run[place]][:100]
                self._leave_out(key, f"its tile has predictions in {other} already; left out")
            else:
                run[place] = i

    def _leave_out(self, key: str, reason: str) -> None:
        """Report predictions, with their file if they are a txt."""
        file = self._file(key)
        if os.path.exists(self.preds / file):
            self.findings.append(Finding(file, "D10", reason))
        else:
            self.findings.append(Finding("", "D10", f"{key[:100]}: {reason}"))

    def _file(self, key: str) -> str:
        """The txt file of a key, from `preds` on."""
        where = "labels" if os.path.isdir(self.preds / "labels") else ""
        return os.path.join(where, f"{key}.txt")

    def groups(self, runs: str) -> list[list[str]]:
        """The folders of each model. Folders that share no tile are of one.

        Raises:
            TilerError: runs differ, and it is not said what to do.
        """
        folders = sorted(self.runs)
        differing = self._differing(folders)
        if not differing:
            return [folders]
        if runs == "all":
            return self._apart(folders, differing)
        if runs == "newest":
            return [self._newest(folders, differing)]
        one, other, place = differing[0]
        raise TilerError(
            f"{self.preds}: tile {self._tile(place)} is in {_shown(one)} and in {_shown(other)}, "
            "with other rows: merge one of these folders, or say --runs newest, or --runs all for "
            "an ensemble"
        )

    def _differing(self, folders: Sequence[str]) -> list[tuple[str, str, Place]]:
        """The pairs of folders whose rows of a tile differ, with one such tile; pairs that are
        the same are reported.
        """
        differing = []
        for k, one in enumerate(folders):
            for other in folders[k + 1 :]:
                common = sorted(self.runs[one].keys() & self.runs[other].keys())
                if not common:
                    continue
                place = self._first_difference(one, other, common)
                if place is not None:
                    differing.append((one, other, place))
                    continue
                same = f"the rows of {len(common)} tiles are those of {_shown(one)}; counted once"
                self.findings.append(Finding(_shown(other), "D18", same))
        return differing

    def _first_difference(self, one: str, other: str, common: Sequence[Place]) -> Place | None:
        """The first tile whose rows differ between two runs, found by halving."""
        if self._digest(one, common) == self._digest(other, common):
            return None
        if len(common) == 1:
            return common[0]
        half = len(common) // 2
        first = self._first_difference(one, other, common[:half])
        if first is not None:
            return first
        return self._first_difference(one, other, common[half:])

    def _digest(self, run: str, places: Sequence[Place]) -> str:
        """Of the rows of some tiles."""
        numbers = [self.runs[run][place] for place in places]
        frames = [frames_of(self.index.images[image], [tile]) for image, tile in places]
        return self.predictions.batch(numbers).read(joined(frames)).digest

    def _apart(
        self, folders: Sequence[str], differing: Sequence[tuple[str, str, Place]]
    ) -> list[list[str]]:
        """Folders by model: each with the first that it does not differ from."""
        rivals = {frozenset((one, other)) for one, other, _ in differing}
        groups: list[list[str]] = []
        for folder in folders:
            for group in groups:
                if not any(frozenset((folder, other)) in rivals for other in group):
                    group.append(folder)
                    break
            else:
                groups.append([folder])
        return groups

    def _newest(
        self, folders: Sequence[str], differing: Sequence[tuple[str, str, Place]]
    ) -> list[str]:
        """The folders that differ from no newer one.

        Raises:
            TilerError: two that differ are of the same time.
        """
        times = {folder: self._time(folder) for folder in folders}
        rivals = {frozenset((one, other)) for one, other, _ in differing}
        for one, other, _ in differing:
            if times[one] == times[other]:
                raise TilerError(
                    f"{self.preds}: --runs newest: {_shown(one)} and {_shown(other)} are of the "
                    "same time; merge one of these folders"
                )
        kept: list[str] = []
        for folder in sorted(folders, key=lambda folder: -times[folder]):
            newer = [other for other in kept if frozenset((folder, other)) in rivals]
            if not newer:
                kept.append(folder)
                continue
            reason = f"{len(self.runs[folder])} tiles left out, {_shown(newer[0])} is newer"
            when = datetime.fromtimestamp(times[folder], UTC)
            message = f"of {when:%Y-%m-%d %H:%M:%S} UTC: {reason}"
            self.findings.append(Finding(_shown(folder), "D19", message))
        return sorted(kept)

    def _time(self, folder: str) -> float:
        """When the newest file of a run was written, in seconds."""
        times = []
        for number in self.runs[folder].values():
            path = self.preds / self._file(self.predictions.keys[number])
            try:
                times.append(os.stat(path).st_mtime)
            except OSError:
                raise TilerError(
                    f"{self.preds}: --runs newest is for runs in folders; {_shown(folder)} is not"
                ) from None
        return max(times)

    def _tile(self, place: Place) -> str:
        image, tile = place
        entry = self.index.images[image]
        return [*entry.names, entry.stem][tile][:100]


def _shown(folder: str) -> str:
    """A run as it is called: without the labels/ below it."""
    if folder == "labels":
        return folder
    return folder.removesuffix("/labels")[:100] or "the folder itself"
