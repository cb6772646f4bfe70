"""The explorer's data: what is in its files, that no text in them can do harm, and that all of a profile is there."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from shared import whole_run
from stand_in import StandIn, stand_in

from lib import explorer
from lib.evidence import TooFewLatents
from lib.explorer import MEASURES, SPECIAL, Pictures, heat, plain, script, slug
from lib.images import UnreadableImage
from lib.methods import HYBRID, NOTHING, STEERING
from lib.metrics import METRICS, voters
from lib.profile import load
from lib.run import Run
from lib.studies.every_latent import (
    PLACE,
    RIVALS,
    WAYS,
    EveryLatent,
    agreement,
    explained,
    latent_table,
    mapped,
    neighbours,
    said,
    votes,
)

HOSTILE = "</script><img src=x onerror=alert(1)><!--\u2028\u2029 é"
EXPLANATIONS = {"latent", "way", "coefficient", "chosen", "words", "vote", *METRICS}
LATENTS = {
    "role", "fired", "patches", "strength", "concept", "kind", "fit", "x", "y", "cluster", "agreement", "best",
    "neighbours", "permuted",
}  # fmt: skip
SUBJECT = {
    "id", "name", "published", "layer", "layers", "latents", "grid", "explained", "min_images", "model", "chosen",
    "sweep", "file", "about", "demo",
}  # fmt: skip


def value_of(path: Path):
    """What a script hands over."""
    return json.loads(re.fullmatch(r"window\.\w+(?: = |\()(.*?)\)?;\n", path.read_text("ascii"))[1])


# -- how values are written ------------------------------------------------------------------------


def test_no_text_ends_a_script_or_a_line():
    words = [HOSTILE, "half a pair: \ud800"]
    text = script({"words": words})
    assert text.isascii() and "<" not in text and len(text.splitlines()) == 1
    assert json.loads(text)["words"] == words


def test_numbers_are_short_and_what_is_none_is_null():
    values = [np.float64("nan"), np.inf, pd.NA, None, np.int64(3), 2.0, 0.123456, np.float32(0.1), -1e-9, True, "a"]
    assert script(values) == '[null,null,null,null,3,2,0.12346,0.1,0,true,"a"]'
    assert plain({1: (1.5, [2])}) == {"1": [1.5, [2]]}


def test_a_byte_of_heat_is_zero_only_where_the_latent_is_not_active():
    codes = torch.tensor([0.0, 1e-6, 0.5, 2.0])
    assert list(base64.b64decode(heat(codes))) == [0, 1, 64, 255]
    assert list(base64.b64decode(heat(torch.zeros(3)))) == [0, 0, 0]


def test_a_name_becomes_an_address():
    assert [slug(name) for name in ("later layer", "InternVL3", " a/../b ")] == ["later-layer", "internvl3", "a-b"]


class Set:
    """Pictures, of which the first cannot be read, and the last two are equal."""

    def __getitem__(self, index):
        if not index:
            raise UnreadableImage("0", "it is a test")
        return Image.new("RGB", (200, 100) if index == 1 else (96, 96), "red" if index == 1 else "blue")


def test_each_picture_is_kept_once_under_its_content(tmp_path):
    pictures = Pictures(tmp_path)
    names = pictures.keep(SimpleNamespace(images=Set()), range(4))
    assert list(names) == [1, 2, 3] and names[2] == names[3] and len(pictures.files) == 2
    assert all(Image.open(path).size == (96, 96) and path.suffix == ".webp" for path in pictures.files)


def test_every_metric_and_every_variant_is_told_about():
    assert set(MEASURES) == set(METRICS) and set(SPECIAL) == {"", *load("desk").variants}


# -- votes and neighbours --------------------------------------------------------------------------


def test_the_vote_is_among_the_chosen_explanations_that_are_no_control():
    best, worst, undefined = (dict.fromkeys(voters(), value) for value in (0.9, 0.1, np.nan))
    rows = [
        {"latent": 0, "way": RIVALS[0], "chosen": 1, **best},
        {"latent": 0, "way": RIVALS[0], "chosen": 0, **best},
        {"latent": 0, "way": RIVALS[1], "chosen": 1, **undefined},
        {"latent": 0, "way": RIVALS[2], "chosen": 1, **worst},
        {"latent": 0, "way": PLACE["steering-random"], "chosen": 1, **best},
        {"latent": 0, "way": PLACE["nothing"], "chosen": 1, **best},
        {"latent": 1, "way": RIVALS[0], "chosen": 1, **worst},
        {"latent": 1, "way": RIVALS[1], "chosen": 1, **worst},
        {"latent": 2, "way": RIVALS[0], "chosen": 1, **undefined},
    ]
    found = votes(pd.DataFrame(rows)).tolist()
    assert np.allclose(found, [1, np.nan, 0, 0.5, np.nan, np.nan, 0.5, 0.5, 1], equal_nan=True)


def test_neighbours_are_others_with_a_cosine_that_is_the_same_both_ways():
    directions = np.random.default_rng(0).normal(size=(9, 4)) * np.arange(1, 10)[:, None]
    who, cosine = neighbours(directions, 5)
    assert who.shape == cosine.shape == (9, 5) and (np.diff(cosine, axis=1) <= 0).all()
    of = {(a, int(b)): c for a in range(9) for b, c in zip(who[a], cosine[a])}
    assert all(a != b for a, b in of) and any((b, a) in of for a, b in of)
    assert all(of[b, a] == pytest.approx(c) for (a, b), c in of.items() if (b, a) in of)
    a, b = directions[0], directions[who[0, 0]]
    assert cosine[0, 0] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert neighbours(directions[:3], 5)[0].shape == (3, 2)


# -- a small run -----------------------------------------------------------------------------------


class Embedder:
    """A text is its first letters."""

    def embed(self, texts):
        counts = torch.tensor([[float(text[:9].count(letter)) for letter in "aeiou xyz"] for text in texts]) + 0.1
        return torch.nn.functional.normalize(counts, dim=1)


@pytest.fixture
def run(tmp_path, tiny_vlm, tiny_sae, monkeypatch) -> StandIn:
    """Real stages with tiny models; nothing is trained, and 1 is chosen everywhere."""
    monkeypatch.setattr(Run, "results", lambda self, methods: None)
    monkeypatch.setattr(Run, "choice", lambda self, method: SimpleNamespace(best=1.0, made=True))
    settings = {"explain__steering": [1, 8], "explain__min_images": 15}
    return stand_in(tmp_path / "run", tiny_vlm, tiny_sae, monkeypatch, **settings)


def with_votes(run: StandIn) -> pd.DataFrame:
    table = said(run)
    table = table.assign(**{name: np.linspace(0, 1, len(table)) for name in METRICS})
    return table.assign(vote=votes(table))


def test_all_latents_that_fire_often_enough_are_explained_in_every_way(run):
    latents, table = explained(run), said(run)
    assert latents[: 2 + 6] == run.latents["validation"] + run.latents["test"] and len(latents) > 8
    assert len(latents) < 24, "some latent should be silent"
    rows = table.groupby(["latent", "way"]).size().unstack()
    assert list(rows.index) == latents and list(rows.columns) == list(range(len(WAYS)))
    assert (rows[PLACE["steering"]] == 2).all() and (rows.drop(columns=PLACE["steering"]) == 1).all().all()
    swept = table[table.way == PLACE["steering"]]
    assert set(zip(swept.coefficient, swept.chosen)) == {(1.0, 1), (8.0, 0)}
    assert table.coefficient.isna().equals(~table.way.isin([i for i, w in enumerate(WAYS) if w.method.steer]))
    assert table[table.way == PLACE["nothing"]].explanation.nunique() == 1
    asked = run.asked
    assert said(run).equals(table) and run.asked == asked  # all is read


def test_what_is_said_here_is_what_the_notebooks_read(run):
    test = run.latents["test"]
    table = said(run).set_index(["way", "latent"])
    for way, method in (("steering-random", STEERING.add), ("hybrid-masks", HYBRID.masks_add)):
        control = run.control(WAYS[PLACE[way]].control, test) if WAYS[PLACE[way]].control else None
        there = run.explained.table(run.variation(method.at(1.0), control=control), test)
        assert there.explanation.tolist() == table.loc[PLACE[way]].explanation[test].tolist()
    assert (
        run.explained.table(run.variation(NOTHING), test[:1]).explanation[0]
        == table.explanation[PLACE["nothing"]][test[0]]
    )


def test_every_latent_has_a_row_and_silent_ones_have_no_explanation(run):
    latents = latent_table(run, with_votes(run))
    assert len(latents) == 24 and Counter(latents.role)["test"] == 6 and Counter(latents.role)["validation"] == 2
    silent = latents.role == "silent"
    assert (latents.best[silent] == -1).all() and (latents.permuted[silent] == -1).all()
    others = latents[~silent]
    assert set(others.permuted) == set(others.index) and (others.permuted != others.index).all()
    direction = run.control("permuted", explained(run)).directions(run.sae.directions)
    assert all(torch.equal(direction[i], run.sae.directions[j]) for i, j in others.permuted.items())
    fired = run.shown.top.fired / 30
    assert np.allclose(latents.fired, fired) and latents.fit[~silent].between(0, 1).all()
    assert all(len(pairs) == 6 and i not in [j for j, _ in pairs] for i, pairs in latents.neighbours.items())


def test_a_latent_that_never_fires_has_no_concept_and_photographs_have_none(run):
    run.truth.mass[3] = 0
    table = with_votes(run)
    assert list(latent_table(run, table).loc[3, ["concept", "kind"]]) == ["", ""]
    run.truth = None
    latents = latent_table(run, table)
    assert (latents.concept == "").all() and latents.fit.isna().all()


def test_a_list_of_latents_says_what_is_known_of_each(run):
    table = with_votes(run)
    known = EveryLatent(table, latent_table(run, table), pd.DataFrame()).known
    assert list(known.columns) == ["latent", "words", "role", "concept", "fit", "other"]
    assert list(known.latent) == [*range(24)]
    swapped = known[known.role != "silent"]
    assert sorted(swapped.other) == list(swapped.latent) and (swapped.other != swapped.latent).all()
    assert (known.other[known.role == "silent"] == -1).all()
    own = table[(table.way == PLACE["steering"]) & (table.chosen == 1)]
    assert known.set_index("latent").words[own.latent].tolist() == own.explanation.tolist()
    assert (known.words[known.role == "silent"] == "").all()
    known = EveryLatent(table, latent_table(run, table).assign(fit=np.nan), pd.DataFrame()).known
    assert known.fit.tolist() == [None] * 24


def test_latents_that_say_the_same_share_a_place_on_the_map(run):
    rows = [("steering", 0, "a dog"), ("steering", 1, "a dog"), ("steering", 2, "the sky"), ("steering", 3, "")]
    rows += [("top-k-masks", i, "a dog") for i in range(4)]
    table = pd.DataFrame(rows, columns=["way", "latent", "explanation"]).assign(chosen=1)
    table["way"] = table.way.map(PLACE)
    dots = mapped(table, Embedder(), run.world.reader)
    assert sorted(dots.index) == [0, 1, 2] and list(dots.loc[0]) == list(dots.loc[1])
    alike = agreement(table, Embedder())
    assert alike.loc[[0, 1]].tolist() == pytest.approx([1, 1]) and 0 < alike[2] < 1
    assert np.isnan(alike[3])  # nothing is said that could be alike


def written(run: StandIn, folder: Path, monkeypatch) -> dict[str, bytes]:
    """The explorer's files of the run, with words that mean harm; its variants have too few latents."""

    def fake(one: Run) -> EveryLatent:
        if one is not run:
            raise TooFewLatents("3 active latents")
        table = with_votes(run)
        table.loc[0, "explanation"] = HOSTILE
        latents = latent_table(run, table).assign(x=0.5, y=np.nan, cluster=-1, agreement=np.nan)
        return EveryLatent(table, latents, pd.DataFrame([{"number": 1, "name": HOSTILE, "size": 2}]))

    monkeypatch.setattr(explorer, "every_latent", fake)
    files = explorer.write_data(run, folder)
    there = sorted(path for path in folder.rglob("*") if path.is_file())
    assert sorted(files) == there
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in there}


