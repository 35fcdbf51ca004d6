"""ZIP-FIT: alignments equal their definition and the package, and a race finds the best of them."""

import json
import sys
from gzip import compress
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import InputError, UsageError
from curate.scorers.zipfit import Controls, ZipFit, ncd, race, spread_order

X = "theorem add_comm (a b : Nat) : a + b = b + a := by ring"
Y = "theorem mul_comm (a b : Nat) : a * b = b * a := by ring"
Z = "Across all his bands and projects, Townsend has released twenty studio albums."
texts = st.lists(st.text(st.sampled_from("ab c.Σé漢\n"), max_size=60), min_size=1, max_size=5)


def gzip_size(text: bytes) -> int:
    return len(compress(text, 6))


def corpus(n: int, seed: int = 0) -> list[str]:
    """Documents of several kinds and lengths."""
    rng = np.random.default_rng(seed)
    kinds = [[f"{kind}{i}" for i in range(40)] for kind in "pqrs"]
    return [" ".join(rng.choice(kinds[i % 4], rng.integers(5, 80))) for i in range(n)]


def test_the_worked_example() -> None:
    for target, expected in ((X, 0.955882), (Y, 0.794118), (Z, 0.340659)):
        assert ZipFit(min_tokens=0).fit(target=[target]).score([X]) == pytest.approx([expected], abs=1e-6)


def test_distances_equal_the_formula() -> None:
    assert ncd(10, np.array([5.0, 20.0]), np.array([12.0, 21.0])).tolist() == [(12 - 5) / 10, (21 - 10) / 20]


@given(texts, texts.filter(any))
@settings(max_examples=50)
def test_scores_equal_the_definition(documents, target) -> None:
    scores = ZipFit(min_tokens=0).fit(target=target).score(documents)
    for text, score in zip(documents, scores, strict=True):
        if not text:
            assert np.isnan(score)
            continue
        expected = reference.alignment(text.encode(), [t.encode() for t in target if t], gzip_size)
        assert score == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("codec", ["gzip", "deflate", "zstd"])
def test_scores_do_not_depend_on_neighbours_or_containers(codec) -> None:
    model = ZipFit(min_tokens=0, codec=codec).fit(target=corpus(10, 1))
    documents = [*corpus(30), ""]
    scores = model.score(documents)
    assert np.array_equal(model.score(documents[::-1]), scores[::-1], equal_nan=True)
    assert np.array_equal(model.score(pa.chunked_array([documents[:7], documents[7:]])), scores, equal_nan=True)
    assert np.array_equal(model.score(pa.array([None, *documents])[1:]), scores, equal_nan=True)


def test_targets_by_name_are_pooled_and_can_be_sampled_whatever_their_order() -> None:
    target = corpus(20, 1)
    named = ZipFit(min_tokens=0).fit(target={"a": target[:5], "b": target[5:]})
    assert named.target_names_ == ["a+b"]
    assert named.score(corpus(5)) == pytest.approx(ZipFit(min_tokens=0).fit(target=target).score(corpus(5)))
    few = ZipFit(min_tokens=0, max_target_texts=4).fit(target=target)
    assert len(few.targets_) == 4
    again = ZipFit(min_tokens=0, max_target_texts=4).fit(target=target[::-1])
    assert [few.targets_.bytes(i) for i in range(4)] == [again.targets_.bytes(i) for i in range(4)]


def test_what_is_saved_scores_the_same(tmp_path) -> None:
    model = ZipFit(min_tokens=0, codec="zstd", level=1).fit(target=corpus(5, 1))
    model.save(tmp_path)
    loaded = ZipFit.load(tmp_path)
    assert np.array_equal(loaded.score(corpus(9)), model.score(corpus(9)))
    assert loaded.identity() == model.identity()
    assert json.loads((tmp_path / "scorer.json").read_text())["settings"] == model.settings()
    (tmp_path / "arrays.npz").write_bytes(b"no")
    with pytest.raises(InputError, match="not a saved scorer"):
        ZipFit.load(tmp_path)


def test_identity_says_what_determines_the_scores() -> None:
    assert ZipFit().identity() == ZipFit(level=6).identity() != ZipFit(level=5).identity()
    assert ZipFit().identity()["library"].startswith("zlib ")
    json.dumps(ZipFit().identity())


