"""The command line: parse, call, print.

Results go to stdout, everything else to stderr. Exit 0 done, 1 done with findings, 2 wrong
use or unusable input, 3 could not finish (run again to go on), 128 + n stopped by signal n.

Nothing is loaded here but what a Ctrl-C is answered with; the commands are in `app`.
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
    except KeyboardInterrupt:  # before signals were heeded
        os.write(2, b"tiler: stopped by SIGINT\n")
        os._exit(130)
