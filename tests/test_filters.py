"""Statistics are those of their definitions, each rule removes what it names, rules of users do no harm."""

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import reference
from hypothesis import example, given, settings
from hypothesis import strategies as st

import curate.frames.polars  # noqa: F401
from curate.errors import InputError, UsageError
from curate.features.edits import edited
from curate.filters import (
    GROUPS,
    KINDS,
    RULES,
    STATISTICS,
    Filters,
    FilterSpec,
    explain_rules,
    statistics,
)
from curate.kernels.measures import ENGLISH_WORDS, OTHER_WORDS

ENGLISH, OTHER = set(ENGLISH_WORDS.split()), set(OTHER_WORDS.split())
PIECES = [
    *"abZ .,'\n\n\n\t\r\0\x1c\x7f\x85\xa0#{}()=_1٣éß漢ひก😀\u2028\ufffd\ufeff-•*\"”…。！\\",
    " the ", "Of ", "with\n", " javaScript", "Lorem Ipsum", "use cookies", "privacy policy.", "...", "....",
    "word " * 11, "one two three four five.\n",
    " one two three four five six seven eight nine ten eleven ", "\n\n", "aaaa",
    "ééé", "שִׁמְ", "हिन्दी",
    "a line that is much longer than thirty characters, and ends!\n", "x" * 70,
    "\\alpha", "der die das",
]  # fmt: skip
texts = st.lists(st.one_of(st.sampled_from(PIECES), st.characters(exclude_categories=["Cs"])), max_size=60).map("".join)


def array(*of):
    return pa.array(of, pa.large_string())


def look(*of, columns=None, **asked):
    return Filters(FilterSpec(**asked)).look(array(*of), columns)


def reasons(*of, **asked):
    return look(*of, **asked).reason.to_pylist()


# ---- statistics


@given(st.lists(texts, min_size=1, max_size=4))
@settings(max_examples=60)
@example(["", "a" * 64, "a" * 63 + "é" + "b" * 64, "\n" * 64 + "a", "x" * 65 + "\n" + "x" * 65])
@example(["a b a b a b a b a b a b a b a b a b a b a b", " ".join("abcdefghij" * 3), "é" * 40 + " " + "é" * 41])
@example(["Uses cookies.\none two three four uses Cookies.\none two three four five six."])
def test_statistics_equal_the_definitions(of) -> None:
    found = statistics(array(*of)).to_dicts()
    for text, row in zip(of, found, strict=True):
        assert row == pytest.approx(reference.document_statistics(text, ENGLISH, OTHER), abs=1e-12), text


def test_what_is_around_a_document_changes_nothing_of_it() -> None:
    of = ["", "one two three", None, "漢字\n\n漢字", "a" * 200, "", "x\n\ny"]
    whole = statistics(array(*of))
    alone = pl.concat([statistics(array(text)) for text in of])
    assert whole.equals(alone)
    assert statistics(array(*of).slice(3, 2)).equals(whole[3:5])
    assert statistics(pa.chunked_array([array(*of[:3]), array(*of[3:])])).equals(whole)
    assert statistics(pa.array(of, pa.string_view())).equals(whole)
    assert statistics(array()).height == 0


def test_few_statistics_are_those_of_all() -> None:
    of = array("the cat sat with the cat.", "# 漢字\n" * 3)
    whole = statistics(of)
    for name in STATISTICS:
        assert statistics(of, [name]).equals(whole.select(name)), name
    with pytest.raises(UsageError, match="did you mean 'n_words'"):
        statistics(of, ["n_word"])


def test_repeats_are_looked_for_in_the_first_million_words_and_lines() -> None:
    text = "\n".join(f"{i:x}" for i in range(1 << 20)) + "\n0" * (1 << 19)
    found = statistics(array(text)).row(0, named=True)
    assert (found["n_words"], found["n_lines"]) == (3 << 19, 3 << 19)
    assert found["repeated_line_fraction"] == 0 == found["top_2gram_characters"]
    assert found["distinct_word_fraction"] == 1


