"""Decontamination: what is found of evaluation items, what is not, and that nothing else is touched."""

from __future__ import annotations

import json
import random
import re
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import reference
from corpora import write
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from curate.decontamination import DecontaminationSpec, Index, Items, Summary, read_items
from curate.decontamination.arrays import ANCHOR, word_hashes
from curate.decontamination.licences import MIT
from curate.decontamination.spec import benchmark_name
from curate.errors import InputError, UsageError
from curate.features.edits import edited
from curate.kernels.overlap import ANCHOR as KERNEL_ANCHOR

BREAD = (
    "A baker sells 48 loaves of bread in the morning and half as many in the afternoon. Each loaf costs 3 dollars and "
    "the flour for one of them costs 50 cents. How much money has she earned at the end of the day?"
)
TRAIN = (
    "Two trains leave the same station at 9 o'clock and travel in opposite directions, one of them twice as fast as "
    "the other. After 5 hours they are 450 miles apart. What is the speed of the slower train?"
)
CODE = '''def count_vowels(word: str) -> int:
    """Return how many vowels there are in a word, where the letter y is a vowel only at its very end.

    >>> count_vowels("rhythmically")
    """
    return sum(letter in "aeiou" for letter in word.lower()) + word.lower().endswith("y")'''
LEAN = "theorem amc12a_p7 (x y : ℝ) (h₀ : x + y = 19) (h₁ : x * y = 48) (h₂ : y < x) : x - y = 13 := begin sorry end"
CAPITAL = "Which river flows through the old town of Zurich?"
SHORT = "Who wrote this poem?"
TEXTS = [BREAD, TRAIN, CODE, LEAN, CAPITAL, SHORT]
BEFORE, AFTER = (
    "Yesterday it rained from dawn to dusk.\n\n",
    "\n\nNobody has seen the cat again since then, sad to say.",
)


def spec(**more):
    return DecontaminationSpec(**{"against": "evals.jsonl", **more})


def index_of(texts=TEXTS, **more):
    return Index.build(Items.of(texts, "quiz"), spec(**more))


def rows_of(found):
    return found.table.to_pylist()


def found_in(document, texts=TEXTS, **more):
    """``{item: kind}`` of what a document has."""
    rows = rows_of(index_of(texts, **more).find(pa.array([document])))
    return {int(row["item"]): row["kind"] for row in rows}


def words(text):
    return [word for word, _, _ in reference.overlap_words(text)]


def changed_words(text, every):
    """A text with another word for each ``every``-th that is none but letters."""
    count = iter(range(1, 10_000))
    return re.sub(r"\b[a-z]+\b", lambda m: m.group() if next(count) % every else "zebra", text)


# ---- words


hostile = st.text(st.sampled_from("aB7_ \n\r\0é\u0301ΣσİKȺ日本ก😀한²ー\U00020000"), max_size=90)


@settings(max_examples=40)
@given(st.lists(hostile, max_size=4))
@example(["x" * 64, "日" * 30 + "a" * 40, "é" * 32, "a日b日" * 20])
def test_words_are_those_of_the_definition(texts):
    hashes, ends = word_hashes(pa.array(texts, pa.large_string()))
    expected = [[reference.overlap_hash(word) for word in words(text)] for text in texts]
    assert [hashes[a:b].tolist() for a, b in pairwise(ends)] == expected
    assert ANCHOR == KERNEL_ANCHOR


# ---- what is found


FEW = ["ab", "cd", "ef", "gh", "ij", "kl", "mn", "op"]


@settings(max_examples=60)
@given(st.lists(st.sampled_from(FEW), max_size=60), st.lists(st.sampled_from(FEW), min_size=8, max_size=40), st.data())
def test_what_is_verbatim_is_what_the_definition_says(filler, item, data):
    assume(len({tuple(item[i : i + ANCHOR]) for i in range(len(item) - 4)}) == len(item) - 4)  # of equal ones the first
    start = data.draw(st.integers(0, len(item)))
    size = data.draw(st.integers(0, 20))
    at = data.draw(st.integers(0, len(filler)))
    document = [*filler[:at], *item[start : start + size], *filler[at:]]
    kinds = found_in(" ".join(document), [" ".join(item)], ngram=8)
    assert (kinds.get(0) == "verbatim") == reference.is_verbatim(document, item, 8)


