"""The loader: no document lost or repeated, whatever the ranks, workers and restarts; one row for one seed."""

import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from corpora import rows, sharded, write
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.curriculum.loader import CurriculumStream
from curate.errors import InputError, RunError, UsageError
from curate.io.curriculum import Curriculum, write_curriculum

N = 83
THIRDS = {"maths": 0.6, "cooking": 0.3, "news": 0.1}


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return sharded(tmp_path_factory.mktemp("loader") / "raw", rows(N), 3)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def stream(raw, cache):
    def make(curriculum=None, **more):
        column = "source" if curriculum is not None else None
        return CurriculumStream(raw, curriculum, **{"column": column, "cache": cache, "round_size": 16, **more})

    return make


def flat(lists):
    return list(itertools.chain.from_iterable(lists))


def ids(documents):
    return [d["doc_id"] for d in documents]


def steps(stream, world, n_workers, batch_size, state=None, **more):
    """The batches of all ranks by step, as a DataLoader would make them: a step belongs to one worker of each rank."""
    first = 0 if state is None else state["position"] // (world * batch_size)
    found = {}
    for rank in range(world):
        made = stream(world=world, rank=rank, batch_size=batch_size, **more)
        for worker in range(n_workers):
            if state is not None:
                made.load_state_dict(json.loads(json.dumps(state)))
            mine = ids(made.iterate(worker, n_workers))
            own = itertools.count(first + worker, n_workers)
            for step, start in zip(own, range(0, len(mine), batch_size), strict=False):
                found.setdefault(step, {})[rank] = mine[start : start + batch_size]
    return [flat(found[s][r] for r in sorted(found[s])) for s in sorted(found)]


MATRIX = [(1, 1, 4), (1, 2, 4), (1, 3, 4), (2, 1, 2), (2, 3, 2), (4, 1, 1), (4, 2, 1)]


@pytest.mark.parametrize(("world", "n_workers", "batch_size"), MATRIX)
@pytest.mark.parametrize("epochs", [1, 2])
def test_no_document_is_lost_or_repeated_over_ranks_and_workers(stream, world, n_workers, batch_size, epochs):
    row = flat(steps(stream, world, n_workers, batch_size, epochs=epochs))
    assert row == ids(stream(epochs=epochs))
    for epoch in range(epochs):
        assert sorted(row[epoch * N : (epoch + 1) * N]) == sorted(f"d{i}" for i in range(N))
    assert epochs == 1 or row[:N] != row[N:]


@pytest.mark.parametrize(("before", "after"), list(itertools.product(MATRIX[::2], MATRIX[::2])))
@pytest.mark.parametrize("curriculum", [None, THIRDS])
def test_a_restart_under_other_ranks_and_workers_goes_on_with_the_row(stream, before, after, curriculum):
    wanted = steps(stream, *before, epochs=2, curriculum=curriculum)
    for stop in (0, 1, 7, len(wanted) - 1, len(wanted)):
        done = wanted[:stop]
        state = stream(curriculum, world=before[0], batch_size=before[2], epochs=2).state_dict(stop)
        assert done + steps(stream, *after, state=state, epochs=2, curriculum=curriculum) == wanted


SIZES = [(1, 1, 4), (2, 2, 4), (1, 3, 7), (3, 1, 1)]  # world, workers, batch size: steps of 4, 8, 7 and 3


def walked(stream, layouts, stops, **more):
    """The row of documents that training takes under one layout after another, with a stop after so many steps."""
    row, state, step = [], None, 0
    for (world, n_workers, batch_size), n in zip(layouts, stops, strict=True):
        batches = steps(stream, world, n_workers, batch_size, state=state, **more)
        row += flat(batches[:n])
        step += len(batches[:n])
        one = stream(world=world, batch_size=batch_size, **more)
        if state is not None:
            one.load_state_dict(state)
        state = json.loads(json.dumps(one.state_dict(step)))
    return row


