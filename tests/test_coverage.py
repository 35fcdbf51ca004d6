"""Coverage: what of a target's documents a selection misses, by exact leverage scores; the same however cut."""

import json

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from corpora import COOKING, MATHS, rows, select, sharded, target_rows, write

from curate.cli import main
from curate.coverage import coverage
from curate.errors import InputError, RunError, UsageError
from curate.features.vectors import HashedVectors

ROWS = rows(300)
HELDOUT = target_rows(60)
SMALL = {"dim": 64, "ridge_per_document": 0.02}


@pytest.fixture
def files(tmp_path):
    write(tmp_path / "raw" / "a.jsonl", ROWS)
    write(tmp_path / "heldout.jsonl", HELDOUT)
    for kind in ("maths", "cooking"):
        write(tmp_path / f"{kind}.jsonl", [row for row in ROWS if row["source"] == kind])
    return tmp_path


def named(found):
    return {by.name: by for by in found.by}


def test_missed_shares_equal_their_definition(files) -> None:
    found = coverage(files / "cooking.jsonl", target=files / "heldout.jsonl", settings=SMALL, worst=60)

    def vectors(of):
        return np.rint(HashedVectors(dim=64)(pa.array([row["text"] for row in of])).astype(float) * 2**14) / 2**14

    x, t = vectors([row for row in ROWS if row["source"] == "cooking"]), vectors(HELDOUT)
    ridge = 0.02 * len(x)
    missed = ridge * np.einsum("ij,jk,ik->i", t, np.linalg.inv(x.T @ x + ridge * np.eye(64)), t) / (t**2).sum(axis=1)
    by = named(found)["selected"]
    assert by.mean == pytest.approx(missed.mean())
    assert by.quantiles["1"] == pytest.approx(missed.max())
    assert by.quantiles["0.5"] == pytest.approx(np.sort(missed)[29])
    assert [m.shares["selected"] for m in found.worst] == pytest.approx(np.sort(missed)[::-1])
    texts = {f"heldout.jsonl#{i}": row["text"][:240] for i, row in enumerate(HELDOUT)}
    assert {m.doc_id: m.text for m in found.worst} == texts


def test_what_is_of_the_targets_kind_covers_it_better_than_random_documents_and_others_worse(files) -> None:
    better = {}
    for kind in ("maths", "cooking"):
        found = coverage(files / f"{kind}.jsonl", target=files / "heldout.jsonl", raw=files / "raw", settings=SMALL)
        by = named(found)
        assert list(by) == ["selected", "random", "raw", "target"]
        assert by["random"].n_documents == pytest.approx(100, abs=30)
        assert by["random"].better_than_random is None
        better[kind] = by["selected"].better_than_random
    assert better["maths"] > 0.9
    assert better["cooking"] < 0.1


def test_what_a_selection_leaves_out_of_a_target_is_listed_first(files) -> None:
    odd = {"id": "odd", "text": " ".join(COOKING * 3)}
    write(files / "mixed.jsonl", [*({"id": f"t{i}", **row} for i, row in enumerate(HELDOUT)), odd])
    found = coverage(files / "maths.jsonl", target=files / "mixed.jsonl", settings=SMALL, worst=1)
    assert [m.doc_id for m in found.worst] == ["odd"]


def test_cuts_and_workers_do_not_change_the_coverage(files) -> None:
    options = {"settings": SMALL, "worst": 3}
    named_rows = [{"id": f"t{i}", **row} for i, row in enumerate(HELDOUT)]
    of = [row for row in ROWS if row["source"] == "maths"]
    one = [sharded(files / name, rows_, 1) for name, rows_ in (("s1", of), ("t1", named_rows), ("r1", ROWS))]
    many = [sharded(files / name, rows_[::-1], 7) for name, rows_ in (("s7", of), ("t7", named_rows), ("r7", ROWS))]
    found = [coverage(s, target=t, raw=r, workers=workers, **options) for (s, t, r), workers in ((one, 1), (many, 3))]
    assert found[0] == found[1]


def test_a_run_knows_its_raw_its_columns_and_its_settings(files) -> None:
    renamed = [{"id": row["id"], "body": row["text"]} for row in ROWS]
    write(files / "bodies" / "a.jsonl", renamed)
    select(
        files / "bodies",
        files / "out",
        method="leverage",
        settings={"dim": 32, "ridge_per_document": 0.05},
        text_column="body",
        target_text_column="text",
        budget=30,
    )
    found = coverage(files / "out", target=files / "heldout.jsonl")
    assert (found.dim, found.ridge_per_document) == (32, 0.05)
    assert named(found)["selected"].n_documents == 30
    assert named(found)["raw"].n_documents == 300
    (files / "bodies" / "a.jsonl").unlink()
    with pytest.raises(RunError, match="--raw"):
        coverage(files / "out", target=files / "heldout.jsonl")


def test_corpora_without_text_and_settings_that_do_not_fit_are_refused(files) -> None:
    write(files / "empty.jsonl", [{"id": "a", "text": ""}])
    with pytest.raises(InputError, match=r"selected: no text"):
        coverage(files / "empty.jsonl", target=files / "heldout.jsonl")
    with pytest.raises(InputError, match=r"target: no text"):
        coverage(files / "maths.jsonl", target=files / "empty.jsonl")
    for settings in ({"kernel": "rbf"}, {"ridge": 2.0}, {"dimm": 3}):
        with pytest.raises(UsageError):
            coverage(files / "maths.jsonl", target=files / "heldout.jsonl", settings=settings)


def test_the_command_prints_the_same_figures_and_texts_that_harm_no_terminal(files) -> None:
    hostile = {"id": "a\x1b[2J\nb", "text": "\x1b]0;title\x07 " + " ".join(COOKING * 2)}
    write(files / "heldout.jsonl", [*HELDOUT, hostile])
    words = ["coverage", str(files / "maths.jsonl"), "--heldout", str(files / "heldout.jsonl")]
    words += ["--raw", str(files / "raw"), "--set", "dim=64", "--set", "ridge_per_document=0.02", "-q"]
    shown = CliRunner().invoke(main, words)
    assert shown.exit_code == 0, shown.output
    assert "\x1b" not in shown.output
    assert "\x07" not in shown.output
    assert "effective dimension" in shown.output
    found = json.loads(CliRunner().invoke(main, [*words, "--json"]).output)
    expected = coverage(files / "maths.jsonl", target=files / "heldout.jsonl", raw=files / "raw", settings=SMALL)
    assert found["by"][0]["mean"] == expected.by[0].mean
    assert found["worst"][0]["doc_id"] == "a\x1b[2J\nb"
    assert f"{expected.by[0].mean:.1%}" in shown.output


def test_rows_that_cannot_be_read_are_counted(files) -> None:
    path = files / "bad.jsonl"
    path.write_bytes((files / "maths.jsonl").read_bytes() + b"{not json\n")
    with pytest.raises(InputError):
        coverage(path, target=files / "heldout.jsonl")
    found = coverage(path, target=files / "heldout.jsonl", on_bad_row="quarantine")
    assert found.n_bad_rows == {"selected": 1, "target": 0}


def test_a_corpus_of_one_kind_covers_another_kind_hardly_at_all(files) -> None:
    write(files / "other.jsonl", [{"text": " ".join(f"nothing{i}of{j}" for i in range(40))} for j in range(20)])
    found = coverage(files / "other.jsonl", target=files / "heldout.jsonl", settings={"dim": 256})
    assert named(found)["selected"].mean > 2 * named(found)["target"].mean
    assert MATHS[0] in found.worst[0].text or found.worst
