"""One pass over a corpus: its sizes, its sample, what is measured on the sample, names of n-grams, languages."""

import json
import math
from collections import Counter
from dataclasses import fields

import numpy as np
import pyarrow as pa
import pytest
import reference
from corpora import COOKING, FORMATS, MATHS, encoded, lines, rows, sharded, table_bytes, write
from hypothesis import given, settings
from hypothesis import strategies as st

import curate.survey.corpus as of_corpus
import curate.survey.languages as of_languages
import curate.survey.sample as of_sample
from curate.engines import LocalEngine
from curate.errors import InputError
from curate.features import NgramFeatures
from curate.io.corpus import scan
from curate.survey import facts, survey
from curate.survey.languages import languages, script
from curate.survey.names import commonest, ngram_names, shifts
from curate.survey.sample import DIMENSIONS, FEATURES, FINENESS, N_BUCKETS, N_FINE, N_PARTS

GOOD = rows(12)
ONE = LocalEngine(1)
TWO = LocalEngine(2)


def look(*paths, engine=TWO, on_bad_row="raise", **options):
    return survey(scan(paths, on_bad_row=on_bad_row), "raw", engine, **options)


def found(of):
    """All that a survey found, as values that can be compared."""
    sample = list(zip(of.ids.to_pylist(), of.texts.to_pylist(), strict=True))
    sizes = (of.n_documents, of.n_empty, of.n_bad_rows, of.n_bytes)
    return sizes, of.lengths.counts.tolist(), list(of.sources.items()), sample, of.whole


def texts(*of):
    return pa.array(of, pa.large_string())


def measured(of, engine=TWO):
    return facts(texts(*of), engine)


# ---- what does not change a survey


@pytest.mark.parametrize("sample_bytes", [1_500, 1e6])
def test_the_format_of_the_files_changes_nothing(tmp_path, sample_bytes):
    of = rows(60)
    surveys = []
    for form in FORMATS:
        write(tmp_path / form / f"a.{form}", of)
        surveys.append(found(look(tmp_path / form, sample_bytes=sample_bytes)))
    assert all(one == surveys[0] for one in surveys)


@given(
    st.permutations(range(40)),
    st.integers(1, 6),
    st.sampled_from(["parquet", "jsonl", "jsonl.zst"]),
    st.sampled_from([ONE, TWO]),
    st.sampled_from([300, 2_000, 4_000_000]),
    st.sampled_from([100, 700, 2_000, math.inf]),
)
@settings(max_examples=40)
def test_workers_and_the_order_and_cut_of_files_and_batches_change_nothing(
    tmp_path_factory, order, n_files, form, engine, batch_bytes, sample_bytes
):
    of = rows(40)
    folder = tmp_path_factory.mktemp("raw")
    write(folder / "whole" / "a.jsonl", of)
    wanted = look(folder / "whole", engine=ONE, sample_bytes=sample_bytes)
    sharded(folder / "cut", [of[i] for i in order], n_files, form)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(of_corpus, "BATCH_BYTES", batch_bytes)
        assert found(look(folder / "cut", engine=engine, sample_bytes=sample_bytes)) == found(wanted)


def test_row_groups_of_parquet_change_nothing(tmp_path):
    table = pa.Table.from_pylist(rows(60))
    write(tmp_path / "a" / "x.parquet", table_bytes("parquet", table))
    write(tmp_path / "b" / "x.parquet", table_bytes("parquet", table, row_group_size=7))
    assert found(look(tmp_path / "a")) == found(look(tmp_path / "b"))


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=30), st.integers(1, 5), st.integers(1, 7))
@settings(max_examples=30)
def test_of_too_many_sources_the_last_by_name_are_one_in_any_order(tmp_path_factory, sources, n_files, limit):
    folder = tmp_path_factory.mktemp("raw")
    sharded(folder, [{"text": "x" * (1 + i), "source": s} for i, s in enumerate(sources)], n_files)
    wanted: dict[str, dict[str, int]] = {}
    named = sorted(set(sources))[:limit]
    for i, source in enumerate(sources):
        into = wanted.setdefault(source if source in named else "(other)", {"documents": 0, "bytes": 0})
        into["documents"] += 1
        into["bytes"] += 1 + i
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(of_corpus, "MAX_GROUPS", limit)
        patch.setattr(of_corpus, "BATCH_BYTES", 100)
        assert look(folder).sources == wanted