def test_the_files_are_as_the_page_expects_them(run, tmp_path, monkeypatch, capsys):
    files = written(run, tmp_path / "a", monkeypatch)
    assert capsys.readouterr().out.count("leaves out") == len(run.profile.variants)
    assert b"<" not in b"".join(data for name, data in files.items() if name.endswith(".js"))
    index = value_of(tmp_path / "a/index.js")
    assert set(index) == {"subjects", "ways", "metrics", "roles"} and len(index["subjects"]) == 1
    about = index["subjects"][0]
    assert set(about) == SUBJECT and about["id"] == "smoke" and about["file"] == "smoke.js" and about["demo"]
    assert about["chosen"] == {m.key: 1 for m in (STEERING.add, HYBRID.masks_add, HYBRID.heatmaps_add)}
    assert about["sweep"] == [1, 8] and about["latents"] == 24 and about["explained"] == len(explained(run))
    assert [m["high"] for m in index["metrics"]] == [1, 1, None, 1, 1, 1]
    assert all(set(w) == {"id", "label", "method", "control", "about"} and w["about"] for w in index["ways"])
    data = value_of(tmp_path / "a/smoke.js")
    assert set(data) == {"id", "latents", "clusters", "words", "explanations", "evidence"}
    assert set(data["latents"]) == LATENTS and {len(c) for c in data["latents"].values()} == {24}
    assert set(data["explanations"]) == EXPLANATIONS
    assert {len(column) for column in data["explanations"].values()} == {len(said(run))}
    assert HOSTILE in data["words"] and data["clusters"][0]["name"] == HOSTILE
    assert data["latents"]["y"] == [None] * 24
    for part in data["evidence"].values():
        assert {len(column) for column in part.values()} == {24} and max(map(len, part["picture"])) == 5
        assert all(len(base64.b64decode(one)) == about["grid"] ** 2 for some in part["heat"] for one in some)
        assert {f"pictures/{name}.webp" for some in part["picture"] for name in some} <= set(files)


