"""The few machine operations that numba does not offer: 64 bytes at once, bit scans, 128-bit products."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

WIDTH = 64  # bytes a step: one bit each in a uint64 mask, whatever registers the machine has
_I8, _I64, _I128 = ir.IntType(8), ir.IntType(64), ir.IntType(128)
_VECTOR, _FOUR = ir.VectorType(_I8, WIDTH), ir.VectorType(_I64, 4)


def _splat(byte: int) -> ir.Constant:
    return ir.Constant(_VECTOR, [byte] * WIDTH)


def pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any, to: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), to.as_pointer())


def _load(context: Any, builder: Any, array_type: Any, array: Any, index: Any, of: Any) -> Any:
    value = builder.load(pointer(context, builder, array_type, array, index, of))
    value.align = 1
    return value


def _in_range(builder: Any, value: Any, low: int, size: int) -> Any:
    return builder.icmp_unsigned("<", builder.sub(value, _splat(low)), _splat(size))


@intrinsic
def fold_ascii(typing_context: Any, source: Any, i: Any, folded: Any, k: Any) -> Any:
    """Copy 64 bytes from ``source[i:]`` to ``folded[k:]`` with A-Z lowered; bit j set: byte j is >= 0x80."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = _load(context, builder, signature.args[0], args[0], args[1], _VECTOR)
        upper = _in_range(builder, value, ord("A"), 26)
        lowered = builder.or_(value, builder.select(upper, _splat(32), _splat(0)))
        store = builder.store(lowered, pointer(context, builder, signature.args[2], args[2], args[3], _VECTOR))
        store.align = 1
        return builder.bitcast(builder.icmp_signed("<", value, _splat(0)), _I64)

    return types.uint64(source, types.int64, folded, types.int64), codegen


@intrinsic
def copy_64(typing_context: Any, source: Any, i: Any, out: Any, k: Any) -> Any:
    """Copy 64 bytes from ``source[i:]`` to ``out[k:]``; bit j set: byte j is >= 0x80."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = _load(context, builder, signature.args[0], args[0], args[1], _VECTOR)
        store = builder.store(value, pointer(context, builder, signature.args[2], args[2], args[3], _VECTOR))
        store.align = 1
        return builder.bitcast(builder.icmp_signed("<", value, _splat(0)), _I64)

    return types.uint64(source, types.int64, out, types.int64), codegen


@intrinsic
def copy_spaced(typing_context: Any, source: Any, i: Any, out: Any, k: Any, blanks: Any) -> Any:
    """Copy 64 bytes from ``source[i:]`` to ``out[k:]``, a space for each byte whose bit of ``blanks`` is set."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = _load(context, builder, signature.args[0], args[0], args[1], _VECTOR)
        chosen = builder.bitcast(args[4], ir.VectorType(ir.IntType(1), WIDTH))
        spaced = builder.select(chosen, _splat(ord(" ")), value)
        store = builder.store(spaced, pointer(context, builder, signature.args[2], args[2], args[3], _VECTOR))
        store.align = 1
        return context.get_dummy_value()

    return types.void(source, types.int64, out, types.int64, types.uint64), codegen


