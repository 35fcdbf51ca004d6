"""Evidence: which documents the arms are made of, when a verdict is given, and what `--holdout` leaves out."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import COOKING, SETTINGS, ledger, rows, scores, sharded, target_rows, tree, write
from corpora import select as small_select
from hypothesis import given
from hypothesis import strategies as st
from reference import arm_sample

import curate
from curate.errors import InputError, MissingExtraError, RunError, UsageError
from curate.evidence import arms as arms_module
from curate.evidence import texts as texts_module
from curate.evidence.arms import DOCUMENT, Draw, length_bins
from curate.evidence.proxy import code_lengths
from curate.evidence.texts import cut
from curate.evidence.verdict import Costs, against, difference, sentence
from curate.io.corpus import scan
from curate.steps.holdout import held_out, held_out_texts, target_texts

ROWS = rows(900)
pyppmd = pytest.importorskip("pyppmd")


def select(raw, out, **options):
    """A selection of an ample budget, so that samples are not tiny."""
    return small_select(raw, out, **({"budget": 150} | options))


def evaluate(out, heldout=None, **options):
    return curate.evaluate(out, heldout=heldout, **({"seeds": 3} | options))


def arm(evidence, name):
    return next(arm for arm in evidence.arms if arm.name == name)


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    return sharded(tmp_path_factory.mktemp("evidence") / "raw", ROWS, 3)


@pytest.fixture(scope="module")
def heldout(raw) -> Path:
    """More of what `target_rows` is: other texts of the same words."""
    other = [row["text"][len(row["text"]) // 2 :] + " " + row["text"][:40] for row in target_rows(60)]
    return write(raw.parent / "heldout.jsonl", [{"text": text} for text in other])


@pytest.fixture(scope="module")
def run(raw) -> Path:
    select(raw, raw.parent / "run")
    return raw.parent / "run"


# ---- arms

drawn = st.lists(
    st.tuples(st.integers(0, 30), st.integers(1, 60), st.integers(-1, 2)), max_size=40
)  # key, bytes, stratum; keys repeat, as those of a repeated id do


def documents_of(of) -> np.ndarray:
    documents = np.zeros(len(of), DOCUMENT)
    for i, (key, n_bytes, stratum) in enumerate(of):
        documents[i] = (key, 0, i, n_bytes, stratum, 0)
    return documents


@given(drawn, st.lists(st.integers(0, 200), min_size=3, max_size=3), st.lists(st.integers(0, 40), max_size=3))
def test_a_sample_equals_its_definition_however_documents_come_in_batches(of, quotas, cuts):
    draw = Draw(quotas)
    for batch in np.split(documents_of(of), sorted(min(c, len(of)) for c in cuts)):
        draw.add(batch)
    sample = draw.sample()
    expected = arm_sample([(key, i, n_bytes, stratum) for i, (key, n_bytes, stratum) in enumerate(of)], quotas)
    assert list(zip(sample.documents["row"].tolist(), sample.sizes.tolist(), strict=True)) == expected


@given(drawn, st.integers(1, 300))
def test_a_sample_has_all_the_bytes_asked_for_or_all_there_are(of, size):
    draw = Draw([size])
    documents = documents_of([(key, n_bytes, 0) for key, n_bytes, _ in of])
    draw.add(documents)
    assert draw.sample().n_bytes == min(size, int(documents["bytes"].sum()))


def test_every_document_is_as_likely_to_be_in_the_random_arm(run):
    seen: dict[int, int] = {}
    for sample in samples(run, {"random": 400}, size=10_000)["random"]:
        for part, row in sample.documents[["part", "row"]].tolist():
            seen[part, row] = seen.get((part, row), 0) + 1
    counts = np.array(list(seen.values()))
    assert len(counts) == len(ROWS)
    each = counts.mean()
    assert abs(counts.var() / (each * (1 - each / 400)) - 1) < 0.35  # that of a binomial


def samples(run, n_samples, size=None, seed=0):
    """Samples of a run's arms, by name."""
    scored = scored_of(run)
    mix = arms_module.selected_mix(scored)
    return arms_module.draw_arms(scored, mix, n_samples=n_samples, size=size or mix.n_bytes, seed=seed)


