"""``curate curriculum``: what to train on, in what proportion, when."""

from __future__ import annotations

import click


@click.group()
def curriculum() -> None:
    """What to train on, in what proportion, when: weights of groups that training loops read.

    \b
    Example:
      curate curriculum --help
    """