@pytest.mark.parametrize(
    "piece", ["😀", "a", "a ", "\n", " \n", "\0", "{", ".", '"', "coo", "pol", "a a b ", "漢", "\\a", "...", "Σ"]
)
def test_one_large_hostile_document_comes_to_an_end(piece) -> None:
    """In time that is its square it would take hours."""
    text = piece * (4_000_000 // len(piece.encode()))
    assert statistics(array(text))["n_characters"].to_list() == [len(text)]


def test_statistics_are_an_expression_of_polars() -> None:
    frame = pl.DataFrame({"text": ["one two", None, "漢"]})
    found = frame.lazy().select(pl.col("text").curate.statistics("n_words", "letter_fraction")).unnest("text")
    assert found.collect_schema() == {"n_words": pl.Int64, "letter_fraction": pl.Float64}
    assert found.collect()["n_words"].to_list() == [2, 0, 1]
    everything = frame.lazy().select(pl.col("text").curate.statistics()).unnest("text")
    assert everything.collect().columns == list(STATISTICS)
    assert everything.collect().schema == everything.collect_schema()


# ---- rules

VERBS = (
    "rises",
    "falls",
    "winds",
    "turns",
    "bends",
    "swells",
    "narrows",
    "widens",
    "freezes",
    "thaws",
    "shines",
    "darkens",
)
WORDS = [f"{a}{b}" for a in ("moon", "stone", "grass", "wind", "salt", "fire") for b in VERBS]
SENTENCE = "The {} and the {} of {} have to {} with {} that {} {}."
SENTENCES = [SENTENCE.format(*WORDS[i : i + 7]) for i in range(0, 56, 7)]
PROSE = "\n\n".join(" ".join(SENTENCES[i : i + 2]) for i in range(0, 8, 2))  # no word but the stop words is there twice
FIRST = PROSE.partition("\n")[0]

REMOVED = {
    "length.characters": "short",
    "length.words": "few words",
    "length.lines": "one line",
    "symbols.replacement": PROSE + "\ufffd" * 20,
    "symbols.control": PROSE + "\x01" * 30,
    "symbols.run": PROSE + "=" * 1001,
    "symbols.letters": "12. 3, 4; 5: 6! " * 20 + "the numbers",
    "gopher.n_words": "The cat and the dog have to be with that man.",
    "gopher.word_length": "a b c of d e f to g h i " * 10,
    "gopher.hashes": PROSE + " #" * 40,
    "gopher.ellipses": PROSE + " ..." * 40,
    "gopher.bullets": "\n".join(f"- {sentence}" for sentence in SENTENCES),
    "gopher.ellipsis_lines": PROSE.replace(".\n\n", "...\n\n"),
    "gopher.alpha_words": PROSE + " 12" * 60,
    "gopher.stop_words": " ".join(WORDS[:60]) + ".",
    "gopher_repetition.line_fraction": PROSE + "\nagain" * 8,
    "gopher_repetition.line_characters": "\n".join([FIRST, FIRST, PROSE]),
    "gopher_repetition.paragraph_fraction": PROSE + "\n\nagain" * 8,
    "gopher_repetition.paragraph_characters": "\n\n".join([FIRST, FIRST, PROSE]),
    "gopher_repetition.top_2gram": PROSE + " moonrises moonfalls" * 20,
    "gopher_repetition.top_3gram": PROSE + " moonrises moonfalls moonturns" * 20,
    "gopher_repetition.top_4gram": PROSE + " moonrises moonfalls moonturns moonshines" * 20,
    **{f"gopher_repetition.repeated_{n}gram": PROSE + " " + " ".join(WORDS[:n] * 12) for n in range(5, 11)},
    "c4.lorem_ipsum": PROSE + " Lorem ipsum dolor.",
    "c4.curly_bracket": PROSE + " {}",
    "c4.sentences": PROSE.replace(".", ","),
    "fineweb.ended_lines": PROSE.replace(".", ","),
    "fineweb.short_lines": PROSE.replace(" ", "\n"),
    "fineweb.repeated_lines": "\n".join([FIRST, PROSE]),
    "fineweb.newlines": PROSE.replace(" ", "\n"),
    "dsir_quality.length": PROSE * 5,
    "dsir_quality.repeating": " ".join(WORDS),
    "dsir_quality.informative": "the of and to be with that have " * 10,
    "dsir_quality.numeric": PROSE + " 1 2 3" * 40,
}


@pytest.mark.parametrize("name", RULES)
def test_a_rule_removes_what_it_names_and_keeps_prose(name) -> None:
    asked = {"rules": name, "settings": {} if RULES[name].bounds else {f"{name}.min": 2 if "lines" in name else 20}}
    assert reasons(REMOVED[name], kinds="all", **asked) == [name]
    assert reasons(PROSE, kinds="all", **asked) == [None]
    assert reasons(PROSE, **asked) == [None]


def test_the_reason_is_the_first_rule_that_fails_in_the_order_of_the_table() -> None:
    text = PROSE + " {}" + "\ufffd" * 20
    assert reasons(text, rules=["c4", "symbols"]) == ["symbols.replacement"]
    found = look(text, "few words", PROSE, rules=["all"], where={"mine": "n_words > 0"})
    assert found.reason.to_pylist() == ["symbols.replacement", "gopher.n_words", "mine"]
    assert found.counts == {"symbols.replacement": 1, "gopher.n_words": 1, "mine": 1}


def test_names_that_are_not_there_are_errors_with_the_near_one() -> None:
    for asked, near in (
        ({"rules": ["gophr"]}, "gopher"),
        ({"rules": ["c4"], "settings": {"c4.sentence.min": 2}}, "c4.sentences.min"),
        ({"mask": ["emails"]}, "email"),
        ({"kinds": "al"}, "all"),
    ):
        with pytest.raises(UsageError, match=f"did you mean '{near}'"):
            FilterSpec(**asked)
    with pytest.raises(UsageError, match="did you mean 'rules'"):
        FilterSpec.from_settings({"rule": []})
    with pytest.raises(UsageError, match="not chosen"):
        FilterSpec(rules=["c4"], settings={"gopher.n_words.min": 5})
    with pytest.raises(UsageError, match="no number"):
        FilterSpec(rules=["c4"], settings={"c4.sentences.min": "5"})
    with pytest.raises(UsageError, match="no whole number"):
        FilterSpec.from_settings({"min_words": "5"})
    with pytest.raises(UsageError, match="between 0 and 1"):
        FilterSpec(min_language_share=50)


def test_bounds_can_be_set_for_all_kinds_or_for_one() -> None:
    code = "def f(x):\n    return [y for (y, z) in x.items() if z == {}]\n" * 2
    poem = "明月几时有，把酒问青天。不知天上宫阙，今夕是何年。"
    assert reasons(code, poem, "a few words", rules=["gopher.n_words"]) == [None, None, "gopher.n_words"]
    set_for_all = {"gopher.n_words.min": 2}
    assert reasons(code, poem, "a few words", rules=["gopher.n_words"], settings=set_for_all) == [None] * 3
    set_for_code = {"gopher.n_words.code.min": 200}
    assert reasons(code, poem, rules=["gopher.n_words"], settings=set_for_code) == ["gopher.n_words", None]
    assert reasons(code, poem, rules=["gopher.n_words"], kinds="all") == ["gopher.n_words"] * 2


def test_lengths_are_rules_of_their_own() -> None:
    asked = {"min_words": 3, "max_characters": 20}
    assert reasons("a b", "a b c", "a b c" + "d" * 20, **asked) == ["length.words", None, "length.characters"]


def test_kinds_can_be_given_in_a_column() -> None:
    labels = {"kind": pa.array(["prose", "code", "letters", None])}
    of = ["few words"] * 4
    asked = {"kind_column": "kind", "rules": ["gopher.n_words"]}
    assert look(*of, columns=labels, **asked).reason.to_pylist() == ["gopher.n_words", None, None, None]
    asked["settings"] = {"gopher.n_words.letters.min": 3}
    assert look(*of, columns=labels, **asked).reason.to_pylist() == ["gopher.n_words", None, "gopher.n_words", None]
    assert Filters(FilterSpec(**asked)).columns == ["kind"]
    of_mine = look(*of, columns=labels, kind_column="kind", where={"mine": "kind = 'code'"})
    assert of_mine.reason.to_pylist() == [None, "mine", None, None]
    with pytest.raises(InputError, match="need the column 'kind'"):
        look(*of, **asked)
    with pytest.raises(UsageError, match="leave out kind_column"):
        FilterSpec(kinds="all", kind_column="kind")


def test_the_table_is_told_as_plain_data() -> None:
    table = explain_rules()
    assert [row["name"] for row in table] == list(RULES) == list(REMOVED)
    assert {row["group"] for row in table} == set(GROUPS)
    assert all(set(row["kinds"]) <= set(KINDS) and row["source"] and row["statistic"] for row in table)
    assert explain_rules(["gopher.n_words"])[0]["keep"] == "n_words >= 50 AND n_words <= 100000"


def test_a_spec_tells_all_that_its_result_depends_on() -> None:
    spec = FilterSpec(rules="gopher", settings={"gopher.n_words.min": 20}, where={"a": "n_words < 9"}, mask="ip")
    assert spec.identity()["bounds"][0]["bounds"] == {"min": 20, "max": 100_000}
    told = spec.as_dict()
    assert FilterSpec.from_settings(told).as_dict() == told
    one, two = (FilterSpec(where={"a": f"n_words < {n}"}).identity() for n in (1, 2))
    assert one != two


# ---- rules of users


@pytest.mark.parametrize(
    ("condition", "goes"),
    [
        ("digit_fraction > 0.25", [False, True]),
        ("digit_fraction <> .25 AND n_words*1.5 > 2", [True, True]),
        ("digit_fraction BETWEEN 0.1 AND 0.9", [False, True]),
        ("POWER(digit_fraction, 0.5) > 0.5 AND n_words % 2 = 0", [False, True]),
        ("ROUND(digit_fraction, 1) = 0.0 OR text = '0.5'", [True, False]),
        ("CASE WHEN digit_fraction > 0.25 THEN n_words ELSE 0.5 END > 1", [False, True]),
    ],
)
def test_numbers_with_a_point_are_numbers_in_sql(condition, goes) -> None:
    found = Filters(FilterSpec(where={"mine": condition})).look(array("one two three", "12 34"))
    assert [reason == "mine" for reason in found.reason.to_pylist()] == goes


@pytest.mark.parametrize("condition", ["AVG(n_words * 0.5) > 1", "POWER(MAX(n_words), 2) > 1", "SUM(n_words) > 0.5"])
def test_numbers_with_a_point_hide_no_look_at_other_documents(condition) -> None:
    with pytest.raises(UsageError, match="more than one document"):
        FilterSpec(where={"mine": condition})


CONDITIONS = [
    "n_words < 3 OR source = 'spam'",
    'pl.col("n_words").lt(3) | (pl.col("source") == "spam")',
    (pl.col("n_words") < 3) | (pl.col("source") == "spam"),
]


@pytest.mark.parametrize("condition", CONDITIONS)
def test_rules_of_users_in_sql_and_polars_say_the_same(condition) -> None:
    columns = {"source": pa.array(["web", "spam", None, None])}
    found = look("a b c", "a b c", "a b c", "a", columns=columns, where={"mine": condition})
    assert found.reason.to_pylist() == [None, "mine", None, "mine"]
    assert Filters(FilterSpec(where={"mine": condition})).columns == ["source"]


@pytest.mark.parametrize(
    "condition",
    [
        "length(text) > 3", "kind = 'prose'", "text LIKE '%select%'", "CASE WHEN n_words > 1 THEN true ELSE false END",
        'pl.col("text").str.contains("b")', 'pl.col("kind").is_in(["prose", "foreign"])', 'pl.lit(True)',
        'pl.when(pl.col("n_words") > 2).then(True).otherwise(False)',
        '(pl.col("n_words") > 1) & ~(pl.col("n_words") < 2)', 'pl.col("mean_word_length").round(2).is_between(2, 3)',
        'pl.col("n_words").cast(pl.Float64) / 2 > 1',
    ],
)  # fmt: skip
def test_conditions_may_use_text_kind_and_functions_of_one_document(condition) -> None:
    assert reasons("a b c select", where={"mine": condition}) == ["mine"]


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ("n_words > avg(n_words)", "more than one document"),
        ("n_words > (SELECT 1)", "subquery"),
        ("source IN (SELECT * FROM read_csv('/etc/passwd'))", "subquery"),
        ("row_number() over (order by n_words) > 2", "more than one document"),
        ("n_words <", "no condition in SQL"),
        ("__import__('os')", "no condition in SQL"),
        ('pl.col("n_words").mean() > 2', "not allowed"),
        ('pl.col("text").map_elements(print)', "not allowed"),
        ('pl.col("text").pipe(print)', "not allowed"),
        ('pl.col("text").__class__', "not allowed"),
        ('pl.col("text").str.__init__()', "not allowed"),
        ('pl.read_csv("x")', "not allowed"),
        ('pl.col("n_words").shift(1) > 0', "not allowed"),
        ('[x for x in pl.col("n_words")]', "not allowed"),
        ('(lambda: pl.col("n_words"))()', "not allowed"),
        ('10**10**10 < pl.col("n_words")', "not allowed"),
        ('"a" * 1000000000 + pl.col("text")', "columns and numbers"),
        ('pl.col("n_words") > 1 and pl.col("n_words") < 3', "write & | ~"),
        ("pl.", "no expression of Polars"),
        (pl.col("n_words") > pl.col("n_words").mean(), "more than one document"),
        (pl.col("n_words").map_batches(lambda s: s > 1, return_dtype=pl.Boolean), "more than one document"),
        (pl.lit(1) + pl.len() > 2, "more than one document"),
        (pl.col("n_words").fill_null(pl.col("n_words").max()) > 2, "more than one document"),
        (3, "no condition"),
    ],
)
def test_what_looks_at_other_documents_or_runs_python_is_refused(condition, why) -> None:
    with pytest.raises(UsageError, match=why) as error:
        FilterSpec(where={"mine": condition})
    assert "filter rule 'mine'" in str(error.value)