def scored_of(run):
    from curate.evidence import _score_table
    from curate.io.corpus import Corpus
    from curate.io.run import RunFolder

    folder = RunFolder(run)
    corpus = Corpus.from_dict(folder.scored["corpus"])
    table = _score_table(folder, corpus, folder.scored)
    return arms_module.Scored(table, folder.path / "ledger.parquet", arms_module.looked_at(corpus))


def rows_of(run):
    """Rows of score table and ledger together, by place."""
    found = {}
    for scored, kept in zip(scores(run).to_pylist(), ledger(run), strict=True):
        found[scored["path"], scored["row"]] = scored | {"kept": kept["kept"]}
    return found


def picked(run, sample):
    """The rows of a sample."""
    corpus = curate.evidence.Corpus.from_dict(json.loads((run / "scores" / "scores.json").read_text())["corpus"])
    table = rows_of(run)
    names = [corpus.source(p).path for p in corpus.partitions]
    by_name = {(path.rpartition("/")[2], row): value for (path, row), value in table.items()}
    return [by_name[names[part].rpartition("/")[2], row] for part, row in sample.documents[["part", "row"]].tolist()]


def test_the_selected_arm_is_of_selected_documents_only_and_may_be_all_of_them(run):
    of = samples(run, {"selected": 2})["selected"]
    kept = [row for row in rows_of(run).values() if row["kept"]]
    for sample in of:
        assert sorted(r["doc_id"] for r in picked(run, sample)) == sorted(r["doc_id"] for r in kept)
    assert of[0].documents["row"].tolist() != of[1].documents["row"].tolist()  # but read in another order


def test_the_length_matched_arm_has_the_lengths_of_the_selection_and_random_has_not(tmp_path):
    mixed = [*rows(300), *({**row, "id": f"long{row['id']}", "text": row["text"] * 8} for row in rows(300, seed=5))]
    write(tmp_path / "raw.jsonl", mixed)
    select(tmp_path / "raw.jsonl", tmp_path / "out", settings={"normalize": "sum"}, draw="topk", budget=100)
    run = tmp_path / "out"
    of = samples(run, {"random": 1, "length-matched": 1})
    size = of["random"][0].n_bytes

    def by_length(arm):
        bins = length_bins(np.array([row["n_bytes"] for row in picked(run, of[arm][0])]))
        return np.bincount(bins, of[arm][0].sizes, minlength=80)

    mix = arms_module.selected_mix(scored_of(run)).by_length[:80]
    longest = max(row["n_bytes"] for row in rows_of(run).values())
    assert np.abs(by_length("length-matched") - mix).max() < longest
    assert np.abs(by_length("random") - mix).max() > size / 10


def test_the_source_stratified_arm_has_the_sources_of_the_selection_in_proportion(run):
    sample = samples(run, {"source-stratified": 1}, size=15_000)["source-stratified"][0]
    mix = arms_module.selected_mix(scored_of(run)).by_source
    total = sum(sizes["bytes"] for sizes in mix.values())
    for source, sizes in mix.items():
        here = [n for row, n in zip(picked(run, sample), sample.sizes, strict=True) if row["source"] == source]
        assert abs(sum(here) / 15_000 - sizes["bytes"] / total) < 300 / 15_000


def test_the_top_k_arm_has_the_best_scores_and_no_more_bytes_than_were_selected(run):
    (sample,) = samples(run, {"top-k": 1})["top-k"]
    taken = {row["doc_id"] for row in picked(run, sample)}
    everything = sorted(rows_of(run).values(), key=lambda row: -row["score"])
    assert taken == {row["doc_id"] for row in everything[: len(taken)]}
    selected = sum(row["n_bytes"] for row in everything if row["kept"])
    assert selected - everything[len(taken)]["n_bytes"] < sample.n_bytes <= selected