@pytest.mark.parametrize("layouts", list(itertools.permutations(SIZES, 3)))
@pytest.mark.parametrize("curriculum", [None, THIRDS])
def test_steps_may_change_their_size_at_every_restart(stream, layouts, curriculum):
    wanted = ids(stream(curriculum, epochs=2))
    for stops in ([5, 3, None], [0, 4, None], [1, 0, None], [3, 2, None]):
        assert walked(stream, layouts, stops, curriculum=curriculum, epochs=2) == wanted


def test_after_a_change_of_size_all_ranks_still_have_as_many_batches(stream):
    state = stream(batch_size=4).state_dict(5)
    ranks = [stream(world=2, rank=rank, batch_size=4, drop_last=True) for rank in range(2)]
    for rank in ranks:
        rank.load_state_dict(state)
    assert [len(rank) for rank in ranks] == [28, 28]
    assert [len(list(rank)) for rank in ranks] == [28, 28]


def test_stages_and_updates_count_steps_of_either_size(stream):
    made = Curriculum.of([{"maths": 1, "news": 0, "cooking": 0}, {"news": 1}, {"cooking": 1}])
    more = {"curriculum": made, "stage_steps": [8, 8], "epochs": 5, "round_size": 1}
    state = stream(batch_size=4, **more).state_dict(10)  # position 40, of which 8 are of the second stage
    one = stream(batch_size=10, **more)
    one.load_state_dict(state)
    groups = [d["group"] for d in one]
    assert groups[:60] == ["news"] * 60  # steps 10 to 15
    assert set(groups[60:]) == {"cooking"}
    again = stream(batch_size=10, **more)
    again.load_state_dict(one.state_dict(12))
    again.update({"maths": 1}, from_step=14)
    assert [d["group"] for d in again][:40] == ["news"] * 20 + ["maths"] * 20
    assert again.state_dict()["stages"] == [0, 32, 100]
    with pytest.raises(UsageError, match="before step 10"):
        again.state_dict(9)


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_a_process_may_stop_at_any_document(raw, cache, data):
    make = lambda: CurriculumStream(raw, THIRDS, column="source", cache=cache, round_size=8, batch_size=3, epochs=2)  # noqa: E731
    n_workers = data.draw(st.integers(1, 3))
    worker = data.draw(st.integers(0, n_workers - 1))
    wanted = ids(make().iterate(worker, n_workers))
    got = []
    state = make().state_dict()
    while len(got) < len(wanted):
        one = make()
        one.load_state_dict(json.loads(json.dumps(state)))
        taken = list(itertools.islice(one.iterate(worker, n_workers), data.draw(st.integers(1, 40))))
        got += ids(taken)
        state = one.state_dict()
    assert got == wanted


def test_proportions_are_those_of_the_weights(stream):
    documents = list(stream(THIRDS, epochs=10))
    counts = Counter(d["group"] for d in documents)
    assert {g: pytest.approx(10 * N * w, abs=2) for g, w in THIRDS.items()} == counts
    maths = [d["doc_id"] for d in documents if d["group"] == "maths"]
    assert max(Counter(maths[:28]).values()) == 1  # all 28 of them before any comes again
    assert max(Counter(maths).values()) - min(Counter(maths).values()) <= 1


@pytest.mark.parametrize("form", ["jsonl.zst", "csv"])
def test_the_row_does_not_depend_on_how_the_corpus_is_cut_or_stored(stream, tmp_path, form):
    again = sharded(tmp_path / "other", rows(N), 7, form)
    other = CurriculumStream(again, THIRDS, column="source", cache=tmp_path / "cache", round_size=16, epochs=2)
    assert ids(other) == ids(stream(THIRDS, epochs=2))


def test_another_seed_gives_another_row(stream):
    assert ids(stream(seed=1)) != ids(stream(seed=2))
    assert sorted(ids(stream(seed=1))) == sorted(ids(stream(seed=2)))


