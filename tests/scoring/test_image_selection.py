"""Which images count: merge's score and score's are one number, and images that nobody may have
looked at are no secret.
"""

import shutil
from types import SimpleNamespace

import pytest

import tiler
from tests.cli.test_cli import run
from tests.conftest import Dataset, picture
from tests.merging import predicted
from tests.scoring.test_score import dumped
from tiler.errors import TilerError

SOME = ("p3", "p6")  # of the 12 images of val


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """12 images of val and their tiles; the labels of the tiles of two are their predictions."""
    root = tmp_path_factory.mktemp("some")
    data = Dataset(root / "data").filled(train=3, val=12)
    tiler.split(data.yaml, tile=128, overlap=32, out=root / "tiles", workers=1)
    predicted(root / "tiles", root / "every/labels")
    keep(root / "every", root / "preds", SOME)
    return SimpleNamespace(
        root=root, data=data, tiles=root / "tiles", every=root / "every", preds=root / "preds"
    )


def keep(preds, to, stems):
    """The predictions for the tiles of some images."""
    (to / "labels").mkdir(parents=True)
    for path in (preds / "labels").glob("*.txt"):
        if path.stem.split("__")[0] in stems:
            shutil.copy(path, to / "labels")


def merged(made, out, preds=None, **options):
    return tiler.merge(made.preds if preds is None else preds, out=out, workers=1, **options)


def score(preds, made, **options):
    return tiler.score(preds, made.data.yaml, replicates=0, **options)


def main(metrics):
    """The numbers that are to be one."""
    plain = metrics.plain()
    return plain["card"]["images"], plain["coco"], plain["ultralytics"]


def said(metrics):
    return [(f.code, f.level) for f in metrics.findings]


def test_with_a_manifest_every_image_of_the_predicted_splits_counts(made, tmp_path):
    """An image without a file is one in which nothing was found: its tiles were cut."""
    metrics = score(merged(made, tmp_path / "out", tiles=made.tiles), made)
    assert (
        metrics.card["images"],
        metrics.card["split"],
        metrics.findings,
        metrics.only_predicted,
    ) == (12, "val", [], None)
    assert metrics.coco["AP"] < 0.3


@pytest.mark.parametrize("folder", ["images/val", "images"])
def test_by_names_an_image_without_predictions_is_ambiguous_and_both_numbers_are_told(
    made, tmp_path, folder
):
    out = tmp_path / "out"
    result = merged(made, out, images=made.data.root / folder)
    metrics = score(out, made)
    assert (metrics.card["images"], metrics.card["split"], said(metrics)) == (
        12,
        "val",
        [("S03", "error")],
    )
    assert metrics.exit_code() == 1
    message = metrics.findings[0].message
    assert message.startswith("10 of 12 images have no predictions")
    assert (
        f"AP {metrics.coco['AP']:.3f} of all 12 images, AP 1.000 of the 2 with predictions"
        in message
    )
    assert "--tiles or --only-predicted" in message
    fewer = score(out, made, only_predicted=True)
    assert (said(fewer), fewer.only_predicted, fewer.card["images"]) == ([], None, 2)
    assert sorted(key.split("/")[-1] for key in fewer.keys) == ["p3.jpg", "p6.jpg"]
    assert metrics.plain()["only_predicted"] == dict(
        zip(("images", "coco", "ultralytics"), main(fewer), strict=True)
    )
    assert metrics.coco["AP"] < fewer.coco["AP"] == pytest.approx(1)
    settled = score(out, made, tiles=made.tiles)
    assert (said(settled), main(settled)) == ([], main(metrics))
    for held in (result, merged(made, None, images=made.data.root / folder)):
        assert (main(score(held, made)), said(score(held, made))) == (main(metrics), said(metrics))
        assert main(score(held, made, only_predicted=True)) == main(fewer)


def test_an_empty_file_is_a_prediction(made, tmp_path):
    shutil.copytree(made.preds, tmp_path / "preds")
    for stem in {path.stem for path in (made.every / "labels").glob("*.txt")}:
        (tmp_path / "preds/labels" / f"{stem}.txt").touch()
    by_names = score(
        merged(made, tmp_path / "names", tmp_path / "preds", images=made.data.root / "images/val"),
        made,
    )
    assert (said(by_names), by_names.card["images"]) == ([], 12)
    assert (
        main(by_names)[1:]
        == main(score(merged(made, tmp_path / "tiles", tiles=made.tiles), made))[1:]
    )


