"""Lines that are skimmed give what parsing them gives; what is in any way odd is left to the parser."""

import json

import pytest
import reference
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curate.errors import InputError
from curate.io.formats import Lines, _parse_with_polars, parse
from curate.kernels.skimming import count_lines, skim

COLUMNS = ["text", "id", "ключ"]
# The ends of each length in UTF-8, what must be escaped, what looks like more of a line.
characters = st.one_of(
    st.sampled_from('a"\\\n\r\t\0\x1f\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff\u2028/{}[]:,'),
    st.characters(exclude_categories=["Cs"]),
)
texts = st.one_of(
    st.text(characters, max_size=20), st.integers(40, 140).map("x".__mul__), st.text("a é😀\n", max_size=150)
)
spaces = st.sampled_from(["", "", "", " ", "\t", " \r"])
NUMBERS = ["0", "-0", "-7", "1.50", "-0.5e-3", "1E+5", "1e99", "9" * 18, "9" * 19, "9" * 30, "0." + "3" * 40, "1e400"]
NO_VALUES = [
    "01",
    "1.",
    ".5",
    "-",
    "+1",
    "1e",
    "NaN",
    "tru",
    "nulll",
    "",
    "'a'",
    "[1,]",
    "{,}",
    '"\\x"',
    '"\\ud800"',
    "[",
    "]",
]
GOOD = b'{"text": "' + b"long enough to be read 64 bytes at once, and then some more of it" * 2 + b'", "id": 1}\n'


@st.composite
def strings(draw):
    """A text in JSON: as it is, in ASCII, or with some characters as escapes that need not be."""
    text = draw(texts)
    if draw(st.integers(0, 3)):
        return json.dumps(text, ensure_ascii=draw(st.booleans()))
    return (
        '"'
        + "".join(json.dumps(c)[1:-1] if c > "z" or c in '"\\' or c < " " else f"\\u{ord(c):04X}" for c in text)
        + '"'
    )


numbers = st.one_of(st.sampled_from(NUMBERS), st.integers(-(10**20), 10**20).map(str), st.floats().map(json.dumps))
plain = st.one_of(strings(), strings(), numbers, st.sampled_from(["null", "true", "false"]))


def joined(draw, items):
    return ",".join(draw(spaces) + item + draw(spaces) for item in items)


@st.composite
def nested(draw, depth=0):
    kind = draw(st.sampled_from(["plain", "plain", "list", "object"])) if depth < 4 else "plain"
    if kind == "plain":
        return draw(plain)
    items = draw(st.lists(nested(depth + 1), max_size=3))
    if kind == "list":
        return "[" + (joined(draw, items) or draw(spaces)) + "]"
    return "{" + (joined(draw, [f"{draw(strings())}{draw(spaces)}:{item}" for item in items]) or draw(spaces)) + "}"


@st.composite
def objects(draw):
    """A line with some of the wanted columns and others, now and then one twice, or with a key or value to refuse."""
    keys = draw(
        st.lists(st.sampled_from([*COLUMNS, "x", "tex", "text2", "y"]), max_size=5, unique=draw(st.integers(0, 9)) > 0)
    )
    members = []
    for key in keys:
        odd = draw(st.integers(0, 30))
        value = (
            draw(st.sampled_from(NO_VALUES)) if odd == 0 else draw(plain if key in COLUMNS and odd > 1 else nested())
        )
        members.append(json.dumps(key, ensure_ascii=odd == 2) + draw(spaces) + ":" + draw(spaces) + value)
    return draw(spaces) + "{" + (joined(draw, members) or draw(spaces)) + "}" + draw(spaces)


@st.composite
def blocks(draw):
    of = draw(st.lists(st.one_of(objects(), objects(), objects(), spaces), max_size=4))
    end = draw(st.sampled_from(["\n", "\n", "\r\n"]))
    return (end.join(of) + draw(st.sampled_from(["", end]))).encode()


@st.composite
def damaged_blocks(draw):
    data = bytearray(draw(blocks()) or b"{}")
    for _ in range(draw(st.integers(1, 3))):
        i = draw(st.integers(0, len(data)))
        piece = draw(
            st.sampled_from([b"", b'"', b"\\", b"\\ud83d", b"\\u00e9", b"\xc3", b"\xed\xa0\x80", b"\n", b"\r", b"\x0c"])
        )
        piece = piece or bytes([draw(st.integers(0, 255))])
        data[i : i + draw(st.integers(0, 2))] = piece
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.integers(0, 4)) == 0 else data)