def test_more_columns_and_a_transform(stream):
    made = stream(columns=["source"], transform=lambda d: (d["doc_id"], d["source"], len(d["text"])))
    by_id = {row["id"]: (row["id"], row["source"], len(row["text"])) for row in rows(N)}
    assert set(made) == set(by_id.values())
    assert len(made) == N


# ---- curricula


def test_a_folder_says_where_its_groups_are(raw, cache, tmp_path):
    write_curriculum(tmp_path, Curriculum.of(THIRDS, column="source"))
    made = CurriculumStream(raw, tmp_path, cache=cache)
    assert {d["group"] for d in made} == set(THIRDS)
    write_curriculum(tmp_path, Curriculum.of({"odd": 1, "even": 3}))
    table = pa.table({"doc_id": [f"d{i}" for i in range(N)], "group": ["even", "odd"] * 41 + [None]})
    pa.parquet.write_table(table, tmp_path / "groups.parquet")
    with pytest.warns(UserWarning, match="1 of 83 documents are in no group"):
        made = CurriculumStream(raw, tmp_path / "curriculum.parquet", cache=cache, epochs=4)
    documents = list(made)
    assert len(documents) == 4 * 82
    assert Counter(d["group"] for d in documents)["even"] == pytest.approx(3 * 82, abs=2)
    assert all((int(d["doc_id"][1:]) % 2 == 0) == (d["group"] == "even") for d in documents)


@pytest.mark.parametrize("n_files", [1, 5])
def test_shares_of_text_are_kept_whatever_the_length_of_documents(tmp_path, n_files):
    kinds = {"long": "x" * 400, "short": "y" * 100}
    documents = [{"id": f"d{i}", "text": kinds[k], "source": k} for i, k in enumerate(["long", "short", "short"] * 40)]
    made = Curriculum.of({"long": 0.5, "short": 0.5}, column="source", weights_of="bytes")
    raw = sharded(tmp_path / "raw", documents, n_files)
    one = CurriculumStream(raw, made, cache=tmp_path / "cache", epochs=5, round_size=30)
    sizes = Counter()
    for document in one:
        sizes[document["group"]] += len(document["text"])
    assert sizes["long"] / sizes.total() == pytest.approx(0.5, abs=0.01)


def test_stages_follow_one_another(stream):
    made = Curriculum.of([{"maths": 1, "news": 0}, {"maths": 0.5, "news": 0.5}])
    with pytest.warns(UserWarning, match="28 of 83"):
        one = stream(made, stage_steps=8, batch_size=4, epochs=3)
    groups = [d["group"] for d in one]
    assert set(groups[:32]) == {"maths"}
    assert Counter(groups[32:64])["news"] == pytest.approx(16, abs=1)
    assert ids(one)[32:] == ids(_gone_on(stream, made, one.state_dict(8)))


def _gone_on(stream, curriculum, state, **more):
    with warnings.catch_warnings(action="ignore"):
        one = stream(curriculum, **{"stage_steps": 8, "batch_size": 4, "epochs": 3, **more})
    one.load_state_dict(state)
    return one


def test_weights_of_documents_are_copies_in_a_pass(raw, cache):
    weights = np.arange(N) % 4
    made = Curriculum("doc_id", pa.array([f"d{i}" for i in range(N)]), np.zeros(N), weights)
    with pytest.warns(UserWarning, match="21 of 83"):
        one = CurriculumStream(raw, made, cache=cache, epochs=20)
    documents = ids(one)
    size = len(one) // 20
    total = Counter(documents)
    for i in range(N):
        share = size * weights[i] / weights.sum()
        for epoch in range(20):
            copies = documents[epoch * size : (epoch + 1) * size].count(f"d{i}")
            assert copies in (int(np.floor(share)), int(np.ceil(share)))
        assert total[f"d{i}"] == pytest.approx(20 * share, abs=20 * 0.5)
    with pytest.warns(UserWarning, match="1 documents of the curriculum are not in the corpus"):
        CurriculumStream(raw, Curriculum("doc_id", pa.array(["d1", "who"]), [0, 0], [1, 1]), cache=cache)


