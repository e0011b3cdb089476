"""Whole processes, measured: wall, CPU and the peak memory of the process tree (Linux)."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """Seconds of wall and CPU, MiB of peak memory (PSS of the tree, or RSS where that is not to be had)."""

    wall: float
    cpu: float
    peak: float


def once(command: Sequence[str], env: dict[str, str] | None = None) -> Measured:
    """Run a command and measure it.

    Raises:
        RuntimeError: it failed, with its output.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}, start_new_session=True
    )
    peak = [0.0]
    watcher = threading.Thread(target=_watch, args=(process, peak), daemon=True)
    watcher.start()
    output, _ = process.communicate()
    wall = time.perf_counter() - start
    watcher.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode not in (0, 1):
        raise RuntimeError(f"{command}: exit {process.returncode}\n{output.decode(errors='replace')[-2000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(wall, cpu, peak[0])


def _watch(process: subprocess.Popen[bytes], peak: list[float]) -> None:
    while process.poll() is None:
        peak[0] = max(peak[0], sum(_memory(pid) for pid in _session(process.pid)) / 1024)
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


def _memory(pid: int) -> float:
    """KiB."""
    for path, key in ((f"/proc/{pid}/smaps_rollup", "Pss:"), (f"/proc/{pid}/status", "VmRSS:")):
        try:
            with open(path) as file:
                for line in file:
                    if line.startswith(key):
                        return float(line.split()[1])
        except OSError:
            continue
    return 0.0


def compare(
    runs: dict[str, Sequence[str]], repeats: int, clean: Callable[[str], None], env: dict[str, str] | None = None
) -> dict[str, Measured]:
    """Each command `repeats` times, in turn (so that all meet the same noise): the medians.

    Args:
        clean: called with the command's name before each of its runs.
    """
    results: dict[str, list[Measured]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, command in runs.items():
            clean(name)
            results[name].append(once(command, env))
    return {
        name: Measured(statistics.median(m.wall for m in many), statistics.median(m.cpu for m in many), max(m.peak for m in many))
        for name, many in results.items()
    }


def print_table(results: dict[str, Measured], base: str) -> None:
    """The figures, and each wall as a ratio to that of `base`."""
    print(f"{'':28} {'wall s':>8} {'CPU s':>8} {'peak MiB':>9} {'wall / ' + base:>16}")
    for name, m in results.items():
        print(f"{name:28} {m.wall:8.2f} {m.cpu:8.2f} {m.peak:9.0f} {m.wall / results[base].wall:16.2f}")