@pytest.mark.parametrize("item", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("before", ["", BEFORE])
def test_an_item_is_found_verbatim_by_itself_and_embedded(item, before):
    assert found_in(before + TEXTS[item] + (AFTER if before else "")) == {item: "verbatim"}


@pytest.mark.parametrize("item", [0, 1, 2])
def test_an_item_is_found_when_one_word_in_seven_is_another(item):
    assert item in found_in(BEFORE + changed_words(TEXTS[item], 7) + AFTER)
    assert found_in(BEFORE + changed_words(TEXTS[item], 2) + AFTER) == {}


def test_an_edited_item_without_a_window_in_common_is_found_as_edited():
    copy = changed_words(BREAD, 8)
    assert not any(length >= 13 for _, _, length in reference.common_runs(words(copy), words(BREAD)))
    [row] = rows_of(index_of().find(pa.array([BEFORE + copy + AFTER])))
    assert row["kind"] == "edited"
    assert 0.5 <= row["coverage"] < 1


def test_case_punctuation_and_white_space_do_not_matter():
    assert found_in(re.sub(r"[^\w\s]", "", BREAD).upper().replace(" ", "\r\n\t")) == {0: "verbatim"}


def test_half_of_an_item_is_found():
    assert found_in(BEFORE + BREAD[: len(BREAD) // 2] + AFTER) == {0: "verbatim"}


def test_the_same_words_with_other_numbers_are_another_item():
    other = BREAD.replace("48", "72").replace(" 3 ", " 5 ").replace("50", "80")
    assert found_in(BEFORE + other + AFTER) == {}
    assert found_in(BEFORE + BREAD.replace("48", "72") + AFTER) == {0: "verbatim"}  # one of three


def test_a_short_item_is_found_as_a_whole_only():
    assert found_in("Tell me: " + CAPITAL.lower()) == {4: "verbatim"}
    assert found_in("Tell me: which river flows through the old town of Basel?") == {}


def test_items_that_are_too_short_are_named():
    index = index_of()
    assert index.undecidable == {"quiz": ("5",)}
    assert found_in(SHORT) == {}
    counts = Summary(index)
    counts.add(index.find(pa.array([SHORT, BREAD])))
    summary = counts.as_dict()
    assert (summary["n_documents"], summary["n_contaminated"]) == (2, 1)
    quiz = summary["benchmarks"]["quiz"]
    assert (quiz["n_items"], quiz["n_items_found"], quiz["n_items_verbatim"], quiz["undecidable"]) == (6, 1, 1, ["5"])


def test_a_document_whose_matches_are_in_two_tables_is_counted_once():
    index = index_of()
    found = index.find(pa.array([f"{BREAD} {TRAIN} {BREAD}", TRAIN])).table
    for size in range(1, len(found) + 1):
        counts = Summary(index)
        for start in range(0, len(found), size):
            counts.add_rows(found.slice(start, size), ["doc"])
        assert counts.as_dict()["benchmarks"]["quiz"]["n_documents"] == 2


def test_what_all_items_share_says_nothing():
    prompt = (
        "You are a careful assistant. Read the question below and answer it in one short sentence without a reason. "
    )
    items = [prompt + text for text in (BREAD, TRAIN, CODE, LEAN)]
    index = index_of(items)
    assert index.n_boilerplate["quiz"] > 0
    assert found_in(BEFORE + prompt + AFTER, items) == {}
    assert found_in(prompt + "What is a good name for a grey cat with white paws?", items) == {}
    assert found_in(BEFORE + BREAD + AFTER, items) == {0: "verbatim"}


def test_the_licence_at_the_head_of_an_item_is_not_the_items():
    items = [f"Copyright (c) 2023 the authors.{MIT}\n{CODE}", TRAIN]
    assert found_in(f"# Copyright (c) 2019 others.{MIT}\nimport os\nprint(os.getcwd())", items) == {}
    assert found_in(CODE, items) == {0: "verbatim"}


def test_an_item_that_is_there_twice_is_no_boilerplate():
    assert set(found_in(BREAD, [BREAD] * 9 + [TRAIN])) == set(range(9))


@pytest.mark.parametrize("document", [
    "for i in range(n):\n    for j in range(n):\n        if i == j:\n            for k in range(n):",
    "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16",
    "ha " * 40,
    "a b c d e f g h i j k l m n o p q r s t u v w x y z",
])  # fmt: skip
def test_counting_spelling_and_loops_are_nobodys(document):
    item = f"{TRAIN} {document} {BREAD}"
    assert found_in(f"{AFTER} {document} {BEFORE}", [item]) == {}
    assert found_in(item, [item]) == {0: "verbatim"}


# ---- where


def test_places_are_bytes_of_the_text_and_hold_what_they_say():
    document = f"日本 é 😀 {BREAD}\n\nЗдравствуй! {CODE} ß"
    for row in rows_of(index_of().find(pa.array(["", document, BEFORE]))):
        place = document.encode()[row["start"] : row["stop"]].decode()
        assert row["doc"] == 1
        assert words(place) == words(TEXTS[int(row["item"])])
        assert place.startswith(row["excerpt"])
        assert (row["coverage"], row["n_words"], len(row["excerpt"]) <= 200) == (1, len(words(place)), True)


def test_an_item_that_is_there_twice_has_two_places():
    rows = rows_of(index_of().find(pa.array([BREAD + BEFORE * 30 + BREAD])))
    assert [row["item"] for row in rows] == ["0", "0"]
    assert rows[0]["stop"] < rows[1]["start"]


@given(st.permutations(range(5)), st.integers(1, 5))
@settings(max_examples=20)
def test_batches_and_their_order_do_not_matter(order, size):
    documents = [BEFORE + text + AFTER for text in TEXTS[:5]]
    index = index_of()
    whole = rows_of(index.find(pa.array(documents)))
    parts = []
    for start in range(0, 5, size):
        some = order[start : start + size]
        for row in rows_of(index.find(pa.array([documents[i] for i in some]))):
            parts.append({**row, "doc": some[row["doc"]]})
    assert sorted(parts, key=lambda row: row["doc"]) == whole


# ---- what becomes of documents


def test_remove_cut_and_tag():
    documents = pa.array([BEFORE * 5 + BREAD + AFTER, TRAIN, BEFORE])
    index = index_of()
    found = index.find(documents)
    assert found.verdicts(spec()).to_pylist() == ["contaminated", "contaminated", None]
    assert found.verdicts(spec(mode="tag")).to_pylist() == [None] * 3
    assert found.tags().to_pylist() == [["quiz"], ["quiz"], []]
    assert found.verdicts(spec(mode="cut")).to_pylist() == [None, "contaminated", None]
    assert found.verdicts(spec(mode="cut", min_left=0)).to_pylist() == [None] * 3


def test_a_cut_leaves_the_rest_byte_for_byte():
    documents = [BEFORE + BREAD + AFTER, "é " + TRAIN + "😀" + BREAD, BEFORE]
    found = index_of().find(pa.array(documents, pa.large_string()))
    left = edited(pa.array(documents, pa.large_string()), found.cuts().lists(3)).to_pylist()
    assert left == [BEFORE + "?" + AFTER, "é ?😀?", BEFORE]


# ---- items in files


def test_questions_are_found_without_their_answers(tmp_path):
    rows = [
        {"task_id": "q1", "question": BREAD, "choices": {"text": ["108 dollars", "180 dollars"]}, "label": "A"},
        {"task_id": "q2", "question": TRAIN, "choices": {"text": ["30 miles", "45 miles an hour"]}, "label": "B"},
    ]
    write(tmp_path / "maths" / "test.jsonl", rows)
    found = Index.of(spec(against=tmp_path)).find(pa.array([TRAIN, "nothing"]))
    assert [(row["benchmark"], row["item"], row["kind"]) for row in rows_of(found)] == [("maths", "q2", "verbatim")]
    short = [{"question": CAPITAL, "answer": "The Limmat, which comes out of the lake and has green water."}]
    path = write(tmp_path / "rivers.jsonl", short)
    rows = rows_of(Index.of(spec(against={"geo": [path]})).find(pa.array([f"Quiz: {CAPITAL}"])))
    assert [(row["benchmark"], row["item"]) for row in rows] == [("geo", "rivers.jsonl#0")]


def test_text_is_what_is_looked_for_where_there_is_one(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"id": "1", "text": BREAD, "note": TRAIN}])
    assert rows_of(Index.of(spec(against=path)).find(pa.array([TRAIN]))) == []
    assert len(Index.of(spec(against=path, fields=["note"])).find(pa.array([TRAIN]))) == 1


def test_items_are_read_from_all_kinds_of_files(tmp_path):
    (tmp_path / "one.txt").write_text(BREAD + "\n")
    (tmp_path / "two.csv").write_text(f'id,text\n7,"{TRAIN}"\n')
    pq.write_table(pa.table({"text": [CODE]}), tmp_path / "three.parquet")
    items = read_items(spec(against=tmp_path))
    assert list(zip(items.benchmarks, items.ids, strict=True)) == [
        ("one", "one.txt#0"), ("three", "three.parquet#0"), ("two", "7"),
    ]  # fmt: skip


def test_a_benchmark_is_called_after_its_file_or_folder():
    assert [benchmark_name(p) for p in ("a/gsm8k.jsonl.zst", "a/gsm8k/test.jsonl", "test.txt", "s3://b/c/dev.csv")] == [
        "gsm8k", "gsm8k", "test", "c",
    ]  # fmt: skip


def test_mistakes_are_told_with_the_way_out(tmp_path):
    with pytest.raises(UsageError, match="did you mean 'ngram'"):
        DecontaminationSpec.from_settings({"against": "x", "ngrams": 13})
    with pytest.raises(UsageError, match="did you mean 'remove'"):
        spec(mode="remov")
    with pytest.raises(UsageError, match="ngram=3: must be 8 to 64"):
        spec(ngram=3)
    with pytest.raises(UsageError, match="against nothing"):
        spec(against=[])
    path = write(tmp_path / "a.jsonl", [{"question": BREAD}])
    with pytest.raises(UsageError, match="did you mean 'question'"):
        read_items(spec(against=path, fields=["questoin"]))
    with pytest.raises(InputError, match="no column holds text"):
        read_items(spec(against=write(tmp_path / "b.jsonl", [{"n": 1}])))
    assert json.dumps(spec(against={"a": ["x"]}).as_dict())


def test_an_index_that_was_saved_finds_the_same(tmp_path):
    index = index_of()
    index.save(tmp_path / "index.npz")
    loaded = Index.load(tmp_path / "index.npz")
    documents = pa.array([BEFORE + text for text in TEXTS])
    assert loaded.find(documents).table == index.find(documents).table
    assert loaded.identity == index.identity
    assert (loaded.undecidable, loaded.n_boilerplate) == (index.undecidable, index.n_boilerplate)
    (tmp_path / "bad.npz").write_bytes((tmp_path / "index.npz").read_bytes()[:-100])
    with pytest.raises(InputError, match="not a saved index"):
        Index.load(tmp_path / "bad.npz")
    arrays = dict(np.load(tmp_path / "index.npz"))
    arrays["places"] = arrays["places"] + 1_000
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(InputError, match="do not belong together"):
        Index.load(tmp_path / "wrong.npz")


# ---- hostile input


@pytest.mark.parametrize("unit", ["the ", "0 ", "日", "😀", "\0", "x", "a b ", BREAD + " ", " ".join(FEW) + " "])
def test_long_documents_of_few_words_take_no_more_than_linear_time(unit):
    document = unit * (2_000_000 // len(unit.encode()))
    index = index_of([*TEXTS, "the " * 500, "a b " * 300, " ".join(FEW * 40), "日" * 400])
    found = index.find(pa.array([document, None, "", document[:5]]))
    assert found.contaminated().tolist()[1:] == [False] * 3


def test_without_items_or_documents_nothing_is_found():
    assert len(Index.build(Items.of([""]), spec()).find(pa.array([BREAD, ""]))) == 0
    assert len(index_of().find(pa.array([], pa.string()))) == 0
    with pytest.raises(InputError, match="nothing to look for"):
        Index.build(Items((), (), ()), spec())


# ---- the pool


@pytest.mark.pool
def test_the_contamination_of_the_pool_is_found_and_nothing_else(pool):
    shards = [pq.read_table(path, columns=["id", "text"]) for path in sorted((pool / "raw").glob("*.parquet"))]
    raw = pa.concat_tables(shards)
    truth = pq.read_table(pool / "truth" / "contamination.parquet").to_pylist()
    index = Index.of(spec(against=pool / "targets"))
    rows = rows_of(index.find(raw["text"]))
    ids = raw["id"].to_pylist()
    by_document = {(ids[row["doc"]], row["item"]) for row in rows}
    assert {document for document, _ in by_document} <= {row["id"] for row in truth}
    assert sum((row["id"], row["item_id"]) in by_document for row in truth) >= 51


@pytest.mark.pool
def test_new_edits_of_items_of_the_pool_are_found(pool):
    items = read_items(spec(against=[pool / "targets" / "gsm8k", pool / "targets" / "humaneval"]))
    index, chance = Index.build(items, spec()), random.Random(3)
    some = chance.sample(range(len(items)), 200)
    documents = [
        re.sub(r"\w+", lambda m: m.group() if chance.random() > 0.1 else "quux", items.texts[i][0]) for i in some
    ]
    rows = rows_of(index.find(pa.array([BEFORE + document + AFTER for document in documents])))
    found = {(row["doc"], row["item"]) for row in rows}
    assert sum((place, items.ids[i]) in found for place, i in enumerate(some)) >= 198
