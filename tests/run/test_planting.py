"""Whatever someone plants in and around an output, nothing outside changes and nothing hangs."""

import hashlib
import os
import shutil
import signal
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import tiler
from tests.conftest import Dataset, picture, tree
from tiler.merging import output
from tiler.run import folders
from tiler.run.staging import Staging
from tiler.scoring.output import write
from tiler.scoring.report import plots

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes and links"),
    pytest.mark.slow,
]

VERBS = ("split", "merge", "score")
PARTIAL = ".out.partial"
PIECES = ("", "/lock", "/journal.jsonl", "/tree", "/replaced", "/probe", "/else", "/tree/else")
NEW = (
    *(PARTIAL + name for name in PIECES),
    f"{PARTIAL}/tree/labels/train.cache",
    "out/else",
    "out/labels/else",
)
KINDS = (
    "file",
    "file of the same size",
    "link to a file",
    "link to a folder",
    "dead link",
    "pipe",
    "folder",
    "second name",
)


class Stopped(BaseException):
    """A kill."""


@contextmanager
def within(seconds):
    """What takes longer is an error: it hangs."""

    def ring(*_):
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def killed_after(count, monkeypatch):
    """The `count`-th new file is the last one that is made."""
    real, made = folders.Folder.opener, [0]

    def opener(self, name, flags=0):
        made[0] += 1
        if made[0] > count:
            raise Stopped
        return real(self, name, flags)

    with monkeypatch.context() as patch:
        patch.setattr(folders.Folder, "opener", opener)
        with suppress(Stopped):
            yield


def is_folder(path):
    return path.is_dir() and not path.is_symlink()


def remove(path):
    if is_folder(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()


def produce(verb, given, out, overwrite=False):
    if verb == "split":
        tiler.split(given / "data", tile=64, overlap=16, out=out, workers=1, overwrite=overwrite)
    elif verb == "merge":
        options = {"tiles": given / "tiles", "assume_conf": 1, "export": "csv,dota"}
        tiler.merge(given / "tiles/labels", out=out, workers=1, overwrite=overwrite, **options)
    else:
        write(tiler.score(given / "merged", given / "data", split="all"), out, overwrite)


@cache
def given_to(verb):
    """What a verb reads, and the tree that it makes when nobody plants anything."""
    given = Path(mkdtemp(prefix="given"))
    data = Dataset(given / "data", names=["a"])
    for name, where in (("a.png", "train"), ("b.png", "val")):
        data.add(name, "0 0.2 0.4 0.2 0.3\n0 0.7 0.5 0.1 0.2\n", picture(112, 64), where)
    if verb != "split":
        produce("split", given, given / "tiles")
    if verb == "score":
        produce("merge", given, given / "merged")
    produce(verb, given, given / "clean")
    clean = tree(given / "clean")
    shutil.rmtree(given / "clean")
    return given, clean


@pytest.fixture(scope="module", autouse=True)
def without_plots():
    """Matplotlib would take nearly all of the time."""

    def none(_):
        raise tiler.TilerError("no plots here")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "figures", none)
        patch.setattr(plots, "svg", none)
        yield
    for verb in VERBS:
        shutil.rmtree(given_to(verb)[0])


