"""Replicates are what COCO's protocol says of repeated images; intervals hold the truth about as
often as they say.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiler.errors import TilerError
from tiler.evaluation import bootstrap, coco
from tiler.evaluation.bins import ALL, Bin
from tiler.evaluation.candidates import candidates
from tiler.evaluation.inputs import EvaluationInputs, GroundTruth, Predicted
from tiler.geometry.instances import Instances

BINS = (ALL, Bin.of("small", 0, 14), Bin.of("large", 14, 1e5))
NEVER = 10**9  # detections of a class in an image

seeds = st.integers(0, 2**32 - 1)
caps = st.sampled_from([None, 1, 2, 5])
some = settings(max_examples=60, deadline=None)


def scene(seed, images=6, classes=3, labels=30, detections=60, ties=False, odd=True):
    """Labels, some of them crowds or ignored, and detections of about half of them, as columns."""
    rng = np.random.default_rng(seed)
    side = rng.uniform(6, 30, (labels, 2))
    at = rng.uniform(0, 60, (labels, 2))
    boxes = np.concatenate([at, at + side], axis=1)
    image, class_id = np.sort(rng.integers(images, size=labels)), rng.integers(classes, size=labels)
    crowd = odd & (rng.random(labels) < 0.1)
    ignored = crowd | (odd & (rng.random(labels) < 0.1))
    moved = rng.uniform(0, 60, (detections, 2))
    near = np.concatenate([moved, moved + rng.uniform(6, 30, (detections, 2))], axis=1)
    of_image, of_class = (
        rng.integers(images, size=detections),
        rng.integers(classes, size=detections),
    )
    source = rng.integers(labels, size=detections * 2 // 3) if labels else np.empty(0, int)
    near[: len(source)] = boxes[source] + rng.normal(0, 1, (len(source), 4)) * rng.uniform(
        0, 3, (len(source), 1)
    )
    of_image[: len(source)], of_class[: len(source)] = image[source], class_id[source]
    near = np.concatenate(
        [np.minimum(near[:, :2], near[:, 2:]), np.maximum(near[:, :2], near[:, 2:]) + 1], axis=1
    )
    conf = (
        rng.integers(1, 6, detections) / 8
        if ties
        else (rng.permutation(detections) + 1.0) / (detections + 1)
    )
    return {
        "truth": (class_id, boxes, image, crowd, ignored),
        "found": (of_class, near, of_image, conf),
        "classes": classes,
        "images": images,
    }


def sample(columns):
    class_id, boxes, image, crowd, ignored = columns["truth"]
    of_class, near, of_image, conf = columns["found"]
    truth = GroundTruth(Instances(class_id, boxes), image, crowd, ignored)
    return EvaluationInputs(
        truth,
        Predicted.of(Instances(of_class, near, conf=conf), of_image),
        columns["images"],
        columns["classes"],
    )


def repeated(columns, times):
    """Columns in which each image stands so often as it says."""
    new = np.repeat(np.arange(len(times)), times)
    rows = {"images": len(new), "classes": columns["classes"]}
    for what, of_image in (("truth", 2), ("found", 2)):
        own = columns[what]
        index = [np.flatnonzero(own[of_image] == old) for old in new]
        image = np.repeat(np.arange(len(new)), [len(part) for part in index])
        index = np.concatenate([np.empty(0, int), *index])
        rows[what] = tuple(
            image if at == of_image else column[index] for at, column in enumerate(own)
        )
    return rows


def scored(columns, bins=BINS, max_dets=None):
    one = sample(columns)
    return coco.evaluate(one, candidates(one), bins, (max_dets or NEVER,))


def drawn(columns, weights, bins=BINS, max_dets=None, **options):
    one = sample(columns)
    return bootstrap.draws(one, candidates(one), weights, bins, max_dets, **options)


def same(values, curves):
    """Of one replicate, or the estimate: (ap, ap50, per_class) are what COCO's protocol says."""
    ap, ap50, per_class = values
    names = [b.name for b in curves.bins]
    np.testing.assert_allclose(ap, [curves.ap(name) for name in names], rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        ap50, [curves.ap(name, iou=0.5) for name in names], rtol=0, atol=1e-12
    )
    classes = range(curves.labels.shape[0])
    np.testing.assert_allclose(
        per_class, [curves.ap(class_id=k) for k in classes], rtol=0, atol=1e-12
    )


