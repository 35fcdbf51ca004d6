"""Rows and files as they are found in the wild: each is used, or set aside with a reason, or one clear error."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import (
    compressed,
    encoded,
    kept_ids,
    ledger,
    lines,
    read_all,
    rows,
    scores,
    select,
    shards,
    table_bytes,
    write,
)  # fmt: skip
from hypothesis import given, settings
from hypothesis import strategies as st

import curate.io.formats as formats
from curate.errors import CurateError, InputError
from curate.io.corpus import scan

GOOD = rows(12)
GOOD_LINES = [json.dumps(row).encode() for row in GOOD]
EVERYTHING = {"budget": "100%", "settings": {"min_tokens": 0}}


def quarantine(out: Path) -> list[dict]:
    path = out / "quarantine.parquet"
    return pq.read_table(path).to_pylist() if path.exists() else []


def numbered(out: Path) -> list[tuple[str, int]]:
    found = scores(out)
    return list(zip(found["doc_id"].to_pylist(), found["row"].to_pylist(), strict=True))


def among_good(*middle: bytes) -> tuple[list[bytes], list[tuple[str, int]]]:
    """Lines in the middle of good ones, and the ids and row numbers of the good ones."""
    of = [*GOOD_LINES[:6], *middle, *GOOD_LINES[6:]]
    return of, [(row["id"], i if i < 6 else i + len(middle)) for i, row in enumerate(GOOD)]


# ---- lines that are no rows

BAD_LINES = {
    b'{"text":"a\0b"}': "not JSON",
    b'{"text":"x \\ud800 y"}': "half of a surrogate pair",
    b'{"text":"\\udc00x"}': "half of a surrogate pair",
    b'{"text":"\\udc00\\ud800"}': "half of a surrogate pair",
    b'{"text":"x","\\ud83d":1}': "half of a surrogate pair",
    b'{"text":"x","y":["\\ud83d"]}': "half of a surrogate pair",
    b'{"text":"\\\\\\ud800"}': "half of a surrogate pair",
    b'{"text":"a\xff"}': "not UTF-8",
    b'{"text":"a\xed\xa0\x80"}': "not UTF-8",
    b'{"text":"a\xc0\x80"}': "not UTF-8",
    b'{"text":"a': "not JSON",
    b'{"text":"a"': "not JSON",
    b'{"text":"a"} {"text":"b"}': "not JSON",
    b'{"text":"a"}{"text":"b"}': "not JSON",
    b'{"text":"a"},': "not JSON",
    b"{'text':'a'}": "not JSON",
    b'{"text":"tab\there"}': "not JSON",
    b'{"text":"a\\x"}': "not JSON",
    b"[1, 2]": "a JSON list, not an object",
    b'[{"text":"a"}]': "a JSON list, not an object",
    b"5": "a JSON int, not an object",
    b'"text"': "a JSON str, not an object",
    b"null": "a JSON NoneType, not an object",
    b"true": "a JSON bool, not an object",
    b'{"text":"a","x":NaN}': "outside the standard",
    b'{"text":"a","x":-Infinity}': "outside the standard",
    b'{"text":"a","x":1e999}': "outside the standard",
    b'{"text":"a","x":01}': "not JSON",
    b'{"text":"a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}": "not JSON",
    b'\xef\xbb\xbf{"text":"a"}': "not JSON",
    b"\x00": "not JSON",
    bytes(range(128, 256)): "not UTF-8",
}


@pytest.mark.parametrize("line", BAD_LINES, ids=[repr(line)[:40] for line in BAD_LINES])
def test_a_bad_line_is_an_error_that_names_file_and_line(tmp_path, line):
    path = lines(tmp_path / "raw" / "a.jsonl", *among_good(line)[0])
    with pytest.raises(InputError) as error:
        select(tmp_path / "raw", tmp_path / "out", **EVERYTHING)
    assert str(error.value).startswith(f"{path} line 7: ")
    assert BAD_LINES[line] in str(error.value)
    assert "--on-bad-row quarantine" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "jsonl.zst"])
def test_bad_lines_are_set_aside_and_good_rows_keep_their_numbers(tmp_path, form):
    of, wanted = among_good(*BAD_LINES)
    data = b"".join(line + b"\n" for line in of)
    path = write(tmp_path / "raw" / f"a.{form}", compressed(form, data))
    result = select(tmp_path / "raw", tmp_path / "out", on_bad_row="quarantine", **EVERYTHING)
    assert numbered(tmp_path / "out") == wanted
    found = quarantine(tmp_path / "out")
    assert [(row["path"], row["row"], row["content"]) for row in found] == [
        (str(path), 6 + i, line[:10_000]) for i, line in enumerate(BAD_LINES)
    ]
    for row, reason in zip(found, BAD_LINES.values(), strict=True):
        assert reason in row["reason"]
    assert result.manifest["stats"]["n_bad_rows"] == len(BAD_LINES)
    assert any(f"{len(BAD_LINES)} rows could not be read" in warning for warning in result.warnings)


def test_every_row_is_either_a_document_or_in_quarantine(tmp_path):
    pieces = [*GOOD_LINES[:2], *(line for line in BAD_LINES if line[:1] != b"\xef"), b"", b"  ", GOOD_LINES[2]]

    @given(st.lists(st.sampled_from(pieces), min_size=1, max_size=12), st.sampled_from([3, 20, 100, 10_000]))
    @settings(max_examples=40)
    def check(of, batch_bytes):
        lines(tmp_path / "a.jsonl", *of)
        corpus = scan([tmp_path], on_bad_row="quarantine")
        good, bad = [], []
        for batch in formats.read(corpus, corpus.partitions[0], ["text", "id"], batch_bytes=batch_bytes):
            good += batch.rows.tolist()
            bad += [row.row for row in batch.bad]
        assert good == [i for i, line in enumerate(of) if line in GOOD_LINES]
        assert bad == [i for i, line in enumerate(of) if line.strip() and line not in GOOD_LINES]

    check()


# ---- lines that are rows after all

FINE = {
    "blank lines": (b"\n\n".join(GOOD_LINES) + b"\n\n\n", [2 * i for i in range(12)]),
    "white space": (b"\n \t \n".join(GOOD_LINES), [2 * i for i in range(12)]),
    "byte order mark": (b"\xef\xbb\xbf" + b"\n".join(GOOD_LINES), list(range(12))),
    "CRLF": (b"\r\n".join(GOOD_LINES) + b"\r\n", list(range(12))),
    "blank lines of CRLF": (b"\r\n\r\n".join(GOOD_LINES), [2 * i for i in range(12)]),
    "no newline at the end": (b"\n".join(GOOD_LINES), list(range(12))),
    "indented": (b"\n".join(b"  \t" + line + b"  " for line in GOOD_LINES), list(range(12))),
}


@pytest.mark.parametrize("name", FINE)
@pytest.mark.parametrize("batch_bytes", [3, 200, 500_000])
def test_harmless_oddities_change_no_document(tmp_path, name, batch_bytes):
    data, wanted = FINE[name]
    write(tmp_path / "a.jsonl", data)
    found = read_all(scan([tmp_path]), ["id", "text"], batch_bytes=batch_bytes)
    assert [i for _, i, _ in found] == wanted
    assert [row for *_, row in found] == [{"id": row["id"], "text": row["text"]} for row in GOOD]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b'{"text":"a \\ud83d\\ude00 b"}', "a \U0001f600 b"),
        (b'{"text":"a \\\\ud800 b"}', "a \\ud800 b"),
        (b'{"text":"\\\\\\\\ud800"}', "\\\\ud800"),
        (b'{"text":"a \\u0000 b"}', "a \0 b"),
        (b'{"text":"\\u2028\\u0085"}', "\u2028\x85"),
        (b'{"text":"\\uD83D\\uDE00\\ud83d\\ude01"}', "\U0001f600\U0001f601"),
        (b'{"text":"first","x":{"text":"inner"}}', "first"),
        (b'{"x":[[[[{"text":"deep"}]]]],"text":"outer"}', "outer"),
        (b'{"text":"first","text":"second"}', "first"),
        (b'{"TEXT":"no","text":"yes","Text":"no"}', "yes"),
        (b'{"text":"a","x":' + b"[" * 900 + b"]" * 900 + b"}", "a"),
    ],
)
def test_odd_but_valid_json_is_read_as_it_says(tmp_path, line, text):
    lines(tmp_path / "raw" / "a.jsonl", *among_good(line)[0])
    found = {i: row for _, i, row in read_all(scan([tmp_path / "raw"]), ["text"])}
    assert (len(found), found[6]) == (13, {"text": text})
    result = select(tmp_path / "raw", tmp_path / "out", **EVERYTHING)
    assert {row["doc_id"]: row["row"] for row in ledger(tmp_path / "out")}["a.jsonl#6"] == 6
    has_tokens = bool(text.split())
    assert (text in shards(tmp_path / "out")["text"].to_pylist(), result.n_selected) == (has_tokens, 12 + has_tokens)


# ---- lines that are too long


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=12),
    st.integers(3, 70),
    st.sampled_from(["jsonl", "jsonl.gz", "jsonl.zst"]),
    st.booleans(),
)
@settings(max_examples=60)
def test_a_line_is_too_long_by_its_length_alone(tmp_path_factory, lengths, batch_bytes, form, newline):
    folder = tmp_path_factory.mktemp("raw")
    of = [b'{"text":"' + b"x" * n + b'"}' for n in lengths]
    data = b"\n".join(of) + (b"\n" if newline else b"")
    write(folder / f"a.{form}", compressed(form, data))
    corpus = scan([folder], on_bad_row="quarantine")
    good, bad = [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats, "MAX_LINE_BYTES", 40)
        for batch in formats.read(corpus, corpus.partitions[0], ["text"], batch_bytes=batch_bytes):
            good += zip(batch.rows.tolist(), batch.table["text"].to_pylist(), strict=True)
            bad += [(row.row, row.content) for row in batch.bad]
    assert good == [(i, "x" * n) for i, n in enumerate(lengths) if n + 11 <= 40]
    long = [(i, line) for i, line in enumerate(of) if len(line) > 40]
    assert [i for i, _ in bad] == [i for i, _ in long]
    assert all(line.startswith(content) for (_, content), (_, line) in zip(bad, long, strict=True))


@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz"])
@pytest.mark.parametrize("at", [0, 5, 11])
def test_a_line_that_is_too_long_is_an_error_that_names_it_or_is_set_aside(tmp_path, monkeypatch, form, at):
    monkeypatch.setattr(formats, "MAX_LINE_BYTES", 2_000)
    of = [dict(row) for row in GOOD]
    of[at]["text"] = "word " * 1_000
    path = write(tmp_path / "raw" / f"a.{form}", of)
    with pytest.raises(InputError, match=rf"{path.name} line {at + 1}: a line of 5,0\d\d bytes, the limit is 2,000"):
        select(tmp_path / "raw", tmp_path / "out", **EVERYTHING)
    select(tmp_path / "raw", tmp_path / "out2", on_bad_row="quarantine", **EVERYTHING)
    assert numbered(tmp_path / "out2") == [(row["id"], i) for i, row in enumerate(GOOD) if i != at]
    assert [row["row"] for row in quarantine(tmp_path / "out2")] == [at]


def test_a_csv_row_that_is_too_long_is_an_error_that_says_where(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "MAX_LINE_BYTES", 2_000)
    write(tmp_path / "a.csv", [*GOOD[:3], {"text": "word " * 4_000}])
    with pytest.raises(InputError, match=r"a\.csv: a row after the first 3 of more than 2,000 bytes"):
        read_all(scan([tmp_path]), ["text"], batch_bytes=300)


# ---- CSV

CSV = [b"id,text", *(f"{row['id']},{row['text']}".encode() for row in GOOD)]


@pytest.mark.parametrize("batch_bytes", [16, 300, 500_000])
def test_csv_rows_that_do_not_fit_are_set_aside_and_the_others_keep_their_numbers(tmp_path, batch_bytes):
    of = [*CSV[:4], b"9", *CSV[4:6], b"1,2,3", b"4,\xff", b"", *CSV[6:], b"too,many,h\xc3\xa9re"]
    lines(tmp_path / "a.csv", *of)
    corpus = scan([tmp_path], on_bad_row="quarantine")
    good, bad = [], []
    for batch in formats.read(corpus, corpus.partitions[0], ["id"], batch_bytes=batch_bytes):
        good += zip(batch.table["id"].to_pylist(), batch.rows.tolist(), strict=True)
        bad += batch.bad
    numbers = [0, 1, 2, 4, 5, 8, 9, 10, 11, 12, 13, 14]
    assert good == [(row["id"], i) for row, i in zip(GOOD, numbers, strict=True)]
    assert sorted((row.row, row.reason, row.content) for row in bad) == [
        (3, "1 values for 2 columns", b"9"),
        (6, "3 values for 2 columns", b"1,2,3"),
        (7, "not UTF-8 (invalid start byte)", b"4,\xff"),
        (15, "3 values for 2 columns", b"too,many,h\xc3\xa9re"),
    ]


@pytest.mark.parametrize("form", ["csv", "csv.gz"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_csv_row_that_neither_fits_nor_is_utf8_is_set_aside_too(tmp_path, form):
    data = b"\xef\xbb\xbf" + b"\n".join([*CSV[:4], b"1,2,\xff", *CSV[4:8], "h\u00e9,caf\u00e9".encode(), *CSV[8:]])
    path = write(tmp_path / f"a.{form}", compressed(form, data))
    corpus = scan([tmp_path], on_bad_row="quarantine")
    for batch_bytes in (16, 500_000):
        batches = list(formats.read(corpus, corpus.partitions[0], ["id", "text"], batch_bytes=batch_bytes))
        ids = [i for batch in batches for i in batch.table["id"].to_pylist()]
        assert ids == [*(row["id"] for row in GOOD[:7]), "h\u00e9", *(row["id"] for row in GOOD[7:])]
        assert np.concatenate([batch.rows for batch in batches]).tolist() == [i for i in range(14) if i != 3]
        assert "caf\u00e9" in [text for batch in batches for text in batch.table["text"].to_pylist()]
        bad = [row for batch in batches for row in batch.bad]
        assert [(row.path, row.row, row.content) for row in bad] == [(str(path), 3, b"1,2,\xff")]


def test_a_csv_row_that_does_not_fit_is_an_error_that_names_the_first(tmp_path):
    lines(tmp_path / "raw" / "a.csv", *CSV[:4], b"4,\xff", *CSV[4:], b"9")
    with pytest.raises(InputError, match=r"a\.csv row 3: not UTF-8"):
        select(tmp_path / "raw", tmp_path / "out", **EVERYTHING)


def test_bad_csv_rows_are_counted_and_the_good_ones_selected(tmp_path):
    lines(tmp_path / "raw" / "a.csv", *CSV[:4], b"9", *CSV[4:])
    result = select(tmp_path / "raw", tmp_path / "out", on_bad_row="quarantine", **EVERYTHING)
    assert result.manifest["stats"]["n_bad_rows"] == 1
    assert kept_ids(tmp_path / "out") == sorted(row["id"] for row in GOOD)
    assert [(row["row"], row["content"]) for row in quarantine(tmp_path / "out")] == [(3, b"9")]


@pytest.mark.parametrize("data", [b'\xef\xbb\xbfid,text\r\n1,a\r\n\r\n2,"b\r\nc"', b'id,text\n1,a\n\n2,"b\r\nc"\n'])
def test_csv_with_byte_order_mark_crlf_and_blank_lines_is_read(tmp_path, data):
    write(tmp_path / "a.csv", data)
    assert [(i, row["text"]) for _, i, row in read_all(scan([tmp_path]), ["text"])] == [(0, "a"), (1, "b\r\nc")]


def test_csv_without_the_text_column_is_an_error_that_names_those_there(tmp_path):
    write(tmp_path / "a.csv", b"one,body\n1,2\n")
    with pytest.raises(InputError, match=r"a\.csv: no column 'text' \(there are: one, body\); pass --text-column body"):
        read_all(scan([tmp_path]), ["text"])


# ---- JSON arrays, plain text


def test_items_of_an_array_that_are_no_objects_are_set_aside(tmp_path):
    write(tmp_path / "raw" / "a.json", json.dumps([GOOD[0], 5, None, [1], {"text": "\ud800"}, *GOOD[1:]]).encode())
    select(tmp_path / "raw", tmp_path / "out", on_bad_row="quarantine", **EVERYTHING)
    assert numbered(tmp_path / "out") == [(row["id"], i if i == 0 else i + 4) for i, row in enumerate(GOOD)]
    assert [row["row"] for row in quarantine(tmp_path / "out")] == [1, 2, 3, 4]


@pytest.mark.parametrize("data", [b'[{"text":"a"},', b'[{"text":"a\xff"}]', b"[" * 100_000])
def test_an_array_that_is_not_json_is_an_error_that_names_the_file(tmp_path, data):
    write(tmp_path / "raw" / "a.json", data)
    with pytest.raises(InputError, match=r"a\.json: not JSON"):
        select(tmp_path / "raw", tmp_path / "out")


def test_an_array_that_is_too_large_to_read_whole_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "MAX_JSON_BYTES", 500)
    write(tmp_path / "a.json", GOOD)
    with pytest.raises(InputError, match=r"a\.json: a JSON array over 500 bytes; make it JSON Lines"):
        read_all(scan([tmp_path]), ["text"])


def test_a_line_of_plain_text_that_is_not_utf8_is_set_aside(tmp_path):
    write(tmp_path / "raw" / "a.txt", b"a b c\n\n \nd e f\r\nx\xffy\ng h")
    select(tmp_path / "raw", tmp_path / "out", on_bad_row="quarantine", **EVERYTHING)
    assert numbered(tmp_path / "out") == [("a.txt#0", 0), ("a.txt#3", 3), ("a.txt#5", 5)]
    assert [(row["row"], row["content"]) for row in quarantine(tmp_path / "out")] == [(4, b"x\xffy")]


# ---- files with nothing in them


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("e.jsonl", b""),
        ("e.jsonl", b"\n \n\r\n"),
        ("e.jsonl", b"\xef\xbb\xbf"),
        ("e.jsonl.gz", b""),
        ("e.jsonl.zst", b""),
        ("e.json", b""),
        ("e.json", b"[]"),
        ("e.csv", b""),
        ("e.csv", b"id,text\n"),
        ("e.txt", b"\n\n"),
        ("e.parquet", table_bytes("parquet", pa.table({"text": pa.array([], pa.string())}))),
        ("e.parquet", table_bytes("parquet", pa.schema([("text", pa.null())]).empty_table())),
        ("e.arrow", table_bytes("arrow", pa.table({"text": pa.array([], pa.string())}))),
    ],
)
def test_an_empty_file_among_others_changes_nothing(tmp_path, name, data):
    write(tmp_path / "raw" / "a.jsonl", GOOD)
    write(tmp_path / "raw" / name, data)
    result = select(tmp_path / "raw", tmp_path / "out", **EVERYTHING)
    assert kept_ids(tmp_path / "out") == sorted(row["id"] for row in GOOD)
    assert [item["rows"] for item in result.manifest["inputs"]] == [12, 0]


@pytest.mark.parametrize("name", ["e.jsonl", "e.csv", "e.json", "e.txt", "e.jsonl.gz"])
def test_nothing_but_an_empty_file_is_an_error(tmp_path, name):
    write(tmp_path / "raw" / name, b"")
    with pytest.raises(InputError, match="no tokens"):
        select(tmp_path / "raw", tmp_path / "out")


def test_an_empty_target_is_an_error_that_names_it(tmp_path):
    write(tmp_path / "raw" / "a.jsonl", GOOD)
    with pytest.raises(InputError, match="target 'maths' has no tokens"):
        select(tmp_path / "raw", tmp_path / "out", target={"maths": write(tmp_path / "maths.jsonl", b"")})


@pytest.mark.parametrize("data", [b'{"no":"x"}\n', b'5\n{"no":"x"}\n', b'[1]\n"s"\nnull\n{"no":"x"}\n{}\n'])
@pytest.mark.parametrize("on_bad_row", ["raise", "quarantine"])
def test_lines_that_never_have_the_text_column_are_an_error_that_names_what_there_is(tmp_path, data, on_bad_row):
    write(tmp_path / "raw" / "a.jsonl", data)
    with pytest.raises(InputError, match=r"a\.jsonl line 1: "):
        select(tmp_path / "raw", tmp_path / "out", on_bad_row=on_bad_row)


# ---- documents that are hard to choose among


def test_copies_of_one_document_are_as_good_as_each_other(tmp_path):
    write(tmp_path / "raw" / "a.jsonl", [{"id": str(i), "text": GOOD[0]["text"]} for i in range(50)])
    for draw in ("gumbel", "topk", "uniform"):
        result = select(tmp_path / "raw", tmp_path / draw, draw=draw, budget=7)
        assert len(kept_ids(tmp_path / draw)) == 7
        assert any("all documents have the same score" in warning for warning in result.warnings)


def test_documents_that_share_an_id_are_told_of_and_the_budget_is_kept(tmp_path):
    write(tmp_path / "raw" / "a.jsonl", [row | {"id": "same"} for row in rows(50)])
    result = select(tmp_path / "raw", tmp_path / "out", budget=7)
    assert result.n_selected == 7
    assert any("49 documents share their id" in warning for warning in result.warnings)
    assert scores(tmp_path / "out").num_rows == 50


def test_documents_that_are_all_too_short_are_an_error_that_says_so(tmp_path):
    write(tmp_path / "raw" / "a.jsonl", [{"text": "too short"}] * 5 + [{"text": None}])
    with pytest.raises(InputError, match=r"none of 6 documents has a score \(1 no text, 5 too short\).*min_tokens"):
        select(tmp_path / "raw", tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()


def error_of_reading(folder: Path) -> str | None:
    """What curate says of a folder's files; any other error is raised."""
    try:
        read_all(scan([folder], on_bad_row="quarantine"), None)
    except CurateError as error:
        return str(error)
    return None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_noise_never_gets_past_the_readers_as_anything_but_an_error_or_rows(tmp_path):
    @given(
        st.sampled_from(["jsonl", "json", "csv", "txt", "parquet", "arrow", "jsonl.gz", "csv.zst"]),
        st.binary(max_size=80),
    )
    @settings(max_examples=100)
    def check(form, data):
        for old in tmp_path.iterdir():
            old.unlink()
        write(tmp_path / f"a.{form}", data)
        message = error_of_reading(tmp_path)
        assert message is None or (f"a.{form}" in message and "\n" not in message)

    check()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_good_file_is_an_error_or_other_rows(tmp_path):
    of = {form: encoded(form, GOOD[:3]) for form in ("jsonl", "json", "csv", "parquet", "arrow", "jsonl.gz", "csv.zst")}

    @given(st.sampled_from(sorted(of)), st.data())
    @settings(max_examples=100)
    def check(form, data):
        for old in tmp_path.iterdir():
            old.unlink()
        bytes_ = bytearray(of[form])
        for _ in range(data.draw(st.integers(1, 3))):
            bytes_[data.draw(st.integers(0, len(bytes_) - 1))] = data.draw(st.integers(0, 255))
        write(tmp_path / f"a.{form}", bytes(bytes_))
        message = error_of_reading(tmp_path)
        assert message is None or (f"a.{form}" in message and "\n" not in message)

    check()
