"""In what proportion to mix groups, as other loaders read it: their files, and the lines that load them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.io.curriculum import DOCUMENTS
from curate.io.paths import atomic
from curate.io.run import write_json

MIXES = {"hf": "interleave.json", "megatron": "blend.txt", "mds": "streams.json"}  # loader: file of the proportions
COUNTS = {"hf": DOCUMENTS, "megatron": "text", "mds": DOCUMENTS}  # loader: what its proportions are shares of
_BUILDERS = {"parquet": "parquet", "jsonl.zst": "json"}  # format: what datasets calls what reads it


@dataclass(frozen=True)
class GroupFiles:
    """Where the documents of a group are: ``files`` in ``folder``, which is below the folder of the export."""

    folder: str
    documents: int
    bytes: int
    files: tuple[str, ...]


@dataclass(frozen=True)
class Loader:
    """What the files of proportions and the lines that load them are made of. ``format``: of the files of groups."""

    to: str
    out: Path
    groups: Mapping[str, GroupFiles]
    text_column: str
    format: str
    seed: int

    def how(self, mix: Path) -> str:
        """Lines that load the mix of a file."""
        return _HOW[self.to](self, mix)


def write_mixes(loader: Loader, mixes: Sequence[Mapping[str, float]]) -> tuple[Path, ...]:
    """A file a stage; what was there of other stages goes."""
    clear_mixes(loader.out)
    stem, ending = MIXES[loader.to].split(".")
    paths = []
    for stage, weights in enumerate(mixes):
        paths.append(loader.out / (MIXES[loader.to] if len(mixes) == 1 else f"{stem}-stage-{stage}.{ending}"))
        if loader.to == "megatron":
            with atomic(paths[-1]) as part:
                part.write_text(blend(loader, weights) + "\n", encoding="utf-8")
        else:
            write_json(paths[-1], interleaving(loader, weights) if loader.to == "hf" else streams(loader, weights))
    return tuple(paths)


def clear_mixes(folder: Path) -> None:
    """Remove the files of proportions of any loader and stage."""
    for stem, ending in (name.split(".") for name in MIXES.values()):
        for old in [folder / f"{stem}.{ending}", *folder.glob(f"{stem}-stage-*.{ending}")]:
            old.unlink(missing_ok=True)


def interleaving(loader: Loader, weights: Mapping[str, float]) -> dict[str, Any]:
    """What `datasets.interleave_datasets` takes; files are relative to the folder of the export."""
    of = {name: loader.groups[name] for name in weights}
    return {
        "format": _BUILDERS[loader.format],
        "names": list(weights),
        "probabilities": list(weights.values()),
        "seed": loader.seed,
        "data_files": {name: [f"{files.folder}/{file}" for file in files.files] for name, files in of.items()},
        "documents": {name: files.documents for name, files in of.items()},
    }


def blend(loader: Loader, weights: Mapping[str, float]) -> str:
    """Megatron's ``weight prefix weight prefix ...``; the prefixes are what ``preprocess_data.py`` is told to write."""
    return " ".join(
        f"{weight!r} {loader.out}/{loader.groups[name].folder}/tokens_{loader.text_column}_document"
        for name, weight in weights.items()
    )


def streams(loader: Loader, weights: Mapping[str, float]) -> dict[str, Any]:
    """What a ``Stream`` of MosaicML streaming takes for each group; folders are relative to that of the export."""
    return {
        "streams": {
            name: {"local": loader.groups[name].folder, "proportion": weight} for name, weight in weights.items()
        }
    }


def _how_hf(loader: Loader, mix: Path) -> str:
    return f"""import json
from datasets import interleave_datasets, load_dataset

out = {str(loader.out)!r}
mix = json.load(open(f"{{out}}/{mix.name}"))
files = [[f"{{out}}/{{file}}" for file in mix["data_files"][name]] for name in mix["names"]]
parts = [load_dataset(mix["format"], data_files=some, split="train", streaming=True) for some in files]
data = interleave_datasets(
    parts, probabilities=mix["probabilities"], seed=mix["seed"], stopping_strategy="all_exhausted"
)"""


def _how_megatron(loader: Loader, mix: Path) -> str:
    out = shlex.quote(str(loader.out))
    return f"""for group in {out}/groups/*; do
  zstdcat $group/*.zst | python tools/preprocess_data.py --input /dev/stdin --output-prefix $group/tokens \\
    --json-keys {shlex.quote(loader.text_column)} --append-eod --workers 8 --tokenizer-type ...
done
python pretrain_gpt.py --data-path $(cat {shlex.quote(str(mix))}) ..."""


def _how_mds(loader: Loader, mix: Path) -> str:
    return f"""import json
from streaming import Stream, StreamingDataset

out = {str(loader.out)!r}
mix = json.load(open(f"{{out}}/{mix.name}"))["streams"]
parts = [Stream(local=f"{{out}}/{{of['local']}}", proportion=of["proportion"]) for of in mix.values()]
data = StreamingDataset(streams=parts, batch_size=8, shuffle=True)"""


_HOW: dict[str, Callable[[Loader, Path], str]] = {"hf": _how_hf, "megatron": _how_megatron, "mds": _how_mds}
