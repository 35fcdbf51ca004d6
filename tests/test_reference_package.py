"""With ``compat=True`` the numbers are those of the authors' package, data-selection 1.0.3."""

import json
import re
from importlib.metadata import version
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest

from curate.features import NgramFeatures
from curate.sampling.draws import gumbel_top_k
from curate.scorers import Dsir

data_selection = pytest.importorskip("data_selection")
NLTK = version("nltk")
pytestmark = [
    pytest.mark.reference,
    pytest.mark.skipif(
        tuple(map(int, re.findall(r"\d+", NLTK)[:3])) >= (3, 10, 3),
        reason=f"nltk {NLTK}: since 3.10.3 its tokens are those of another regex engine, not the ones of the paper",
    ),
]
N_BUCKETS = 10_000


class Corpus(NamedTuple):
    raw: list[str]
    target: list[str]


class Parity(NamedTuple):
    """One corpus fitted and weighed by both."""

    corpus: Corpus
    theirs: object
    ours: Dsir
    log_weights: np.ndarray  # of the reference package, of every document
    lengths: np.ndarray


def read_texts(path) -> list[str]:
    if path.suffix == ".parquet":
        return pq.read_table(path)["text"].to_pylist()
    return [json.loads(line)["text"] for line in path.read_text().splitlines()]


ODD = [
    "ΑΣ ΑΣ. ΑΣΑ ὈΔΥΣΣΕΎΣ Σ'",
    "\u0130stanbul DİYARBAKIR ǅ ﬁ ß ẞ",
    "a² ½ h₀ e\u0301 हिन्दी a\u200db a\u00adb",
    "a\x1cb\x1dc\x1ed\x1fe\x85f\xa0g\u2028h\u3000i\0j",
    "👩‍👩‍👧‍👦 🏳️‍🌈 ☂︎ 𝔘𝔫𝔦 𐐀𐐁 漢字かな交じり文 한국어",
    "שלום עולם, مرحبا بالعالم ٣٫١٤ ی",
    "x" * 5000 + " " + "!?" * 3000,
    "",
    " \n\t",
]


@pytest.fixture(scope="module")
def sampled(samples) -> Corpus:
    shard = read_texts(samples / "raw" / "part-00000.parquet")
    # the odd ones again, long enough to pass the reference's filter of 100 tokens
    return Corpus(
        [*shard[:300], *ODD, *(f"{text} " * 60 for text in ODD)],
        read_texts(samples / "targets/gsm8k/train.jsonl")[:200],
    )


@pytest.fixture(scope="module")
def pooled(pool) -> Corpus:
    texts = [text for path in sorted((pool / "raw").glob("*.parquet")) for text in read_texts(path)]
    odd = re.compile(r"[\u0590-\u06ff\u0900-\u097f\u3040-\u9fff\uac00-\ud7ff\U00010000-\U0010ffff\0-\x08\x1c-\x1f²½]")
    unusual = [text for text in texts if odd.search(text)][:1500]
    assert len(unusual) == 1500
    return Corpus([*texts[:1000], *unusual], read_texts(pool / "targets/minif2f-lean/train.jsonl"))


CORPORA = ["sampled", pytest.param("pooled", marks=pytest.mark.pool)]


@pytest.fixture(scope="module", params=CORPORA)
def parity(request, tmp_path_factory) -> Parity:
    corpus = request.getfixturevalue(request.param)
    folder = tmp_path_factory.mktemp("reference")
    for name, texts in corpus._asdict().items():
        lines = (json.dumps({"id": i, "text": text}) for i, text in enumerate(texts))
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    theirs = data_selection.HashedNgramDSIR(
        [str(folder / "raw.jsonl")], [str(folder / "target.jsonl")], cache_dir=str(folder / "cache"), num_proc=1
    )
    theirs.fit_importance_estimator(num_tokens_to_fit="all")
    theirs.compute_importance_weights()
    return Parity(
        corpus,
        theirs,
        Dsir(compat=True).fit(target=corpus.target, raw=corpus.raw),
        np.load(theirs.log_importance_weights_dir / "0.npy"),
        np.load(theirs.perexample_metadata_dir / "0.npy"),
    )


def test_the_texts_are_of_many_scripts(parity) -> None:
    text = "".join(parity.corpus.raw)
    for script in (r"[\u4e00-\u9fff]", r"[\U0001f300-\U0001faff]", r"[\u0590-\u06ff]", r"[\0-\x08\x0e-\x1f]"):
        assert re.search(script, text)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("n_buckets", [1000, N_BUCKETS])