def test_the_same_bytes_come_out_twice_and_what_nothing_names_goes(run, tmp_path, monkeypatch):
    stale = tmp_path / "b/pictures/0.webp"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"")
    first, again = (written(run, tmp_path / name, monkeypatch) for name in ("a", "b"))
    assert first == again


def test_a_main_subject_with_too_few_latents_is_an_error(run, tmp_path, monkeypatch):
    def fail(one):
        raise TooFewLatents("3 active latents")

    monkeypatch.setattr(explorer, "every_latent", fail)
    with pytest.raises(TooFewLatents):
        explorer.write_data(run, tmp_path)


def test_scripts_are_bundled_beside_the_data(tmp_path, monkeypatch):
    monkeypatch.setattr(explorer, "bundle", lambda entry: f"/* {entry} */")
    monkeypatch.setattr(explorer, "write_data", lambda run, folder: [])
    monkeypatch.setattr(explorer, "licences", lambda: "/* licences.txt */")
    files = explorer.write(None, tmp_path)
    assert {path.name: path.read_text() for path in files} == {
        name: f"/* {name} */" for name in ("explorer.js", "explorer.css", "licences.txt")
    }


# -- a whole profile -------------------------------------------------------------------------------

PROGRAM = """
from pathlib import Path
from lib.explorer import write_data
from lib.profile import load
from lib.run import Run
write_data(Run(load("smoke")), Path("explorer"))
"""


