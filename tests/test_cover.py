"""Greedy coverage: what is taken is what the definition takes, in whatever order documents come."""

import numpy as np
import pyarrow as pa
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.kernels.bytematch import Vocabulary, words
from curate.kernels.text import string_buffers
from curate.sampling.cover import Coverage, Matches, greedy_cover

few = st.text(st.sampled_from("ab\n é😀"), min_size=1, max_size=30)  # so that n-grams meet again
repeated = st.builds(lambda text, n: text * n, few, st.integers(1, 20))
texts = st.lists(st.one_of(few, repeated, st.just("")), min_size=1, max_size=8)


def buffers(documents):
    return string_buffers(pa.array(documents, pa.large_string()))


def coverage(target):
    return Coverage(Vocabulary.of([words(*buffers(target))], 8))


def lengths(documents):
    return np.array([len(text.encode()) for text in documents], np.int64)


def taken(target, documents, *, sizes=None, ties=None, budget, room=None, rounds=40, before=0.0, workers=1):
    of = coverage(target)
    matches = of.matches(*buffers(documents))
    if before:
        of.expect(matches, before)
    n_bytes = lengths(documents)
    return greedy_cover(
        of,
        matches,
        n_bytes=n_bytes,
        sizes=n_bytes if sizes is None else np.array(sizes, np.int64),
        ties=np.arange(len(documents), dtype=np.uint64) if ties is None else np.array(ties, np.uint64),
        budget=budget,
        room=room,
        rounds=rounds,
        workers=workers,
    ).tolist()


def corpus(n, seed=0, kinds="abcd"):
    rng = np.random.default_rng(seed)
    lexicon = [[f"{kind}{i}é" for i in range(40)] for kind in kinds]
    return [" ".join(rng.choice(lexicon[i % len(lexicon)], rng.integers(5, 60))) for i in range(n)]


@given(texts, texts, st.data())
@settings(max_examples=300, deadline=None)
def test_what_is_taken_is_what_the_definition_takes(target, documents, data) -> None:
    n = len(documents)
    sizes = data.draw(st.lists(st.integers(1, 50), min_size=n, max_size=n))
    ties = data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    budget = data.draw(st.integers(0, sum(sizes) + 1))
    room = budget + data.draw(st.integers(0, 20))
    rounds = data.draw(st.integers(1, 5))
    before = data.draw(st.sampled_from([0.0, 0.3]))
    expected = reference.greedy_cover(
        [text.encode() for text in documents],
        [text.encode() for text in target],
        sizes=sizes,
        ties=ties,
        budget=budget,
        room=room,
        rounds=rounds,
        taken_before=before,
    )
    found = taken(
        target, documents, sizes=sizes, ties=ties, budget=budget, room=room, rounds=rounds, before=before, workers=2
    )
    assert found == expected


def test_documents_that_need_not_be_scored_again_change_nothing() -> None:
    target, documents = corpus(20, seed=1, kinds="ab"), corpus(150)
    documents += documents[:10]
    n_bytes = lengths(documents)
    expected = reference.greedy_cover(
        [text.encode() for text in documents],
        [text.encode() for text in target],
        sizes=n_bytes.tolist(),
        ties=list(range(len(documents))),
        budget=6_000,
        room=6_000,
        rounds=10,
    )
    assert taken(target, documents, budget=6_000, rounds=10) == expected
    assert len(expected) > 20


@given(st.permutations(range(40)), st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_the_order_of_documents_and_the_number_of_workers_do_not_matter(order, workers) -> None:
    target, documents = corpus(10, seed=1, kinds="ab"), corpus(36)
    documents += documents[:4]  # copies, which only their ties tell apart
    ties = np.random.default_rng(0).integers(0, 1 << 60, 40)
    plain = taken(target, documents, ties=ties, budget=4_000, before=0.1)
    found = taken(
        target, [documents[i] for i in order], ties=ties[list(order)], budget=4_000, before=0.1, workers=workers
    )
    assert [order[i] for i in found] == plain


@given(st.lists(texts, max_size=4))
@settings(deadline=None)
def test_matches_in_parts_are_those_of_all_documents(parts) -> None:
    of = coverage(["ab a\n b", "éé"])
    whole = of.matches(*buffers([text for part in parts for text in part]))
    joined = Matches.concatenated([of.matches(*buffers(part)) for part in parts])
    for name in ("entries", "starts", "repeats"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))


def test_a_copy_of_what_was_taken_comes_after_something_new() -> None:
    first, second = "the cat sat on the mat again", "dogs run very far from here"
    found = taken([first, second], [first, first, second, second], budget=4, sizes=[1] * 4, rounds=4)
    assert found == [0, 2, 1, 3]


def test_all_is_taken_when_there_is_less_than_the_budget() -> None:
    documents = corpus(12)
    assert sorted(taken(corpus(3), documents, budget=10**9)) == list(range(12))


def test_documents_without_anything_of_the_target_go_last() -> None:
    found = taken(["abcdefgh"], ["zzzzzz", "xxabcdxx", "qqqqqqq"], sizes=[1] * 3, budget=3, rounds=3)
    assert found[0] == 1


@pytest.mark.parametrize("budget", [0, 1, 50, 400])
def test_the_budget_is_kept(budget) -> None:
    documents = corpus(30)
    found = taken(corpus(3), documents, budget=budget)
    assert lengths(documents)[found].sum() <= budget


def test_a_document_larger_than_the_room_is_passed_over() -> None:
    big = "the cat sat on the mat " * 20
    found = taken([big], [big, "the cat sat", "a mat"], budget=40)
    assert sorted(found) == [1, 2]


def test_with_room_the_last_document_may_go_beyond_the_budget() -> None:
    found = taken(["the cat sat"], ["the cat sat", "on a mat too"], budget=1, room=100, rounds=1)
    assert found == [0]
