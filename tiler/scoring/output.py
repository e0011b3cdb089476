"""The folder that `tiler score --out` writes: numbers for programs, tables, images, the report."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tiler.errors import TilerError
from tiler.formats import csv_cells
from tiler.run.folders import Folder
from tiler.run.output_folder import changed, content, occupied, require_apart, resolved
from tiler.run.staging import Staging, writing
from tiler.run.transaction import produced
from tiler.scoring.metrics import Metrics
from tiler.scoring.operating import worst_images

NAME = "score.json"
REPORT = "report.html"
PLOTS = ("pr_curve", "f1_curve", "p_curve", "r_curve", "confusion_matrix", "sizes", "seams")


def write(metrics: Metrics, out: Path, overwrite: bool = False) -> Path:
    """Write everything into a new folder, which appears when it is complete.

    Returns:
        The folder.

    Raises:
        TilerError: it holds something else.
        Unfinished: a full disk, or another run on the same folder.
    """
    target = resolved(out)
    for folder in metrics.inputs:
        require_apart(target, folder, "what is scored")
    numbers = metrics.encoded()

    def unchanged() -> None:
        with Folder(target) as folder:
            for name, text in _texts(metrics, numbers).items():
                if content(folder, name) != text:
                    raise changed(target, f"holds another score ({name} differs)")

    def build(staging: Staging) -> None:
        staging.begin(None)
        with writing():
            for name, text in _texts(metrics, numbers).items():
                staging.tree.write(name, text)

    produced(target, lambda: occupied(target, NAME, overwrite, lambda _: owned), unchanged, build)
    return target


def _texts(metrics: Metrics, numbers: bytes) -> dict[str, bytes]:
    """The files of the output."""
    from tiler.scoring.report.page import page
    from tiler.scoring.report.plots import figures

    texts: dict[str, bytes] = {NAME: numbers}
    for name, table in TABLES.items():
        texts[name] = table(metrics).encode("utf-8", "surrogateescape")
    with suppress(TilerError):  # without matplotlib the page says so
        texts |= figures(metrics)
    texts[REPORT] = page(metrics).encode("utf-8", "surrogateescape")
    return texts


def owned(path: str) -> bool:
    """Whether a path in an output is that of a file of ours."""
    return path in (NAME, REPORT, *TABLES, *(f"{name}.png" for name in PLOTS))


def text_of(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """CSV: empty cells where there is nothing to measure, text as `csv_cells` escapes it.

    >>> text_of(["class", "AP"], [["car", 0.5], ["bus", float("nan")]])
    'class,AP\\ncar,0.5\\nbus,\\n'
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    for row in (head, *rows):
        writer.writerow([_cell(value) for value in row])
    return file.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return csv_cells.escaped(value)
    if isinstance(value, float) and math.isnan(value):
        return ""
    return value


def per_class(metrics: Metrics) -> str:
    """A row a class."""
    return text_of(*metrics.class_table())


def per_image(metrics: Metrics) -> str:
    """A row an image, those with most mistakes first; at the confidence of `operating`."""
    rows = [metrics.per_image[i] for i in worst_images(metrics.per_image)]
    head = list(rows[0]) if rows else ["image"]
    return text_of(head, [list(row.values()) for row in rows])


def confusion(metrics: Metrics) -> str:
    """Rows are what was predicted, columns what is true."""
    names = [*metrics.names, "background"]
    rows = []
    if metrics.confusion is not None:
        for name, counts in zip(names, metrics.confusion.tolist(), strict=True):
            rows.append([name, *counts])
    return text_of(["predicted", *names], rows)


def curves(metrics: Metrics) -> str:
    """Means over the classes at IoU 0.5: precision over recall, and P, R, F1 over confidence."""
    box = metrics.box
    head = ["x", "precision_at_recall", "precision_at_conf", "recall_at_conf", "f1_at_conf"]
    if not len(box.p):
        return text_of(head, [])
    columns = [box.px.tolist()]
    for curve in (box.prec_values, box.p_curve, box.r_curve, box.f1_curve):
        columns.append(curve.mean(axis=0).tolist())
    return text_of(head, zip(*columns, strict=True))


TABLES = {
    "per_class.csv": per_class,
    "per_image.csv": per_image,
    "confusion.csv": confusion,
    "curves.csv": curves,
}
