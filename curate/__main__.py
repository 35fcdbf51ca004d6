"""``python -m curate``."""

from curate.cli import main

main(prog_name="curate")