def test_all_images_with_predictions_are_not_ambiguous(made, tmp_path):
    metrics = score(
        merged(made, tmp_path / "out", made.every, images=made.data.root / "images"),
        made,
        split="all",
    )
    assert (said(metrics), metrics.card["images"], metrics.coco["AP"]) == ([], 15, pytest.approx(1))


def test_images_that_the_merge_does_not_know_are_ambiguous_too(made, tmp_path):
    """The dataset has more than was cut, or than the folder held; --tiles does not settle what it
    does not list.
    """
    shutil.copytree(
        made.data.root / "images/val",
        tmp_path / "fewer",
        ignore=lambda _, names: set(names) - {"p3.jpg", "p6.jpg"},
    )
    merged(made, tmp_path / "names", images=tmp_path / "fewer")
    metrics = score(tmp_path / "names", made, tiles=made.tiles)
    assert (said(metrics), metrics.card["images"], metrics.only_predicted["images"]) == (
        [("S03", "error")],
        12,
        2,
    )
    merged(made, tmp_path / "val", tiles=made.tiles)
    metrics = score(tmp_path / "val", made, split="all")
    assert (said(metrics), metrics.card["images"], metrics.only_predicted["images"]) == (
        [("S03", "error")],
        15,
        2,
    )


def test_plain_predictions_of_full_images_are_as_in_coco(made, tmp_path):
    """A file that is missing is an image in which nothing was found; fewer images are scored when
    that is asked for.
    """
    merged(made, tmp_path / "out", tiles=made.tiles)
    shutil.copytree(
        tmp_path / "out/labels/images/val",
        tmp_path / "plain",
        ignore=lambda _, names: set(names) - {"p3.txt", "p6.txt"},
    )
    metrics = score(tmp_path / "plain", made)
    assert (said(metrics), main(metrics)) == ([], main(score(tmp_path / "out", made)))
    assert score(tmp_path / "plain", made, only_predicted=True).card["images"] == 2