def test_samples_depend_on_ids_and_not_on_files(tmp_path):
    shuffled = [ROWS[i] for i in np.random.default_rng(0).permutation(len(ROWS))]
    found = []
    for name, of, n_files, form in (("a", ROWS, 3, "jsonl"), ("b", shuffled, 5, "parquet")):
        run = tmp_path / name
        select(sharded(tmp_path / f"raw-{name}", of, n_files, form), run)
        arms = samples(run, dict.fromkeys(arms_module.ARMS, 2), size=9_000)
        found.append({arm: [[r["doc_id"] for r in picked(run, s)] for s in two] for arm, two in arms.items()})
    assert found[0] == found[1]


def test_other_draws_are_judged_by_other_random_samples(run):
    first, second = (samples(run, {"random": 1}, size=9_000, seed=seed)["random"][0] for seed in (0, 1))
    assert first.documents["row"].tolist() != second.documents["row"].tolist()


def test_of_many_partitions_all_arms_are_drawn_from_some_and_the_evidence_says_so(run, heldout, monkeypatch):
    monkeypatch.setattr(arms_module, "MAX_PARTITIONS", 2)
    evidence = evaluate(run, heldout)
    assert (evidence.settings["n_partitions"], evidence.settings["n_partitions_looked_at"]) == (3, 2)
    assert any("2 of 3 partitions" in text for text in evidence.warnings)
    of = samples(run, dict.fromkeys(arms_module.ARMS, 1))
    assert {int(part) for (sample,) in of.values() for part in sample.documents["part"]} == set(
        scored_of(run).partitions
    )


# ---- verdict


def costs(rng, mean, n_samples, n_texts=200, *, spread=2.0):
    """Bytes of texts of 100 bytes after samples of an arm, which differ by their common cost and each by itself."""
    each = mean + rng.normal(0, 0.5, (n_samples, 1)) + rng.normal(0, spread, (n_samples, n_texts))
    return Costs((each,), (np.full(n_texts, 100),))


def test_a_selection_that_is_one_more_random_draw_is_better_or_worse_in_at_most_5_of_100():
    rng = np.random.default_rng(0)
    verdicts = []
    for _ in range(1_000):
        one = costs(rng, 25, 1)  # all samples of it are the same draw
        selected = Costs(tuple(np.repeat(of, 5, axis=0) for of in one.bytes_by_target), one.sizes)
        verdicts.append(difference(selected, costs(rng, 25, 10)).verdict)
    assert verdicts.count("no better") >= 980


@pytest.mark.parametrize(("mean", "verdict"), [(20, "better"), (30, "worse"), (25, "no better")])
def test_the_verdict_is_what_the_costs_say(mean, verdict):
    rng = np.random.default_rng(1)
    assert difference(costs(rng, mean, 5), costs(rng, 25, 10)).verdict == verdict


def test_a_gain_on_few_texts_that_differ_widely_is_no_verdict():
    rng = np.random.default_rng(2)
    many = difference(costs(rng, 20, 5, 400, spread=20), costs(rng, 25, 10, 400))
    few = difference(costs(rng, 20, 5, 3, spread=20), costs(rng, 25, 10, 3))
    assert few.high - few.low > 3 * (many.high - many.low)
    assert few.verdict == "no better"


def test_the_error_over_texts_is_that_of_the_jackknife():
    rng = np.random.default_rng(3)
    sizes = rng.integers(50, 500, 30)
    mine, theirs = rng.normal(0.25, 0.02, 30) * sizes, rng.normal(0.25, 0.02, 30) * sizes
    same = [Costs((np.repeat(c[None], 2, axis=0),), (sizes,)) for c in (mine, theirs)]  # no spread between draws
    found = difference(*same)
    saved = 8 * (mine - theirs)
    left_out = np.array([np.delete(saved, i).sum() / np.delete(sizes, i).sum() for i in range(30)])
    error = np.sqrt(29 / 30 * ((left_out - left_out.mean()) ** 2).sum())
    assert (found.high - found.low) / 2 / 2.7564 == pytest.approx(error, rel=0.05)