class TestWeights:
    @given(images=st.integers(1, 40), replicates=st.integers(0, 20), seed=seeds)
    @some
    def test_as_many_images_are_drawn_as_there_are(self, images, replicates, seed):
        weights = bootstrap.weights(images, replicates, seed)
        assert weights.shape == (replicates, images)
        assert weights.min(initial=0) >= 0
        assert (weights.sum(axis=1) == images).all()

    def test_a_seed_decides_and_more_replicates_begin_alike(self):
        one = bootstrap.weights(30, 50, 7)
        assert np.array_equal(one, bootstrap.weights(30, 50, 7))
        assert np.array_equal(one[:20], bootstrap.weights(30, 20, 7))
        assert not np.array_equal(one, bootstrap.weights(30, 50, 8))

    def test_every_image_is_drawn_about_once(self):
        weights = bootstrap.weights(10, 4000, 1)
        assert np.abs(weights.mean(axis=0) - 1).max() < 0.08
        assert abs(weights.var() - 0.9) < 0.05  # multinomial: n p (1 - p)

    def test_no_images(self):
        assert bootstrap.weights(0, 3).shape == (3, 0)


class TestDraws:
    @given(seed=seeds, max_dets=caps, ties=st.booleans())
    @some
    def test_the_estimate_is_what_coco_says(self, seed, max_dets, ties):
        columns = scene(seed, ties=ties)
        curves = scored(columns, max_dets=max_dets)
        draws = drawn(columns, bootstrap.weights(6, 0), max_dets=max_dets)
        same((draws.estimate.ap, draws.estimate.ap50, draws.estimate.per_class), curves)
        assert np.array_equal(draws.labels, curves.labels)

    @given(seed=seeds, max_dets=caps)
    @some
    def test_a_replicate_is_the_sample_with_images_repeated(self, seed, max_dets):
        columns = scene(seed)
        weights = bootstrap.weights(6, 3, seed)
        draws = drawn(columns, weights, max_dets=max_dets)
        for r, times in enumerate(weights):
            curves = scored(repeated(columns, times), max_dets=max_dets)
            same((draws.ap[r], draws.ap50[r], draws.per_class[r]), curves)

    @given(seed=seeds, without=st.integers(0, 5))
    @some
    def test_an_image_without_weight_is_none(self, seed, without):
        columns = scene(seed, ties=True)
        times = np.arange(6) != without
        draws = drawn(columns, times[None].astype(int))
        same((draws.ap[0], draws.ap50[0], draws.per_class[0]), scored(repeated(columns, times)))

    @given(seed=seeds)
    @some
    def test_weights_of_one_are_the_estimate(self, seed):
        draws = drawn(scene(seed, ties=True), np.ones((1, 6), int))
        for name in ("ap", "ap50", "per_class"):
            np.testing.assert_array_equal(getattr(draws, name)[0], getattr(draws.estimate, name))

    def test_classes_that_were_not_drawn_drop_out(self):
        box = np.array([[0, 0, 10, 10.0]])
        labels = Instances(np.array([0, 1]), np.repeat(box, 2, axis=0))
        found = Predicted.of(Instances(np.array([0]), box, conf=np.array([0.5])), np.array([0]))
        one = EvaluationInputs(GroundTruth(labels, np.array([0, 1])), found, images=3, classes=3)
        draws = bootstrap.draws(
            one, candidates(one), np.array([[3, 0, 0], [0, 3, 0], [1, 2, 0], [0, 0, 3]])
        )
        np.testing.assert_allclose(draws.ap[:, 0], [1, 0, 0.5, np.nan], rtol=0, atol=1e-12)
        np.testing.assert_allclose(
            draws.per_class[:, 0], [1, np.nan, 1, np.nan], rtol=0, atol=1e-12
        )
        assert np.isnan(draws.per_class[:, 2]).all()
        assert draws.images.tolist() == [2]

    def test_the_per_class_values_are_those_of_the_bin_all(self):
        columns = scene(3)
        weights = bootstrap.weights(6, 5, 1)
        want = drawn(columns, weights, (ALL,)).per_class
        np.testing.assert_array_equal(drawn(columns, weights, BINS[::-1]).per_class, want)
        assert not np.array_equal(drawn(columns, weights, BINS[1:]).per_class, want, equal_nan=True)

    def test_other_thresholds(self):
        columns = scene(4)
        draws = drawn(columns, bootstrap.weights(6, 4, 1), thresholds=np.array([0.3, 0.75]))
        assert np.isnan(draws.ap50).all()
        one = sample(columns)
        curves = coco.evaluate(one, candidates(one), BINS, (NEVER,), np.array([0.3, 0.75]))
        np.testing.assert_allclose(draws.estimate.ap[0], curves.ap(), rtol=0, atol=1e-12)

    @pytest.mark.parametrize(
        "nothing", [{"labels": 0}, {"detections": 0}, {"labels": 0, "detections": 0}]
    )
    def test_nothing_found_is_0_and_without_labels_there_is_no_value(self, nothing):
        columns = scene(1, **nothing)
        draws = drawn(columns, bootstrap.weights(6, 5, 2))
        want = np.nan if "labels" in nothing else 0.0
        assert draws.ap.shape == (5, len(BINS))
        np.testing.assert_array_equal(draws.estimate.ap[0], want)
        np.testing.assert_array_equal(draws.ap[:, 0], np.full(5, want))

    @pytest.mark.parametrize("classes", [0, 2])
    def test_no_images(self, classes):
        none = scene(1, images=1, classes=1, labels=0, detections=0) | {
            "images": 0,
            "classes": classes,
        }
        draws = drawn(none, bootstrap.weights(0, 5))
        assert draws.per_class.shape == (5, classes)
        assert np.isnan(draws.ap).all()

    def test_of_one_image_all_replicates_are_alike(self):
        draws = drawn(scene(5, images=1), bootstrap.weights(1, 8))
        assert (draws.ap == draws.estimate.ap).all()
        own = bootstrap.interval(draws.estimate.ap[0], draws.ap[:, 0])
        assert own.low == pytest.approx(own.estimate, abs=1e-12) == own.high

    @pytest.mark.parametrize("shape", [(4, 5), (6,)])
    def test_weights_are_of_the_images(self, shape):
        with pytest.raises(TilerError, match="6 images"):
            drawn(scene(1), np.ones(shape, int))


