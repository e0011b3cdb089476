"""`python -m tiler`."""

from tiler.cli import main

main()
