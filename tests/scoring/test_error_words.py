"""Every kind of error has its words in the report, and its place among the crops."""

from tiler.evaluation.diagnosis import FOUND_KINDS, LABEL_KINDS
from tiler.scoring.report import crops, wording

NO_ERRORS = {"left out", "right", "ignored", "found", "explained"}
KINDS = {*FOUND_KINDS, *LABEL_KINDS} - NO_ERRORS


def test_the_report_explains_every_kind():
    assert {*wording.ERRORS} == KINDS


def test_crops_show_every_kind():
    shown = [*crops.SEAM_KINDS, *crops.MISSED, *crops.FALSE]
    assert len(shown) == len(KINDS)
    assert {*shown} == {*crops.WORDS} == KINDS