def _mask(test: Any) -> Any:
    """An intrinsic ``(bytes, i) -> uint64`` whose bit j is ``test`` of byte i + j."""

    @intrinsic
    def mask(typing_context: Any, data: Any, i: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            value = _load(context, builder, signature.args[0], args[0], args[1], _VECTOR)
            return builder.bitcast(test(builder, value), _I64)

        return types.uint64(data, types.int64), codegen

    return mask


def _is_folded_letter_or_digit(builder: Any, v: Any) -> Any:
    return builder.or_(_in_range(builder, v, ord("a"), 26), _in_range(builder, v, ord("0"), 10))


def _is_folded_word(builder: Any, v: Any) -> Any:
    return builder.or_(_is_folded_letter_or_digit(builder, v), builder.icmp_unsigned("==", v, _splat(ord("_"))))


word_mask = _mask(_is_folded_word)  # ASCII \w of text that is lowered already
alnum_mask = _mask(_is_folded_letter_or_digit)  # the same without the underscore
space_mask = _mask(lambda b, v: b.or_(_in_range(b, v, 9, 5), _in_range(b, v, 28, 5)))  # ASCII \s of `re`
blank_mask = _mask(  # space and controls
    lambda b, v: b.or_(b.icmp_unsigned("<", v, _splat(33)), b.icmp_unsigned("==", v, _splat(127)))
)
high_mask = _mask(lambda b, v: b.icmp_signed("<", v, _splat(0)))  # bytes >= 0x80
bit0_mask = _mask(lambda b, v: b.icmp_unsigned("!=", b.and_(v, _splat(1)), _splat(0)))
bit1_mask = _mask(lambda b, v: b.icmp_unsigned("!=", b.and_(v, _splat(2)), _splat(0)))
bit2_mask = _mask(lambda b, v: b.icmp_unsigned("!=", b.and_(v, _splat(4)), _splat(0)))
backslash_mask = _mask(lambda b, v: b.icmp_unsigned("==", v, _splat(ord("\\"))))
u_mask = _mask(lambda b, v: b.icmp_unsigned("==", v, _splat(ord("u"))))
d_mask = _mask(lambda b, v: b.icmp_unsigned("==", b.or_(v, _splat(32)), _splat(ord("d"))))  # d or D
newline_mask = _mask(lambda b, v: b.icmp_unsigned("==", v, _splat(ord("\n"))))


def _ends_run(builder: Any, v: Any) -> Any:
    quote, backslash = (builder.icmp_unsigned("==", v, _splat(ord(c))) for c in '"\\')
    return builder.or_(builder.or_(quote, backslash), builder.icmp_unsigned("<", v, _splat(32)))


json_mask = _mask(_ends_run)  # what a string in JSON cannot hold as it is: quotes, backslashes, controls
letter_mask = _mask(lambda b, v: _in_range(b, b.or_(v, _splat(32)), ord("a"), 26))  # ASCII letters
digit_mask = _mask(lambda b, v: _in_range(b, v, ord("0"), 10))
printed_mask = _mask(lambda b, v: _in_range(b, v, 33, 94))  # what ASCII prints but the space
continuation_mask = _mask(lambda b, v: b.icmp_signed("<", v, _splat(0xC0 - 256)))  # UTF-8: inside a character


def _is_one_of(characters: str) -> Any:
    def test(builder: Any, v: Any) -> Any:
        found = builder.icmp_unsigned("==", v, _splat(ord(characters[0])))
        for character in characters[1:]:
            found = builder.or_(found, builder.icmp_unsigned("==", v, _splat(ord(character))))
        return found

    return test


hash_mask, braces_mask, code_mask = _mask(_is_one_of("#")), _mask(_is_one_of("{}")), _mask(_is_one_of("{}[]();=<>_"))


def _pattern(text: str) -> Any:
    """An intrinsic ``(bytes, i) -> uint64`` whose bit j is: byte i + j begins ``text``, which is in lower case.

    ASCII letters match in either case. Reads ``len(text) - 1`` bytes beyond the 64.
    """

    @intrinsic
    def mask(typing_context: Any, data: Any, i: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            found = ir.Constant(ir.VectorType(ir.IntType(1), WIDTH), [1] * WIDTH)
            for k, character in enumerate(text):
                at = builder.add(args[1], ir.Constant(_I64, k))
                v = _load(context, builder, signature.args[0], args[0], at, _VECTOR)
                if character.isalpha():
                    v = builder.or_(v, _splat(32))
                found = builder.and_(found, builder.icmp_unsigned("==", v, _splat(ord(character))))
            return builder.bitcast(found, _I64)

        return types.uint64(data, types.int64), codegen

    return mask


ellipsis_mask, jav_mask, m_i_mask, coo_mask, pol_mask, f_u_mask = map(
    _pattern, ("...", "jav", "m i", "coo", "pol", "f u")
)


@intrinsic
def pair_mask(typing_context: Any, data: Any, i: Any) -> Any:
    """Bit j set: bytes i + j and i + j + 1 are equal. Reads 65 bytes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        first, second = (
            _load(context, builder, signature.args[0], args[0], builder.add(args[1], ir.Constant(_I64, k)), _VECTOR)
            for k in range(2)
        )
        return builder.bitcast(builder.icmp_unsigned("==", first, second), _I64)

    return types.uint64(data, types.int64), codegen


lead2_mask, lead3_mask, lead4_mask = (  # UTF-8: bytes that begin a character of at least 2, 3, 4 bytes
    _mask(lambda b, v, low=low: b.icmp_unsigned(">=", v, _splat(low))) for low in (0xC0, 0xE0, 0xF0)
)


@intrinsic
def bad_lead_mask(typing_context: Any, data: Any, i: Any) -> Any:
    """Bytes that no character of UTF-8 begins with, by themselves (C0, C1, F5 and up) or with the byte after.

    Reads 65 bytes. Overlong are E0 80-9F and F0 80-8F, halves of surrogate pairs ED A0-BF, beyond the last
    character F4 90-BF (Unicode, table 3-7).
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array_type, (array, at) = signature.args[0], args
        v = _load(context, builder, array_type, array, at, _VECTOR)
        after = _load(context, builder, array_type, array, builder.add(at, ir.Constant(_I64, 1)), _VECTOR)
        bad = builder.or_(_in_range(builder, v, 0xC0, 2), builder.icmp_unsigned(">=", v, _splat(0xF5)))
        for lead, relation, bound in ((0xE0, "<", 0xA0), (0xED, ">=", 0xA0), (0xF0, "<", 0x90), (0xF4, ">=", 0x90)):
            is_lead = builder.icmp_unsigned("==", v, _splat(lead))
            bad = builder.or_(bad, builder.and_(is_lead, builder.icmp_unsigned(relation, after, _splat(bound))))
        return builder.bitcast(bad, _I64)

    return types.uint64(data, types.int64), codegen


@intrinsic
def load_u64(typing_context: Any, data: Any, i: Any) -> Any:
    """The 8 bytes at ``data[i:]`` as a little-endian integer, at any alignment."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _load(context, builder, signature.args[0], args[0], args[1], _I64)

    return types.uint64(data, types.int64), codegen


@intrinsic
def load_u32(typing_context: Any, data: Any, i: Any) -> Any:
    """The number at ``data[i]`` of a uint32 array; no test for a negative index."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(pointer(context, builder, signature.args[0], args[0], args[1], ir.IntType(32)))
        return builder.zext(value, _I64)

    return types.int64(data, types.int64), codegen


@intrinsic
def load_u16(typing_context: Any, data: Any, i: Any) -> Any:
    """The number at ``data[i]`` of a uint16 array; no test for a negative index."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(pointer(context, builder, signature.args[0], args[0], args[1], ir.IntType(16)))
        return builder.zext(value, _I64)

    return types.int64(data, types.int64), codegen


@intrinsic
def equal_of_four(typing_context: Any, data: Any, i: Any, value: Any) -> Any:
    """Bit j set: ``data[i + j]`` of a uint64 array is ``value``, j < 4."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        four = builder.load(pointer(context, builder, signature.args[0], args[0], args[1], _FOUR))
        four.align = 8
        one = builder.insert_element(ir.Constant(_FOUR, ir.Undefined), args[2], ir.Constant(_I64, 0))
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), 4), [0] * 4)
        same = builder.icmp_unsigned("==", four, builder.shuffle_vector(one, one, lanes))
        return builder.zext(builder.bitcast(same, ir.IntType(4)), _I64)

    return types.uint64(data, types.int64, types.uint64), codegen