class TestInterval:
    def test_replicates_are_moved_to_the_estimate(self):
        replicates = 0.6 + np.linspace(-0.1, 0.1, 201)
        own = bootstrap.interval(0.5, replicates, labels=7)
        assert (own.estimate, own.labels) == (0.5, 7)
        assert own.low == pytest.approx(0.405) and own.high == pytest.approx(0.595)

    def test_within_0_and_1(self):
        own = bootstrap.interval(0.99, np.linspace(0.5, 1, 101))
        assert own.high == 1 and own.low > 0.7
        assert bootstrap.interval(0.01, np.linspace(0, 0.5, 101)).low == 0

    def test_replicates_without_labels_are_left_out(self):
        replicates = np.linspace(0.2, 0.4, 50)
        with_gaps = np.insert(replicates, [0, 20, 50], np.nan)
        assert bootstrap.interval(0.3, with_gaps) == bootstrap.interval(0.3, replicates)

    def test_what_may_be_negative_is_moved_alike(self):
        replicates = np.append(0.2 + np.linspace(-1, 1, 201), np.nan)
        np.testing.assert_allclose(bootstrap.moved(0, replicates), [-0.95, 0.95], atol=1e-12)
        np.testing.assert_allclose(bootstrap.moved(0.4, replicates, 0.5), [-0.1, 0.9], atol=1e-12)
        assert np.isnan(bootstrap.moved(0, replicates[201:])).all()

    @pytest.mark.parametrize(
        ("estimate", "replicates"), [(0.5, []), (0.5, [np.nan]), (np.nan, [0.5, np.nan])]
    )
    def test_of_nothing_there_is_none(self, estimate, replicates):
        own = bootstrap.interval(estimate, np.array(replicates))
        assert np.isnan([own.low, own.high]).all()

    def test_a_higher_level_is_wider(self):
        replicates = np.random.default_rng(1).normal(0.5, 0.05, 500)
        narrow, wide = (bootstrap.interval(0.5, replicates, level) for level in (0.8, 0.95))
        assert wide.low < narrow.low < narrow.high < wide.high

    def test_it_holds_the_truth_as_often_as_it_says(self):
        def population(seed, images):
            """Images of more or fewer objects, hard or easy as a whole: a cluster each."""
            rng = np.random.default_rng(seed)
            many = rng.poisson(6, images) + 1
            image = np.repeat(np.arange(images), many)
            ease = rng.beta(3, 2, images)[image]
            at = np.concatenate([100.0 * np.arange(n) for n in many])[:, None]
            boxes = np.concatenate([at, at * 0, at + 20, at * 0 + 20], axis=1)
            seen = rng.random(len(image)) < ease
            shift = rng.exponential(3, len(image)) * (1.3 - ease)
            hit = (boxes + shift[:, None] * [1, 0, 1, 0])[seen]
            false = rng.random(len(image)) < 0.6 * (1 - ease)
            conf = np.concatenate([rng.beta(4, 2, seen.sum()), rng.beta(2, 3, false.sum())])
            near = np.concatenate([hit, boxes[false] + [0, 500, 0, 500]])
            of_image = np.concatenate([image[seen], image[false]])
            zeros = np.zeros(len(image), int)
            return {
                "truth": (zeros, boxes, image, zeros > 0, zeros > 0),
                "found": (np.zeros(len(near), int), near, of_image, conf),
                "images": images,
                "classes": 1,
            }

        truth = scored(population(0, 10_000), (ALL,)).ap()
        inside = 0
        for trial in range(60):
            draws = drawn(population(trial + 1, 40), bootstrap.weights(40, 200, trial), (ALL,))
            own = bootstrap.interval(draws.estimate.ap[0], draws.ap[:, 0])
            inside += own.low <= truth <= own.high
            assert own.high - own.low < 0.35
        assert 0.85 * 60 <= inside <= 60