# ---- what it counts


def test_sizes_lengths_and_sources_are_a_plain_count(tmp_path):
    of = [
        *rows(50),
        {"id": "e", "text": ""},
        {"id": "n", "text": None, "source": None},
        {"id": "u", "text": "日本語 é"},
    ]
    sharded(tmp_path, of, 4)
    result = look(tmp_path)
    sizes = [len((row["text"] or "").encode()) for row in of]
    assert (result.n_documents, result.n_empty, result.n_bad_rows, result.n_bytes) == (53, 2, 0, sum(sizes))
    assert {i: n for i, n in enumerate(result.lengths.counts.tolist()) if n} == dict(Counter(sizes))
    for source in ("maths", "cooking", "news", ""):
        of_source = [size for row, size in zip(of, sizes, strict=True) if (row.get("source") or "") == source]
        assert result.sources[source] == {"documents": len(of_source), "bytes": sum(of_source)}
    assert list(result.sources) == ["", "cooking", "maths", "news"]


def test_a_corpus_without_sources_has_none(tmp_path):
    write(tmp_path / "a.jsonl", [{"text": "one"}])
    assert look(tmp_path).sources == {}


def test_a_source_that_only_some_files_have_is_counted(tmp_path):
    write(tmp_path / "a.parquet", [{"text": "one"}])
    write(tmp_path / "b.parquet", [{"text": "three", "source": "web"}])
    assert look(tmp_path).sources == {"": {"documents": 1, "bytes": 3}, "web": {"documents": 1, "bytes": 5}}


def test_an_empty_file_and_a_corpus_without_text_are_no_error(tmp_path):
    write(tmp_path / "a.jsonl", b"")
    write(tmp_path / "b.jsonl", [{"text": ""}])
    result = look(tmp_path)
    assert (result.n_documents, result.n_empty, len(result.texts), result.whole) == (1, 1, 0, True)
    write(tmp_path / "c.parquet", table_bytes("parquet", pa.table({"text": pa.array([], pa.string())})))
    assert look(tmp_path / "c.parquet").n_documents == 0


ODD = {
    "blank lines": lambda of: b"\n\n".join(of) + b"\n\n\n",
    "white space": lambda of: b"\n \t \n".join(of),
    "byte order mark": lambda of: b"\xef\xbb\xbf" + b"\n".join(of),
    "CRLF": lambda of: b"\r\n".join(of) + b"\r\n",
    "no newline at the end": lambda of: b"\n".join(of),
}


@pytest.mark.parametrize("name", ODD)
def test_harmless_oddities_change_nothing(tmp_path, name):
    plain = encoded("jsonl", GOOD)
    write(tmp_path / "plain" / "a.jsonl", plain)
    write(tmp_path / "odd" / "a.jsonl", ODD[name](plain.splitlines()))
    assert found(look(tmp_path / "odd")) == found(look(tmp_path / "plain"))


def test_nul_a_huge_line_and_duplicates_are_documents_like_others(tmp_path):
    of = [{"id": "nul", "text": "a\0b"}, {"id": "huge", "text": "word " * 400_000}]
    of += [{"id": "twice", "text": "same"}] * 2 + [{"id": "twice", "text": "other"}]
    write(tmp_path / "a.jsonl", of)
    result = look(tmp_path)
    assert (result.n_documents, result.n_bytes) == (5, 3 + 2_000_000 + 4 + 4 + 5)
    sample = zip(result.ids.to_pylist(), result.texts.to_pylist(), strict=True)
    assert sorted(sample) == sorted((row["id"], row["text"]) for row in of)
    write(tmp_path / "b.jsonl", list(reversed(of)))
    assert found(look(tmp_path / "b.jsonl")) == found(look(tmp_path / "a.jsonl"))