def test_without_any_predictions_there_is_nothing_to_score_alone(made, tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(
        TilerError, match="^--only-predicted: there are no predictions for any image"
    ):
        score({}, made, only_predicted=True)


def test_predictions_of_several_splits_are_scored_on_these(made, tmp_path):
    keep(made.every, tmp_path / "preds", ("p0", "p5"))
    out = tmp_path / "out"
    held = merged(made, out, tmp_path / "preds", tiles=made.tiles)
    for given in (out, held):
        assert score(given, made).card["split"] == "val,train"


@pytest.mark.parametrize("by", ["tiles", "images", "a truth of both"])
@pytest.mark.parametrize("rows", ["sure", "without confidence"])
def test_score_prints_what_merge_ends_with(made, tmp_path, by, rows):
    """One code path: the same lines and the same code, with no option repeated."""
    keep(made.every, tmp_path / "preds", ("p1", *SOME))
    options = ["--tiles", made.tiles] if by != "images" else ["--images", made.data.root / "images"]
    if rows != "sure":
        for path in (tmp_path / "preds/labels").glob("*.txt"):
            path.write_text(
                "".join(" ".join(row.split()[:-1]) + "\n" for row in path.read_text().splitlines())
            )
        options += ["--assume-conf", "0.5"]
    data = made.data.root
    if by == "a truth of both":
        images = [
            {
                "id": i,
                "file_name": f"images/{'train' if i < 3 else 'val'}/p{i}.jpg",
                "width": 400,
                "height": 300,
            }
            for i in range(15)
        ]
        note = {
            "id": 1,
            "image_id": 3,
            "category_id": 1,
            "bbox": [10, 10, 30, 30],
            "area": 900,
            "iscrowd": 0,
        }
        categories = [{"id": i + 1, "name": name} for i, name in enumerate("abc")]
        data = dumped(
            tmp_path / "gt.json",
            {"images": images, "annotations": [note], "categories": categories},
        )
    both = run("merge", "preds", *options, "--data", data, "--out", "runs/deep/out", cwd=tmp_path)
    alone = run("score", "runs/deep/out", "--data", data, cwd=tmp_path)
    assert (both.returncode, both.stderr) == (alone.returncode, alone.stderr)
    assert both.returncode == int(by == "images")
    assert alone.stdout
    assert both.stdout.endswith(alone.stdout)
    assert "predictions on tiles: " not in alone.stdout
    assert ("AP on tiles" in alone.stdout and "not merged" in alone.stdout) or by != "tiles"
    if by == "images":
        assert "all 15 images: AP 0." in alone.stdout
        assert "the 3 with predictions: AP " in alone.stdout
        for verb in (["merge", "preds", *options, "--overwrite", "--out"], ["score"]):
            done = run(
                *verb, "runs/deep/out", "--data", data, "--only-predicted", "-q", cwd=tmp_path
            )
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_was_moved_together_is_found_and_what_is_gone_is_said(made, tmp_path):
    shutil.copytree(made.preds, tmp_path / "a/preds")
    shutil.copytree(made.tiles, tmp_path / "a/tiles", ignore=shutil.ignore_patterns("images"))
    merged(made, tmp_path / "a/out", tmp_path / "a/preds", tiles=tmp_path / "a/tiles")
    whole = score(tmp_path / "a/out", made)
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "link").symlink_to(tmp_path / "b/out")
    for out in ("b/out", "link"):
        again = score(tmp_path / out, made)
        assert again.plain() == whole.plain()
        assert again.efficiency.tile.ap is not None
    shutil.rmtree(tmp_path / "b/tiles")
    left = score(tmp_path / "b/out", made)
    assert (left.plain()["efficiency"]["tile"]["ap"], main(left)) == (None, main(whole))
    shutil.rmtree(tmp_path / "b/preds")
    left = score(tmp_path / "b/out", made).card["left_out"]["tiles"]
    assert "predictions on tiles: they are not where they were merged from (--tile-preds)" in left


@pytest.mark.parametrize(
    "places",
    ["preds: 5\ntiles: [1]\n", "preds: ''\n", "preds: ../nowhere\ntiles: 'a\\0b'\n", "{}\n"],
)
def test_an_args_yaml_that_leads_nowhere_is_as_none(made, tmp_path, places):
    merged(made, tmp_path / "out", tiles=made.tiles)
    known = main(score(tmp_path / "out", made))
    (tmp_path / "out/args.yaml").write_text(places)
    assert main(score(tmp_path / "out", made)) == known


def test_the_places_of_a_config_are_from_where_it_lies(made, tmp_path):
    (tmp_path / "work").mkdir()
    shutil.copytree(made.preds, tmp_path / "preds")
    shutil.copytree(made.tiles, tmp_path / "tiles", ignore=shutil.ignore_patterns("images"))
    assert (
        run(
            "merge",
            "../preds",
            "--tiles",
            "../tiles",
            "--out",
            "one",
            "--conf",
            "0.3",
            "-q",
            cwd=tmp_path / "work",
        ).returncode
        == 0
    )
    done = run(
        "merge", "preds", "--config", "work/one/args.yaml", "--out", "two", "-q", cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("predictions.json", "merged.jsonl"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "work/one" / name).read_bytes()


def test_boxes_of_outlines_are_those_of_the_images_that_count(tmp_path):
    """The image with predictions is not the first one, so its labels get another number."""
    outline = ".2 .2 .6 .2 .6 .6"
    data = Dataset(tmp_path / "data")
    for split in ("train", "val"):
        for name in ("a.png", "b.png"):
            data.add(name, f"0 {outline}\n", picture(100, 100), split)
    (tmp_path / "preds").mkdir()
    (tmp_path / "preds/b.txt").write_text(f"0 {outline} .9\n")
    metrics = tiler.score(
        tmp_path / "preds", data.yaml, split="val", only_predicted=True, replicates=0
    )
    assert metrics.card["images"] == 1
    assert metrics.plain()["boxes"]["coco"]["AP"] == metrics.coco["AP"] == pytest.approx(1)
