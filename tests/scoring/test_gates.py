"""`--fail-under` and `--baseline`: numbers that must not fall."""

import json

import pytest

import tiler
from tests.scoring.test_score import dataset, row, texts
from tiler.errors import TilerError
from tiler.scoring import gates

LABELS = {"p0": row(0, 10, 10, 30, 30) + row(0, 60, 10, 80, 30), "p1": row(0, 10, 10, 30, 30)}
GOOD = {
    "p0": row(0, 10, 10, 30, 30, 0.9) + row(0, 60, 10, 80, 30, 0.8),
    "p1": row(0, 10, 10, 30, 30, 0.7),
}
WORSE = {**GOOD, "p1": row(0, 100, 10, 120, 30, 0.7)}


@pytest.fixture
def made(tmp_path):
    return dataset(tmp_path / "data", LABELS)


@pytest.fixture
def good(made, tmp_path):
    return tiler.score(texts(tmp_path / "good", GOOD), made.yaml)


@pytest.fixture
def worse(made, tmp_path):
    return tiler.score(texts(tmp_path / "worse", WORSE), made.yaml)


def passed(asked):
    return {gate.name: gate.passed for gate in asked}


def test_numbers_by_their_names(good):
    found = gates.fail_under(
        "ap=0.9, AP_small=0.9,map50=0.99,coco.ap75=1,per_class.a.ap=1,ultralytics.mp=1.5",
        good.plain(),
    )
    assert passed(found) == {
        "ap": True,
        "AP_small": True,
        "map50": True,
        "coco.ap75": True,
        "per_class.a.ap": True,
        "ultralytics.mp": False,
    }


def test_what_is_reached_to_the_last_digits_passes(good):
    value = good.coco["AP"]
    assert passed(gates.fail_under(f"ap={value!r}", good.plain())) == {"ap": True}
    assert passed(gates.fail_under(f"ap={value + 1e-6!r}", good.plain())) == {"ap": False}


def test_what_is_not_there_reaches_nothing(good):
    assert passed(gates.fail_under("ap_large=0", good.plain())) == {"ap_large": False}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ap_smal=0.2", "--fail-under ap_smal: no such number; did you mean 'ap_small'?"),
        ("map_50=0.2", "no such number; did you mean 'map50'?"),
        ("ap", "--fail-under is NAME=NUMBER, such as ap_small=0.2,map50=0.5, got 'ap'"),
        ("ap=high", "NAME=NUMBER"),
        ("ap=nan", "NAME=NUMBER"),
        ("ap=-1", "NAME=NUMBER"),
        ("ap=0.5,,", "NAME=NUMBER"),
        ("=0.5", "no such number"),
    ],
)
def test_gates_that_are_none(good, text, message):
    with pytest.raises(TilerError) as caught:
        gates.fail_under(text, good.plain())
    assert message in str(caught.value)


def baseline(path, metrics):
    path.write_bytes(metrics.encoded())
    return path


def test_an_equal_run_passes(good, tmp_path):
    found = gates.against(baseline(tmp_path / "old.json", good), good.plain())
    assert len(found) > 3
    assert all(gate.passed for gate in found)


def test_a_worse_run_fails_and_a_better_one_passes(good, worse, tmp_path):
    found = passed(gates.against(baseline(tmp_path / "good.json", good), worse.plain()))
    assert [name for name, fine in found.items() if not fine] == [
        "AP",
        "AP50",
        "AP_small",
        "coco_auto.AP",
        "map",
        "map50",
    ]
    assert all(
        passed(gates.against(baseline(tmp_path / "worse.json", worse), good.plain())).values()
    )


def test_a_number_that_was_not_there_asks_for_nothing(good, tmp_path):
    content = good.plain()
    assert content["coco"]["AP_large"] is None
    assert all(passed(gates.against(baseline(tmp_path / "old.json", good), content)).values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": "other.yaml"}, "of other conditions: data other.yaml, now dataset.yaml"),
        ({"split": "test"}, "of other conditions: split test, now val"),
        ({"labels": 7}, "of other conditions: labels 7, now 3"),
        ({"images": 7}, "of other conditions: images 7, now 2"),
        ({"task": "obb"}, "of other conditions: task"),
        ({"protocols": {}}, "of other conditions: protocols"),
    ],
)
def test_a_baseline_of_something_else(good, tmp_path, change, message):
    content = good.plain()
    content["card"] |= change
    (tmp_path / "old.json").write_text(json.dumps(content))
    with pytest.raises(TilerError) as caught:
        gates.against(tmp_path / "old.json", good.plain())
    assert message in str(caught.value)


@pytest.mark.parametrize("change", [{"max_dets": "1,10,50"}, {"conf": 0.6}, {"ignore_class": "b"}])
def test_a_baseline_with_options_that_change_its_numbers_is_of_other_conditions(
    made, good, tmp_path, change
):
    other = tiler.score(tmp_path / "good", made.yaml, **change)
    with pytest.raises(TilerError, match="of other conditions"):
        gates.against(baseline(tmp_path / "old.json", other), good.plain())


@pytest.mark.parametrize("change", [{"analysis": "none"}, {"replicates": 7}, {"seed": 3}])
def test_a_baseline_with_options_that_do_not_change_its_numbers_will_do(
    made, good, tmp_path, change
):
    other = tiler.score(tmp_path / "good", made.yaml, **change)
    found = gates.against(baseline(tmp_path / "old.json", other), good.plain())
    assert found
    assert all(gate.passed for gate in found)


@pytest.mark.parametrize(
    "text", ["", "hello", "[]", "{}", '{"card": 3}', "[" * 100_000, '{"coco": {"AP": 1}}']
)
def test_a_baseline_that_is_none(good, tmp_path, text):
    (tmp_path / "old.json").write_text(text)
    with pytest.raises(TilerError, match="--baseline .*old.json: not the JSON of tiler score"):
        gates.against(tmp_path / "old.json", good.plain())
    with pytest.raises(TilerError, match="--baseline .*nowhere.json: cannot be read"):
        gates.against(tmp_path / "nowhere.json", good.plain())


@pytest.mark.parametrize("value", ["high", [1], {"x": 1}, True])
def test_a_baseline_with_odd_values(good, tmp_path, value):
    content = good.plain()
    content["coco"]["AP"] = value
    (tmp_path / "old.json").write_text(json.dumps(content))
    with pytest.raises(TilerError, match="no number AP"):
        gates.against(tmp_path / "old.json", good.plain())