def test_the_mean_over_targets_weighs_each_the_same():
    rng = np.random.default_rng(4)
    large, small = costs(rng, 25, 4, 1_000), costs(rng, 35, 4, 10)
    both = Costs(large.bytes_by_target + small.bytes_by_target, large.sizes + small.sizes)
    assert both.bits_per_byte == pytest.approx((large.bits_per_byte + small.bits_per_byte) / 2)
    assert both.of_target(1).bits_per_byte == small.bits_per_byte


def test_the_sentence_says_which_control_does_as_well():
    rng = np.random.default_rng(5)
    arms = {"selected": costs(rng, 20, 5), "random": costs(rng, 25, 10), "source-stratified": costs(rng, 20, 10)}
    text = sentence(arms, ["gsm8k"])
    assert text.startswith("Better than random: 1.594 against 2.000 ")
    assert "bits per byte of the held-out gsm8k (-0.406, 99% interval " in text
    assert "but source-stratified random does as well" in text
    assert text.endswith("what it gains is its choice of sources.")
    arms["source-stratified"] = costs(rng, 17, 10)
    assert "but source-stratified random does better (1.3" in sentence(arms, ["gsm8k"])
    wide = costs(rng, 22, 10, spread=0).bytes_by_target[0] + np.linspace(-9, 9, 10)[:, None]
    arms["source-stratified"] = Costs((wide,), arms["random"].sizes)
    assert sentence(arms, ["gsm8k"]).endswith("but source-stratified random is not clearly beaten (1.763).")
    arms["source-stratified"] = costs(rng, 25, 10)
    assert sentence(arms, ["gsm8k"]).endswith("better than source-stratified random too.")


# ---- proxy


@given(st.lists(st.binary(min_size=1, max_size=40_000), max_size=3), st.lists(st.binary(min_size=1), min_size=1))
def test_what_texts_cost_together_is_the_difference_of_two_compressions(priming, heldout):
    def compressed(texts):
        encoder = pyppmd.Ppmd8Encoder(8, 256 << 20)
        data = encoder.encode(b"".join(text + b"\n\n" for text in texts))
        return len(data) + len(encoder.flush(False))

    cost = compressed([*priming, *heldout]) - compressed(priming)
    assert abs(code_lengths(priming, heldout).sum() - cost) <= 4  # bytes that the range coder holds back


# ---- evaluate


def test_a_selection_for_the_target_is_better_and_one_for_another_is_worse(raw, run, heldout, tmp_path):
    assert evaluate(run, heldout).verdict == "better"
    select(raw, tmp_path / "out", target=write(tmp_path / "t.jsonl", target_rows(words=COOKING)))
    evidence = evaluate(tmp_path / "out", heldout)
    assert evidence.verdict == "worse"
    assert evidence.sentence.startswith("Worse than random: ")


def test_selections_at_random_are_no_better_in_nearly_all_seeds(raw, heldout, tmp_path):
    curate.score(
        raw, target=write(tmp_path / "target.jsonl", target_rows()), out=tmp_path / "scored", settings=SETTINGS
    )
    verdicts = []
    for seed in range(20):
        out = tmp_path / "drawn"
        curate.draw(tmp_path / "scored", out=out, budget=150, draw="uniform", seed=seed, overwrite=True)
        verdicts.append(evaluate(out, heldout).verdict)
    assert verdicts.count("no better") >= 19


def test_evidence_is_a_file_that_says_what_the_result_says_and_is_the_same_each_time(run, heldout):
    evidence = evaluate(run, heldout)
    first = (run / "evidence.json").read_bytes()
    assert json.loads(first) == json.loads(json.dumps(evidence.as_dict()))
    assert json.loads(first)["run"]["uuid"] == json.loads((run / "manifest.json").read_text())["uuid"]
    assert evaluate(run, heldout, workers=1) == evidence
    assert (run / "evidence.json").read_bytes() == first
    assert curate.verify(run).ok


