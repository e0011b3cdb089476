"""Whole processes, measured: wall, CPU and the peak memory of the process tree (Linux)."""

from __future__ import annotations

import os
import platform
import resource
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

MEMORY = """Memory is the peak of the process tree, sampled: PSS with the pages of mapped files,
which are the page cache's; anon without them (but what processes share after a fork is counted in
each)."""


@dataclass(frozen=True)
class Measured:
    """Seconds of wall and CPU, MiB of peak memory, and what was printed.

    Attributes:
        peak: PSS of the tree, or RSS where that is not to be had.
        anon: its anonymous part: no pages of files, which are the page cache's.
    """

    wall: float
    cpu: float
    peak: float
    anon: float = 0.0
    output: str = ""


class Failed(RuntimeError):
    """A run that gave no result, with what it printed."""

    @property
    def why(self) -> str:
        """The last line."""
        return last_line(str(self))


def last_line(text: str) -> str:
    """The last one with a word in it; not the frame that a console draws around its errors."""
    lines = [line.strip("│ \t") for line in text.splitlines()]
    return next((line for line in reversed(lines) if any(map(str.isalnum, line))), "")


def once(command: Sequence[str], env: Mapping[str, str] | None = None) -> Measured:
    """Run a command and measure it. Exit 1 is no failure (`tiler` has found something) but for a
    traceback.

    Raises:
        Failed: with its output.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **(env or {})},
        start_new_session=True,
    )
    peaks = [0.0, 0.0]
    watcher = threading.Thread(target=_watch, args=(process, peaks), daemon=True)
    watcher.start()
    try:
        printed, _ = process.communicate()
    except BaseException:  # interrupted: a session of its own would go on
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    wall = time.perf_counter() - start
    watcher.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    output = printed.decode(errors="replace")
    if process.returncode not in (0, 1) or (
        process.returncode == 1 and "Traceback (most recent call last)" in output
    ):
        raise Failed(f"{command}: exit {process.returncode}\n{output[-2000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(wall, cpu, *peaks, output)


def _watch(process: subprocess.Popen[bytes], peaks: list[float]) -> None:
    while process.poll() is None:
        tree = [_memory(pid) for pid in _session(process.pid)]
        peaks[:] = [
            max(peak, sum(now) / 1024)
            for peak, now in zip(peaks, zip((0.0, 0.0), *tree, strict=True), strict=True)
        ]
        time.sleep(0.05)


def _session(leader: int) -> list[int]:
    members = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    fields = file.read().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[3]) == leader:
                members.append(int(name))
    return members


def _memory(pid: int) -> tuple[float, float]:
    """PSS and its anonymous part, or RSS and that, KiB."""
    for path, keys in (
        (f"/proc/{pid}/smaps_rollup", ("Pss:", "Anonymous:")),
        (f"/proc/{pid}/status", ("VmRSS:", "RssAnon:")),
    ):
        try:
            with open(path) as file:
                found = {line.split()[0]: line.split()[1] for line in file if line.startswith(keys)}
            return float(found[keys[0]]), float(found[keys[1]])
        except (OSError, KeyError):
            continue
    return 0.0, 0.0


def compare(
    runs: Mapping[str, Sequence[str]],
    repeats: int,
    clean: Callable[[str], None],
    env: Mapping[str, str] | None = None,
    check: Callable[[str, Measured], str | None] | None = None,
) -> dict[str, Measured | Failed]:
    """Each command `repeats` times, in turn (so that all meet the same noise): the medians.

    Args:
        clean: called with the command's name before each of its runs.
        check: called with the name and the result after each run, it says what is wrong with it, or
            None. With it a command that fails is a result like others and is not run again.

    Raises:
        Failed: a command failed, and there is no `check`.
    """
    results: dict[str, list[Measured]] = {name: [] for name in runs}
    failures: dict[str, Failed] = {}
    for _ in range(repeats):
        for name in (n for n in runs if n not in failures):
            clean(name)
            try:
                results[name].append(once(runs[name], env))
                if check is not None and (problem := check(name, results[name][-1])):
                    raise Failed(problem)
            except Failed as failure:
                if check is None:
                    raise
                failures[name] = failure
    return {name: failures.get(name) or _summary(results[name]) for name in runs}


def _summary(many: list[Measured]) -> Measured:
    """Medians of the times, the highest peaks."""
    from statistics import median

    return replace(
        many[-1],
        wall=median(m.wall for m in many),
        cpu=median(m.cpu for m in many),
        peak=max(m.peak for m in many),
        anon=max(m.anon for m in many),
    )


def print_table(results: Mapping[str, Measured | Failed], *bases: str) -> None:
    """The figures, and each wall as a ratio to that of each of `bases`."""
    width = max([28, *map(len, results)])
    heads = [f"wall / {base}" for base in bases]
    print(
        f"{'':{width}} {'wall s':>8} {'CPU s':>8} {'PSS MiB':>8} {'anon MiB':>9}",
        *(f"{head:>16}" for head in heads),
    )
    for name, m in results.items():
        if isinstance(m, Failed):
            print(f"{name:{width}} failed: {m.why}")
            continue
        ratios = [
            f"{_ratio(m, results[base]):>{max(16, len(head))}}"
            for base, head in zip(bases, heads, strict=True)
        ]
        print(f"{name:{width}} {m.wall:8.2f} {m.cpu:8.2f} {m.peak:8.0f} {m.anon:9.0f}", *ratios)


def _ratio(one: Measured, base: Measured | Failed) -> str:
    return "-" if isinstance(base, Failed) else f"{one.wall / base.wall:.2f}"


@contextmanager
def folder(keep: Path | None) -> Iterator[Path]:
    """A temporary folder, or the one that is to be kept, made if need be."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="tiler-bench-") as name:
            yield Path(name)
    else:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.absolute()


def python_with(module: str, pythons: Sequence[str]) -> str | None:
    """The first interpreter that has it."""
    there = (
        p
        for p in pythons
        if subprocess.run([p, "-c", f"import {module}"], capture_output=True).returncode == 0
    )
    return next(there, None)


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine(*packages: str) -> str:
    """The processor, the cores usable, Python and the packages that are installed, with
    versions.
    """
    from importlib import metadata

    versions = [f"Python {platform.python_version()}"]
    for package in packages:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return f"{_processor()}, {cores()} cores usable, {platform.system()}; {', '.join(versions)}"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(
                line.split(":", 1)[1].strip() for line in file if line.startswith("model name")
            )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
