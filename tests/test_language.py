"""The language of a text is found, whatever characters it has."""

import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from curate.errors import MissingExtraError, UsageError
from curate.filters import Filters, FilterSpec, languages

OF = {
    "en": "The committee will look at the proposals of the members and decide which of them is best for the town. ",
    "de": "Der Ausschuss wird die Vorschläge der Mitglieder prüfen und sagen, welcher für die Stadt am besten ist. ",
    "fr": "Le comité examinera les propositions des membres et décidera laquelle est la meilleure pour la ville. ",
    "ru": "Комитет рассмотрит предложения членов и решит, какое из них лучше всего подходит для города. ",
    "zh": "委员会将审查成员的提案，并决定哪一个对城市最好，然后向公众说明原因和下一步的计划。",
}

pytestmark = pytest.mark.skipif("not __import__('importlib.util').util.find_spec('pycld2')", reason="needs pycld2")


def found(*of, **options):
    return languages(pa.array(of, pa.large_string()), **options)


def test_languages_are_found_with_their_share() -> None:
    table = found(*OF.values())
    assert table["language"].to_list() == list(OF)
    assert table["language_reliable"].all()
    assert (table["language_share"] > 0.9).all()
    half = found(OF["en"] * 2 + OF["de"] * 2)
    assert 0.4 < half["language_share"][0] < 0.6


def test_characters_that_cld2_refuses_are_no_error() -> None:
    refused = "".join(
        map(chr, [*range(9), *range(11, 32), *range(127, 160), 0xFDD0, 0xFFFE, 0xFFFF, 0x1FFFE, 0x10FFFF])
    )
    assert found(*(OF["de"] + c for c in refused))["language"].to_list() == ["de"] * len(refused)
    assert found("", None, refused, "\ufffd", "😀" * 1000, "a" * 100_000)["language"].to_list() == ["un"] * 6


def test_the_beginning_of_a_text_settles_it() -> None:
    text = OF["zh"] * 40 + OF["en"] * 500
    for beginning in (2000, 2001, 2002):
        assert found(text, beginning=beginning)["language"].to_list() == ["zh"]
    assert found(text, beginning=None)["language"].to_list() == ["en"]


def test_documents_in_other_languages_go_with_a_reason() -> None:
    texts = pa.array([*OF.values(), "1 2 3", OF["en"] * 3 + OF["ru"]])

    def reasons(**asked):
        return Filters(FilterSpec(**asked)).look(texts).reason.to_pylist()

    other = "language.other"
    assert reasons(languages=["en", "zh"]) == [None, other, other, other, None, None, None]
    asked = {"languages": ["en"], "unknown_language": "remove", "min_language_share": 0.9}
    assert reasons(**asked) == [None, other, other, other, other, "language.unknown", "language.share"]
    assert reasons(where={"no": "language = 'de'"}) == [None, "no", None, None, None, None, None]


def test_a_language_that_is_not_known_is_an_error() -> None:
    with pytest.raises(UsageError, match="no language called 'english'"):
        Filters(FilterSpec(languages=["english"]))


def test_without_the_package_the_error_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setattr("curate._optional.installed", lambda module: False)
    with pytest.raises(MissingExtraError, match="lang"):
        Filters(FilterSpec(languages=["en"]))


def test_filters_are_imported_without_polars_and_cld2() -> None:
    import subprocess

    code = "import curate.filters, sys; print(sorted({'polars', 'pycld2', 'duckdb', 'numba'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.pool
def test_no_text_of_the_pool_is_an_error(pool) -> None:
    table = pa.concat_tables(
        pq.read_table(p, columns=["text", "source"]) for p in sorted((pool / "raw").glob("*.parquet"))
    )
    has_control = pc.match_substring_regex(table["text"], r"[\x00-\x08\x0b-\x1f\x7f]|[\x{80}-\x{9f}]|\x{ffff}")
    some = pa.array(np.arange(len(table)) % 8 == 0)
    table = table.filter(pc.or_(has_control, some)).combine_chunks()
    assert pc.sum(has_control).as_py() > 400
    language = languages(table["text"])["language"].to_numpy()
    sources = table["source"].to_numpy()
    for source, code in (("wikipedia", "en"), ("news", "en"), ("bible-kjv", "en")):
        assert (language[sources == source] == code).mean() > 0.95