@pytest.mark.slow(150)
def test_every_latent_of_every_subject_of_a_profile_is_there(tmp_path_factory, tmp_path):
    project = tmp_path / "project"  # of its own: other tests look at what is in the shared one
    shutil.copytree(whole_run(tmp_path_factory).project.folder, project)
    env = os.environ | {"PYTHONPATH": str(project)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=project, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    out, profile = project / "explorer", load("smoke")
    index = value_of(out / "index.js")
    assert [s["id"] for s in index["subjects"]] == ["smoke", *map(slug, profile.variants)]
    assert "leaves out" not in done.stdout
    ranges = {m["key"]: (m["low"], np.inf if m["high"] is None else m["high"]) for m in index["metrics"]}
    assert [s["demo"] for s in index["subjects"]] == [True] + [False] * len(profile.variants)
    named = set()
    for about, view in zip(index["subjects"], profile.views.values()):
        data = value_of(out / about["file"])
        latents, table = data["latents"], pd.DataFrame(data["explanations"])
        assert len(latents["role"]) == about["latents"] == view.sae.latents
        count = Counter(latents["role"])
        assert (count["validation"], count["test"]) == (view.explain.validation, view.explain.test)
        assert about["explained"] == about["latents"] - count["silent"] == table.latent.nunique()
        assert (table.groupby("latent").way.nunique() == len(WAYS)).all()
        swept = table[table.way == PLACE["steering"]].groupby("latent").coefficient.agg(sorted)
        assert all(some == about["sweep"] for some in swept)
        for key, (low, high) in ranges.items():
            assert table[key].notna().any() and table[key].dropna().between(low - 1e-4, high + 1e-4).all()
        best = table.loc[[row for row in latents["best"] if row >= 0]]
        assert best.way.isin(RIVALS).all() and len(best) == about["explained"]
        assert (best.set_index("latent").vote == table.groupby("latent").vote.max()).all()
        named |= {name for part in data["evidence"].values() for some in part["picture"] for name in some}
        assert sum(c["size"] for c in data["clusters"]) == sum(c >= 0 for c in latents["cluster"])
    assert named == {path.stem for path in (out / "pictures").glob("*.webp")}