class Planting(RuleBasedStateMachine):
    """Runs, kills and plants in any order; then the result is that of a clean run, or refused."""

    verb = "split"
    handles = folders.HANDLES

    @initialize()
    def begin(self):
        self.root = Path(mkdtemp(prefix="planting"))
        self.out = self.root / "out"
        self.victim = self.root / "victim"
        (self.victim / "inner").mkdir(parents=True)
        (self.victim / "precious.txt").write_text("precious")
        (self.victim / "inner/b").write_text("b")
        self.given, self.clean = given_to(self.verb)
        self.outside = self.seen()

    def seen(self):
        """All that no run may touch."""
        return tree(self.victim), tree(self.given)

    @rule(kill=st.integers(0, 14), overwrite=st.booleans())
    def stop(self, kill, overwrite):
        """A run that is killed after so many files."""
        with within(30), pytest.MonkeyPatch.context() as patch, suppress(tiler.TilerError):
            patch.setattr(folders, "HANDLES", self.handles)
            with killed_after(kill, patch):
                produce(self.verb, self.given, self.out, overwrite)

    @rule(overwrite=st.booleans())
    def run(self, overwrite):
        """A run to the end: the result is that of a clean one, or the reason is said."""
        with within(30), pytest.MonkeyPatch.context() as patch:
            patch.setattr(folders, "HANDLES", self.handles)
            try:
                produce(self.verb, self.given, self.out, overwrite)
            except tiler.TilerError as error:
                assert error.exit_code in (2, 3)
                remove(self.root / PARTIAL)  # as the user is told to
                remove(self.out)
                return
        assert not self.out.is_symlink()
        for name, digest in self.clean.items():
            path = self.out / name
            assert path.is_file(), name
            assert not path.is_symlink(), name
            assert path.stat().st_nlink == 1, name
            if name != "args.yaml":  # which says where the output lies from its inputs
                assert hashlib.sha256(path.read_bytes()).hexdigest() == digest, name

    run_again = run

    @rule(choice=st.integers(0, 10_000), kind=st.sampled_from(KINDS))
    def plant(self, choice, kind):
        """In a new place, or in that of something that is there."""
        there = sorted(path for top in (PARTIAL, "out") for path in (self.root / top).rglob("*"))
        new = [self.root / name for name in NEW]
        places = there if there and choice % 3 else new
        self.put(places[choice // 3 % len(places)], kind)

    def put(self, path, kind):
        if any(os.path.lexists(above) and not is_folder(above) for above in path.parents):
            return
        size = 8
        if kind == "file of the same size":
            if path.parts[-2] == "out" or self.out in path.parents or not os.path.isfile(path):
                return  # a user may edit an output
            size = path.stat().st_size
        remove(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind.startswith("file"):
            path.write_bytes(b"#" * size)
        elif kind == "folder":
            (path / "below").mkdir(parents=True)
            (path / "below/file").write_text("planted\n")
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "second name":
            os.link(self.victim / "precious.txt", path)
        else:
            to = {
                "link to a file": "precious.txt",
                "link to a folder": "inner",
                "dead link": "nothing",
            }[kind]
            path.symlink_to(self.victim / to)

    plant_again = plant

    @precondition(lambda self: is_folder(self.root / PARTIAL / "tree"))
    @rule(choice=st.integers(0, 1000))
    def unpack_a_staging_folder(self, choice):
        """One that looks like that of a stopped run in all that an archive can hold, but for a
        file.
        """
        home, copy = self.root / PARTIAL, self.root / "copy"
        if any(
            not (is_folder(path) or path.is_file()) or path.is_symlink() for path in home.rglob("*")
        ):
            return
        shutil.copytree(home, copy)
        remove(home)
        files = sorted(path for path in (copy / "tree").rglob("*") if path.is_file())
        if files:
            path = files[choice % len(files)]
            path.write_bytes(b"#" * path.stat().st_size)
        copy.rename(home)

    @rule()
    def start_anew(self):
        remove(self.root / PARTIAL)
        remove(self.out)

    def teardown(self):
        if hasattr(self, "root"):
            assert self.seen() == self.outside
            shutil.rmtree(self.root)


class Merging(Planting):
    verb = "merge"


class Scoring(Planting):
    verb = "score"


class WithoutHandles(Planting):
    """As on a system where folders have no handles."""

    handles = False


STEPS = settings(
    max_examples=20, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
TestSplit, TestMerge, TestScore, TestWithoutHandles = (
    machine.TestCase for machine in (Planting, Merging, Scoring, WithoutHandles)
)
for case in (TestSplit, TestMerge, TestScore, TestWithoutHandles):
    case.settings = STEPS


class TestOneByOne:
    """What the machine above meets by chance, each for itself."""

    @pytest.fixture(params=["split", "merge"])
    def verb(self, request):
        return request.param

    def stopped(self, verb, root, monkeypatch):
        """A run that had noted an image as done. Returns the files that are there."""
        given, clean = given_to(verb)
        before = {
            "split": ("probe", "journal.jsonl", "tiles.jsonl"),
            "merge": ("probe", "journal.jsonl"),
        }[verb]
        tiles = [name for name in clean if name.startswith(("images/", "labels/"))]
        first = (
            tiles
            if verb == "split"
            else (*output.OWN[:3], "detections.csv", "dota/Task1_a.txt", tiles[0])
        )
        count = len(before) + len(first)
        with killed_after(count, monkeypatch):
            produce(verb, given, root / "out")
        assert len((root / PARTIAL / "journal.jsonl").read_bytes().splitlines()) > 1
        return [path for path in (root / PARTIAL / "tree").rglob("*") if path.is_file()]

    def test_files_of_the_same_size_are_made_again(self, verb, tmp_path, monkeypatch):
        for path in self.stopped(verb, tmp_path, monkeypatch):
            path.write_bytes(b"#" * path.stat().st_size)
        given, clean = given_to(verb)
        produce(verb, given, tmp_path / "out")
        made = tree(tmp_path / "out")
        # it says where the output lies
        assert made | {"args.yaml": ""} == clean | {"args.yaml": ""}

    def test_what_was_unpacked_is_made_again(self, verb, tmp_path, monkeypatch):
        names = [path.relative_to(tmp_path) for path in self.stopped(verb, tmp_path, monkeypatch)]
        shutil.copytree(tmp_path / PARTIAL, tmp_path / "copy")
        remove(tmp_path / PARTIAL)
        (tmp_path / "copy").rename(tmp_path / PARTIAL)
        with Staging(tmp_path / "out") as staging:
            head, *_ = (tmp_path / PARTIAL / "journal.jsonl").read_text().splitlines()
            assert staging.begin(head.partition(" ")[2]) == {}
        assert not any((tmp_path / name).exists() for name in names)

    def test_links_stay_and_stop_overwriting(self, verb, tmp_path):
        given, _ = given_to(verb)
        produce(verb, given, tmp_path / "out")
        (tmp_path / "out/labels/latest").symlink_to(tmp_path)
        with pytest.raises(tiler.TilerError, match="labels/latest is not made by tiler"):
            produce(verb, given, tmp_path / "out", overwrite=True)
        assert (tmp_path / "out/labels/latest").is_symlink()

    @pytest.mark.parametrize("verb", VERBS, indirect=True)
    def test_files_of_an_output_that_are_others_now_are_told(self, verb, tmp_path):
        given, clean = given_to(verb)
        for name in clean if verb != "score" else ("score.json", "report.html", "per_class.csv"):
            produce(verb, given, tmp_path / "out")
            size = (tmp_path / "out" / name).stat().st_size
            (tmp_path / "out" / name).write_bytes(b"#" * (size + 1))
            with pytest.raises(tiler.TilerError, match="out[:/]"):
                produce(verb, given, tmp_path / "out")
            shutil.rmtree(tmp_path / "out")