def test_a_column_that_is_not_there_is_refused_before_any_text_is_read() -> None:
    spec = FilterSpec(where={"mine": "n_wrods < 3"})
    with pytest.raises(UsageError, match=r"'mine'.*n_wrods.*did you mean 'n_words'"):
        Filters(spec, columns=["id", "source"])
    assert Filters(FilterSpec(where={"mine": "source = 'a'"}), columns=["source"]).columns == ["source"]
    with pytest.raises(UsageError, match="not true or false"):
        look("a", where={"mine": "n_words + 1"})
    with pytest.raises(UsageError, match="filter rule 'mine'"):
        look("a", where={"mine": "text + 1 > 2"})
    with pytest.raises(UsageError, match="taken by a rule"):
        FilterSpec(rules=["gopher"], where={"gopher.n_words": "n_words < 3"})


# ---- batches


def test_masks_are_of_documents_that_stay() -> None:
    of = ["mail me@example.com", "a b c you@example.org d", "none at all"]
    found = look(*of, min_words=3, mask=["email"])
    assert found.reason.to_pylist() == ["length.words", None, None]
    assert found.masked == {"email": 1}
    assert edited(array(*of), found.edits.lists(3)).to_pylist() == [of[0], "a b c <EMAIL> d", of[2]]


@given(st.lists(texts, max_size=12), st.data())
@settings(max_examples=20)
def test_how_documents_are_cut_into_batches_does_not_matter(of, data) -> None:
    filters = Filters(FilterSpec(rules=["all"], where={"mine": "n_words > 3 AND kind = 'prose'"}))
    cut = data.draw(st.integers(0, len(of)))
    whole = filters.look(array(*of)).reason.to_pylist()
    assert whole == [r for part in (of[:cut], of[cut:]) for r in filters.look(array(*part)).reason.to_pylist()]
    order = data.draw(st.permutations(range(len(of))))
    assert filters.look(array(*(of[i] for i in order))).reason.to_pylist() == [whole[i] for i in order]


@pytest.mark.pool
def test_by_kind_the_published_rules_leave_code_mathematics_and_chinese(pool) -> None:
    tables = [pq.read_table(path, columns=["text", "source"]) for path in sorted((pool / "raw").glob("*.parquet"))]
    table = pa.concat_tables(tables).combine_chunks()
    sources = np.array(table["source"].to_pylist())
    rules = ["gopher", "gopher_repetition", "c4", "fineweb"]
    removed = {
        kinds: Filters(FilterSpec(rules=rules, kinds=kinds)).look(table["text"]).reason.is_valid().to_numpy(False)
        for kinds in ("all", "auto")
    }
    for source in ("python", "c", "javascript", "lean", "math-tex", "poetry-zh"):
        assert removed["all"][sources == source].mean() > 0.9
        assert removed["auto"][sources == source].mean() < 0.06
    for source in ("wikipedia", "news", "essays", "biomed-papers", "bible-kjv", "cs-abstracts"):
        assert removed["auto"][sources == source].mean() < 0.1