def test_all_arms_have_samples_of_one_size(run, heldout):
    evidence = evaluate(run, heldout, sample="12kB")
    assert [arm.name for arm in evidence.arms] == list(arms_module.ARMS)
    assert {arm.n_bytes for arm in evidence.arms} == {12_000}


def test_top_k_is_left_out_where_it_is_the_selection_and_sources_where_there_are_none(heldout, tmp_path):
    write(tmp_path / "raw.jsonl", [{"id": r["id"], "text": r["text"]} for r in ROWS])
    select(tmp_path / "raw.jsonl", tmp_path / "out", draw="topk")
    assert [arm.name for arm in evaluate(tmp_path / "out", heldout).arms] == ["selected", "random", "length-matched"]


def test_several_targets_have_a_line_each_and_the_verdict_is_on_their_mean(raw, heldout, tmp_path):
    target = {
        "maths": write(tmp_path / "m.jsonl", target_rows()),
        "cooking": write(tmp_path / "c.jsonl", target_rows(words=COOKING)),
    }
    select(raw, tmp_path / "out", target=target, settings={"separate_targets": True})
    other = write(tmp_path / "h.jsonl", target_rows(30, words=COOKING))
    evidence = evaluate(tmp_path / "out", {"maths": heldout, "cooking": other})
    assert [of["target"] for of in evidence.heldout] == ["maths", "cooking"]
    selected = arm(evidence, "selected")
    assert selected.bits_per_byte == pytest.approx(np.mean(list(selected.bits_per_byte_by_target.values())))
    assert "maths and cooking (mean)" in evidence.sentence


def test_copies_of_held_out_texts_are_counted_and_warned_of(tmp_path):
    planted = [{"id": f"c{i}", "text": row["text"].upper().replace(" ", "\n")} for i, row in enumerate(target_rows(9))]
    write(tmp_path / "raw" / "a.jsonl", [*rows(300), *planted])
    select(tmp_path / "raw", tmp_path / "out", budget=60)
    evidence = evaluate(tmp_path / "out", write(tmp_path / "h.jsonl", target_rows(30)))
    assert list(arm(evidence, "selected").copies.values()) == [9]
    assert any("9 of 30 held-out texts stand word for word" in text for text in evidence.warnings)


def test_a_short_held_out_text_is_a_copy_only_of_a_whole_document():
    heldout = texts_module.HeldOut("t", (b"yes", b"no"), 2, 5)
    assert texts_module.copies(heldout, [[b"oh yes", b"NO "]]) == 1


def test_hostile_ids_texts_sources_and_names_do_no_harm(tmp_path):
    nasty = ["\x00", "\u202e<script>", "'; DROP TABLE", "\U0001f600" * 40, "a\tb\r\n", "../../x", ""]
    made = [{**row, "id": nasty[i % 7] * (i % 3), "source": nasty[(i + 1) % 7]} for i, row in enumerate(rows(200))]
    made += [{"id": f"n{i}", "text": text * 9, "source": text} for i, text in enumerate(nasty)]
    raw = write(tmp_path / "raw[1] \u202e.jsonl", made)
    select(raw, tmp_path / "out", budget=60)
    heldout = write(tmp_path / "h.jsonl", [{"text": t} for t in [*nasty, *(r["text"] for r in target_rows(20))]])
    evidence = evaluate(tmp_path / "out", {"target": heldout})
    assert evidence.heldout[0]["n_documents"] == 26  # but the empty one
    json.loads((tmp_path / "out" / "evidence.json").read_text())


@given(st.text(), st.integers(0, 50))
def test_a_text_is_cut_between_characters(text, size):
    data = text.encode("utf-8", "replace")
    part = cut(data, size)
    assert data.startswith(part)
    assert len(data) <= size or size - 3 <= len(part) <= size or len(part) == 0
    part.decode()


