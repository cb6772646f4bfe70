"""Verdicts of complete runs are kept with when, where and how, and stand side by side."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from lib import __main__ as main
from lib.device import machine
from lib.findings import unsupported
from lib.profile import load
from lib.settings import ProfileError
from lib.store import Damaged
from lib.studies import reruns
from lib.studies.claims import load as claims
from lib.studies.reruns import OWN, about, compared, findings, in_short

VERDICTS = {"a": "holds", "b": "undecided", "c": "contradicted here", "d": "undecided", "e": "holds"}


def page(**verdicts: str) -> pd.DataFrame:
    said = VERDICTS | verdicts
    return pd.DataFrame({"claim": list(said), "verdict": list(said.values()), "effect": "1.0 [0.5, 1.5]", "n": 9})


def kept(**verdicts: str) -> dict:
    return {"profile": "deep", "settings": {}, "claims": page(**verdicts).to_dict("records")}


def test_runs_agree_where_all_decide_alike_and_not_where_two_decide_otherwise():
    table = compared(page(), {"one": kept(b="holds", c="holds"), "two": kept(a="undecided")})
    assert list(table) == ["claim", OWN, "one", "two", "agreement"]
    assert table.agreement.tolist() == [
        "decided by some", "decided by some", "not the same", "decided by none", "the same"
    ]  # fmt: skip
    assert table.one.tolist() == ["holds", "holds", "holds", "undecided", "holds"]
    assert in_short(table)[OWN].tolist()[2] == "contradicted" and in_short(table).claim.tolist() == list(VERDICTS)
    lines = findings(table)
    assert lines[0] == (
        "Verdicts of 3 runs on 5 claims: 1 the same, 2 decided by some, 1 not the same, 1 decided by none."
    )
    assert lines[1:] == ["Runs do not agree on “c”"] and not [line for line in lines if unsupported(line)]


def test_a_claim_that_came_later_is_open_and_a_run_alone_says_nothing():
    old = {**kept(), "claims": kept()["claims"][:1]}
    assert compared(page(), {"old": old}).agreement.tolist()[-1] == "decided by some"
    assert findings(compared(page(), {})) == [] and about({}).empty


def test_what_a_run_said_is_kept_with_when_where_and_how(tmp_path, monkeypatch):
    monkeypatch.setattr(reruns, "FOLDER", tmp_path / "reruns")
    page().to_csv(tmp_path / "claims.csv", index=False)
    settings = {"seed": 1, "sae.k": 4}
    path = reruns.keep(load("smoke", settings), settings, tmp_path, 12.345)
    page()[:1].to_csv(tmp_path / "more.csv", index=False)
    assert reruns.keep(load("smoke"), {}, tmp_path, None).name == "smoke"
    (tmp_path / "more.csv").unlink()
    again = reruns.keep(load("smoke"), {}, tmp_path, None)
    assert sorted(kept.name for kept in again.iterdir()) == ["about.json", "claims.csv"]
    assert reruns.keep(load("smoke", settings), settings, tmp_path, None) == path  # gone on from where it was
    (again / "claims.csv").rename(tmp_path / "lost.csv")
    with pytest.raises(Damaged, match=r"smoke lacks claims\.csv: remove that folder"):
        reruns.reruns()
    (tmp_path / "lost.csv").rename(again / "claims.csv")
    found = reruns.reruns()
    assert set(found) == {path.name, "smoke"} and path.name == load("smoke", settings).label
    table = about(found).set_index("run")
    row = table.loc[path.name]
    assert (row.profile, row.settings, row.seed, row.minutes) == ("smoke", "seed = 1, sae.k = 4", 1, 12.3)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", row.date) and row.machine == machine() and "cores" in row.machine
    assert pd.isna(table.loc["smoke"].minutes) and table.loc["smoke"].settings == "-"
    assert compared(page(), found).agreement.eq("decided by none").sum() == 2


@pytest.mark.parametrize("path", sorted(reruns.FOLDER.glob("*/about.json")), ids=lambda path: path.parent.name)
def test_what_is_committed_is_of_a_complete_run_and_about_claims_of_this_page(path: Path):
    one = json.loads(path.read_text(encoding="utf-8"))
    assert load(one["profile"], one["settings"] or None).label == path.parent.name and one["minutes"] > 0
    assert set(pd.read_csv(path.with_name("claims.csv")).claim) == {claim["claim"] for claim in claims()}


def test_verdicts_are_committed_of_complete_runs_alone():
    for arguments in ("--profile deep --only 18", "--set seed=1 --only 18", "--profile smoke"):
        with pytest.raises(ProfileError, match="--in-place is for what is committed"):
            main.answer(main.parse([*arguments.split(), "--in-place"]))
