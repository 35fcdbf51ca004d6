"""Texts for measuring: those of the samples, out of raw, and those of the target that was not fitted to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from curate.engines import LocalEngine
from curate.errors import InputError
from curate.evidence.arms import Sample
from curate.io.corpus import Corpus, Partition
from curate.io.paths import filesystem
from curate.progress import Progress
from curate.sampling.noise import HOLDOUT, TIE, keyed_hashes
from curate.steps.documents import documents, raw_batches
from curate.steps.holdout import held_out_texts, normalised
from curate.survey.corpus import BATCH_BYTES

SEPARATOR = b"\n\n"
FEW_HELD_OUT = 20
Texts = Mapping[tuple[int, int], bytes]  # by partition and row in the file


def read_texts(corpus: Corpus, samples: Iterable[Sample], engine: LocalEngine, progress: Progress) -> Texts:
    """The texts of all sampled documents, from one pass over the partitions that have some; held in memory.

    Raises
    ------
    InputError : a raw file is gone, or is not what was scored.
    """
    samples = list(samples)
    longest = max(sample.n_bytes for sample in samples)
    columns = np.concatenate([sample.documents[["part", "row", "bytes", "ident"]] for sample in samples])
    wanted = np.unique(columns)  # ordered by part and row
    parts = [corpus.partitions[int(i)] for i in np.unique(wanted["part"])]
    for file in sorted({partition.file for partition in parts}):
        _require_size(corpus, file)
    found: dict[tuple[int, int], bytes] = {}

    def fetch(partition: Partition) -> dict[tuple[int, int], bytes]:
        return _fetch(corpus, partition, wanted[wanted["part"] == partition.index], longest)

    with progress.stage("read", sum(p.n_bytes for p in parts)) as stage:
        for partition, texts in engine.each(fetch, parts):
            found |= texts
            stage.advance(partition.n_bytes)
    return found


def _require_size(corpus: Corpus, number: int) -> None:
    file = corpus.files[number]
    fs, inner = filesystem(file.source.path)
    try:
        size = fs.info(inner)["size"]
    except OSError as error:
        raise InputError(
            f"{file.source.path}: cannot be read ({error.strerror or error}); evidence is made of the texts of raw: "
            "put the file back, or run in the folder where curate select ran"
        ) from error
    if size is not None and size != file.bytes:
        raise _changed(file.source.path, f"{size:,} bytes, but it had {file.bytes:,} when it was scored")


def _changed(path: str, what: str) -> InputError:
    return InputError(f"{path}: {what}; put it back as it was, or select again with --overwrite")


def _fetch(corpus: Corpus, partition: Partition, wanted: np.ndarray, longest: int) -> dict[tuple[int, int], bytes]:
    """Texts by partition and row, of each no more than ``longest`` bytes."""
    found: dict[tuple[int, int], bytes] = {}
    for raw in raw_batches(corpus, partition, (), BATCH_BYTES):
        docs = documents(corpus, partition, raw, ())
        here = np.flatnonzero(np.isin(docs.rows, wanted["row"]))
        if not len(here):
            continue
        rows = docs.rows[here]
        expected = wanted[np.searchsorted(wanted["row"], rows)]
        idents = keyed_hashes(docs.ids.take(pa.array(here)), 0, TIE)
        if (docs.n_bytes[here] != expected["bytes"]).any() or (idents != expected["ident"]).any():
            raise _changed(corpus.source(partition).path, "other documents than when it was scored")
        texts = docs.texts.take(pa.array(here)).to_pylist()
        found |= {(partition.index, int(r)): cut(text.encode(), longest) for r, text in zip(rows, texts, strict=True)}
        if len(found) == len(wanted):
            return found
    missing = len(wanted) - len(found)
    raise _changed(corpus.source(partition).path, f"{missing:,} documents that were scored are not there")


def priming(sample: Sample, texts: Texts) -> list[bytes]:
    """The texts of a sample in its order, the last one cut between two characters."""
    places = zip(sample.documents["part"].tolist(), sample.documents["row"].tolist(), strict=True)
    whole = [texts[place] for place in places]
    if whole:
        whole[sample.last] = cut(whole[sample.last], sample.last_bytes)
    return whole


def cut(text: bytes, size: int) -> bytes:
    """The beginning of a UTF-8 text, at most so many bytes, without half a character."""
    return text if len(text) <= size else text[:size].decode(errors="ignore").encode()


@dataclass(frozen=True)
class HeldOut:
    """What a target's model is measured with: texts, and how much there was of them."""

    target: str
    texts: tuple[bytes, ...]
    n_documents: int  # before the measure was full
    n_bytes: int

    @property
    def sizes(self) -> np.ndarray:
        """int64[n_texts], bytes with the separator after each."""
        return np.array([len(text) + len(SEPARATOR) for text in self.texts], np.int64)


def read_heldout(target: str, corpus: Corpus, size: int, holdout: float | None) -> HeldOut:
    """Held-out texts of a target in the order of a hash of what they say, as many as there are in ``size`` bytes.

    One that is longer than a twentieth of that is cut, so that there are several.

    Raises
    ------
    InputError : fewer than two texts that are not blank.
    """
    found: list[tuple[int, bytes]] = []
    n_documents = n_bytes = held = 0
    longest = max(1, size // FEW_HELD_OUT)
    for texts in held_out_texts(corpus, BATCH_BYTES, holdout):
        for key, text in zip(keyed_hashes(texts, 1, HOLDOUT).tolist(), texts.to_pylist(), strict=True):
            if text.strip():
                data = cut(text.encode(), longest)
                found.append((key, data))
                n_documents += 1
                n_bytes += len(text.encode())
                held += len(data)
        if held > 4 * size:  # flat memory for a target of any size
            found, held = _first(found, size)
    found, _ = _first(found, size)
    if len(found) < 2:
        where = ", ".join(file.source.path for file in corpus.files[:3])
        share = "" if holdout is None else f" among the {holdout:g} of it that --holdout left out"
        way = "give more with --heldout" if holdout is not None else "give more texts, or a larger heldout_size"
        raise InputError(f"{where}: {len(found)} held-out texts{share}, at least 2 are needed; {way}")
    return HeldOut(target, tuple(text for _, text in found), n_documents, n_bytes)


def _first(found: list[tuple[int, bytes]], size: int) -> tuple[list[tuple[int, bytes]], int]:
    """The texts with the lowest hashes, each once, as long as they are within ``size``, and their bytes."""
    total = 0
    for i, (_, text) in enumerate(sorted_ := sorted(dict(found).items())):
        if total + len(text) > size:
            return sorted_[:i], total
        total += len(text)
    return sorted_, total


COPY_CHARACTERS = 50  # a held-out text of fewer is a copy only when it is a whole document


def copies(heldout: HeldOut, samples: Sequence[Sequence[bytes]]) -> int:
    """How many held-out texts stand in a document of some samples, word for word but for case and white space."""
    import polars as pl

    documents_ = {text for sample in samples for text in sample}
    said = [f"\n{text}\n" for text in sorted({normalised(text.decode()) for text in documents_})]
    wanted = [normalised(text.decode()) for text in heldout.texts]
    patterns = [text if len(text) >= COPY_CHARACTERS else f"\n{text}\n" for text in wanted]
    found = pl.Series(said, dtype=pl.String).str.extract_many(sorted(set(patterns)), overlapping=True)
    there = set(found.explode().drop_nulls())
    return sum(pattern in there for pattern in patterns)