def worse(columns, part, seed=0):
    """Without the detections that lie on a part of the labels."""
    class_id, boxes, image, _, _ = columns["truth"]
    of_class, near, of_image, conf = columns["found"]
    rng = np.random.default_rng(seed)
    gone = rng.random(len(boxes)) < part
    low, high = (
        np.maximum(near[:, None, :2], boxes[gone, :2]),
        np.minimum(near[:, None, 2:], boxes[gone, 2:]),
    )
    common = np.maximum(high - low, 0).prod(axis=2)
    on = (common > 0.3 * (near[:, 2:] - near[:, :2]).prod(axis=1)[:, None]) & (
        of_image[:, None] == image[gone]
    )
    keep = ~(on & (of_class[:, None] == class_id[gone])).any(axis=1)
    return columns | {"found": (of_class[keep], near[keep], of_image[keep], conf[keep])}


class TestCompare:
    columns = scene(11, images=30, classes=2, labels=240, detections=600, odd=False)
    weights = bootstrap.weights(30, 200, 3)

    def test_a_run_is_as_good_as_itself(self):
        own = drawn(self.columns, self.weights)
        for name in ("all", "small"):
            result = bootstrap.compare(own, own, bin=name)
            assert (result.difference, result.low, result.high, result.p) == (0, 0, 0, 1)
            assert result.verdict == "no difference is shown (p = 1; the interval contains 0)"

    def test_a_run_that_misses_more_is_worse(self):
        good, bad = (drawn(c, self.weights) for c in (self.columns, worse(self.columns, 0.4)))
        result = bootstrap.compare(good, bad, ("tiles", "whole"))
        assert result.difference == good.estimate.ap[0] - bad.estimate.ap[0]
        assert 0 < result.low < result.difference < result.high
        assert result.p == pytest.approx(1 / 201)
        assert result.verdict == "tiles is better than whole (p = 0.005)"
        other = bootstrap.compare(bad, good, ("whole", "tiles"))
        assert other.verdict == result.verdict and other.p == result.p
        assert (other.difference, other.low, other.high) == pytest.approx(
            (-result.difference, -result.high, -result.low)
        )

    def test_of_runs_that_differ_by_chance_no_difference_is_shown(self):
        shown = 0
        for trial in range(20):
            one, other = (
                drawn(worse(self.columns, 0.2, 2 * trial + k), self.weights, (ALL,)) for k in (0, 1)
            )
            result = bootstrap.compare(one, other)
            assert ("no difference is shown" in result.verdict) == (
                result.p >= 0.05 or result.low <= 0 <= result.high
            )
            shown += "better" in result.verdict
        assert shown <= 4

    def test_paired_differences_are_narrower_than_runs(self):
        good, bad = (drawn(c, self.weights) for c in (self.columns, worse(self.columns, 0.05)))
        pair, own = (
            bootstrap.compare(good, bad),
            bootstrap.interval(good.estimate.ap[0], good.ap[:, 0]),
        )
        assert pair.high - pair.low < (own.high - own.low) / 1.5

    @pytest.mark.parametrize(
        # how many replicates of 200 lie far below or far above the rest
        ("low", "high", "verdict"),
        [
            (7, 0, "no difference is shown (p = 0.04; the interval contains 0)"),
            (0, 7, "A is better than B (p = 0.04)"),
            (0, 12, "no difference is shown (p = 0.065)"),
            (2, 2, "A is better than B (p = 0.025)"),
        ],
    )
    def test_a_run_is_better_only_where_both_p_and_the_interval_say_so(self, low, high, verdict):
        own = drawn(self.columns, self.weights, (ALL,))
        away = np.zeros(200)
        away[:low], away[200 - high :] = -0.2, 0.2
        other = replace(
            own, ap=own.ap - away[:, None], estimate=replace(own.estimate, ap=own.estimate.ap - 0.1)
        )
        assert bootstrap.compare(own, other).verdict == verdict

    @pytest.mark.parametrize(
        ("options", "verdict"),
        [
            ({"images": 3}, "too few images for an interval (3)"),
            ({"images": 9, "labels": 12}, "too few labels (12) to tell"),
            ({"images": 9, "labels": 0}, "too few images for an interval (0 with labels)"),
        ],
    )
    def test_too_little_to_tell(self, options, verdict):
        columns = scene(1, **options, odd=False)
        own = drawn(columns, bootstrap.weights(options["images"], 20))
        assert bootstrap.compare(own, own).verdict == verdict

    def test_few_images_that_have_labels(self):
        columns = scene(1, images=3, labels=60, odd=False) | {"images": 40}
        own = drawn(columns, bootstrap.weights(40, 50))
        result = bootstrap.compare(own, own)
        assert result.verdict == "too few images for an interval (3 with labels)"
        assert result.difference == 0 and np.isnan([result.low, result.high, result.p]).all()

    def test_of_no_replicates_nothing_is_shown(self):
        good, bad = (drawn(c, self.weights[:0]) for c in (self.columns, worse(self.columns, 0.4)))
        result = bootstrap.compare(good, bad)
        assert result.p == 1 and np.isnan([result.low, result.high]).all()
        assert result.verdict == "no difference is shown (p = 1)"

    @pytest.mark.parametrize(
        "other", [bootstrap.weights(30, 199, 3), bootstrap.weights(30, 200, 4)]
    )
    def test_both_are_drawn_alike(self, other):
        with pytest.raises(TilerError, match="same weights"):
            bootstrap.compare(drawn(self.columns, self.weights), drawn(self.columns, other))

    def test_a_seed_decides(self):
        first, second = (
            bootstrap.compare(
                *(
                    drawn(c, bootstrap.weights(30, 50, 9))
                    for c in (self.columns, worse(self.columns, 0.1))
                )
            )
            for _ in range(2)
        )
        assert first == second
