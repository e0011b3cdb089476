"""The plan of a merge: options checked, predictions opened, the tile of each looked up."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tiler.datasets import index as indexes
from tiler.datasets import opening, tile_tables
from tiler.datasets.dataset import Dataset
from tiler.datasets.index import Index, TiledImage
from tiler.datasets.map_images import map_images
from tiler.errors import TilerError
from tiler.findings import Finding, inside
from tiler.formats import coco_ground_truth, dataset_yaml, provenance
from tiler.formats.affine import Affine
from tiler.formats.coco_ground_truth import CocoTruth
from tiler.formats.dataset_yaml import DatasetYaml
from tiler.merging.assigning import ModelPredictions, assigned
from tiler.merging.category_ids import Ids, numbered
from tiler.merging.category_ids import chosen as chosen_ids
from tiler.merging.covering import CoveredImages
from tiler.merging.mapping import layer_of, needs_places
from tiler.merging.pieces import Vote, frames_of, joined, pieces_of, unread_in
from tiler.merging.report import MergeCounts, MergeReport
from tiler.merging.training_images import left_out_of_training, training_images
from tiler.merging.work import MergeJob, Piece, dota_file
from tiler.options import MergeOptions, PredictionOptions, RunOptions
from tiler.options.classes import listed
from tiler.options.values import optional_path, path
from tiler.predictions import Predictions, Reading, open_predictions, plausibility
from tiler.predictions.categories import COCO91
from tiler.predictions.class_map import ClassMap, resolved
from tiler.predictions.records import image_key, places_of
from tiler.stitching.competition import require_classes
from tiler.tiling import roi
from tiler.tiling.placing import Frame, placed_in
from tiler.tiling.roi import RoiFile
from tiler.version import __version__

Given = Mapping[str, Any]  # options by name
Preds = str | Path | Sequence[str | Path]
Plan = TypeVar("Plan", bound="MergePlan")
Truth = DatasetYaml | Dataset | CocoTruth | None  # what --data holds


@dataclass(frozen=True, slots=True)
class MergePlan:
    """What is to be done, with every tile looked up.

    Attributes:
        index_digest: of the images and tiles that predictions were looked up in.
        by_names: tiles are known by the names of predictions only, no manifest lists them.
        places: of predictions, tiles and images, as far as they were used, by the options' names.
        training_images: where the images are that go into a training set, by their keys.
    """

    job: MergeJob
    pieces: list[Piece]
    report: MergeReport
    index_digest: str
    by_names: bool
    places: dict[str, Path] = field(default_factory=dict)
    training_images: dict[str, Path] = field(default_factory=dict)

    def options(self) -> dict[str, Any]:
        """Every option that detections depend on."""
        return {**self.job.merging.plain(), **self.job.files.plain()}

    def args(self) -> dict[str, Any]:
        """Every option in effect, but those that are not set: a valid --config."""
        options = {**self.job.merging.in_effect(), **self.job.files.in_effect()}
        options.pop("roi", None)  # a place
        if not self.report.models:
            options.pop("ensemble", None)
        if self.report.task != "segment":
            options.pop("parts", None)
        return options

    def head(self) -> provenance.ProvenanceHead:
        """The first line of merged.jsonl."""
        report = self.report
        return provenance.ProvenanceHead(
            tiler=__version__,
            schema=provenance.SCHEMA,
            task=report.task,
            names=report.names,
            options=self.options(),
            predictions=report.predictions,
            index=self.index_digest,
            kpt_shape=report.kpt_shape,
            by_names=self.by_names,
            models=report.models,
        )


@dataclass(frozen=True, slots=True)
class _MergeInputs:
    """Where predictions, tiles, images and the dataset are, as far as that was given.

    Attributes:
        preds: of each model.
    """

    preds: tuple[Path, ...]
    tiles: Path | None
    images: Path | None
    data: Path | None

    @classmethod
    def of(cls, preds: Any, tiles: Any, images: Any, data: Any) -> _MergeInputs:
        return cls(
            paths_of(preds),
            optional_path(tiles, "tiles"),
            optional_path(images, "images"),
            optional_path(data, "data"),
        )

    def manifest(self, preds: Path) -> Path | None:
        """The manifest of the tiles; None where their names tell their places."""
        named = self.images is not None and self.tiles is None
        if named or tile_tables.is_table(self.tiles):
            return None
        return indexes.manifest_of(preds, self.tiles)


def truth_of(data: Path | None) -> Truth:
    """What tells class names and keypoints: a dataset, or a COCO ground truth."""
    if data is None:
        return None
    if data.suffix.lower() == ".json" and not opening.is_labelme(data):
        return coco_ground_truth.read(data)
    if opening.has_yaml(data):
        return dataset_yaml.read(data)
    return opening.listed(data)


def paths_of(preds: Any) -> tuple[Path, ...]:
    """The predictions of each model: one path, or several.

    Raises:
        TilerError: none, or the same one twice.
    """
    given = preds if isinstance(preds, list | tuple) else [preds]
    paths = tuple(path(one, "preds") for one in given)
    if not paths:
        raise TilerError("preds: expected a path, or several for an ensemble, got none")
    return paths


def planned(
    preds: Preds,
    tiles: str | Path | None,
    images: str | Path | None,
    data: str | Path | None,
    options: Given,
) -> tuple[MergePlan, RunOptions]:
    """Check the options, open the predictions and look up the tile of each.

    Raises:
        TilerError: invalid options, or predictions that cannot be used.
    """
    inputs = _MergeInputs.of(preds, tiles, images, data)
    merging, files, run = _options(options)
    _require_possible(inputs, files)
    merging.require_in_effect()
    files.require_in_effect()
    for place in inputs.preds:
        if not os.path.exists(place):
            raise TilerError(f"{place}: no such file or folder")
    files = replace(files, map_classes=resolved(files.map_classes))
    return _opened(inputs, merging, files), run


def _opened(inputs: _MergeInputs, merging: MergeOptions, files: PredictionOptions) -> MergePlan:
    """The plan, once options and paths are checked."""
    truth = truth_of(inputs.data)
    opened = _OpenedModels(inputs, merging, files, truth)
    for place in inputs.preds:
        opened.add(place)
    names = opened.names
    require_writable(files, names)
    _require_ensemble(opened.models, files)
    region = None if files.roi is None else roi.read(files.roi)
    root = inputs.images or opened.models[0].index.root
    job = MergeJob(merging, files, names, ", ".join(map(str, inputs.preds)), root)
    truth_name = "" if inputs.data is None else inputs.data.name
    plan = _plan(job, opened.models, opened.findings, truth, truth_name)
    plan = for_training(on_map(plan), root or root_of(truth))
    return in_regions(replace(plan, places=opened.places()), region)


def on_map(plan: Plan) -> Plan:
    """The plan with what all images have in common on the map.

    Raises:
        TilerError: the places of images are not known, or do not go together.
    """
    predicted = [piece for piece in plan.pieces if piece.predicted]
    layer, findings = layer_of(predicted, plan.job.files, plan.job.root)
    plan.report.findings += findings
    return replace(plan, job=replace(plan.job, layer=layer))


def for_training(plan: Plan, root: Path | None) -> Plan:
    """The plan with the images of a training set, if one is asked for.

    Raises:
        TilerError: an image is not found.
    """
    job = plan.job
    if "yolo-dataset" not in job.exports:
        return plan
    if job.merging.conf == 0.0:
        message = "training labels of detections at any confidence; say --conf 0.5 for likely ones"
        plan.report.findings.append(Finding("", "D22", message))
    plan.report.findings += left_out_of_training(plan.pieces, job.by_names)
    found = training_images(plan.pieces, root, job.by_names)
    return replace(plan, training_images=found)


def root_of(truth: Truth) -> Path | None:
    """The folder of the images of a dataset."""
    if truth is None or isinstance(truth, CocoTruth):
        return None
    return truth.root


@dataclass(slots=True)
class _OpenedModels:
    """The predictions of all models, opened one after the other.

    Attributes:
        truth: what --data holds.
        models: of the predictions that were opened.
        findings: what was noticed about them.
        names: of the classes that all have then; None: not known.
        indices: by manifest or table, where tiles lie.
    """

    inputs: _MergeInputs
    merging: MergeOptions
    files: PredictionOptions
    truth: Truth
    models: list[ModelPredictions] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    names: tuple[str, ...] | None = None
    indices: dict[Path, Index] = field(default_factory=dict)

    def add(self, place: Path) -> None:
        """Open the predictions at a path.

        Raises:
            TilerError: they cannot be used, or have other classes than those before.
        """
        manifest = self.inputs.manifest(place)
        index = self._index(manifest)
        reading, names = _reading(self.files, index, self.truth)
        self._require_same_classes(place, names)
        self.names = names
        require_classes(self.merging, names)
        predictions = open_predictions(place, reading, tiled=self.inputs.tiles is not None)
        _require_used(self.merging, self.files, predictions.task, manifest)
        if index is None:
            index = _index_by_names(place, predictions, self.inputs, self.files)
            _add_places(index, self.inputs.images, self.files)
        found, noticed = assigned(place, predictions, index, self.files.runs)
        truth_name = "" if self.inputs.data is None else self.inputs.data.name
        _require_any(place, found, _tiles_in(self.truth, index, truth_name))
        self.models += found
        for finding in [*predictions.findings, *noticed]:
            self.findings.append(_inside(finding, place, self.inputs))

    def _index(self, manifest: Path | None) -> Index | None:
        """Where tiles lie by a manifest or a table; None where only their names tell."""
        tiles = self.inputs.tiles if manifest is None else manifest
        if tiles is None:
            return None
        if tiles not in self.indices:
            if manifest is None:
                index = tile_tables.read(tiles, self.inputs.images, self.files)
                _add_places(index, self.inputs.images, self.files)
            else:
                index = indexes.of_manifest(manifest)
            self.indices[tiles] = index
        return self.indices[tiles]

    def _require_same_classes(self, place: Path, names: tuple[str, ...] | None) -> None:
        if self.models and names != self.names:
            first = self.inputs.preds[0]
            raise TilerError(
                f"{place}: its classes are {listed(names or ())}, those of {first} "
                f"{listed(self.names or ())}; models need the same ones"
            )

    def places(self) -> dict[str, Path]:
        """Where everything is, by the options' names, as far as one path says it."""
        places: dict[str, Path] = {}
        if len(self.inputs.preds) == 1:
            places["preds"] = self.inputs.preds[0]
        if len(self.indices) == 1:
            places["tiles"] = next(iter(self.indices))
        if self.inputs.images is not None:
            places["images"] = self.inputs.images
        if self.files.roi is not None:
            places["roi"] = Path(self.files.roi)
        return places