def test_short_documents_have_no_score() -> None:
    scores = ZipFit(min_tokens=3).fit(target=["one two three"]).score(["one two", "one two three", ""])
    assert np.isnan(scores).tolist() == [True, False, True]
    assert not np.isnan(ZipFit(compat=True).fit(target=["one"]).score([""])).any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"codec": "gzpi"}, "did you mean 'gzip'"),
        ({"level": 0}, "compresses nothing"),
        ({"compat": True, "level": 0}, "compresses nothing"),
        ({"compat": True, "codec": "deflate"}, "the package zip-fit has no codec 'deflate'"),
        ({"compat": "yes"}, "true or false"),
        ({"max_target_texts": 0}, "must be a whole number, 1 or more"),
        ({"levle": 1}, "did you mean 'level'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message) -> None:
    with pytest.raises(UsageError, match=message):
        ZipFit.from_settings(settings)


def test_a_target_without_text_is_refused() -> None:
    with pytest.raises(InputError, match="'t' has no text"):
        ZipFit(min_tokens=0).fit(target={"t": ["", ""]})


# ---- the package


@pytest.mark.reference
@pytest.mark.parametrize(("codec", "level"), [("gzip", 6), ("gzip", 1), ("gzip", 9), ("zstd", 3), ("lz4", 0)])
def test_compat_equals_the_package(codec, level, samples, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=None))  # imported, and not used here
    package = pytest.importorskip("zip_fit")
    import pyarrow.parquet as pq

    raw = pq.read_table(samples / "raw" / "part-00000.parquet")["text"].to_pylist()[:400]
    documents = list(dict.fromkeys([*raw, "", "x", "漢字 é 👩‍👩‍👧", " ".join(raw)[:80_000]]))
    lines = (samples / "targets/gsm8k/train.jsonl").read_text().splitlines()[:50]
    target = [json.loads(line)["text"] for line in lines]
    theirs = package.ZIPFIT("", "", k=len(documents), compression_algorithm=codec, compress_level=level)
    expected = dict(theirs.rank_sequences_by_alignment(documents, target))
    scores = ZipFit(min_tokens=0, codec=codec, level=level, compat=True).fit(target=target).score(documents)
    assert len(documents) > 300
    assert np.abs(scores - [expected[text] for text in documents]).max() <= 1e-12


# ---- race


def test_every_beginning_of_the_order_has_texts_of_all_sizes() -> None:
    sizes = np.random.default_rng(0).permutation(100)
    order = spread_order(sizes)
    assert sorted(order) == list(range(100))
    for n in (8, 16, 32):
        assert np.histogram(sizes[order[:n]], 4, (0, 100))[0].min() >= n // 8
    assert spread_order(np.array([5])).tolist() == [0]


def test_controls_explain_what_sizes_and_texts_explain() -> None:
    rng = np.random.default_rng(0)
    ratios, effect = rng.random((20, 50)), rng.normal(size=50)
    similarities = rng.normal(size=(20, 1)) + 0.3 * ratios + effect
    controls = Controls.fit(similarities, ratios)
    rest = similarities[0] - controls.expected(ratios[0])
    assert rest.std() < 0.1 * similarities[0].std()


@pytest.mark.parametrize("k", [1, 7, 60])
def test_winners_have_their_exact_scores(k) -> None:
    documents, model = corpus(150), ZipFit(min_tokens=0).fit(target=corpus(60, 1)[::4])
    found = race(model, documents, k)
    assert len(found.rows) == k
    assert np.array_equal(found.scores, model.score([documents[i] for i in found.rows]))
    assert found.threshold == found.scores.min()
    assert np.all(np.diff(found.rows) > 0)
    assert found.compressions <= found.pairs == 150 * 15


def test_with_intervals_as_wide_as_all_the_race_is_the_full_score() -> None:
    documents, model = corpus(100), ZipFit(min_tokens=0).fit(target=corpus(40, 1))
    found = race(model, documents, 10, z=1e9)
    scores = model.score(documents)
    assert found.rows.tolist() == sorted(np.argsort(-scores, kind="stable")[:10])
    assert found.saved_fraction == 0
    assert found.in_full == 100


def test_the_race_does_not_depend_on_threads_or_the_order_of_documents() -> None:
    documents, model = corpus(200), ZipFit(min_tokens=0).fit(target=corpus(64, 1))
    found = race(model, documents, 10)
    assert np.array_equal(race(model, documents, 10, workers=3).rows, found.rows)
    backwards = race(model, documents[::-1], 10)
    assert sorted(199 - backwards.rows) == found.rows.tolist()
    assert backwards.compressions == found.compressions


def test_a_race_that_cannot_have_so_many_winners_says_so() -> None:
    with pytest.raises(InputError, match="cannot keep 3 documents: only 2 of 3 have text"):
        race(ZipFit(min_tokens=0).fit(target=["a"]), ["a", "", "b"], 3)


@pytest.mark.slow
@pytest.mark.pool
@pytest.mark.parametrize("target", ["gsm8k", "pubmedqa", "minif2f-lean", "wikitext2"])
def test_races_on_the_pool_find_the_top_k_and_spare_most_compressions(target, pool) -> None:
    import pyarrow.parquet as pq

    raw = [t for path in sorted((pool / "raw").glob("*.parquet")) for t in pq.read_table(path)["text"].to_pylist()]
    lines = (pool / "targets" / target / "train.jsonl").read_text().splitlines()[:150]
    model = ZipFit(min_tokens=0).fit(target=[json.loads(line)["text"] for line in lines])
    missed = spared = 0.0
    for seed in range(3):
        rng = np.random.default_rng(seed)
        documents = [raw[i] for i in rng.choice(len(raw), 400, replace=False) if raw[i]]
        scores = model.score(documents)
        found = race(model, documents, 20, workers=2)
        missed += len(set(np.argsort(-scores, kind="stable")[:20]) - set(found.rows))
        spared += found.saved_fraction / 3
    assert missed <= 1  # likely, not certain: see `race`
    assert spared > 0.5
