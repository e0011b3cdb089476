"""The options of a run, of split and merge alike."""

from __future__ import annotations

from dataclasses import dataclass

from tiler.options.fields import Checked, flag_option, literal, option
from tiler.options.shared import RUN, workers_option
from tiler.options.values import backend

BACKENDS = ("auto", "threading", "loky", "sequential")


@dataclass(frozen=True, slots=True)
class RunOptions(Checked):
    """How the work is done; none of these changes a byte of the result."""

    workers: int = workers_option()
    backend: str = option(
        "auto",
        "Run in threads (threading), in processes (loky), or one image after the other "
        "(sequential); auto chooses.",
        backend(*BACKENDS),
        RUN,
        "|".join(BACKENDS),
        given=literal(*BACKENDS),
    )
    overwrite: bool = flag_option(False, "Replace an existing output of tiler.", RUN)
    dry_run: bool = flag_option(False, "Do the work and report the counts; write nothing.", RUN)