def _inside(finding: Finding, place: Path, inputs: _MergeInputs) -> Finding:
    """A finding whose path begins below the predictions; with several, at the model's name."""
    below = inside(finding.path, str(place))
    if len(inputs.preds) > 1 and below:
        below = f"{_names_of(inputs.preds)[place]}/{below}"
    return replace(finding, path=below)


def in_regions(plan: Plan, region: RoiFile | None) -> Plan:
    """The plan with the regions of --roi.

    Raises:
        TilerError: these meet no image, or their coordinates are not clear.
    """
    if region is None:
        return plan
    frames = []
    for piece in plan.pieces:
        frames.append(Frame(piece.key, piece.width, piece.height, piece.geo))
    placed, findings = placed_in(region, frames)
    plan.report.findings += findings
    files = replace(plan.job.files, roi=f"{region.name} {region.digest}")
    return replace(plan, job=replace(plan.job, roi=placed, files=files))


def _names_of(places: Sequence[Path]) -> dict[Path, str]:
    """A short name of each: as much of the end of its path as tells it from the others."""
    parts = {}
    for place in places:
        own = Path(os.path.abspath(place)).parts
        if own[-1] == "labels" and len(own) > 2:
            own = own[:-1]
        parts[place] = own
    longest = max(map(len, parts.values()))
    names = {}
    for length in range(1, longest + 1):
        names = {place: "/".join(own[-length:]) for place, own in parts.items()}
        if len({*names.values()}) == len(names):
            break
    return names


