"""The format of rows: decided for the whole folder, an error where it is ambiguous."""

import numpy as np
import pytest

from tiler.errors import TilerError
from tiler.predictions import Reading
from tiler.predictions.row_format import RowFormat, RowLayout, ValueTally, decide
from tiler.predictions.text_rows import parse


def row(count, last=0.5, value=0.5):
    """A row of `count` values."""
    return f"1 {' '.join([str(value)] * (count - 2))} {last}\n"


def tally(*counts, **kinds):
    """Of rows with the given numbers of values."""
    result = ValueTally()
    result.count(parse(["".join(row(c, **kinds) for c in counts).encode()]))
    return result


def meaning(*counts, last=0.5, value=0.5, **reading):
    return decide(tally(*counts, last=last, value=value), Reading(**reading), "preds")


@pytest.mark.parametrize(
    "counts, task, layouts",
    [
        ([6] * 5, "detect", {6: RowLayout(1, 4, 5), 7: RowLayout(1, 4, 5), 5: None, 8: None}),
        ([6, 7, 7], "detect", {6: RowLayout(1, 4, 5), 7: RowLayout(1, 4, 5)}),
        ([10] * 3, "obb", {10: RowLayout(1, 8, 9), 11: RowLayout(1, 8, 9), 9: None, 12: None}),
        ([10, 11], "obb", {11: RowLayout(1, 8, 9)}),
        (
            [8, 10, 12, 120],
            "segment",
            {8: RowLayout(1, 6, 7), 30: RowLayout(1, 28, 29), 6: None, 7: None, 9: None},
        ),
    ],
)
def test_numbers_of_values_decide(counts, task, layouts):
    found = meaning(*counts)
    assert found.task == task
    assert {count: found.layout(count) for count in layouts} == layouts


@pytest.mark.parametrize("count", [5, 9, 7, 13])
def test_without_confidence_is_refused_and_one_can_be_assumed(count):
    task = {5: "detect", 9: "obb"}.get(count, "segment")
    with pytest.raises(TilerError, match=r"save_conf=True.*--assume-conf.*found 3 of"):
        meaning(count, count, count, task=task)
    assert meaning(count, count, task=task, assume_conf=0.3).layout(count).conf is None


def test_with_one_assumed_rows_with_and_without_may_mix():
    found = meaning(5, 6, 5, 7, assume_conf=0.5)
    assert [found.layout(c) for c in (5, 6, 7)] == [
        RowLayout(1, 4, None),
        RowLayout(1, 4, 5),
        RowLayout(1, 4, 5),
    ]


def test_a_mixed_folder_names_its_counts():
    with pytest.raises(
        TilerError, match=r"mixed folder.*12 of 6 values, 10 of 5 values.*--task.*--assume-conf"
    ):
        meaning(*[6] * 12, *[5] * 10)


def test_nine_rows_of_ten_are_the_folder():
    assert meaning(*[6] * 9, 5).layout(5) is None
    with pytest.raises(TilerError, match="mixed"):
        meaning(*[6] * 8, 5)


@pytest.mark.parametrize("counts", [[8] * 3, [12] * 3, [57] * 3, [56] * 3])
def test_rows_all_of_one_longer_count_are_ambiguous(counts):
    with pytest.raises(
        TilerError, match=r"keypoints or outlines.*--task segment.*--task pose.*kpt_shape"
    ):
        meaning(*counts)


@pytest.mark.parametrize("counts", [[2, 2], [1], [6, 12, 30], [7, 13, 21, 33], [6, 10], [3, 4]])
def test_anything_else_is_refused_with_its_counts(counts):
    with pytest.raises(TilerError, match=r"\d of \d+ values"):
        meaning(*counts)


def test_outlines_of_an_odd_number_of_values():
    """class + 2n without confidence, or class + 2n + confidence + track id."""
    ids = meaning(9, 11, 15, last=3, task="segment")
    assert (
        ids.tracked
        and ids.layout(9) == RowLayout(1, 6, 7)
        and ids.layout(8) == RowLayout(1, 6, 7)
        and ids.layout(7) is None
    )
    plain = meaning(9, 11, 15, last=0.7, task="segment", assume_conf=0.5)
    assert not plain.tracked and plain.layout(9) == RowLayout(1, 8, None)
    ones = meaning(9, 11, last=1, task="segment", assume_conf=0.5)
    assert not ones.tracked, "a coordinate of exactly 1 is no track id"