@pytest.mark.parametrize(
    ("curriculum", "more", "error", "message"),
    [
        ({"maths": 1, "opera": 1}, {}, InputError, "'opera' has a weight of 0.5 but no documents"),
        ({"opera": 1}, {}, InputError, "none of them in a group"),
        (THIRDS, {"column": None}, UsageError, "which column"),
        (THIRDS, {"column": "sauce"}, InputError, "did you mean 'source'"),
        (None, {"rank": 2, "world": 2}, UsageError, "from 0 to 1"),
        (None, {"batch_size": 0}, UsageError, "1 or more"),
        (None, {"epochs": 0}, UsageError, "1 or more"),
        (Curriculum.of([{"maths": 1}, {"news": 1}]), {}, UsageError, "2 stages"),
        (Curriculum.of([{"maths": 1}, {"news": 1}]), {"stage_steps": [1, 2]}, UsageError, "1 numbers from 1 on"),
    ],
)
def test_what_makes_no_sense_is_told(stream, curriculum, more, error, message):
    with pytest.raises(error, match=message):
        stream(curriculum, **more)


@pytest.mark.parametrize(("world", "batch_size"), [(2, 4), (3, 5), (1, 83), (4, 50)])
def test_without_the_last_step_all_ranks_have_as_many_batches(stream, world, batch_size):
    streams = [stream(rank=r, world=world, batch_size=batch_size, drop_last=True) for r in range(world)]
    lengths = {len(list(one)) for one in streams} | {len(one) for one in streams}
    assert lengths == {N // (world * batch_size) * batch_size}


def test_a_stream_without_end_goes_on(stream):
    made = stream(THIRDS, epochs=None)
    assert len(list(itertools.islice(made, 1000))) == 1000
    with pytest.raises(TypeError, match="epochs"):
        len(made)


# ---- updates


def test_an_update_holds_from_its_step_on(stream):
    made = stream(THIRDS, batch_size=4, epochs=6)
    before = ids(made)
    walk, groups = iter(made), []
    groups += [next(walk)["group"] for _ in range(50)]
    made.update({"news": 1}, from_step=24)
    groups += [d["group"] for d in walk]
    start = N + 16  # of the first round after position 96
    assert groups[:start] == [d["group"] for d in stream(THIRDS, batch_size=4, epochs=6)][:start]
    assert set(groups[start:]) == {"news"}
    assert len(groups) == len(before)
    state = json.loads(json.dumps(made.state_dict(40)))
    again = stream(THIRDS, batch_size=2, world=2, epochs=6)
    again.load_state_dict(state)
    assert {d["group"] for d in again} == {"news"}


def test_an_update_that_comes_too_late_is_an_error(stream):
    made = stream(THIRDS, batch_size=4, epochs=6)
    walk = iter(made)
    for _ in range(100):
        next(walk)
    made.update({"news": 1}, from_step=3)
    with pytest.raises(UsageError, match=r"from step 3 on comes too late: a worker has begun step 28"):
        list(walk)


def test_an_update_may_be_a_folder(stream, tmp_path):
    made = stream(THIRDS)
    write_curriculum(tmp_path, Curriculum.of({"news": 1, "maths": 0}))
    made.update(tmp_path, from_step=0)
    assert {d["group"] for d in made} == {"news"}
    write_curriculum(tmp_path, Curriculum.of([{"news": 1}, {"maths": 1}]))
    with pytest.raises(UsageError, match="one stage"):
        made.update(tmp_path, from_step=0)


def test_updates_that_make_no_sense_are_refused(stream):
    made = stream(THIRDS, epochs=6)
    with pytest.raises(UsageError, match="did you mean 'news'"):
        made.update({"new": 1}, from_step=3)
    made.update({"news": 1}, from_step=5)
    with pytest.raises(UsageError, match="the last update"):
        made.update({"news": 1}, from_step=4)
    with pytest.raises(UsageError, match="only weights of groups"):
        stream().update({"all": 1}, from_step=3)


def test_a_state_of_something_else_is_refused(stream, cache, tmp_path):
    state = stream(THIRDS, seed=1).state_dict()
    with pytest.raises(RunError, match="another corpus, curriculum, seed"):
        stream(THIRDS, seed=2).load_state_dict(state)
    other = write(tmp_path / "a.jsonl", [row | {"id": "x" + row["id"]} for row in rows(N)])
    with pytest.raises(RunError, match="another corpus"):
        CurriculumStream(other, THIRDS, column="source", seed=1, round_size=16, cache=cache).load_state_dict(state)


# ---- the store


OPEN = """
import sys
from curate.curriculum.loader import CurriculumStream
print(*[d["doc_id"] for d in CurriculumStream(sys.argv[1], cache=sys.argv[2], progress=False)])
"""


def test_processes_at_once_make_one_store(raw, tmp_path, stream):
    command = [sys.executable, "-c", OPEN, str(raw), str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    rows_ = {process.communicate()[0] for process in running}
    assert rows_ == {" ".join(ids(stream())) + "\n"}
    assert len([p for p in tmp_path.iterdir() if p.is_dir()]) == 1


KILLED = """
import os, signal, sys
import curate.io.paths as paths
from pathlib import Path
left, replace = int(sys.argv[3]), Path.replace
def killing(self, target):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)
Path.replace = killing
from curate.curriculum.loader import CurriculumStream
CurriculumStream(sys.argv[1], cache=sys.argv[2], progress=False)
"""


def test_a_store_whose_maker_was_killed_is_gone_on_with(raw, tmp_path, stream):
    wanted = ids(stream())
    for k in (1, 4, 7):
        cache = tmp_path / str(k)
        done = subprocess.run([sys.executable, "-c", KILLED, str(raw), str(cache), str(k)], capture_output=True)
        assert done.returncode == -signal.SIGKILL
        assert ids(CurriculumStream(raw, cache=cache, round_size=16)) == wanted
        assert not list(cache.rglob(".*.part"))


def test_a_corpus_that_changed_gets_another_store(tmp_path):
    path = write(tmp_path / "a.jsonl", rows(5))
    assert len(list(CurriculumStream(path, cache=tmp_path / "cache"))) == 5
    time.sleep(0.01)
    write(path, rows(6))
    assert len(list(CurriculumStream(path, cache=tmp_path / "cache"))) == 6


def test_texts_come_as_they_are(tmp_path):
    texts = ["", "a\0b", "\r\n \u2028", "日本語" * 1000, "\ufeffx", "z" * 9_000_000]
    path = write(tmp_path / "a.jsonl", [{"id": str(i), "text": t, "x": None} for i, t in enumerate(texts)])
    made = CurriculumStream(path, cache=tmp_path / "cache", columns=["x"])
    assert {int(d["doc_id"]): d["text"] for d in made} == dict(enumerate(texts))
    assert {d["x"] for d in made} == {None}


def test_rows_that_cannot_be_read_stop_it_or_are_counted(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n{"text": \n{"text": "b"}\n')
    with pytest.raises(InputError, match="line 2"):
        CurriculumStream(path, cache=tmp_path / "cache")
    with pytest.warns(UserWarning, match="1 rows could not be read"):
        made = CurriculumStream(path, cache=tmp_path / "cache", on_bad_row="quarantine")
    assert sorted(d["text"] for d in made) == ["a", "b"]


# ---- with PyTorch


@pytest.fixture
def dataset(raw, cache):
    pytest.importorskip("torch")
    from curate.torch import CurriculumDataset

    return lambda curriculum=None, **more: CurriculumDataset(
        raw, curriculum, **{"column": "source" if curriculum else None, "cache": cache, "round_size": 16, **more}
    )


def loaded(dataset, batch_size, n_workers):
    from torch.utils.data import DataLoader

    loader = DataLoader(dataset, batch_size=batch_size, num_workers=n_workers)
    return [batch["doc_id"] for batch in loader]


@pytest.mark.parametrize("n_workers", [0, 1, 3])
def test_a_data_loader_gives_the_batches_of_the_row(dataset, stream, n_workers):
    row = ids(stream())
    wanted = [row[i : i + 4] for i in range(0, N, 4)]
    assert loaded(dataset(batch_size=4), 4, n_workers) == wanted
    one = dataset(batch_size=4)
    one.load_state_dict(dataset(batch_size=4).state_dict(5))
    assert loaded(one, 4, n_workers) == wanted[5:]


def test_workers_that_are_spawned_give_the_same(dataset, stream):
    from torch.utils.data import DataLoader

    context = multiprocessing.get_context("spawn")
    loader = DataLoader(dataset(batch_size=4), batch_size=4, num_workers=2, multiprocessing_context=context)
    assert flat(batch["doc_id"] for batch in loader) == ids(stream())


def test_workers_that_run_see_an_update(dataset):
    from torch.utils.data import DataLoader

    made = dataset(THIRDS, batch_size=4, epochs=12)
    groups = []
    for step, batch in enumerate(DataLoader(made, batch_size=4, num_workers=2, prefetch_factor=2)):
        if step == 10:
            made.update({"cooking": 1}, from_step=100)
        groups += batch["group"]
    start = 5 * N - 3  # of the first round after position 400
    assert set(groups[:start]) == set(THIRDS)
    assert set(groups[start:]) == {"cooking"}
    assert len(groups) == 12 * N


@pytest.mark.parametrize("n_workers", [0, 2])
def test_a_stateful_data_loader_goes_on_in_the_middle(dataset, stream, n_workers):
    data = pytest.importorskip("torchdata.stateful_dataloader")
    row = ids(stream())
    wanted = [row[i : i + 4] for i in range(0, N, 4)]
    loader = data.StatefulDataLoader(dataset(batch_size=4), batch_size=4, num_workers=n_workers)
    got = [batch["doc_id"] for batch in itertools.islice(loader, 7)]
    state = loader.state_dict()
    again = data.StatefulDataLoader(dataset(batch_size=4), batch_size=4, num_workers=n_workers)
    again.load_state_dict(state)
    assert got + [batch["doc_id"] for batch in again] == wanted


@pytest.mark.parametrize("stops", [(7, 1), (3, 1, 1), (7, 0, 1)])
def test_a_stateful_data_loader_may_stop_again_before_all_workers_began(dataset, stream, stops):
    data = pytest.importorskip("torchdata.stateful_dataloader")
    row, got, state = ids(stream()), [], None
    for stop in (*stops, None):
        loader = data.StatefulDataLoader(dataset(batch_size=4), batch_size=4, num_workers=2)
        if state is not None:
            loader.load_state_dict(state)
        got += flat(batch["doc_id"] for batch in itertools.islice(loader, stop))
        state = loader.state_dict()
    assert got == row


def test_workers_that_load_a_state_do_not_undo_an_update(dataset):
    data = pytest.importorskip("torchdata.stateful_dataloader")
    make = lambda one: data.StatefulDataLoader(one, batch_size=4, num_workers=2)  # noqa: E731
    loader = make(dataset(THIRDS, batch_size=4, epochs=6))
    assert len(list(itertools.islice(loader, 7))) == 7
    made = dataset(THIRDS, batch_size=4, epochs=6)
    again = make(made)
    again.load_state_dict(loader.state_dict())
    made.update({"news": 1}, from_step=40)
    assert set(flat(batch["group"] for batch in again)[-100:]) == {"news"}


def test_ranks_come_from_the_environment(dataset, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    made = dataset()
    assert (made.rank, made.world, len(made)) == (1, 2, 41)
    assert os.environ["RANK"] == "1"


def test_without_torch_it_says_what_to_install():
    code = "import sys; sys.modules['torch'] = None\ntry:\n import curate.torch\nexcept ImportError as e: print(e)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "curate.torch needs torch, which is not installed: pip install 'curate-data[torch]'\n"