def test_long_held_out_texts_are_cut_so_that_there_are_several(run, tmp_path):
    long = [{"text": " ".join([row["text"]] * 50)} for row in target_rows(40)]
    evidence = evaluate(run, write(tmp_path / "h.jsonl", long), heldout_size=40_000)
    assert evidence.heldout[0]["n_documents_used"] >= 20
    assert evidence.heldout[0]["n_bytes_used"] <= 40_000


# ---- what cannot be measured


def test_without_anything_to_measure_with_both_ways_are_named(run):
    with pytest.raises(UsageError, match=r"--heldout FILE.*--holdout 0.2"):
        evaluate(run)


@pytest.mark.parametrize("of", [[{"text": ""}], [{"text": " \n"}] * 30, [{"text": "one text"}]])
def test_held_out_texts_that_are_none_are_refused(run, tmp_path, of):
    with pytest.raises(InputError, match=r"h\.jsonl: [01] held-out texts, at least 2 are needed"):
        evaluate(run, write(tmp_path / "h.jsonl", of))


def test_few_held_out_texts_are_warned_of(run, tmp_path):
    evidence = evaluate(run, write(tmp_path / "h.jsonl", target_rows(5)))
    assert any("only 5 held-out texts" in text for text in evidence.warnings)


@pytest.fixture
def own(tmp_path):
    """A run of its own, whose raw files may be spoilt."""
    raw = sharded(tmp_path / "raw", ROWS, 3)
    select(raw, tmp_path / "out")
    return tmp_path / "out"


def test_a_raw_file_that_is_gone_is_named_with_the_way_out(own, heldout):
    (own.parent / "raw" / "part-001.jsonl").unlink()
    with pytest.raises(InputError, match=r"part-001\.jsonl: .*put the file back"):
        evaluate(own, heldout)


def test_a_raw_file_of_another_size_is_refused(own, heldout):
    file = own.parent / "raw" / "part-001.jsonl"
    file.write_bytes(file.read_bytes() + b"\n")
    with pytest.raises(InputError, match=r"part-001\.jsonl: [\d,]+ bytes, but it had"):
        evaluate(own, heldout)


def test_other_documents_in_a_file_of_the_same_size_are_noticed(own, heldout):
    file = own.parent / "raw" / "part-001.jsonl"
    of = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(reversed(of)))
    with pytest.raises(InputError, match=r"part-001\.jsonl: other documents"):
        evaluate(own, heldout)


def test_a_folder_without_a_finished_run_is_refused(raw, heldout, tmp_path):
    curate.score(raw, target=write(tmp_path / "t.jsonl", target_rows()), out=tmp_path / "out", settings=SETTINGS)
    with pytest.raises(RunError, match="no finished run"):
        evaluate(tmp_path / "out", heldout)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seeds": 1}, "--seeds 1"),
        ({"sample": "50MB"}, "--sample 50,000,000"),
        ({"memory_limit": "600MB", "sample": "5MB"}, "memory limit 600,000,000"),
        ({"heldout": {}}, "no held-out files"),
    ],
)
def test_options_that_make_no_sense_are_refused(run, heldout, options, said):
    with pytest.raises(UsageError, match=said):
        curate.evaluate(run, **({"heldout": heldout} | options))


