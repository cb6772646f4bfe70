"""The paper's tables, figures and claims: each has a notebook, files, and a published counterpart."""

import pandas as pd
import pytest
import yaml

from lib.running.runner import notebooks
from lib.store import ROOT
from lib.studies import claims
from lib.studies.claims import effect_of, judge

PAPER = ROOT / "data" / "paper"
INDEX = yaml.safe_load((PAPER / "index.yaml").read_text())
CLAIMS = claims.load()


def test_the_index_names_all_tables_and_figures_of_the_paper():
    """As they are mentioned in its text: Tables 1 to 6, Figures 1, 3 (two), 4, 5 (two), 6, 8 (two)."""
    numbers = [item.split(",")[0] for item in INDEX]
    for table in range(1, 7):
        assert numbers.count(f"table {table}") == (2 if table == 1 else 1)  # Table 1 has two models
    assert {n: numbers.count(f"figure {n}") for n in (1, 3, 4, 5, 6, 8)} == {1: 1, 3: 2, 4: 1, 5: 2, 6: 1, 8: 2}
    assert {f"appendix {a}" for a in ("A", "C", "D", "E", "F", "G.1", "G.2")} <= set(numbers)
    assert {"footnote 4", "footnote 5"} <= set(numbers)


@pytest.mark.parametrize("item", INDEX)
def test_every_table_and_figure_has_notebook_files_and_counterpart(item):
    entry = INDEX[item]
    source = notebooks()[entry["notebook"]].read_text()
    for name in entry["files"]:
        assert f'\\"{name}\\"' in source, f"{name} is not written by notebook {entry['notebook']}"
        committed = [p for p in (ROOT / "figures" / "desk").glob(f"{name}.*")]
        kinds = {p.suffix for p in committed}
        assert {".csv", ".md"} <= kinds or {".png", ".pdf"} <= kinds, f"figures/desk/{name} is missing"
        if item.startswith("figure"):
            assert {".png", ".pdf"} <= kinds
    assert ("csv" in entry) != ("text" in entry)
    if "csv" in entry:
        published = pd.read_csv(PAPER / entry["csv"])
        assert len(published) and (published.table == int(item.replace(",", "").split()[1])).all()


def test_published_numbers_are_those_of_the_paper():
    """Sums of the published columns, added up apart: a typing slip would move them."""
    sums = {
        "table1": {"iou": 2.115, "auroc": 7.669, "synthetic": 3.001, "clip": 1.912},
        "table2": {"count": 550, "percent": 189.3},
        "table3": {"iou": 0.963, "auroc": 4.130, "synthetic": 8.382, "clip": 0.933},
        "table6": {"iou": 0.906, "auroc": 3.124, "synthetic": 1.252, "clip": 0.909},
    }
    for name, columns in sums.items():
        table = pd.read_csv(PAPER / f"{name}.csv")
        for column, total in columns.items():
            assert table[column].sum() == pytest.approx(total, abs=1e-6), (name, column)


def test_every_claim_can_be_decided_from_what_the_notebooks_write():
    written = "".join(path.read_text() for path in notebooks().values())
    assert len(CLAIMS) >= 20
    for claim in CLAIMS:
        for pick in (*([claim["effect"]] if "effect" in claim else []), *claim.get("rows", [])):
            assert f'\\"{pick["table"]}\\"' in written, claim["id"]
        if "effect" in claim:
            assert effect_of(claim, ROOT / "figures" / "desk").n >= 0


def test_committed_verdicts_follow_from_committed_tables():
    page = pd.read_csv(ROOT / "figures" / "desk" / "claims.csv", keep_default_na=False)
    fresh = claims.summary(judge(CLAIMS, ROOT / "figures" / "desk"))
    for column in ("verdict", "effect", "p, corrected", "by the old rule"):
        assert page[column].tolist() == fresh[column].tolist()