@intrinsic
def prefetch(typing_context: Any, data: Any, i: Any) -> Any:
    """Ask for the cache line of ``data[i]``, to be read soon."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = pointer(context, builder, signature.args[0], args[0], args[1], _I8)
        number = ir.IntType(32)
        of = ir.FunctionType(ir.VoidType(), [address.type, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, of, "llvm.prefetch.p0")
        builder.call(function, [address, number(0), number(3), number(1)])  # a read, of data, into all caches
        return context.get_dummy_value()

    return types.void(data, types.int64), codegen


@intrinsic
def trailing_zeros(typing_context: Any, mask: Any) -> Any:
    """Index of the lowest set bit of a uint64; 64 for zero."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), codegen


@intrinsic
def leading_zeros(typing_context: Any, mask: Any) -> Any:
    """How many bits of a uint64 are above its highest set one; 64 for zero."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), codegen


@intrinsic
def bit_count(typing_context: Any, mask: Any) -> Any:
    """Number of set bits of a uint64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.uint64), codegen


def _product(builder: Any, a: Any, b: Any) -> tuple[Any, Any]:
    wide = builder.mul(builder.zext(a, _I128), builder.zext(b, _I128))
    high = builder.trunc(builder.lshr(wide, ir.Constant(_I128, 64)), _I64)
    return builder.trunc(wide, _I64), high


@intrinsic
def fold_product(typing_context: Any, a: Any, b: Any) -> Any:
    """Low half XOR high half of the 128-bit product of two uint64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        low, high = _product(builder, args[0], args[1])
        return builder.xor(low, high)

    return types.uint64(types.uint64, types.uint64), codegen


@intrinsic
def high_product(typing_context: Any, a: Any, b: Any) -> Any:
    """High half of the 128-bit product of two uint64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _product(builder, args[0], args[1])[1]

    return types.uint64(types.uint64, types.uint64), codegen