usual_values = st.one_of(texts, st.booleans(), st.none(), st.floats(-1e9, 1e9).map(lambda x: round(x, 6)))
usual_rows = st.fixed_dictionaries(
    {"text": texts},
    optional={
        "id": st.one_of(texts, st.integers(-(10**17), 10**17), st.none()),
        "meta": st.recursive(usual_values, lambda of: st.one_of(st.lists(of, max_size=3), st.dictionaries(texts, of))),
    },
)


def outcome(of, raw):
    try:
        batch = of(raw, COLUMNS)
    except InputError as error:
        return str(error)
    batch.table.validate(full=True)
    return batch.rows.tolist(), batch.table.schema, batch.table.to_pydict(), batch.bad


@given(st.one_of(blocks(), damaged_blocks()), st.booleans(), st.booleans())
@example(b'{"text":"a","text":"b"}\n', True, False)
@example(b'{"te\\u0078t":"a"}\n', True, False)
@example(b'{"text":-0}\n{"text":1.0}\n', True, False)
@example(b'{"x":{"text":"inner"},"text":"outer"}\n\n \r\n{"id":true}', True, False)
@settings(max_examples=500, deadline=None)
def test_a_block_gives_the_rows_of_the_parser_whoever_reads_it(data, first_of_file, more):
    raw = Lines("a.jsonl", data + GOOD if more else data, 5, "text", first_of_file)
    assert outcome(parse, raw) == outcome(_parse_with_polars, raw)


@given(st.one_of(blocks(), damaged_blocks()))
@settings(max_examples=500, deadline=None)
def test_what_is_skimmed_equals_the_definition(data):
    skimmed = skim(data, COLUMNS)
    if skimmed is not None:
        numbered = [(i, line) for i, line in enumerate(data.split(b"\n")) if line.strip()]
        assert skimmed[0].tolist() == [i for i, _ in numbered]
        assert skimmed[1].to_pylist() == [reference.json_strings(line, COLUMNS) for _, line in numbered]


@given(st.lists(usual_rows, min_size=1, max_size=5), st.booleans())
@settings(max_examples=200, deadline=None)
def test_lines_as_programs_write_them_need_no_parser(rows, ascii_only):
    data = "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows).encode()
    skimmed = skim(data, ["text", "id"])
    assert skimmed is not None
    assert skimmed[1]["text"].to_pylist() == [row["text"] for row in rows]


@given(st.binary(max_size=12), st.integers(0, 70), st.booleans())
@settings(max_examples=1000, deadline=None)
def test_strings_are_skimmed_exactly_when_they_are_utf8(noise, before, more):
    body = bytes(b if b > 127 else 65 + b % 26 for b in noise)
    skimmed = skim(b'{"text":"' + b"x" * before + body + b'"}\n' + GOOD * more, ["text"])
    try:
        wanted = "x" * before + body.decode()
    except UnicodeDecodeError:
        assert skimmed is None
    else:
        assert skimmed is not None
        assert skimmed[1]["text"][0].as_py() == wanted


ODD = [
    b'{"text":"a","text":"b"}',
    b'{"te\\u0078t":"a"}',
    b'{"text":1.0}',
    b'{"text":[]}',
    b'{"text":{}}',
    b'{"text":-0}',
    b'{"text":1234567890123456789}',
    b'{"x":' + b"[" * 64 + b"]" * 64 + b"}",
    b'{"x":1e400}',
    b"[]",
    b"\x0c",
    b'{"text":"a"}{}',
]


@pytest.mark.parametrize("line", ODD, ids=[repr(line)[:30] for line in ODD])
def test_what_parsers_may_take_differently_is_not_skimmed(line):
    assert skim(GOOD + line + b"\n", ["text"]) is None


@given(st.lists(st.sampled_from([b"\n", b"x", b"\r\n", b"y" * 63])))
def test_lines_are_counted_whether_or_not_the_last_one_ends(pieces):
    data = b"".join(pieces)
    assert count_lines(data) == data.count(b"\n") + (data != b"" and not data.endswith(b"\n"))
