"""Domains: found where they are, the same whoever finds them, resumed, and drawn by."""

import json
import math

import corpora
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import curate
from curate.cli import main
from curate.discovery import as_dict, domains
from curate.errors import InputError, RunError, UsageError
from curate.features import HashedVectors
from curate.features.domains import AGREEMENT, Domains, Stability, choose_k, fit_domains, stability
from curate.metrics.agreement import adjusted_rand
from curate.survey.names import distinctive
from curate.survey.sample import FEATURES, N_FINE

SMALL = HashedVectors(dim=64)


def strings(of):
    return pa.array(of, pa.large_string())


def texts_of(rows):
    return strings([row["text"] for row in rows])


def sources_of(rows):
    return np.unique([row["source"] for row in rows], return_inverse=True)[1]


def clusters(out):
    return pa.concat_tables([pq.read_table(p) for p in sorted((out / "clusters").glob("part-*.parquet"))]).to_pylist()


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Three kinds of documents in two files, one without text."""
    rows = [*corpora.rows(240), {"id": "empty", "text": "", "source": "none"}]
    return corpora.sharded(tmp_path_factory.mktemp("domains") / "raw", rows, 2)


@pytest.fixture(scope="module")
def found(raw):
    out = raw.parent / "found"
    return domains(raw, out=out, k=3)


# ---- clusters


def test_kinds_of_documents_are_found_without_their_labels() -> None:
    rows = corpora.rows(300)
    model, tried = fit_domains(texts_of(rows), vectors=SMALL, k=3)
    assert not tried
    assert adjusted_rand(model.assign(texts_of(rows))[0], sources_of(rows)) > 0.95


def test_as_many_domains_are_found_as_there_are_kinds_of_documents() -> None:
    rows = corpora.rows(300)
    model, tried = fit_domains(texts_of(rows), vectors=SMALL)
    by_k = {s.k: s.agreement for s in tried}
    assert by_k[3] > 0.95
    assert by_k[23] < AGREEMENT
    assert len(model.centres) == 3


@given(st.lists(st.tuples(st.integers(2, 64), st.floats(-0.1, 1)), max_size=8))
def test_the_number_is_that_with_most_information_that_is_found_again_or_one(pairs) -> None:
    tried = [Stability(k, agreement, 0.0) for k, agreement in pairs]
    agreed = [(agreement**2 * math.log(k), k) for k, agreement in pairs if agreement >= AGREEMENT]
    assert choose_k(tried) == (max(agreed)[1] if agreed else 1)


def test_halves_of_noise_do_not_agree_and_halves_of_clusters_do() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(600, 20))
    clustered = noise + 30 * np.eye(20)[np.arange(600) % 5]
    assert stability(noise, 5, 0).agreement < 0.3
    assert stability(clustered, 5, 0).agreement == pytest.approx(1)


def test_the_largest_cluster_of_the_sample_comes_first() -> None:
    rows = [*corpora.rows(300), *[r for r in corpora.rows(600, seed=1) if r["source"] == "news"]]
    model, _ = fit_domains(texts_of(rows), vectors=SMALL, k=3)
    sizes = np.bincount(model.assign(texts_of(rows))[0], minlength=3)
    assert sizes.tolist() == sorted(sizes, reverse=True)


@given(st.integers(1, 239))
@settings(max_examples=10)
def test_a_documents_cluster_does_not_depend_on_its_batch(cut) -> None:
    texts = texts_of(corpora.rows(240))
    model, _ = fit_domains(texts, vectors=SMALL, k=5)
    whole = model.assign(texts)
    parts = [model.assign(texts.slice(0, cut)), model.assign(texts.slice(cut))]
    assert np.array_equal(whole[0], np.concatenate([p[0] for p in parts]))
    assert whole[1] == pytest.approx(np.concatenate([p[1] for p in parts]), abs=1e-9)


@pytest.mark.parametrize("texts", [["same words"] * 20, ["", " ", "\n"] * 5, ["one"], ["a b", "c d"]])
def test_documents_that_do_not_differ_are_one_domain(texts) -> None:
    model, _ = fit_domains(strings(texts), vectors=SMALL)
    assert len(model.centres) == 1
    labels, distances = model.assign(strings([*texts, "other words"]))
    assert labels.tolist() == [0] * (len(texts) + 1)
    assert np.isfinite(distances).all()


def test_no_documents_and_fewer_than_clusters_are_refused() -> None:
    with pytest.raises(InputError, match="nothing to find domains in"):
        fit_domains(strings([]))
    with pytest.raises(UsageError, match="--k 3: the sample has only 2 documents that differ"):
        fit_domains(strings(["a", "b"]), k=3)


def test_domains_are_read_back_as_they_were_saved_and_damage_is_told(tmp_path) -> None:
    texts = texts_of(corpora.rows(60))
    model, _ = fit_domains(texts, vectors=SMALL, k=3)
    model.save(tmp_path, {})
    again = Domains.load(tmp_path)
    assert again.identity() == model.identity()
    assert all(np.array_equal(x, y) for x, y in zip(again.assign(texts), model.assign(texts), strict=True))
    with open(tmp_path / "arrays.npz", "wb") as stream:
        np.savez(stream, mean=model.mean, basis=model.basis, centres=model.centres + 1)
    with pytest.raises(InputError, match=r"arrays.npz is not the one that domains.json was written with"):
        Domains.load(tmp_path)
    (tmp_path / "arrays.npz").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="not saved domains"):
        Domains.load(tmp_path)
    with pytest.raises(InputError, match="no domains there; make them with curate domains RAW --out"):
        Domains.load(tmp_path / "none")


# ---- a corpus


def test_every_document_is_assigned_and_those_without_text_are_counted(raw, found) -> None:
    rows = clusters(found.out)
    assert [row["doc_id"] for row in rows] == [f"d{i}" for i in range(240)] + ["empty"]
    assert [row["row"] for row in rows] == [*range(121), *range(120)]
    assert rows[-1]["cluster"] is None
    assert rows[-1]["distance"] is None
    by_source = {}
    for row in rows[:-1]:
        by_source.setdefault(int(row["doc_id"][1:]) % 3, []).append(row["cluster"])
    assert {len(set(labels)) for labels in by_source.values()} == {1}
    assert sorted(d.n_documents for d in found.domains) == [80, 80, 80]
    assert sum(d.n_bytes for d in found.domains) == found.n_bytes == sum(row["n_bytes"] for row in rows)
    assert (found.n_documents, found.n_without) == (241, 1)


def test_names_say_what_a_domain_has_and_others_have_not(found) -> None:
    words = {"maths": corpora.MATHS, "cooking": corpora.COOKING, "news": corpora.NEWS}
    own = {frozenset(w) - {x for other in words.values() if other != w for x in other} for w in words.values()}
    named = [set(d.name.replace(",", "").split()) for d in found.domains]
    assert all(any(name & some for some in own) for name in named)
    assert all(len([some for some in own if name & some]) == 1 for name in named)


def test_examples_are_documents_of_the_domain(found) -> None:
    cluster = {row["doc_id"]: row["cluster"] for row in clusters(found.out)}
    for domain in found.domains:
        assert len(domain.examples) == 3
        assert {cluster[doc_id] for doc_id, _ in domain.examples} == {domain.cluster}


def test_the_summary_holds_what_was_returned(found) -> None:
    summary = json.loads((found.out / "summary.json").read_text())
    returned = json.loads(json.dumps(as_dict(found)))
    assert summary == {key: value for key, value in returned.items() if key not in ("out", "seconds")}


@pytest.mark.parametrize("form", ["parquet", "jsonl.zst"])
@pytest.mark.parametrize("workers", [1, 3])
def test_the_clusters_do_not_depend_on_workers_or_format(raw, found, tmp_path, form, workers) -> None:
    rows = [*corpora.rows(240), {"id": "empty", "text": "", "source": "none"}]
    other = domains(corpora.sharded(tmp_path / "raw", rows, 5, form), out=tmp_path / "out", k=3, workers=workers)
    assert {r["doc_id"]: r["cluster"] for r in clusters(other.out)} == {
        r["doc_id"]: r["cluster"] for r in clusters(found.out)
    }
    assert other.domains == found.domains


def test_what_is_there_is_kept_and_what_is_missing_is_made_again(raw, found, tmp_path) -> None:
    domains(raw, out=tmp_path / "out", k=3)
    before = corpora.tree(tmp_path / "out")
    part = tmp_path / "out/clusters/part-00001.parquet"
    kept = (tmp_path / "out/clusters/part-00000.parquet").stat().st_mtime_ns
    part.unlink()
    (tmp_path / "out/summary.json").unlink()
    again = domains(raw, out=tmp_path / "out", k=3)
    assert corpora.tree(tmp_path / "out") == before
    assert (tmp_path / "out/clusters/part-00000.parquet").stat().st_mtime_ns == kept
    assert "fit" not in again.seconds


def test_a_folder_of_other_domains_is_refused_unless_it_is_to_be_overwritten(raw, tmp_path) -> None:
    domains(raw, out=tmp_path / "out", k=3)
    with pytest.raises(RunError, match="other settings; choose another folder or pass --overwrite"):
        domains(raw, out=tmp_path / "out", k=2)
    assert len(domains(raw, out=tmp_path / "out", k=2, overwrite=True).domains) == 2
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/thesis.txt").write_text("mine")
    with pytest.raises(RunError, match=r"holds files that are no domains \(thesis.txt\)"):
        domains(raw, out=tmp_path / "foreign", k=2, overwrite=True)
    assert (tmp_path / "foreign/thesis.txt").read_text() == "mine"


def test_a_corpus_without_text_has_no_domains(tmp_path) -> None:
    corpora.write(tmp_path / "raw.jsonl", [{"id": "a", "text": ""}])
    with pytest.raises(InputError, match="no document with text"):
        domains(tmp_path / "raw.jsonl", out=tmp_path / "out")


def test_bad_rows_are_counted_when_they_are_set_aside(tmp_path) -> None:
    good = [json.dumps(row).encode() for row in corpora.rows(30)]
    corpora.lines(tmp_path / "raw.jsonl", *good, b"{broken")
    with pytest.raises(InputError, match="line 31"):
        domains(tmp_path / "raw.jsonl", out=tmp_path / "out", k=2)
    found = domains(tmp_path / "raw.jsonl", out=tmp_path / "out", k=2, on_bad_row="quarantine")
    assert (found.n_documents, found.n_bad_rows) == (30, 1)


# ---- the command line, and selections by cluster


def run(*args):
    return CliRunner().invoke(main, [str(a) for a in args])


def test_the_command_prints_the_domains_and_json_when_asked(raw, tmp_path) -> None:
    done = run("domains", raw, "--out", tmp_path / "out", "--k", 3, "--quiet")
    assert done.exit_code == 0, done.output
    assert "3 domains of 241 documents" in done.output
    assert "1 documents without text are in none" in done.output
    as_json = json.loads(run("domains", raw, "--out", tmp_path / "out", "--k", 3, "--quiet", "--json").output)
    assert [d["n_documents"] for d in as_json["domains"]] == [80, 80, 80]


@pytest.mark.parametrize("k", ["many", "0", "-1", "2.5"])
def test_a_number_of_domains_that_is_none_is_a_usage_error(raw, tmp_path, k) -> None:
    done = run("domains", raw, "--out", tmp_path / "out", f"--k={k}")
    assert done.exit_code == 2
    assert f"--k {k}" in done.output


def test_selecting_per_cluster_keeps_the_proportions_of_the_clusters(raw, found, tmp_path) -> None:
    result = corpora.select(raw, tmp_path / "out", budget="10%", per="cluster", domains=found.out)
    cluster = {row["doc_id"]: row["cluster"] for row in clusters(found.out)}
    kept = [cluster[i] for i in corpora.kept_ids(tmp_path / "out")]
    assert np.bincount(kept).tolist() == [8, 8, 8]
    assert f"--domains {found.out}" in result.manifest["command"]
    assert "--per cluster" in result.manifest["command"]
    carried = dict(zip(*(corpora.scores(tmp_path / "out")[c].to_pylist() for c in ("doc_id", "cluster")), strict=True))
    assert carried == {doc_id: None if c is None else str(c) for doc_id, c in cluster.items()}


@pytest.mark.parametrize("options", [{"method": "dsir"}, {"method": "bytegrams+primed"}, {"spill": True}])
def test_clusters_travel_with_the_scores_of_every_method(raw, found, tmp_path, options) -> None:
    corpora.select(raw, tmp_path / "out", budget=24, draw="topk", per="cluster", domains=found.out, **options)
    cluster = {row["doc_id"]: row["cluster"] for row in clusters(found.out)}
    kept = [cluster[i] for i in corpora.kept_ids(tmp_path / "out")]
    assert np.bincount(kept).tolist() == [8, 8, 8]


def test_a_share_can_be_given_to_a_cluster_when_drawing_again(raw, found, tmp_path) -> None:
    corpora.select(raw, tmp_path / "out", domains=found.out)
    curate.draw(tmp_path / "out", out=tmp_path / "again", budget=12, per="cluster", proportions={"0": 3, "2": 1})
    cluster = {row["doc_id"]: row["cluster"] for row in clusters(found.out)}
    kept = [cluster[i] for i in corpora.kept_ids(tmp_path / "again")]
    assert np.bincount(kept, minlength=3).tolist() == [9, 0, 3]


def test_other_domains_are_another_scoring(raw, found, tmp_path) -> None:
    other = domains(raw, out=tmp_path / "other", k=2)
    corpora.select(raw, tmp_path / "out", domains=found.out, per="cluster")
    with pytest.raises(RunError, match="pass --overwrite"):
        corpora.select(raw, tmp_path / "out", domains=other.out, per="cluster")
    with pytest.raises(RunError, match="was scored with other files, target or settings"):
        corpora.select(raw, tmp_path / "new", domains=other.out, scores_from=tmp_path / "out")


def test_drawing_per_cluster_without_domains_says_how_to_make_them(raw, tmp_path) -> None:
    with pytest.raises(UsageError, match="find its domains with curate domains RAW --out DOMAINS"):
        corpora.select(raw, tmp_path / "out", per="cluster")


def test_a_corpus_with_a_column_cluster_is_drawn_by_it_or_refused_with_domains(found, tmp_path) -> None:
    path = corpora.write(tmp_path / "raw.jsonl", corpora.rows(60, cluster="own"))
    corpora.select(path, tmp_path / "out", per="cluster")
    with pytest.raises(UsageError, match="has a column 'cluster' already"):
        corpora.select(path, tmp_path / "other", domains=found.out)


def test_a_selection_without_domains_has_the_recipe_that_it_always_had(raw, tmp_path) -> None:
    result = corpora.select(raw, tmp_path / "out")
    assert "domains" not in result.manifest["recipe"]


def test_names_are_of_words_that_can_be_printed_and_not_twice_the_same() -> None:
    own = strings(["\x1b\x1b cat 12 ,, cat the . \u202e mat! " * 5] * 20)
    rest = strings(["the dog and the 12 ,, house . " * 5] * 20)
    counts = [np.bincount(FEATURES.stream(texts).buckets, minlength=N_FINE) for texts in (own, rest)]
    names = distinctive(*counts, own, 10)
    assert "cat" in " ".join(names)
    assert all(name.isprintable() and name[:2].isalpha() for name in names)
    assert not any(a in b for i, a in enumerate(names) for j, b in enumerate(names) if i != j)
    assert "the" not in names