def _require_ensemble(models: Sequence[ModelPredictions], files: PredictionOptions) -> None:
    """Raises:
    TilerError: options of ensembles for one model, or a wrong number of weights; or tasks differ.
    """
    if files.weights is not None and len(files.weights) != len(models):
        given = ",".join(f"{weight:g}" for weight in files.weights)
        raise TilerError(f"--weights {given}: expected one for each of {len(models)} models")
    if len(models) == 1 and files.ensemble != PredictionOptions().ensemble:
        raise TilerError(f"--ensemble {files.ensemble}: there is one model only")
    tasks = sorted({model.predictions.task for model in models})
    if len(tasks) > 1:
        raise TilerError(f"models of one task are needed, got {', '.join(tasks)}; say --task")


def _options(given: Given) -> tuple[MergeOptions, PredictionOptions, RunOptions]:
    """The options by their group; an unknown one is an error."""
    files = _of_group(given, PredictionOptions)
    run = _of_group(given, RunOptions)
    # with the unknown ones, so that the error names them
    merging = {name: value for name, value in given.items() if name not in files | run}
    merging |= _of_group(given, MergeOptions)
    return MergeOptions.of(merging), PredictionOptions.of(files), RunOptions.of(run)


def _of_group(
    given: Given, group: type[MergeOptions | PredictionOptions | RunOptions]
) -> dict[str, Any]:
    names = {item.name for item in fields(group)}
    return {name: value for name, value in given.items() if name in names}


