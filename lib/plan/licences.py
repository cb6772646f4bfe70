"""Under which terms the models and images of a run are, and those of the paper (its tables 4 and 5)."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, metadata

import pandas as pd

from lib.hub import Asset
from lib.paper import csv_of
from lib.plan.assets import known, named
from lib.profile import Profile

SCENES = Asset("Emoji Scenes, of OpenMoji drawings")
ROLES = {  # rows after the explainers, by their keys in a profile
    "subject.model": "subject and explainer",
    "sae.pretrained": "dictionary",
    "score.clip": "CLIP score",
    "score.sentences": "sentence embeddings",
    "score.detector": "boxes",
    "score.segmenter": "masks",
    "score.generator": "synthetic images",
    "images.source": "images",
}


def assets(profile: Profile) -> pd.DataFrame:
    """Models and images of a profile and of the paper: columns ``whose, role, asset, licence``."""
    own = {"images.source": SCENES, **dict(named(profile))}
    roles = {f"explainer {name}": model for name, model in profile.explainers.items()}
    roles |= {role: own[key] for key, role in ROLES.items() if key in own}
    roles |= {
        f"variant {n}": profile.variant(n).subject.model for n, c in profile.variants.items() if "subject.model" in c
    }
    rows = [("ours", role, name, licence(name)) for role, name in roles.items()]
    for table in ("table4", "table5"):
        rows += [(f"paper, {table}", r.role, r.asset, r.license) for r in csv_of(table).itertuples()]
    return pd.DataFrame(rows, columns=["whose", "role", "asset", "licence"])


def licence(name: Asset) -> str:
    """What the list of assets on the hub, the package that holds a model, or a local model's card states."""
    if name.id in known():
        return known()[name.id]["licence"]
    if name == SCENES:
        return "CC BY-SA 4.0"
    if name.isidentifier():
        try:
            about = metadata(name.replace("_", "-"))
        except PackageNotFoundError:
            pass  # then it may be a folder
        else:
            return about.get("License-Expression") or about.get("License") or "not stated"
    if name.local is None:
        return "see its page on the hub"
    card = name.local / "README.md"
    stated = re.search(r"^license: *(\S+)", card.read_text(encoding="utf-8"), re.MULTILINE) if card.is_file() else None
    return stated[1] if stated else "not stated"
