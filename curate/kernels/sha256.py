"""The buckets of the reference package: SHA-256 of the n-gram's text, as one big integer, modulo n_buckets."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from curate.kernels.compiled import kernel
from curate.kernels.hashing import K1, extend
from curate.kernels.vector import _pointer

_I32 = ir.IntType(32)


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


@intrinsic
def _compress(typing_context: Any, block: Any, i: Any, state: Any) -> Any:
    """One SHA-256 round of 64 bytes at ``block[i:]`` into ``state`` (uint32[8]), unrolled."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        swap = builder.module.declare_intrinsic("llvm.bswap", (_I32,))

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

        words = []
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1], _I32)
        for j in range(16):
            word = builder.load(builder.gep(pointer, [ir.Constant(ir.IntType(64), j)]))
            word.align = 1
            words.append(builder.call(swap, [word]))
        for j in range(16, 64):
            x, y = words[j - 15], words[j - 2]
            s0 = xor3(turn(x, 7), turn(x, 18), builder.lshr(x, ir.Constant(_I32, 3)))
            s1 = xor3(turn(y, 17), turn(y, 19), builder.lshr(y, ir.Constant(_I32, 10)))
            words.append(add(words[j - 16], s0, words[j - 7], s1))
        zero = ir.Constant(ir.IntType(64), 0)
        target = _pointer(context, builder, signature.args[2], args[2], zero, _I32)
        slots = [builder.gep(target, [ir.Constant(ir.IntType(64), j)]) for j in range(8)]
        old = [builder.load(slot) for slot in slots]
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


@kernel
def sha256_modulo(data, start, stop, n_buckets, start_state, state, block):
    """``int(sha256(data[start:stop]).hexdigest(), 16) % n_buckets``."""
    state[:] = start_state
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
    rest = np.uint64(0)
    for j in range(8):
        rest = ((rest << np.uint64(32)) | np.uint64(state[j])) % n_buckets
    return rest


@kernel
def sha256_buckets(folded, starts, ends, hashes, n_tokens, n, n_buckets, start_state, keys, values, gram, out, at):
    """As `hash_buckets`, with the reference's buckets; returns the next position in ``out``.

    ``keys`` and ``values`` remember buckets by the fast 64-bit hash of the n-gram, one slot each, the
    last one stays: nine n-grams in ten are there, and SHA-256 takes twenty times as long as a look-up.
    """
    state, block = np.empty(8, np.uint32), np.empty(64, np.uint8)
    mask = np.uint64(len(keys) - 1)
    for t in range(n_tokens):
        for order in range(1, min(n, t + 1) + 1):
            first = t - order + 1
            key = hashes[first]
            for j in range(first + 1, t + 1):
                key = extend(key, hashes[j])
            slot = (key * K1) >> np.uint64(20) & mask
            if keys[slot] != key:
                size = 0
                for j in range(first, t + 1):
                    if j > first:
                        gram[size] = 32
                        size += 1
                    for i in range(starts[j], ends[j]):
                        gram[size] = folded[i]
                        size += 1
                keys[slot] = key
                values[slot] = sha256_modulo(gram, 0, size, n_buckets, start_state, state, block)
            out[at] = values[slot]
            at += 1
    return at


def sha256_bucket(gram: str, n_buckets: int) -> int:
    """The bucket of one n-gram, by the standard library."""
    return int.from_bytes(hashlib.sha256(gram.encode()).digest(), "big") % n_buckets