def _require_possible(inputs: _MergeInputs, files: PredictionOptions) -> None:
    """Raises:
    TilerError: --affine without what it needs, or not six numbers.
    """
    if files.affine == "world" and inputs.images is None:
        raise TilerError("--affine world looks for world files beside the images: say --images")
    if files.affine not in ("", "world", "pixels"):
        Affine.of(files.affine)


def _index_by_names(
    preds: Path, predictions: Predictions, inputs: _MergeInputs, files: PredictionOptions
) -> Index:
    """Where tiles lie, by their names."""
    if inputs.images is None:
        raise TilerError(
            f"{preds}: where do these tiles lie? Give --tiles with the output of tiler "
            "split, or --images with the full images if the tiles' names tell their places"
        )
    return indexes.of_names(predictions.keys, inputs.images, files)


def _add_places(index: Index, images: Path | None, files: PredictionOptions) -> None:
    """Add where the images lie on the map by their own files, if that matters: there is no manifest
    that says it.
    """
    if images is None or not needs_places(files):
        return
    keys = [image.key for image in index.images]
    located = map_images(Path(os.path.abspath(images)), keys)
    index.images = [
        replace(image, geo=image.geo or place.geo)
        for image, place in zip(index.images, located, strict=True)
    ]


def _require_used(
    merging: MergeOptions, files: PredictionOptions, task: str, manifest: Path | None
) -> None:
    """Raises:
    TilerError: an option that was given does not apply to such predictions.
    """
    if task != "segment" and merging.parts != MergeOptions().parts:
        raise TilerError(
            f"--parts {merging.parts}: the predictions are {task}, and only outlines have parts"
        )
    if manifest is None:
        return
    for name in ("naming", "tile", "stride", "edge"):
        value = getattr(files, name)
        if value != getattr(PredictionOptions(), name):
            raise TilerError(f"--{name} {value}: the places of tiles are known from {manifest}")


def require_writable(files: PredictionOptions, names: tuple[str, ...] | None) -> None:
    """Raises:
    TilerError: classes that a format which is asked for cannot hold.
    """
    if names is None:
        return
    if files.category_base == "coco91" and len(names) > len(COCO91):
        raise TilerError(
            f"--category-base coco91 is for COCO's {len(COCO91)} classes, got {len(names)}"
        )
    if "dota" not in files.export.split(","):
        return
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(dota_file(name), name)
        if other != name:
            raise TilerError(
                f"--export dota: classes {other!r} and {name!r} would be one file "
                f"{dota_file(name)}; rename one"
            )


