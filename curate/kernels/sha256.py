"""The buckets of the reference package: SHA-256 of the n-gram's text, as one big integer, modulo n_buckets."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from curate.kernels.compiled import kernel
from curate.kernels.hashing import K1, extend
from curate.kernels.vector import pointer, trailing_zeros

_I32 = ir.IntType(32)
VALUE_BITS = np.uint64(24)
VALUE, TAG = np.uint64((1 << 24) - 1), np.uint64((1 << 39) - 1)


def _fractions(power: float, count: int) -> list[int]:
    """First 32 bits of the fractional parts of roots of the first primes (FIPS 180-4, 4.2.2 and 5.3.3)."""
    primes = [p for p in range(2, 312) if all(p % q for q in range(2, p))][:count]
    return [_root_fraction(p, round(1 / power)) for p in primes]


def _root_fraction(value: int, root: int) -> int:
    scaled, low, high = value << (32 * root), 0, 1 << 40
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**root <= scaled else (low, middle)
    return low & 0xFFFFFFFF


ROUND = _fractions(1 / 3, 64)
START = np.array(_fractions(1 / 2, 8), np.uint32)


def _big_endian_words(context: Any, builder: Any, signature: Any, args: Any) -> list[Any]:
    """The 16 words of the block."""
    swap = builder.module.declare_intrinsic("llvm.bswap", (_I32,))
    block = pointer(context, builder, signature.args[0], args[0], args[1], _I32)
    words = []
    for j in range(16):
        word = builder.load(builder.gep(block, [ir.Constant(ir.IntType(64), j)]))
        word.align = 1
        words.append(builder.call(swap, [word]))
    return words


def _state(context: Any, builder: Any, signature: Any, args: Any) -> tuple[list[Any], list[Any]]:
    """Where the 8 words of the state are, and the words."""
    zero = ir.Constant(ir.IntType(64), 0)
    target = pointer(context, builder, signature.args[2], args[2], zero, _I32)
    slots = [builder.gep(target, [ir.Constant(ir.IntType(64), j)]) for j in range(8)]
    return slots, [builder.load(slot) for slot in slots]


@intrinsic
def _compress_plain(typing_context: Any, block: Any, i: Any, state: Any) -> Any:
    """One SHA-256 round of 64 bytes at ``block[i:]`` into ``state`` (uint32[8]), unrolled."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def turn(x: Any, n: int) -> Any:
            right, left = ir.Constant(_I32, n), ir.Constant(_I32, 32 - n)
            return builder.or_(builder.lshr(x, right), builder.shl(x, left))

        def xor3(x: Any, y: Any, z: Any) -> Any:
            return builder.xor(builder.xor(x, y), z)

        def add(*terms: Any) -> Any:
            total = terms[0]
            for term in terms[1:]:
                total = builder.add(total, term)
            return total

        words = _big_endian_words(context, builder, signature, args)
        for j in range(16, 64):
            x, y = words[j - 15], words[j - 2]
            s0 = xor3(turn(x, 7), turn(x, 18), builder.lshr(x, ir.Constant(_I32, 3)))
            s1 = xor3(turn(y, 17), turn(y, 19), builder.lshr(y, ir.Constant(_I32, 10)))
            words.append(add(words[j - 16], s0, words[j - 7], s1))
        slots, old = _state(context, builder, signature, args)
        a, b, c, d, e, f, g, h = old
        for j in range(64):
            choose = builder.xor(g, builder.and_(e, builder.xor(f, g)))
            majority = builder.or_(builder.and_(a, b), builder.and_(c, builder.or_(a, b)))
            t1 = add(h, xor3(turn(e, 6), turn(e, 11), turn(e, 25)), choose, ir.Constant(_I32, ROUND[j]), words[j])
            t2 = add(xor3(turn(a, 2), turn(a, 13), turn(a, 22)), majority)
            h, g, f, e, d, c, b, a = g, f, e, add(d, t1), c, b, a, add(t1, t2)
        for slot, before, now in zip(slots, old, (a, b, c, d, e, f, g, h), strict=True):
            builder.store(builder.add(before, now), slot)
        return context.get_dummy_value()

    return types.none(block, types.int64, state), codegen