@pytest.mark.parametrize("shape, count", [((17, 3), 57), ((17, 2), 40), ((1, 3), 9), ((5, 3), 21)])
def test_keypoints_by_their_shape(shape, count):
    points = shape[0] * shape[1]
    for task in ("pose", "auto") if points > 4 else ("pose",):
        found = meaning(count, count + 1, task=task, kpt_shape=shape)
        assert (found.task, found.kpt_shape, found.layout(count)) == (
            "pose",
            shape,
            RowLayout(1, 4 + points, 5 + points),
        )
        assert found.layout(count - 1) is None and found.layout(count + 1).conf == 5 + points


@pytest.mark.parametrize("shape, count, taken", [((17, 3), 40, (17, 2)), ((17, 2), 57, (17, 3))])
def test_keypoints_with_or_without_visibility_whatever_the_data_says(shape, count, taken):
    assert meaning(count, count, task="pose", kpt_shape=shape).kpt_shape == taken


def test_keypoints_need_a_shape():
    with pytest.raises(TilerError, match="kpt_shape"):
        meaning(57, 57, task="pose")


def test_a_box_model_on_a_keypoint_dataset():
    assert meaning(6, 6, kpt_shape=(17, 3)).task == "detect"


def test_another_task_than_the_rows_have():
    with pytest.raises(TilerError, match=r"not obb rows: 2 of 6 values"):
        meaning(6, 6, task="obb")
    with pytest.raises(TilerError, match="expected auto, detect"):
        meaning(6, task="boxes")


@pytest.mark.parametrize(
    "counts, kinds", [([6, 6], {}), ([10, 10], {}), ([8, 12, 30], {}), ([5], {"assume_conf": 0.5})]
)
def test_pixels_are_refused(counts, kinds):
    with pytest.raises(TilerError, match="these are pixels"):
        meaning(*counts, value=120, **kinds)


def test_a_corner_past_the_tile_is_no_pixel():
    assert meaning(10, value=1.05).task == "obb"


def test_confidence_first():
    found = meaning(6, 6, conf_first=True)
    assert found.layout(6) == RowLayout(2, 4, 1) and found.layout(7) is None
    with pytest.raises(TilerError, match="--conf-first"):
        meaning(10, conf_first=True, task="obb")


def test_a_last_column_that_is_no_confidence_hints_at_the_second():
    assert "--conf-first" in meaning(6, 6, last=1.4).hint
    assert meaning(6, 6, last=0.4).hint == ""
    with pytest.raises(TilerError, match=r"pixels.*--conf-first"):
        decide(_tally(b"14 0.43 162 96 189 245\n"), Reading(), "preds")
    with pytest.raises(TilerError, match=r"these are pixels"):
        decide(_tally(b"14 0.43 162 96 189 245\n"), Reading(conf_first=True), "preds")


def _tally(data):
    result = ValueTally()
    result.count(parse([data]))
    return result


def test_tallies_add_up():
    parts, whole = ValueTally(), tally(6, 6, 7, 5)
    for count in (6, 6, 7, 5):
        parts.count(parse([row(count).encode()]))
    assert parts.total == whole.total == 4
    assert parts.counts == whole.counts
    assert str(whole) == "2 of 6 values, 1 of 5 values, 1 of 7 values"


def test_rows_that_are_no_numbers_have_no_say():
    found = _tally(b"a b\n0 .5 .5 .5 .5 .5\n")
    assert found.total == 1 and decide(found, Reading(), "preds").task == "detect"
    assert decide(ValueTally(), Reading(task="segment"), "preds").task == "segment"


def test_what_was_expected_is_said_by_task():
    assert "6 or 7 values" in RowFormat("detect").expected(9) and "a confidence" in RowFormat(
        "detect"
    ).expected(5)
    assert "class, confidence" in RowFormat("detect", conf_first=True).expected(9)
    assert "10 or 11" in RowFormat("obb").expected(5)
    assert "even" in RowFormat("segment").expected(6)
    assert (
        RowFormat("pose", (2, 3)).expected(6)
        == "expected 12 values (class, box, 2 keypoints of 3, confidence), got 6"
    )
    assert np.all([RowFormat("pose").layout(c) is None for c in range(60)])