def test_counts_of_every_document_are_the_same(parity, n, n_buckets) -> None:
    from data_selection.hashed_ngram_dsir import get_ngram_counts

    texts = parity.corpus.raw[:: max(1, len(parity.corpus.raw) // 250)] + ODD
    stream = NgramFeatures(n=n, n_buckets=n_buckets, hash="sha256").stream(texts)
    for text, buckets in zip(texts, np.split(stream.buckets, stream.ends[:-1]), strict=True):
        theirs = get_ngram_counts(text, n=n, num_buckets=n_buckets)
        assert np.array_equal(np.bincount(buckets, minlength=n_buckets), theirs), text[:80]


def test_log_ratios_are_the_same(parity) -> None:
    assert np.allclose(parity.ours.log_ratio_[0], parity.theirs.log_diff, rtol=0, atol=1e-9)


def test_the_same_documents_are_long_enough(parity) -> None:
    long_enough = parity.theirs.perexample_metadata_filter(parity.lengths)
    assert 0 < long_enough.sum() < len(long_enough)
    assert np.array_equal(~np.isnan(parity.ours.score(parity.corpus.raw)), long_enough)


def test_log_weights_are_the_same(parity) -> None:
    scores = parity.ours.score(parity.corpus.raw)
    eligible = ~np.isnan(scores)
    assert np.allclose(scores[eligible], parity.log_weights[eligible], rtol=1e-9, atol=1e-9)


def chosen_by_the_reference(parity, folder, k, *, top_k) -> list[int]:
    parity.theirs.resample(out_dir=str(folder / "out"), num_to_sample=k, top_k=top_k)
    return sorted(json.loads(line)["id"] for path in folder.glob("out/*.jsonl") for line in path.open())


@pytest.mark.parametrize("k", [1, 25, 100])
def test_the_top_k_is_the_same(parity, k, tmp_path) -> None:
    scores = parity.ours.score(parity.corpus.raw)
    ours = gumbel_top_k(scores, k, noise=np.zeros(len(scores)))
    assert ours.tolist() == chosen_by_the_reference(parity, tmp_path, k, top_k=True)


@pytest.mark.parametrize("k", [1, 25, 100])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_draw_under_the_same_gumbel_noise_is_the_same(parity, k, seed, tmp_path) -> None:
    scores = parity.ours.score(parity.corpus.raw)
    eligible = ~np.isnan(scores)
    noise = np.zeros(len(scores))
    noise[eligible] = np.random.RandomState(seed).gumbel(size=eligible.sum())
    state = np.random.get_state()
    np.random.seed(seed)  # the reference draws from the global state
    try:
        theirs = chosen_by_the_reference(parity, tmp_path, k, top_k=False)
    finally:
        np.random.set_state(state)
    assert gumbel_top_k(scores, k, noise=noise).tolist() == theirs


@pytest.mark.parametrize("proportions", [None, [0.25, 0.75]])
def test_separate_targets_have_the_same_weights_and_proportions(parity, proportions, tmp_path) -> None:
    raw, targets = parity.corpus.raw[:120], [parity.corpus.target[:50], parity.corpus.raw[-40:]]
    paths = []
    for name, texts in zip(("raw", "a", "b"), (raw, *targets), strict=True):
        paths.append(tmp_path / f"{name}.jsonl")
        paths[-1].write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    theirs = data_selection.HashedNgramDSIR(
        [str(paths[0])],
        [str(path) for path in paths[1:]],
        cache_dir=str(tmp_path / "cache"),
        num_proc=1,
        separate_targets=True,
        target_proportions=proportions,
    )
    theirs.fit_importance_estimator(num_tokens_to_fit="all")
    theirs.compute_importance_weights()
    ours = Dsir(compat=True, min_tokens=0, separate_targets=True, target_proportions=proportions)
    ours.fit(target=dict(zip("ab", targets, strict=True)), raw=raw)
    assert ours.target_proportions_ == pytest.approx(theirs.target_proportions)
    assert np.allclose(ours.log_ratio_, theirs.log_diff, rtol=0, atol=1e-9)
    log_weights = np.load(theirs.log_importance_weights_dir / "0.npy")
    assert np.allclose(ours.score(raw), log_weights, rtol=1e-9, atol=1e-9)
