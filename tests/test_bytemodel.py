"""The language model of bytes: equal to its definition, a probability distribution, and of use."""

import numpy as np
import pyarrow as pa
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from curate.curriculum.bytemodel import ByteModel
from curate.errors import UsageError

TEXTS = st.lists(st.text("ab\n\x00é", max_size=12), max_size=5)
ORDERS, ESCAPES = st.integers(1, 7), st.sampled_from([0.3, 1.0, 2.0])


def strings(texts):
    return pa.array(texts, pa.large_string())


def raw(texts):
    """Strings of any bytes, UTF-8 or not."""
    return pa.Array.from_buffers(pa.large_string(), len(texts), pa.array(texts, pa.large_binary()).buffers())


def bits(model, texts):
    return model.bits_per_byte(raw(texts)) * [len(text) for text in texts]


@given(TEXTS, TEXTS.filter(len), ORDERS, ESCAPES)
def test_the_cost_of_a_text_is_that_of_the_definition(read, texts, order, escape):
    model = ByteModel([strings(read)], order, escape)
    encoded = [text.encode() for text in texts]
    expected = [
        reference.byte_cost(text, [r.encode() for r in read], order, escape) / len(text) if text else np.nan
        for text in encoded
    ]
    np.testing.assert_allclose(model.bits_per_byte(strings(texts)), expected, rtol=1e-9)


@given(TEXTS, st.text("abc\n", max_size=9), ORDERS)
def test_the_chances_of_all_bytes_add_up_to_1(read, text, order):
    model = ByteModel([strings(read)], order)
    before = text.encode()
    longer = bits(model, [before + bytes([byte]) for byte in range(256)])
    shorter = bits(model, [before])[0] if before else 0.0
    assert np.sum(2.0 ** (shorter - longer)) == pytest.approx(1, rel=1e-9)


@given(st.permutations(["the cat", "", "a dog", "the cat sat", "né"]), st.integers(0, 5))
def test_the_order_and_the_parts_of_what_is_read_do_not_matter(read, cut):
    one = ByteModel([strings(sorted(read))])
    other = ByteModel([strings(read[:cut]), strings(read[cut:])])
    np.testing.assert_array_equal(*(m.bits_per_byte(strings(["the cart", "dog", "x"])) for m in (one, other)))


def test_what_was_read_is_easy_and_noise_is_not():
    text = "the cat sat on the mat and looked at the dog. " * 20
    noise = "".join(map(chr, np.random.default_rng(0).integers(33, 127, 500)))
    easy, hard, empty = ByteModel([strings([text])]).bits_per_byte(strings([text[:200], noise, ""]))
    assert easy < 1 < 6 < hard
    assert np.isnan(empty)


def test_a_slice_of_strings_costs_what_it_costs_alone():
    texts = strings(["one", "two", "", "three and a longer one"])
    model = ByteModel([texts])
    np.testing.assert_array_equal(model.bits_per_byte(texts.slice(1, 3)), model.bits_per_byte(texts)[1:])


@pytest.mark.parametrize("read", [[], [strings([])], [strings(["", ""])]])
def test_to_a_model_that_read_nothing_every_byte_is_8_bits(read):
    np.testing.assert_allclose(ByteModel(read).bits_per_byte(strings(["a", "longer", "\n\n"])), 8.0)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(UsageError, match="order 8"):
        ByteModel([strings(["a"])], 8)
    with pytest.raises(UsageError, match="escape 0"):
        ByteModel([strings(["a"])], escape=0)