def _reading(
    files: PredictionOptions, index: Index | None, truth: Truth
) -> tuple[Reading, tuple[str, ...] | None]:
    """How predictions are read: by the options, else as the tiles or the ground truth say; and the
    names of the classes that they then have.
    """
    task = files.task
    if task == "auto" and index is not None:
        task = index.task
    names, kpt_shape = _known_of(index, truth)
    table = _table_of_ids(names, index, truth)
    dataset = names
    if files.map_classes and truth is not None and truth.names:
        dataset = tuple(truth.names)
    class_map = ClassMap.of(files.classes, files.map_classes, names, dataset)
    if class_map is not None and not class_map.is_known and (index is None or not index.names):
        names = None  # these are the dataset's; the predictions have others
    reading = Reading(
        task=task,
        names=names,
        kpt_shape=kpt_shape,
        assume_conf=files.assume_conf,
        conf_first=files.conf_first,
        preds_base=files.preds_base,
        categories=table,
        class_map=class_map,
        boxes=files.boxes,
    )
    return reading, dataset


def _known_of(
    index: Index | None, truth: Truth
) -> tuple[tuple[str, ...] | None, tuple[int, int] | None]:
    """Names of classes and kpt_shape, as far as tiles or ground truth have them; the tiles first,
    since what was split is what was trained on.
    """
    names: tuple[str, ...] | None = None
    kpt_shape: tuple[int, int] | None = None
    for source in (index, truth):
        if source is not None:
            names = names or source.names or None
            kpt_shape = kpt_shape or source.kpt_shape
    return names, kpt_shape


def _table_of_ids(
    names: tuple[str, ...] | None, index: Index | None, truth: Truth
) -> Mapping[int, int] | None:
    """The class of each category id of a COCO ground truth, if there is one of these classes."""
    if isinstance(truth, CocoTruth) and truth.names == names:
        return truth.categories
    if index is not None and index.categories is not None:
        return places_of(index.categories)
    return None


def _plan(
    job: MergeJob,
    models: Sequence[ModelPredictions],
    findings: list[Finding],
    truth: Truth,
    truth_name: str,
) -> MergePlan:
    """Every prediction with its image and tile; those for no tile are reported."""
    covered = [CoveredImages.of(model.index, model.members) for model in models]
    for model, part in zip(models, covered, strict=True):
        _require_plausible(model, part, job.files.boxes)
    alike = _all_alike(models)
    job = replace(job, all_alike=len(alike) == len({id(model.predictions) for model in models}))
    votes = _votes(job, models, covered)
    images = [own[0].image for own in votes]
    predicted = [any(vote.tiles for vote in own) for own in votes]
    base = job.files.category_base
    first = models[0]
    ids = chosen_ids(base, images, predicted, job.names, first.index, truth, truth_name)
    if job.files.image_ids == "numbers":
        ids = numbered(ids)
    kpt_shape = first.predictions.kpt_shape
    job = replace(
        job,
        first_category=ids.first_category,
        categories=ids.categories,
        kpt_shape=kpt_shape,
        by_names=first.index.by_names,
    )
    report = MergeReport(
        task=first.predictions.task,
        predictions="; ".join(dict.fromkeys(model.predictions.kind for model in models)),
        index=first.index.said,
        names=list(job.names or ()),
        counts=MergeCounts(),
        left_out=_left_out(covered),
        findings=[*findings, *_noticed(models, covered), *ids.findings, *alike],
        kpt_shape=None if kpt_shape is None else list(kpt_shape),
        where=str(first.index.where),
        models=_model_names(models) if len(models) > 1 else [],
    )
    pieces = pieces_of(votes, ids, first.index.by_names)
    return MergePlan(job, pieces, report, index_digest(images, ids), first.index.by_names)


def _require_plausible(model: ModelPredictions, covered: CoveredImages, boxes: str) -> None:
    """Raises:
    TilerError: most of the predictions cannot be read, or they seem to be in another frame.
    """
    preds = str(model.preds)
    plausibility.require_files(model.predictions, preds)
    numbers: list[int] = []
    parts = []
    for image, tiles in zip(covered.images, covered.members, strict=True):
        predicted = sorted(tiles)
        numbers += [tiles[tile] for tile in predicted]
        if predicted:
            parts.append(frames_of(image, predicted))
    if parts:
        batch = model.predictions.batch(numbers)
        plausibility.require_plausible(batch, joined(parts), preds, boxes)


