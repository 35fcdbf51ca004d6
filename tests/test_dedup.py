"""Duplicates out of core: who goes, why, and what it is a duplicate of."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.dedup import DedupSpec
from curate.dedup.join import REASONS, Join
from curate.dedup.ranking import SignatureFile
from curate.dedup.sets import StoredSets, write_shingles
from curate.errors import CorruptError, InputError, UsageError

N_BANDS = 3


def doc(i, shingles, keys=(0, 0, 0), *, digest=None, prefer=None, path="a", against=False, name=None):
    return {
        "id": f"d{i:05d}" if name is None else name,
        "path": path,
        "row": i,
        "digest": digest if digest is not None else i,
        "set": frozenset(shingles),
        "keys": keys,
        "prefer": prefer,
        "against": against,
        "source": f"s{i % 3}",
    }


def write_signatures(path, docs):
    columns = {
        "doc_id": pa.array([d["id"] for d in docs], pa.large_string()),
        "row": pa.array([d["row"] for d in docs], pa.int64()),
        "prefer": pa.array([d["prefer"] for d in docs], pa.float64()),
        "source": pa.array([d["source"] for d in docs], pa.large_string()),
        "digest": pa.array([d["digest"].to_bytes(16, "big") for d in docs], pa.binary(16)),
        "n_shingles": pa.array([len(d["set"]) for d in docs], pa.int32()),
    }
    for band in range(N_BANDS):
        columns[f"band_{band:02d}"] = pa.array([d["keys"][band] for d in docs], pa.uint64())
    pq.write_table(pa.table(columns), path, row_group_size=max(7, len(docs) // 3))


def joined(folder: Path, docs, *, shuffled=0, workers=1, vectors=None, **spec):
    """What the join says of documents: as `reference.duplicates`, and the summary; its answers are checked to agree."""
    rng = random.Random(shuffled)
    parts = sorted({(d["against"], d["path"]) for d in docs}) or [(False, "a")]
    if shuffled:
        rng.shuffle(parts)
    files, members = [], []
    for n, (against, path) in enumerate(parts):
        mine = [d for d in docs if (d["against"], d["path"]) == (against, path)]
        if shuffled:
            rng.shuffle(mine)
        write_signatures(folder / f"{n}.parquet", mine)
        files.append(SignatureFile(folder / f"{n}.parquet", path, against))
        members.append({d["row"]: d for d in mine})
    join = Join(files, folder / "join", DedupSpec(**spec), 400_000_000, workers)
    join.find()
    for n in range(len(files)):
        rows = join.candidates(n)
        sets = [sorted(members[n][row]["set"]) for row in rows]
        offsets = np.cumsum([0, *map(len, sets)])
        cut = len(rows) // 2
        hashes = np.array([h for s in sets for h in s], np.uint64)
        batches = [(rows[:cut], offsets[: cut + 1], hashes), (rows[cut:], offsets[cut:], hashes)]
        write_shingles(folder / f"{n}.sets", batches)
    join.verify(lambda n: StoredSets.open(folder / f"{n}.sets"))
    if vectors:
        join.find_semantic(lambda n: vectors(members[n], join.kept(n)))
    summary = join.write(folder / "duplicates.parquet")
    places = {(d["path"], d["row"]): i for i, d in enumerate(docs) if not d["against"]}
    all_places = places | {(d["path"], d["row"]): i for i, d in enumerate(docs) if d["against"]}
    table = pq.read_table(folder / "duplicates.parquet").to_pylist()
    found = {}
    for r in table:
        matched, cluster = ((r[f"{what}_path"], r[f"{what}_row"]) for what in ("matched", "cluster"))
        found[places[r["path"], r["row"]]] = (r["reason"], all_places[matched], all_places[cluster], r["similarity"])
        assert (r["matched_id"], r["cluster"]) == (docs[all_places[matched]]["id"], docs[all_places[cluster]]["id"])
        assert r["source"] == docs[places[r["path"], r["row"]]]["source"]
    assert table == sorted(
        table, key=lambda r: (r["cluster"], r["cluster_path"], r["cluster_row"], r["doc_id"], r["path"], r["row"])
    )
    of_parts = {}
    for n, file in enumerate(files):
        removed = join.removed(n)
        assert np.all(np.diff(removed.rows) > 0)
        for row, reason in zip(removed.rows, removed.reasons, strict=True):
            of_parts[places[file.name, int(row)]] = REASONS[reason]
    assert of_parts == {i: reason for i, (reason, *_) in found.items()}
    assert summary.exact + summary.near + summary.semantic == len(found)
    return found, summary


def share_a_key(a, b):
    return any(x == y for x, y in zip(a["keys"], b["keys"], strict=True))


@st.composite
def corpora(draw):
    """Documents of few shingles, keys and digests, in several partitions, some of an existing set."""
    n = draw(st.integers(0, 24))
    docs = []
    for i in range(n):
        shingles = draw(st.frozensets(st.integers(0, 5), max_size=5))
        keys = tuple(draw(st.integers(0, 3)) for _ in range(N_BANDS))
        # equal texts have equal shingles and keys
        digest = draw(st.integers(0, 5)) if draw(st.booleans()) else 100 + i
        if digest < 100 and (twins := [d for d in docs if d["digest"] == digest]):
            shingles, keys = twins[0]["set"], twins[0]["keys"]
        against = draw(st.integers(0, 4)) == 0
        prefer = draw(st.sampled_from([None, None, 1.0, 2.0]))
        path = ("old-" if against else "new-") + draw(st.sampled_from("ab"))
        name = draw(st.sampled_from(["x", "y", "é", f"d{i}"]))
        docs.append(doc(i, shingles, keys, digest=digest, prefer=prefer, path=path, against=against, name=name))
    return docs


@given(corpora(), st.sampled_from([0.3, 0.5, 0.8]), st.sampled_from(["exact", "keep"]), st.integers(0, 3))
@settings(max_examples=12)
def test_who_goes_equals_the_definition(tmp_path_factory, docs, threshold, short, shuffled):
    found, summary = joined(
        tmp_path_factory.mktemp("join"),
        docs,
        shuffled=shuffled,
        workers=1 + shuffled % 2,
        threshold=threshold,
        short=short,
    )
    assert found == reference.duplicates(docs, threshold, short, share_a_key)
    assert (summary.documents, summary.not_compared) == (len(docs), 0)


@given(st.data(), st.integers(1, 3))
@settings(max_examples=6)
def test_large_buckets_in_rounds_keep_what_all_pairs_keep(tmp_path_factory, data, max_bucket):
    sets = data.draw(st.lists(st.frozensets(st.integers(0, 4), min_size=1, max_size=4), min_size=8, max_size=14))
    docs = [doc(i, s, (i % 2, i % 3, 0), against=i < 2, path="old" if i < 2 else "new") for i, s in enumerate(sets)]
    found, summary = joined(tmp_path_factory.mktemp("join"), docs, threshold=0.5, max_bucket=max_bucket)
    expected = reference.duplicates(docs, 0.5)
    assert summary.large_buckets > 0
    if summary.not_compared == 0:
        assert found.keys() == expected.keys()
    for i, (_, j, kept, similarity) in found.items():
        assert kept not in found
        assert similarity == reference.jaccard(docs[i]["set"], docs[j]["set"]) >= 0.5


def test_what_comes_back_when_its_hub_goes_is_compared_with_those_after_it(tmp_path):
    """In the first round 3 goes by 2; in the second 2 goes by 1, and 3 is back; in the third 4 goes by 3."""
    docs = [
        doc(0, range(100, 110), (1, 20, 30)),
        doc(1, range(10), (1, 21, 31)),
        doc(2, range(3, 13), (1, 2, 32)),
        doc(3, range(6, 16), (10, 2, 33)),
        doc(4, range(9, 19), (11, 2, 34)),
    ]
    found, summary = joined(tmp_path, docs, threshold=0.5, max_bucket=2)
    assert {i: j for i, (_, j, _, _) in found.items()} == {2: 1, 4: 3}
    assert (summary.rounds, summary.large_buckets, summary.not_compared) == (3, 2, 0)


def test_a_copy_of_what_went_as_a_near_duplicate_is_in_the_cluster_of_what_stays(tmp_path):
    docs = [doc(0, range(10)), doc(1, range(1, 10), digest=7), doc(2, range(1, 10), digest=7)]
    found, summary = joined(tmp_path, docs)
    assert found == {1: ("near_duplicate", 0, 0, 0.9), 2: ("exact_duplicate", 1, 0, 1.0)}
    assert (summary.exact_groups, summary.clusters, summary.largest_cluster) == (1, 1, 3)


def test_the_existing_set_stays_and_comes_first(tmp_path):
    docs = [
        doc(0, range(10), digest=1, prefer=9.0),
        doc(1, range(10), digest=1, path="old", against=True),
        doc(2, range(10), digest=1, path="old", against=True),
        doc(3, range(9), path="old", against=True),
        doc(4, range(1, 10)),
    ]
    found, _ = joined(tmp_path, docs)
    assert found == {0: ("exact_duplicate", 1, 1, 1.0), 4: ("near_duplicate", 1, 1, 0.9)}


def test_equal_documents_of_the_existing_set_are_all_compared_with_what_may_be_near_to_one_only(tmp_path):
    old = [doc(i, words, digest=1, path="old", against=True) for i, words in enumerate((range(10), range(20, 30)))]
    found, _ = joined(tmp_path, [*old, doc(2, range(20, 29))])  # equal by letters, say, of other words
    assert found == {2: ("near_duplicate", 1, 1, 0.9)}


def test_two_equal_documents_of_short_text_stay_where_that_is_asked_for(tmp_path):
    docs = [doc(0, [], digest=1), doc(1, [], digest=1)]
    assert joined(tmp_path, docs, short="keep")[0] == {}
    assert joined(tmp_path, docs)[0] == {1: ("exact_duplicate", 0, 0, 1.0)}


@pytest.mark.parametrize("off", ["exact", "near"])
def test_what_is_not_asked_for_is_not_looked_for(tmp_path, off):
    docs = [doc(0, range(10), digest=1), doc(1, range(10), digest=1), doc(2, range(9))]
    found, _ = joined(tmp_path, docs, **{off: False})
    reason = "near_duplicate" if off == "exact" else "exact_duplicate"
    assert {i: reason for i, (reason, *_) in found.items()} == (
        {1: reason, 2: reason} if off == "exact" else {1: reason}
    )


def test_a_number_that_is_none_is_preferred_to_nothing(tmp_path):
    docs = [doc(0, range(9), prefer=float("nan")), doc(1, range(9), prefer=-1.0), doc(2, range(9), prefer=3.0)]
    assert joined(tmp_path, docs)[0].keys() == {0, 1}


def test_an_empty_corpus_has_no_duplicates(tmp_path):
    found, summary = joined(tmp_path, [])
    assert found == {}
    assert summary.documents == 0


def test_of_a_corpus_of_one_text_one_document_stays(tmp_path):
    docs = [doc(i, range(20), digest=1) for i in range(5_000)]
    found, summary = joined(tmp_path, docs)
    assert found.keys() == set(range(1, 5_000))
    assert (summary.candidate_pairs, summary.largest_cluster) == (0, 5_000)


def test_a_template_of_many_documents_takes_about_as_many_comparisons(tmp_path):
    n = 20_000
    docs = [doc(i, [*range(30), 1000 + i]) for i in range(n)]
    found, summary = joined(tmp_path, docs)
    assert found.keys() == set(range(1, n))
    assert summary.candidate_pairs < 2 * n


def test_a_large_bucket_of_unlike_documents_is_left_when_the_rounds_are_over_and_counted(tmp_path):
    n = 2_000
    docs = [doc(i, range(10 * i, 10 * i + 10)) for i in range(n)]
    found, summary = joined(tmp_path, docs)
    assert found == {}
    assert 0 < summary.not_compared < n
    assert summary.candidate_pairs <= n * 64 * summary.rounds


def test_two_partitions_that_begin_at_one_row_of_a_file_are_refused(tmp_path):
    write_signatures(tmp_path / "s.parquet", [doc(0, [1])])
    with pytest.raises(UsageError, match="two partitions begin at row 0 of it"):
        Join([SignatureFile(tmp_path / "s.parquet", "a")] * 2, tmp_path / "join", DedupSpec(), 10**9, 1)


# ---- shingle sets in files


def test_shingle_sets_are_read_as_they_were_written(tmp_path):
    write_shingles(
        tmp_path / "s",
        [
            (np.array([3, 5]), np.array([0, 2, 2]), np.array([1, 2], np.uint64)),
            (np.array([9]), np.array([1, 2]), np.array([7, 8], np.uint64)),
        ],
    )
    sets = StoredSets.open(tmp_path / "s")
    assert sets.rows.tolist() == [3, 5, 9]
    assert sets.sets.offsets.tolist() == [0, 2, 2, 3]
    assert sets.sets.hashes.tolist() == [1, 2, 8]
    assert sets.find(np.array([9, 3])).tolist() == [2, 0]
    with pytest.raises(InputError, match="row 4"):
        sets.find(np.array([3, 4]))


def test_a_part_of_a_file_of_shingle_sets_is_refused(tmp_path):
    write_shingles(tmp_path / "s", [(np.arange(3), np.arange(4), np.arange(3).astype(np.uint64))])
    whole = (tmp_path / "s").read_bytes()
    for size in (0, 8, len(whole) - 8):
        (tmp_path / "s").write_bytes(whole[:size])
        with pytest.raises(CorruptError, match="a part of one"):
            StoredSets.open(tmp_path / "s")


# ---- by vectors


def semantic_docs(n, dim, groups, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((groups, dim))
    x = (centres[rng.integers(0, groups, n)] + 0.15 * rng.standard_normal((n, dim))).astype(np.float32)
    return [doc(i, [], path="ab"[i % 2]) for i in range(n)], x


def vectors_of(x):
    def load(members, kept):
        assert set(kept.tolist()) <= members.keys()
        rows = np.array(list(members), np.int64)  # of documents that went before too, in any order
        return rows, x[rows]

    return load


def greedy_by_cosine(x, cosine):
    unit = x / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    kept, removed = [], {}
    for i in range(len(x)):
        near = [(float(unit[i] @ unit[j]), -j) for j in kept]
        if near and max(near)[0] >= cosine:
            removed[i] = -max(near)[1]
        else:
            kept.append(i)
    return removed


def test_semantic_duplicates_equal_the_definition(tmp_path):
    docs, x = semantic_docs(700, 24, 60)
    found, summary = joined(tmp_path, docs, semantic=True, cosine=0.95, vectors=vectors_of(x))
    assert {i: j for i, (_, j, _, _) in found.items()} == greedy_by_cosine(x, 0.95)
    assert 0 < summary.semantic == len(found)


def test_semantic_duplicates_do_not_depend_on_order_and_workers(tmp_path):
    docs, x = semantic_docs(700, 24, 60)
    results = []
    for n in (0, 5):
        (tmp_path / str(n)).mkdir()
        results.append(
            joined(
                tmp_path / str(n), docs, shuffled=n, workers=1 + n % 2, semantic=True, clusters=5, vectors=vectors_of(x)
            )[0]
        )
    assert results[0] == results[1]
    assert len(results[0]) > 0.9 * len(greedy_by_cosine(x, 0.95))


def test_many_equal_vectors_are_no_square_of_comparisons_and_zero_vectors_no_duplicates(tmp_path):
    n = 10_000
    x = np.ones((n, 8), np.float32)
    x[::1000] = 0
    docs = [doc(i, []) for i in range(n)]
    found, summary = joined(tmp_path, docs, semantic=True, vectors=vectors_of(x))
    assert summary.semantic == n - 11
    assert {kept for _, _, kept, _ in found.values()} == {1}


def test_a_near_duplicate_of_a_semantic_duplicate_is_in_the_cluster_of_what_stays(tmp_path):
    docs = [doc(0, range(100, 110)), doc(1, range(10)), doc(2, range(1, 10), digest=5), doc(3, range(1, 10), digest=5)]
    x = np.array([[1, 0.1], [1, 0], [0, 0], [0, 0]], np.float32)
    found, _ = joined(tmp_path, docs, semantic=True, vectors=vectors_of(x))
    assert {i: f[:3] for i, f in found.items()} == {
        1: ("semantic_duplicate", 0, 0),
        2: ("near_duplicate", 1, 0),
        3: ("exact_duplicate", 2, 0),
    }