@intrinsic
def _compress_native(typing_context: Any, block: Any, i: Any, state: Any) -> Any:
    """As `_compress_plain`, with the SHA instructions of x86 processors: four times as fast."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        four = ir.VectorType(_I32, 4)

        def instruction(name: str, *operands: Any) -> Any:
            kind = ir.FunctionType(four, [four] * len(operands))
            function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.sha256{name}")
            return builder.call(function, operands)

        def pack(lanes: Any) -> Any:
            vector = ir.Constant(four, ir.Undefined)
            for lane, word in enumerate(lanes):
                vector = builder.insert_element(vector, word, ir.Constant(_I32, lane))
            return vector

        def pick(x: Any, y: Any, *lanes: int) -> Any:
            return builder.shuffle_vector(x, y, ir.Constant(four, list(lanes)))

        slots, old = _state(context, builder, signature, args)
        a, b, c, d, e, f, g, h = old
        abef, cdgh = pack([f, e, b, a]), pack([h, g, d, c])
        words = _big_endian_words(context, builder, signature, args)
        schedule = [pack(words[4 * j : 4 * j + 4]) for j in range(4)]
        for j in range(4, 16):
            early = instruction("msg1", schedule[j - 4], schedule[j - 3])
            middle = pick(schedule[j - 2], schedule[j - 1], 1, 2, 3, 4)
            schedule.append(instruction("msg2", builder.add(early, middle), schedule[j - 1]))
        for j in range(16):
            keyed = builder.add(schedule[j], ir.Constant(four, ROUND[4 * j : 4 * j + 4]))
            abef, cdgh = instruction("rnds2", cdgh, abef, keyed), abef
            abef, cdgh = instruction("rnds2", cdgh, abef, pick(keyed, keyed, 2, 3, 2, 3)), abef
        order = [(abef, 3), (abef, 2), (cdgh, 3), (cdgh, 2), (abef, 1), (abef, 0), (cdgh, 1), (cdgh, 0)]
        for slot, before, (vector, lane) in zip(slots, old, order, strict=True):
            builder.store(builder.add(before, builder.extract_element(vector, ir.Constant(_I32, lane))), slot)
        return context.get_dummy_value()

    return types.none(block, types.int64, state), codegen


_NATIVE = bool(binding.get_host_cpu_features().get("sha", False)) and "x86" in binding.get_default_triple()
_compress = _compress_native if _NATIVE else _compress_plain


@kernel
def sha256_modulo(data, start, stop, n_buckets, powers, state, block):
    """``int(sha256(data[start:stop]).hexdigest(), 16) % n_buckets``; ``powers[j]`` is 2**(32 j) % n_buckets."""
    for j in range(8):
        state[j] = START[j]
    i = start
    while stop - i >= 64:
        _compress(data, i, state)
        i += 64
    left = stop - i
    for j in range(left):
        block[j] = data[i + j]
    block[left] = 0x80
    for j in range(left + 1, 64):
        block[j] = 0
    if left >= 56:
        _compress(block, 0, state)
        block[:] = 0
    bits = np.uint64(stop - start) << np.uint64(3)
    for j in range(8):
        block[63 - j] = (bits >> np.uint64(8 * j)) & np.uint64(0xFF)
    _compress(block, 0, state)
    total = np.uint64(0)  # under 2**59: words of 32 bits, n_buckets of at most 24
    for j in range(8):
        total += np.uint64(state[j]) * powers[7 - j]
    return total % n_buckets


@kernel
def sha256_buckets(work, n_tokens, n, n_buckets, powers, known, out, at):
    """As `hash_buckets`, with the reference's buckets; returns the next position in ``out``.

    ``known`` remembers buckets by the fast hash of the n-gram, in one slot, where the last one stays: nine
    n-grams in ten are there, and SHA-256 takes long. A slot is one word: 24 bits of bucket, one that is set, and
    39 of the hash, beside those that choose the slot; so threads can share it without a lock.
    """
    hashes, gram = work.hashes, work.gram
    shift = np.uint64(64 - trailing_zeros(np.uint64(len(known))))
    for t in range(n_tokens):
        for order in range(1, min(n, t + 1) + 1):
            first = t - order + 1
            key = hashes[first]
            for j in range(first + 1, t + 1):
                key = extend(key, hashes[j])
            key = key * K1
            slot = key >> shift
            tag = (key & TAG) << np.uint64(1) | np.uint64(1)
            word = known[slot]
            if word >> VALUE_BITS != tag:
                size = _join(work.folded, work.starts, work.stops, first, t + 1, gram)
                bucket = sha256_modulo(gram, 0, size, n_buckets, powers, work.state, work.block)
                word = tag << VALUE_BITS | bucket
                known[slot] = word
            out[at] = word & VALUE
            at += 1
    return at


@kernel
def _join(folded, starts, ends, first, stop, gram):
    """Tokens ``first:stop`` with a space between them; returns how many bytes."""
    size = 0
    for j in range(first, stop):
        if j > first:
            gram[size] = 32
            size += 1
        for i in range(starts[j], ends[j]):
            gram[size] = folded[i]
            size += 1
    return size
