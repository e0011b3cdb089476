"""The command line: parse, call, print.

Results go to stdout, everything else to stderr. Exit 0 done, 1 done with findings, 2 wrong
use or unusable input, 3 could not finish (run again to resume), 128 + n stopped by signal n.

Only what answers a Ctrl-C is loaded here; the commands are in `app`.
"""

from __future__ import annotations

import os


def main() -> None:
    """The `tiler` command."""
    try:
        from tiler.cli import stopping

        stopping.heed_signals()
        from tiler.cli import app

        app.run()
    except KeyboardInterrupt:  # before signals are handled
        os.write(2, b"tiler: stopped by SIGINT\n")
        os._exit(130)
