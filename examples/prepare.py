"""A data-prep script: check a dataset, cut it, and stop if an object was lost.

python examples/prepare.py [DATASET] [OUT]
"""

from __future__ import annotations

import sys

import tiler


def main(data: str = "examples/scenes", out: str = "prepared") -> int:
    findings = tiler.check(data).findings
    for finding in findings:
        print(finding)
    if any(finding.level == "error" for finding in findings):
        print("mend these first")
        return 1

    report = tiler.split(data, tile=640, overlap=128, background=0.25, out=out)
    for name, split in report.splits.items():
        sizes = split.objects.before
        print(
            f"{name}: {split.objects.objects} objects ({sizes.small} small) in "
            f"{split.counts.tiles} tiles"
        )
    for lost in report.lost:
        print(f"lost: {lost.source}, row {lost.row}: {lost.reason}")
    print(f"train with {report.out}/dataset.yaml")
    return int(bool(report.lost))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