def _all_alike(models: Sequence[ModelPredictions]) -> list[Finding]:
    """The finding for each model of which all tiles have the same number of rows."""
    findings = []
    for predictions in {id(model.predictions): model.predictions for model in models}.values():
        rows = plausibility.rows_of_all(predictions.counts)
        if rows:
            findings.append(plausibility.all_alike("tiles", rows, len(predictions.counts)))
    return findings


def _left_out(covered: Sequence[CoveredImages]) -> list[str]:
    """The splits that no model has predictions for."""
    left_out = set(covered[0].left_out)
    for part in covered[1:]:
        left_out &= {*part.left_out}
    return sorted(left_out)


def _noticed(models: Sequence[ModelPredictions], covered: Sequence[CoveredImages]) -> list[Finding]:
    """The findings about tiles, of each index once, and about images in blocks."""
    findings: list[Finding] = []
    for index in {id(model.index): model.index for model in models}.values():
        findings += index.findings
    for part in covered:
        known = {*findings}
        findings += [finding for finding in part.findings if finding not in known]
    return findings


def _votes(
    job: MergeJob, models: Sequence[ModelPredictions], covered: Sequence[CoveredImages]
) -> list[list[Vote]]:
    """What each model predicted, by image, in the order of the images."""
    weights = job.files.weights or (1.0,) * len(models)
    votes: dict[str, list[Vote]] = {}
    names = _model_names(models)
    for number, (model, part) in enumerate(zip(models, covered, strict=True)):
        unread = unread_in(model.predictions)
        for image, tiles in zip(part.images, part.members, strict=True):
            vote = Vote(
                number,
                names[number],
                weights[number],
                str(model.preds),
                image,
                tiles,
                model.predictions,
                unread,
            )
            votes.setdefault(image.key, []).append(vote)
    if len(models) == 1:
        return list(votes.values())
    return [votes[key] for key in sorted(votes)]


def _model_names(models: Sequence[ModelPredictions]) -> list[str]:
    """The name of each: that of its predictions, with the run where they are of several, and
    with a number where the same are given again.
    """
    short = _names_of([model.preds for model in models])
    names: list[str] = []
    for model in models:
        name = short[model.preds]
        if model.run:
            name = f"{name}/{model.run}"
        again = sum(other.split(" (")[0] == name for other in names)
        if again:
            name = f"{name} ({again + 1})"
        names.append(name)
    return names


def _tiles_in(truth: Truth, index: Index, truth_name: str) -> str:
    """The COCO JSON that was given as ground truth, if it lists tiles; else ""."""
    if not isinstance(truth, CocoTruth):
        return ""
    for image in truth.images:
        place = index.place(image_key(image.name))
        if place is not None and place[1] != indexes.WHOLE:
            return truth_name
    return ""


def _require_any(place: Path, models: Sequence[ModelPredictions], tiles: str) -> None:
    """Raises:
    TilerError: there are predictions, but none for a tile.

    Args:
        tiles: a COCO JSON of the tiles that was given for one of the images.
    """
    predictions, index = models[0].predictions, models[0].index
    keys = predictions.keys
    if not keys or any(model.members for model in models):
        return
    hint = ""
    if tiles:
        hint = f"; {tiles} lists the tiles, not the images: it is for --tiles, with --images"
    elif predictions.numeric and not index.ids:
        hint = (
            "; if these are image ids in a COCO JSON of the tiles, give that JSON as --tiles, with "
            "--images, the folder of the full images"
        )
    raise TilerError(
        f"{place}: none of {len(keys)} predictions ({keys[0][:100]}, ...) is for a tile of "
        f"{index.where}{hint}"
    )


def index_digest(images: list[TiledImage], ids: Ids) -> str:
    """The digest of the images and tiles that predictions were looked up in."""
    content: list[Any] = []
    for image in images:
        geo = [image.geo] if image.geo else []
        content.append([image.key, image.width, image.height, image.names, *geo])
    if ids.of_truth:
        content += [ids.categories, ids.images]
    return hashlib.blake2b(msgspec.json.encode(content), digest_size=16).hexdigest()
