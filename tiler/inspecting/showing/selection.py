"""The images that are shown, and the drawing of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.errors import TilerError
from tiler.findings import Finding, because
from tiler.inspecting.showing.choosing import Candidate, chosen
from tiler.inspecting.showing.opening import (
    Collection,
    ShownImage,
    ShownObjects,
    opened,
    windows_of,
)
from tiler.inspecting.showing.places import side_of
from tiler.inspecting.showing.sheet import (
    ONE,
    SEVERAL,
    ClassLegend,
    ImagePlan,
    PageFormat,
    composed,
    drawn,
    page_name,
    planned,
)
from tiler.options import ShowOptions, pixel_limit
from tiler.options.values import path
from tiler.run.rejecting import refusal

if TYPE_CHECKING:
    from PIL import Image

    from tiler.types import Floats

Shown = tuple[ShownImage, ShownObjects]


@dataclass(slots=True, eq=False)
class Showing:
    """What is to be drawn.

    Attributes:
        looked: how many images were looked at to choose from.
        shown: those that were chosen, in order, and what is on them.
        tiles: `(T, 4)` of full images, by key.
        findings: what was noticed; drawing adds images that cannot be decoded.
    """

    collection: Collection
    options: ShowOptions
    looked: int
    shown: list[Shown] = field(default_factory=list)
    tiles: dict[str, Floats] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def page(self) -> PageFormat:
        """The format of images on a sheet."""
        return ONE if len(self.shown) == 1 else SEVERAL

    def exit_code(self) -> int:
        """1 if something is not drawn that should be: an image or a row."""
        return int(any(finding.level == "error" for finding in self.findings))

    def nothing(self) -> TilerError:
        """The error that no image can be shown, and why."""
        errors = [finding for finding in self.findings if finding.level == "error"]
        return TilerError(f"no image can be shown{because(errors)}")

    def title(self) -> str:
        """What this is, in words."""
        collection = self.collection
        total = len(collection.images)
        title = f"{collection.what}: {len(self.shown)} of {total} images"
        if 1 < self.looked < total:
            title += f", chosen from {self.looked} of them"
        if collection.detected is not None:
            title += f"; detections of confidence {self.options.conf:g} and more"
            if collection.spec is not None:
                title += " solid, labels dashed"
        return title

    def legend(self) -> ClassLegend:
        """What colours mean."""
        both = self.collection.detected is not None and self.collection.spec is not None
        return ClassLegend(self.collection.names, both)

    def plans(self, page: PageFormat) -> Iterator[ImagePlan]:
        """What is drawn of each image."""
        nowhere = np.empty((0, 4))
        for image, objects in self.shown:
            tiles = self.tiles.get(image.key, nowhere)
            yield planned(image, objects, tiles, _cut(self.collection, image), page)

    def drawn(self, page: PageFormat) -> Iterator[tuple[ImagePlan, Image.Image]]:
        """Each image that can be decoded."""
        limit = pixel_limit(self.options.max_pixels)
        for plan in self.plans(page):
            try:
                yield plan, drawn(plan, self.legend(), limit, self.collection.pages)
            except Exception as error:
                self.findings.append(_finding(plan.image, error))

    def sheet(self, progress: Callable[[int, int], None] | None = None) -> Image.Image:
        """All images on one sheet.

        Raises:
            TilerError: none can be decoded.
        """
        images = []
        plans = []
        for done, (plan, image) in enumerate(self.drawn(self.page), 1):
            plans.append(plan)
            images.append(image)
            if progress is not None:
                progress(done, len(self.shown))
        if not images:
            raise self.nothing()
        return composed(self.title(), self.legend(), _counts(plans), images)

    def pages(
        self, progress: Callable[[int, int], None] | None = None
    ) -> Iterator[tuple[str, Image.Image]]:
        """Each image on a page of its own, and the name of its file."""
        for number, (plan, image) in enumerate(self.drawn(ONE), 1):
            page = composed(self.title(), self.legend(), _counts([plan]), [image])
            yield page_name(number, plan.image), page
            if progress is not None:
                progress(number, len(self.shown))

    def plain(self) -> dict[str, Any]:
        """What is shown, as JSON has it."""
        images = []
        for plan in self.plans(self.page):
            images.append(_plain_image(plan))
        return {
            "what": self.collection.what,
            "images": len(self.collection.images),
            "looked_at": self.looked,
            "shown": images,
        }


def _plain_image(plan: ImagePlan) -> dict[str, Any]:
    objects = plan.objects
    labels = None if objects.labels is None else len(objects.labels)
    detections = None if objects.detections is None else len(objects.detections)
    crops = [[window.x, window.y, window.width, window.height] for window in plan.crops]
    return {
        "image": plan.image.key,
        "split": plan.image.split,
        "labels": labels,
        "detections": detections,
        "crops": crops,
        "enlarged": plan.zoom,
    }


def _counts(plans: list[ImagePlan]) -> list[tuple[int, int]]:
    """Class and number of its objects, of the classes that are shown."""
    count: Counter[int] = Counter()
    for plan in plans:
        if plan.objects.main is not None:
            count.update(plan.objects.main.class_id.tolist())
        if plan.objects.labels is not None:
            count.update(dict.fromkeys(set(plan.objects.labels.class_id.tolist()), 0))
    return sorted(count.items())


def _cut(collection: Collection, image: ShownImage) -> int:
    """How many objects the edge of a tile cuts."""
    if collection.cut is None:
        return 0
    name = Path(image.key).stem
    return collection.cut.get(name, 0)


def _finding(image: ShownImage, error: Exception) -> Finding:
    """Why an image is not shown."""
    rejected = refusal(error)
    return Finding(rejected.path or image.key, rejected.code, rejected.message)


def prepared(
    what: str | Path,
    image: str | None = None,
    *,
    images: str | Path | None = None,
    data: str | Path | None = None,
    tiles: str | Path | None = None,
    **options: object,
) -> Showing:
    """Open what is to be shown and choose the images; see `show`.

    Raises:
        TilerError: it cannot be used.
    """
    chosen_options = ShowOptions.of(options)
    places: dict[str, Path | None] = {}
    for name, place in (("images", images), ("data", data), ("tiles", tiles)):
        places[name] = None if place is None else path(place, name)
    collection = opened(path(what, "what"), **places, options=chosen_options)
    _require_in_effect(chosen_options, collection, image)
    sample = collection.sample()
    looked = sample
    if image is not None:
        looked = [collection.named(image)]
    collection = collection.decided([*looked, *sample], chosen_options.task)
    showing = Showing(collection, chosen_options, len(looked))
    _choose(showing, looked)
    sizes = {shown.key: objects.size for shown, objects in showing.shown}
    showing.tiles = windows_of(collection, sizes)
    for _, objects in showing.shown:
        showing.findings += objects.findings
    showing.findings += collection.findings
    return showing


def _require_in_effect(options: ShowOptions, collection: Collection, image: str | None) -> None:
    """Raises:
    TilerError: an option was set that has no effect.
    """
    if collection.detected is None and options.conf != ShowOptions().conf:
        raise TilerError(f"--conf {options.conf:g}: there are no detections, but labels")
    if image is not None and options.n != ShowOptions().n:
        raise TilerError(f"--n {options.n}: one image is named, {image}")


def _choose(showing: Showing, looked: list[ShownImage]) -> None:
    """Choose the images that are shown, by what is on them."""
    collection, conf = showing.collection, showing.options.conf
    candidates = []
    for number, image in enumerate(looked):
        try:
            objects = collection.objects(image, conf)
        except Exception as error:
            showing.findings.append(_finding(image, error))
        else:
            candidates.append(_candidate(number, image, objects, _cut(collection, image)))
    if not candidates:
        raise showing.nothing()
    for candidate in chosen(candidates, showing.options.n):
        image = looked[candidate.number]
        showing.shown.append((image, collection.objects(image, conf)))


def _candidate(number: int, image: ShownImage, objects: ShownObjects, cut: int) -> Candidate:
    instances = objects.main
    if instances is None:
        return Candidate(number, image.key, image.split, image.origin)
    return Candidate(
        number,
        image.key,
        image.split,
        image.origin,
        len(instances),
        side_of(instances.area, 50),
        frozenset(instances.class_id.tolist()),
        cut,
    )