def test_a_bad_row_is_an_error_or_is_counted(tmp_path):
    good = encoded("jsonl", GOOD).splitlines()
    lines(tmp_path / "a.jsonl", *good[:6], b'{"text":', b"\xff", *good[6:])
    with pytest.raises(InputError, match="line 7: not JSON"):
        look(tmp_path)
    result = look(tmp_path, on_bad_row="quarantine")
    assert (result.n_documents, result.n_bad_rows, len(result.texts)) == (12, 2, 12)


def test_texts_of_rows_that_are_asked_for_are_found(tmp_path):
    sharded(tmp_path, GOOD, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(of_corpus, "BATCH_BYTES", 300)
        result = look(tmp_path, wanted={0: np.array([1, 5]), 1: np.array([0])}, sample_bytes=1)
    assert result.found == {(0, 1): GOOD[1]["text"], (0, 5): GOOD[5]["text"], (1, 0): GOOD[6]["text"]}


def test_progress_is_told_every_byte(tmp_path):
    sharded(tmp_path, GOOD, 3)
    told: list[int] = []
    look(tmp_path, advance=told.append)
    assert sum(told) == sum(path.stat().st_size for path in tmp_path.iterdir())


# ---- the sample


def test_a_small_corpus_is_its_own_sample(tmp_path):
    of = [*GOOD, {"id": "empty", "text": ""}]
    sharded(tmp_path, of, 3)
    result = look(tmp_path)
    assert result.whole
    assert dict(zip(result.ids.to_pylist(), result.texts.to_pylist(), strict=True)) == {
        row["id"]: row["text"] for row in GOOD
    }


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return sharded(tmp_path_factory.mktemp("many"), rows(4_000), 5)


@pytest.mark.parametrize("quota", [3_000, 20_000, 100_000])
def test_a_sample_is_at_least_its_quota_and_about_twice_at_most(many, quota):
    result = look(many, sample_bytes=quota)
    size = sum(len(text.encode()) for text in result.texts.to_pylist())
    assert quota <= size < 2.5 * quota
    assert not result.whole


def test_a_sample_takes_all_above_a_level_of_a_hash(many):
    sampled = look(many, sample_bytes=20_000).ids.to_pylist()
    levels = {f"d{i}": reference.level(f"d{i}", 24) for i in range(4_000)}
    lowest = min(levels[doc_id] for doc_id in sampled)
    assert sorted(sampled) == sorted(doc_id for doc_id, level in levels.items() if level >= lowest)


def test_a_sample_is_in_the_order_of_another_hash(many):
    sampled = look(many, sample_bytes=20_000).ids.to_pylist()
    assert sampled == sorted(sampled, key=lambda doc_id: reference.keyed_hash(doc_id, 0, reference.TIE))


def test_a_smaller_sample_is_a_part_of_a_larger_in_the_same_order(many):
    small, large = (look(many, sample_bytes=quota).ids.to_pylist() for quota in (3_000, 50_000))
    assert [doc_id for doc_id in large if doc_id in set(small)] == small


# ---- facts

plain = st.text(st.sampled_from("ab .,éΣ日\n"), max_size=30) | st.text(max_size=10)
some_texts = st.lists(plain.map(lambda t: t.encode(errors="replace").decode()), max_size=8)


@given(some_texts)
@settings(max_examples=25)
def test_counts_are_those_of_the_definition(of):
    result = measured(of)
    grams = [reference.ngrams(reference.tokens(text), 2) for text in of]
    fine = Counter(reference.fast_bucket(gram, N_FINE) for each in grams for gram in each)
    assert {b: n for b, n in enumerate(result.fine.tolist()) if n} == dict(fine)
    coarse = Counter(reference.fast_bucket(gram, N_BUCKETS) for each in grams for gram in each)
    assert {b: n for b, n in enumerate(result.counts.tolist()) if n} == dict(coarse)
    for i in range(len(of)):
        in_part = Counter(reference.fast_bucket(gram, N_BUCKETS) for gram in grams[i])
        assert {b: n for b, n in enumerate(result.parts[i].tolist()) if n} == dict(in_part)
    assert result.n_bytes.tolist() == [len(text.encode()) for text in of]
    assert result.n_tokens.tolist() == [len(reference.tokens(text)) for text in of]
    norms = np.linalg.norm(result.vectors, axis=1)
    assert all(norm == 0 or math.isclose(norm, 1) for norm in norms.tolist())


def test_a_coarse_bucket_is_a_hundred_fine_ones(many):
    of = look(many).texts
    result = facts(of, TWO)
    alone = np.bincount(NgramFeatures(n=2, n_buckets=N_BUCKETS).stream(of).buckets, minlength=N_BUCKETS)
    np.testing.assert_array_equal(result.counts, alone)
    np.testing.assert_array_equal(result.fine.reshape(N_BUCKETS, FINENESS).sum(axis=1), alone)


def test_documents_are_dealt_into_the_parts_in_turn(many):
    of = look(many).texts
    result = facts(of, TWO)
    assert result.parts.shape == (N_PARTS, N_BUCKETS)
    third = facts(of.take(pa.array(range(2, len(of), N_PARTS))), ONE)
    np.testing.assert_array_equal(result.parts[2], third.counts)


@pytest.mark.parametrize("batch_bytes", [1, 1_000, 33_333])
def test_neither_workers_nor_the_cut_of_batches_changes_a_fact(many, monkeypatch, batch_bytes):
    of = look(many, sample_bytes=60_000).texts
    wanted = facts(of, ONE)
    monkeypatch.setattr(of_sample, "_BATCH_BYTES", batch_bytes)
    result = facts(of if batch_bytes > 1 else of.slice(0, 40), TWO)
    if batch_bytes == 1:
        wanted = facts(of.slice(0, 40), ONE)
    for field in fields(wanted):
        np.testing.assert_array_equal(getattr(result, field.name), getattr(wanted, field.name), field.name)


def test_vectors_are_of_the_first_documents_and_tell_them_apart(monkeypatch):
    monkeypatch.setattr(of_sample, "N_VECTORS", 3)
    result = measured(["a b c", "a b c", "x y z", "never"])
    assert result.vectors.shape == (3, DIMENSIONS)
    np.testing.assert_array_equal(result.vectors[0], result.vectors[1])
    assert result.vectors[0] @ result.vectors[2] < 0.9


def test_repetition_compresses_and_noise_does_not():
    noise = np.random.default_rng(0).integers(33, 126, 1_000).astype(np.uint8).tobytes().decode()
    repeated, random, empty = measured(["again and " * 100, noise, ""]).compression.tolist()
    assert repeated > 20
    assert 0.9 < random < 1.3
    assert empty == 0


def test_only_the_first_documents_are_compressed_and_have_a_language(monkeypatch):
    monkeypatch.setattr(of_sample, "N_READ", 2)
    result = measured(["one", "two", "three"])
    assert (len(result.compression), result.languages.n_documents, len(result.n_bytes)) == (2, 2, 3)


def test_adequacy_is_that_of_the_definition():
    of = [row["text"] for row in rows(8)]
    result = measured(of)
    documents = [reference.counts(reference.buckets(text), N_BUCKETS) for text in of]
    risk, design_effect = reference.cluster_risk(documents)
    found = result.adequacy(1.0)
    assert (found.risk, found.design_effect) == pytest.approx((risk, design_effect))
    assert (found.n_documents, found.kl_from_raw) == (8, 1.0)


def test_no_text_at_all_has_facts_too():
    result = measured([])
    assert result.fine.sum() == result.counts.sum() == len(result.n_tokens) == 0
    assert result.vectors.shape == (0, DIMENSIONS)
    assert result.languages.shares == {}


# ---- names of n-grams


@given(some_texts.filter(lambda of: any(map(reference.tokens, of))))
@settings(max_examples=40)
def test_a_name_is_an_ngram_of_the_texts_in_the_bucket_that_it_names(of):
    stream = FEATURES.stream(texts(*of))
    names = ngram_names(np.unique(stream.buckets.astype(np.int64)), [texts(*of)])
    grams = {" ".join(gram) for text in of for gram in reference.ngrams(reference.tokens(text), 2)}
    assert set(names.values()) == grams
    for bucket, name in names.items():
        assert FEATURES.stream([name]).buckets[-1] == bucket


def test_a_bucket_that_does_not_occur_has_no_name():
    assert ngram_names(np.array([5]), [texts("one two"), texts()]) == {}


def test_a_document_that_is_very_long_names_nothing(monkeypatch):
    monkeypatch.setattr("curate.survey.names.MAX_TEXT", 10)
    buckets = np.unique(FEATURES.stream(["long words here", "short"]).buckets.astype(np.int64))
    assert list(ngram_names(buckets, [texts("long words here", "short")]).values()) == ["short"]


def test_names_come_from_the_beginning_of_each_sample(monkeypatch):
    monkeypatch.setattr("curate.survey.names.READ_BYTES", 3)
    buckets = np.unique(FEATURES.stream(["one", "two", "six"]).buckets.astype(np.int64))
    assert sorted(ngram_names(buckets, [texts("one", "two", "six"), texts("six")]).values()) == ["one", "six"]


def planted(n, where):
    """Documents of which some end in two words that no other has."""
    return [row["text"] + (" quagga zebra" if where(i) else "") for i, row in enumerate(rows(n))]


def test_planted_ngrams_are_gained_first_and_the_other_way_lost_first():
    without, with_them = planted(300, lambda i: False), planted(300, lambda i: i % 2 == 0)
    few, more = measured(without), measured(with_them)
    both = [texts(*without), texts(*with_them)]
    gained, _ = shifts(few, more, [], both, n=3)
    _, lost = shifts(more, few, [], both, n=3)
    assert {one.ngram for one in gained} == {one.ngram for one in lost} == {"quagga", "zebra", "quagga zebra"}
    assert all(one.target is None for one in gained + lost)


@pytest.fixture(scope="module")
def kinds():
    """Texts and facts of documents about maths, and of all kinds."""
    of = rows(600)
    maths = [row["text"] for row in of if row["source"] == "maths"]
    mixed = [row["text"] for row in of]
    return (texts(*mixed), texts(*maths)), (measured(mixed), measured(maths))


def test_what_is_gained_is_commoner_in_the_selection_and_what_is_lost_is_rarer(kinds):
    samples, (mixed, maths) = kinds
    gained, lost = shifts(mixed, maths, [maths, mixed], samples)
    assert gained
    assert lost
    assert all(one.selected > one.raw and one.nats > 0 for one in gained)
    assert all(one.selected < one.raw and one.nats > 0 for one in lost)
    assert all(one.target == pytest.approx((one.raw + one.selected) / 2) for one in gained + lost)
    for found in (gained, lost):
        assert [one.nats for one in found] == sorted((one.nats for one in found), reverse=True)
    assert {word for one in gained[:10] for word in one.ngram.split()} & set(MATHS)
    assert {word for one in lost[:10] for word in one.ngram.split()} & set(COOKING)


def test_rates_are_occurrences_in_a_million_ngrams():
    raw, selected = ["a a a a"], ["a b b b"]
    gained, _ = shifts(measured(raw), measured(selected), [], [texts(*raw), texts(*selected)])
    of_b = next(one for one in gained if one.ngram == "b")
    assert (of_b.raw, of_b.selected) == (0, pytest.approx(1e6 * 3 / 7))


def test_a_corpus_of_the_same_shares_and_another_size_has_no_shifts(kinds):
    samples, (mixed, _) = kinds
    tenfold = facts(pa.concat_arrays([samples[0]] * 10), TWO)
    for raw, selected in ((tenfold, mixed), (mixed, tenfold)):
        assert all(one.nats < 1e-9 for found in shifts(raw, selected, [], [samples[0]]) for one in found)


def test_the_commonest_ngrams_are_of_two_words_and_in_order():
    of = ["new york , new york"] * 3 + ["old town"]
    found = commonest(measured(of), [texts(*of)], n=2)
    assert found == [("new york", pytest.approx(1e6 * 6 / 30)), (found[1][0], pytest.approx(1e6 * 3 / 30))]
    assert all(" " in name for name, _ in commonest(measured(of), [texts(*of)]))


# ---- languages

ENGLISH = "The quick brown fox jumps over the lazy dog and then it goes home to its family."
GERMAN = "Der schnelle braune Fuchs springt über den faulen Hund und geht dann nach Hause."
RUSSIAN = "Быстрая коричневая лиса прыгает через ленивую собаку и потом идёт домой."
JAPANESE = "これは日本語のテキストです。とても長い文章を書いています。"
TRADITIONAL = "這是一個繁體中文的句子，我們在這裡學習語言"


@pytest.fixture
def without_cld2(monkeypatch):
    monkeypatch.setattr(of_languages, "installed", lambda module: False)


def test_languages_are_shares_of_documents_largest_first():
    pytest.importorskip("pycld2")
    found = languages(texts(GERMAN, ENGLISH, RUSSIAN, ENGLISH, JAPANESE, TRADITIONAL, "12 34", ""))
    assert (found.by, found.n_documents) == ("language", 8)
    assert list(found.shares.items()) == [
        ("English", 2 / 8),
        ("unknown", 2 / 8),
        ("Chinese (traditional)", 1 / 8),
        ("German", 1 / 8),
        ("Japanese", 1 / 8),
        ("Russian", 1 / 8),
    ]


def test_without_cld2_there_are_scripts(without_cld2):
    found = languages(texts(GERMAN, ENGLISH, RUSSIAN, JAPANESE, "中文", "12 34", ""))
    assert (found.by, found.n_documents) == ("script", 7)
    assert dict(found.shares) == pytest.approx(
        {"Latin": 2 / 7, "none": 2 / 7, "Cyrillic": 1 / 7, "Hiragana": 1 / 7, "Han": 1 / 7}
    )


def test_the_script_is_that_of_most_letters_and_the_first_by_name_of_as_many():
    assert script("abc где ж") == "Cyrillic"
    assert script("где abc") == "Cyrillic"
    assert script("\0\x85\ufffe 1 \U000e0001") == "none"


@pytest.mark.parametrize(
    "c", ["\0", "\x0c", "\x1b", "\x7f", "\x85", "\x9f", "\ufdd0", "\ufffe", "\U0001ffff", "\u202e"]
)
def test_controls_and_noncharacters_do_not_hide_a_language(c):
    pytest.importorskip("pycld2")
    assert languages(texts(f"{c}{ENGLISH[:40]}{c}{ENGLISH[40:]}{c}")).shares == {"English": 1}


@given(st.lists(st.text(max_size=50), min_size=1, max_size=5), st.booleans())
@settings(max_examples=200)
def test_any_text_has_a_language_or_a_script_and_shares_sum_to_one(of, by_script):
    with pytest.MonkeyPatch.context() as patch:
        if by_script:
            patch.setattr(of_languages, "installed", lambda module: False)
        found = languages(texts(*(text.encode(errors="replace").decode() for text in of)))
    assert sum(found.shares.values()) == pytest.approx(1)
    assert "Unknown" not in found.shares
    json.dumps(found.shares)
