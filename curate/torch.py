"""A curriculum as a PyTorch dataset: `CurriculumStream` for a DataLoader, over its workers and all ranks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from curate._optional import require
from curate.curriculum.loader import CurriculumStream, Weighing
from curate.io.targets import Paths

_torch = require("torch", extra="torch", purpose="curate.torch")
_data = require("torch.utils.data", extra="torch", purpose="curate.torch")


class CurriculumDataset(CurriculumStream, _data.IterableDataset):  # type: ignore[misc, name-defined]
    """Documents of a corpus in the proportions of a curriculum, for ``torch.utils.data.DataLoader``.

    All arguments are those of `CurriculumStream`. Give the loader the same ``batch_size``. ``rank`` and ``world`` are
    by default those of ``torch.distributed``, or of the environment that ``torchrun`` makes.

    Going on after a stop, under any number of ranks and workers::

        state = dataset.state_dict(step)           # batches that were trained on
        dataset.load_state_dict(state)             # before the loader is iterated

    torchdata's ``StatefulDataLoader`` calls both by itself.
    """

    def __init__(
        self,
        paths: Paths,
        curriculum: Weighing = None,
        *,
        rank: int | None = None,
        world: int | None = None,
        **more: Any,
    ) -> None:
        if rank is None or world is None:
            found = _ranks()
            rank, world = found[0] if rank is None else rank, found[1] if world is None else world
        super().__init__(paths, curriculum, rank=rank, world=world, **more)

    def __iter__(self) -> Iterator[Any]:
        info = _data.get_worker_info()
        return self.iterate() if info is None else self.iterate(info.id, info.num_workers)


def _ranks() -> tuple[int, int]:
    distributed = _torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
