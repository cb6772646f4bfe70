"""Whoever works on shards, results are the same; what is lost is done again, and what would differ is refused."""

import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from stand_in import stand_in
from tiny_works import Die, Fail, Square, Who

from lib import evidence, explain, overlap, spread, synthetic
from lib.codes import CodeBatch
from lib.dictionary import make_all as make_dictionaries
from lib.kept import KEEP, Scores, TopImages
from lib.methods import NOTHING, STEERING, TOP_K
from lib.profile import load
from lib.run import Run
from lib.running import cluster, worker
from lib.running.cluster import Cluster, local, need_dask, offered, use
from lib.running.process import CLUSTER
from lib.running.worker import ClusterError, Refused, pack, unpack
from lib.scenes.images import SceneImages
from lib.stage import Home
from lib.store import ROOT

LATENTS, PATCHES = 40, 64


def codes(images: range, seed: int = 0) -> CodeBatch:
    """Codes of some images, the same for each image whatever the batch; few values, so that many scores tie."""
    each = [torch.Generator().manual_seed(seed * 1000 + i) for i in images]
    values = torch.stack([torch.randint(0, 3, (PATCHES, 2), generator=g) / 3 for g in each])
    indices = torch.stack([torch.randint(0, LATENTS // 2, (PATCHES, 2), generator=g) * 2 for g in each])
    return CodeBatch(torch.tensor(images), values, indices)


def parts(n: int, cuts: list[int]) -> list[range]:
    edges = [0, *cuts, n]
    return [range(a, b) for a, b in pairwise(edges)]


SPLITS = [[], [1], [30], [59], [20, 40], [7, 8, 9, 50], list(range(1, 60))]


@pytest.mark.parametrize("cuts", SPLITS)
@pytest.mark.parametrize("limit", [None, 25])
def test_top_images_of_any_stretches_merge_to_those_of_one_pass(cuts, limit):
    whole = TopImages(LATENTS, KEEP, PATCHES, limit)
    for batch in parts(60, list(range(8, 60, 8))):
        whole.see(codes(batch))
    merged = None
    for part in parts(60, cuts):
        top = TopImages(LATENTS, KEEP, PATCHES, limit)
        for first in range(part.start, part.stop, 8):
            top.see(codes(range(first, min(first + 8, part.stop))))
        top = pickle.loads(pickle.dumps(top))
        merged.merge(top) if merged else (merged := top)
    one, other = whole.result(), merged.result()
    assert all(torch.equal(a, b) for a, b in zip(vars(one).values(), vars(other).values()))
    assert (one.image[::2] >= 0).all() and len(one.score.unique()) < 60  # there were ties to be decided


@pytest.mark.parametrize("cuts", SPLITS)
def test_truth_of_any_stretches_merges_to_that_of_one_pass_in_any_order(cuts):
    """Sums of floats would depend on their order; codes are counted in steps that float64 adds exactly."""
    images = SceneImages(seed=3, start=0, n=60)

    def counted(stretches, step):
        counters = []
        for part in stretches:
            counters.append(images.counter(LATENTS))
            for first in range(part.start, part.stop, step):
                batch = codes(range(first, min(first + step, part.stop)))
                counters[-1].see(replace(batch, values=batch.values * torch.tensor(np.pi)))
        for later in counters[1:]:
            counters[0].merge(later)
        return vars(counters[0].result())

    whole, merged = counted([range(60)], 60), counted(parts(60, cuts)[::-1], 7)
    assert all(torch.equal(a, b) for a, b in zip(whole.values(), merged.values())) and whole["mass"].sum() > 100


def test_scores_of_stretches_merge_to_those_of_one_pass():
    wanted = [3, 17, 18, 41]
    whole, merged = Scores(LATENTS, wanted), Scores(LATENTS, wanted)
    whole.see(codes(range(60)))
    for part in parts(60, [18, 40]):
        some = Scores(LATENTS, [i for i in wanted if i in part])
        some.see(codes(part))
        merged.merge(some)
    assert torch.equal(whole.scores, merged.scores) and (whole.scores.sum(1) > 0).all()


# -- in this process -------------------------------------------------------------------------------


def test_without_an_engine_shards_are_done_here_one_after_the_other():
    done = []

    def work(shard, load):
        done.append(shard)
        return load() + shard

    results = spread.spread(work, [1, 2, 3], lambda: 10, "test")
    assert next(results) == 11 and done == [1]  # what is there is given out before more is done
    assert list(results) == [12, 13] and not list(spread.spread(work, [], lambda: 10, "test"))


def test_a_run_that_is_killed_keeps_the_batches_that_are_done(tmp_path, tiny_vlm, tiny_sae, monkeypatch):
    run = stand_in(tmp_path, tiny_vlm, tiny_sae, monkeypatch, explain__batch=2)
    variation, latents, answer = run.variation(NOTHING), run.latents["test"], run.vlm.answer

    def die(*asked):
        if run.asked == 4:
            raise KeyboardInterrupt
        return answer(*asked)

    run.vlm.answer = die
    with pytest.raises(KeyboardInterrupt):
        run.explained.make([variation], latents, lambda: run.vlm)
    assert run.explained.table(variation, latents[:4]).latent.tolist() == latents[:4] and not run.explained.made
    run.vlm.answer = answer
    assert len(run.answers([variation], latents)[0]) == 6 and run.asked == 6


def test_dask_is_not_imported_where_nobody_asks_for_workers():
    modules = "lib.__main__, lib.run, lib.notebook, lib.running.runner, lib.running.kernel, lib.running.cluster"
    look = "import sys; print(sorted({name.split('.')[0] for name in sys.modules} & {'dask', 'distributed'}))"
    code = f"import {modules}; from lib.running.cluster import offered\nwith offered(None, None): {look}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_workers_without_the_package_are_a_line_that_says_what_to_install(monkeypatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with (
        pytest.raises(ClusterError, match=r'need Dask: python -m pip install "distributed==\d[\d.]+"'),
        offered(2, None),
    ):
        pass


def test_no_stage_answers_for_who_works_on_it():
    """An engine is told of from outside: with or without it, stages have the same names."""
    named = set(Run(load("smoke")).shown.why["modules"]) | set(Run(load("smoke")).explained.why["modules"])
    assert "lib.spread" in named and not any(name.startswith("lib.running") for name in named)


# -- work on its way -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asks:
    ask: object


def test_work_travels_by_its_fields_without_what_it_keeps_in_memory_and_each_part_once():
    run = Run(load("smoke"))
    run.shown.__dict__["top"] = torch.zeros(1_000_000)
    work = evidence.Look(run.shown), evidence.Look(run.held_out)
    packed, sent = pack(work)
    assert len(packed) + sum(map(len, sent.values())) < 20_000
    known = {}
    shown, held_out = (look.gathered for look in unpack(packed, sent, known))
    assert shown.folder == run.shown.folder and "top" not in vars(shown)
    assert shown.dictionary is held_out.dictionary  # loaded once, then
    shown.__dict__["top"] = "loaded"
    again = unpack(*pack(evidence.Look(run.shown)), known).gathered
    assert again is shown and again.top == "loaded" and len(known) < len(sent)  # what is no part of it is let go
    with pytest.raises(RuntimeError, match="a model that only the kernel has"):
        unpack(*pack(Asks(lambda: None)), {}).ask()


def test_a_worker_that_does_not_see_the_folder_says_so(tmp_path):
    with pytest.raises(Refused, match=r"does not see .*/nowhere: all machines .* at the same path"):
        worker.do(str(tmp_path / "nowhere"), pickle.dumps(1))


# -- a cluster -------------------------------------------------------------------------------------

needs_dask = pytest.mark.skipif(find_spec("distributed") is None, reason="distributed is not installed")


@pytest.fixture(scope="module")
def three():
    """Three workers on this machine; tests may kill them, as others take their places."""
    need_dask()
    with local(3) as address:
        yield address


@pytest.fixture
def engine(three):
    engine = use(three)
    yield engine
    spread.use(None)
    engine.close()


def squares(n: int = 6) -> list[int]:
    return list(spread.spread(Square(), range(n), lambda: None, "test"))


def files(folder: Path) -> dict[str, bytes]:
    """All results below a folder, but for what they cost."""
    kept = (p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".") and p.name != "cost.json")
    return {str(p.relative_to(folder)): p.read_bytes() for p in kept}


SMALL = {
    "images.train": 24, "images.explain": 40, "images.evaluate": 40, "images.sizes": [10, 30], "subject.batch": 8,
    "sae.latents": 64, "sae.batch": 256, "explain.min_images": 1, "explain.validation": 2, "explain.test": 6,
    "explain.batch": 2, "explain.k": 2, "explain.max_new_tokens": 4, "score.negatives": 5,
}  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Results of a small run from two dictionaries to scores, made without a cluster; and what makes them elsewhere."""
    patch = pytest.MonkeyPatch()
    patch.setattr(evidence, "STRETCH", 16)
    patch.setattr(overlap, "AT_ONCE", 2)
    patch.setattr(synthetic, "AT_ONCE", 6)

    def make() -> tuple[dict[str, bytes], str]:
        run = Run(load("smoke", SMALL))
        run._home = Home(tmp_path_factory.mktemp("runs"), "./run_all.sh")
        first = run.dictionary
        make_dictionaries([first, replace(first, recipe=replace(first.recipe, seed=1))], lambda: run.vlm)
        table = run.results((NOTHING, STEERING.add, TOP_K.masks))
        return files(run._home.folder), table.to_csv()

    yield make(), make
    patch.undo()


@needs_dask
def test_results_are_the_same_whatever_the_number_of_workers(small, engine, monkeypatch):
    (results, table), make = small
    there, submit = sorted(engine.client.nthreads()), engine.client.submit
    assert engine.check() == len(there) == 3 and len(results) > 20
    for workers in (3, 2, 1):
        monkeypatch.setattr(engine.client, "submit", partial(submit, workers=there[:workers]))
        assert make() == (results, table)


class Harmful(Cluster):
    """Kills one of its workers after the first of many explanations."""

    killed = 0

    def spread(self, work, shards):
        for number, result in enumerate(super().spread(work, shards)):
            if isinstance(work, explain.Ask) and len(shards) > 2 and not number + self.killed:
                os.kill(next(iter(self.client.run(os.getpid).values())), signal.SIGKILL)
                self.killed += 1
            yield result


@needs_dask
def test_a_worker_that_is_killed_changes_nothing(small, three, monkeypatch):
    (results, table), make = small
    engine = Harmful(three)
    monkeypatch.setattr(spread, "_engine", engine)
    assert make() == (results, table)
    assert engine.killed == 1
    engine.close()


@needs_dask
def test_a_shard_that_ends_every_worker_is_given_up_by_name_and_those_before_it_are_kept(engine, tmp_path):
    results = spread.spread(Die(tmp_path, 1), range(4), lambda: None, "test")
    assert next(results) == 0
    with pytest.raises(ClusterError, match=r"shard 2 of 4 \(1\) was given up: .*out of memory.*smaller batch"):
        next(results)
    assert len(list(tmp_path.iterdir())) == cluster.TRIES
    assert squares() == [i**2 for i in range(6)]  # others are still done


@needs_dask
def test_an_error_in_a_shard_is_raised_here_as_it_was_there(engine):
    results = spread.spread(Fail(2), range(9), lambda: None, "test")
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ArithmeticError, match="shard 2 is bad"):
        next(results)
    assert squares() == [i**2 for i in range(6)]


@needs_dask
def test_workers_are_other_processes_with_as_many_threads_as_this_one(engine):
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            who = set(spread.spread(Who(), range(8), lambda: None, "test"))
            assert {n for _, n in who} == {threads} and os.getpid() not in {pid for pid, _ in who}
    finally:
        torch.set_num_threads(before)


@needs_dask
@pytest.mark.parametrize(
    "changes, said",
    [
        ({"modules": {"lib.evidence": "0"}}, "lib.evidence edited"),
        ({"packages": {"torch": "1.0"}}, 'packages.torch: "1.0", now '),
        ({"device": "cuda"}, 'device: "cuda", now "cpu"'),
        ({"folder": "/elsewhere"}, 'folder: "/elsewhere", now '),
    ],
)
def test_a_worker_that_would_give_other_results_is_refused(engine, monkeypatch, changes, said):
    own = worker.passport()
    other = own | {k: own[k] | v if isinstance(v, dict) else v for k, v in changes.items()}
    monkeypatch.setattr(worker, "passport", lambda: other)
    for asked in (engine.check, squares):
        with pytest.raises(Refused, match=f"would give other results.*{said}.*Start workers anew"):
            asked()


@needs_dask
def test_an_address_where_nobody_answers_is_a_line_that_says_what_to_do(monkeypatch):
    monkeypatch.setattr(cluster, "TIMEOUT", "1s")
    for address in ("tcp://127.0.0.1:9", "nonsense://x"):
        with pytest.raises(ClusterError, match=f"no scheduler answers at {address} .*dask scheduler"):
            Cluster(address).check()


@needs_dask
def test_kernels_are_told_of_the_workers_only_while_there_are_some(three):
    with offered(None, three):
        assert os.environ[CLUSTER] == three
    assert CLUSTER not in os.environ
    with offered(None, None):
        assert CLUSTER not in os.environ


SERVE = """
import time
from lib.running.cluster import local
if __name__ == "__main__":
    with local(1) as address:
        print(address, flush=True)
        time.sleep(600)
"""


@needs_dask
def test_workers_end_with_the_run_even_if_that_is_killed_and_who_used_them_is_told(tmp_path):
    (tmp_path / "serve.py").write_text(SERVE)
    environment, pipe = os.environ | {"PYTHONPATH": f"{ROOT}:{Path(__file__).parent}"}, subprocess.PIPE
    process = subprocess.Popen([sys.executable, tmp_path / "serve.py"], env=environment, stdout=pipe, text=True)
    engine = Cluster(process.stdout.readline().strip())
    (theirs,) = engine.client.run(os.getpid).values()
    results = engine.spread(Square(), range(99))
    assert next(results) == 0
    process.kill()
    with pytest.raises(ClusterError, match="is lost; what was made is kept"):
        list(results)
    end = time.monotonic() + 20
    while Path(f"/proc/{theirs}/exe").exists():  # a process that has ended, and is not yet waited for, has none
        assert time.monotonic() < end
        time.sleep(0.1)
    engine.close()