def test_without_the_proxy_the_install_line_is_given(run, heldout, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyppmd", None)
    with pytest.raises(MissingExtraError, match=r"curate-data\[evaluate\]"):
        evaluate(run, heldout)


def test_another_selection_in_the_folder_takes_the_evidence_away(own, heldout):
    evaluate(own, heldout)
    select(own.parent / "raw", own, seed=1, overwrite=True)
    assert not (own / "evidence.json").exists()


# ---- holdout


def texts_of(stream) -> list[str]:
    return [text for some in stream for text in some.to_pylist()]


@given(st.lists(st.text(max_size=20), max_size=30), st.floats(0.01, 0.99))
def test_copies_of_a_text_are_on_the_same_side(of, fraction):
    said = [text for text in of if text.encode("utf-8", "replace").decode() == text]
    twice = pa.array([*said, *(f"  {text}\n" for text in said)], pa.large_string())
    side = held_out(twice, fraction)
    assert (side[: len(said)] == side[len(said) :]).all()


def test_what_is_held_out_and_what_is_fitted_to_are_all_there_is(tmp_path):
    made = target_rows(300)
    corpus = scan([write(tmp_path / "t.jsonl", made)])
    fitted, left_out = (texts_of(read(corpus, 2_000, 0.2)) for read in (target_texts, held_out_texts))
    assert sorted(fitted + left_out) == sorted(row["text"] for row in made)
    assert not set(fitted) & set(left_out)
    assert 30 < len(left_out) < 90
    assert set(left_out) <= set(texts_of(held_out_texts(corpus, 2_000, 0.4)))


def test_with_a_holdout_the_fit_is_that_of_the_rest_alone(raw, tmp_path):
    target = write(tmp_path / "t" / "target.jsonl", target_rows(100))
    rest = texts_of(target_texts(scan([target]), 1 << 20, 0.3))
    select(raw, tmp_path / "held", target=target, holdout=0.3)
    select(raw, tmp_path / "rest", target=write(tmp_path / "r" / "target.jsonl", [{"text": t} for t in rest]))
    assert scores(tmp_path / "held")["score"].equals(scores(tmp_path / "rest")["score"])


def test_a_run_with_a_holdout_is_measured_by_what_it_left_out(raw, tmp_path):
    target = write(tmp_path / "target.jsonl", target_rows(150))
    select(raw, tmp_path / "out", holdout=0.2)
    evidence = evaluate(tmp_path / "out")
    assert evidence.verdict == "better"
    left_out = texts_of(held_out_texts(scan([target]), 1 << 20, 0.2))
    assert evidence.heldout[0]["n_documents"] == len(left_out)
    assert evidence.heldout[0]["holdout"] == 0.2
    write(target, target_rows(149))
    with pytest.raises(InputError, match="not what the run was fitted to"):
        evaluate(tmp_path / "out")


def test_a_holdout_is_part_of_the_recipe_of_the_scores_and_of_the_command(raw, tmp_path):
    write(tmp_path / "target.jsonl", target_rows(100))
    without, with_ = (select(raw, tmp_path / f"out{h}", holdout=h) for h in (None, 0.25))
    assert "holdout" not in without.manifest["recipe"]
    assert "--holdout" not in without.manifest["command"]
    assert with_.manifest["recipe"]["holdout"] == 0.25
    assert "--holdout 0.25" in with_.manifest["command"]
    with pytest.raises(RunError, match="other files, target or settings"):
        select(raw, tmp_path / "third", holdout=0.3, scores_from=tmp_path / "out0.25")
    before = tree(tmp_path / "out0.25")
    assert select(raw, tmp_path / "out0.25", holdout=0.25).seconds == {}
    assert tree(tmp_path / "out0.25") == before
    again = curate.draw(tmp_path / "out0.25", out=tmp_path / "drawn", budget=100)
    assert again.manifest["recipe"]["holdout"] == 0.25


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan")])
def test_a_holdout_that_is_no_share_is_refused(raw, tmp_path, share):
    with pytest.raises(UsageError, match="must be between 0 and 1"):
        select(raw, tmp_path / "out", holdout=share)


# ---- real text


@pytest.mark.pool
@pytest.mark.slow
def test_the_held_out_part_of_the_train_texts_tells_what_the_held_out_texts_tell(pool, tmp_path):
    files = pool / "targets" / "minif2f-lean"
    curate.select(pool / "raw", target=files / "train.jsonl", out=tmp_path / "out", budget="1MB", holdout=0.2)
    by_share = curate.evaluate(tmp_path / "out", sample="500kB")
    by_file = curate.evaluate(tmp_path / "out", heldout=files / "heldout.jsonl", sample="500kB")
    assert by_share.verdict == by_file.verdict == "better"


# ---- found by review


def test_a_file_that_the_run_was_fitted_to_is_refused(run):
    with pytest.raises(UsageError, match=r"fitted to this very file.*--holdout"):
        evaluate(run, json.loads((run / "manifest.json").read_text())["targets"][0]["path"])


def test_a_ledger_of_other_scores_is_refused(run, heldout, tmp_path):
    run = Path(shutil.copytree(run, tmp_path / "copy"))
    ledger = run / "ledger.parquet"
    table = pq.read_table(ledger)
    pq.write_table(table.take(pa.array(np.arange(len(table))[::-1])), ledger)
    with pytest.raises(RunError, match="not the ledger of these scores"):
        evaluate(run, heldout)
    pq.write_table(table.slice(1), ledger)
    with pytest.raises(RunError, match="ledger"):
        evaluate(run, heldout)


def test_random_arms_hold_only_documents_that_a_selection_could_hold(heldout, tmp_path):
    raw, target = sharded(tmp_path / "raw", ROWS, 3), write(tmp_path / "target.jsonl", target_rows())
    write(raw / "short.jsonl", [{"text": f"x{i}", "id": f"short-{i}"} for i in range(500)])
    settings = {"n_buckets": 500, "min_tokens": 5}
    verdicts = []
    for seed in range(4):
        out = tmp_path / f"out-{seed}"
        curate.select(raw, target=target, out=out, budget="40%", draw="uniform", seed=seed, settings=settings)
        verdicts.append(evaluate(out, heldout).verdict)
    assert verdicts.count("no better") >= 3, verdicts


def test_many_strata_with_small_quotas_are_not_filled_with_short_documents():
    rng = np.random.default_rng(0)
    n, n_strata = 20_000, 500
    documents = np.zeros(n, DOCUMENT)
    documents["key"] = rng.integers(0, 2**64 - 1, n, dtype=np.uint64)
    documents["row"] = np.arange(n)
    documents["bytes"] = np.exp(rng.normal(8, 1, n)).astype(int) + 1
    documents["stratum"] = rng.integers(0, n_strata, n)
    size = 500_000
    draw = Draw(np.full(n_strata, size // n_strata), np.full(n_strata, documents["bytes"].mean()))
    draw.add(documents)
    found = draw.sample()
    assert found.documents["bytes"].mean() == pytest.approx(documents["bytes"].mean(), rel=0.25)


def test_a_control_that_is_always_the_same_is_not_beaten_by_chance():
    """Two random selections: one is called the top-k, whose samples are all alike."""
    rng = np.random.default_rng(0)
    sizes = (np.full(100, 1000),)
    decided = 0
    for _ in range(200):

        def costs(level, n, spread):
            return Costs((1000 * level + rng.normal(0, spread, (n, 1)) + rng.normal(0, 1, (n, 100)),), sizes)

        arms = {
            "selected": costs(0.25 + rng.normal(0, 0.01), 5, 0.1),
            "top-k": costs(0.25 + rng.normal(0, 0.01), 5, 0.1),
            "random": costs(0.25, 10, 10.0),
        }
        decided += against(arms, "top-k").verdict != "no better"
    assert decided <= 20


def test_of_more_sources_than_are_told_apart_none_is_stratified_by(heldout, tmp_path):
    of = [row | {"source": f"http://example.org/{i:05d}"} for i, row in enumerate(rows(3_000))]
    write(tmp_path / "raw" / "part.jsonl", of)
    small_select(tmp_path / "raw", tmp_path / "out", target=write(tmp_path / "target.jsonl", target_rows()), budget=50)
    arms = [arm.name for arm in evaluate(tmp_path / "out", heldout).arms]
    assert "random" in arms
    assert "source-stratified" not in arms
