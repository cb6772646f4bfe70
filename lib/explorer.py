"""The explorer's files: all latents of a profile's subjects, for a page that needs neither server nor network.

Browsers refuse to fetch data from a file system, but run scripts from it. So data are scripts that hand over one value.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from lib.bundle import NOTICES, bundle, licences
from lib.evidence import Gathered, TooFewLatents
from lib.images import readable
from lib.methods import STEERING
from lib.metrics import METRICS
from lib.profile import Profile
from lib.run import Run
from lib.store import write_atomically, write_text
from lib.studies.every_latent import WAYS, EveryLatent, every_latent

SIDE = 96  # of a picture, in pixels
DIGITS = 5  # behind the point, in the data
ROLES = {
    "validation": "chose the coefficients",
    "test": "in the tables",
    "other": "in no table",
    "silent": "not explained: fires on too few pictures",
}
# What a metric measures, in one sentence.
MEASURES = {
    "iou": "How well what the explanation names in held-out top pictures covers the patches on which the latent is "
    "active (1: exactly).",
    "auroc": "How often the latent is more active on a picture drawn from the explanation than on a random held-out "
    "picture (0.5: chance).",
    "synthetic": "How active the latent is on pictures drawn from the explanation; each latent has its own scale.",
    "clip": "How well CLIP finds the explanation to fit the active patches of held-out top pictures.",
    "correctness": "How right the explanation is: F1 between what it names and what the latent is really active on.",
    "patch_f1": "The strict version of correctness: every patch of what is named must be active, and no other.",
}
# What is special about a subject, by the name of the profile's variant.
SPECIAL = {
    "": "The main subject, which the tables are about: features of layer {layer} of {layers}.",
    "later layer": "The main subject's model, with features of layer {layer} instead of {main}.",
    "early layer": "The main subject's model, with features of an earlier layer: {layer} instead of {main}.",
    "InternVL3": "A model of another architecture (InternVL3's classes), with features of layer {layer}.",
    "whole pictures": "The main subject's encoder; its language model saw whole pictures alone, none partly covered.",
    "patch labels": "The main subject's architecture; its encoder was trained with a label for every patch.",
    "taught": "An encoder that was trained with a label for every patch, and a language model taught what Top-k shows.",
}
OTHER = "{name}, with features of layer {layer}."


def write(run: Run, folder: Path) -> list[Path]:
    """Write the explorer of a profile: data, scripts, and the licences of what is in them; returns its files.

    Parameters
    ----------
    folder : the explorer's own, in the book.

    Raises
    ------
    lib.evidence.TooFewLatents, lib.bundle.BundleError
        If the main subject has too few active latents, or a script cannot be bundled.
    """
    texts = {name: bundle(name) for name in ("explorer.js", "explorer.css")} | {NOTICES: licences()}
    return [*(write_text(folder / name, text) for name, text in texts.items()), *write_data(run, folder)]


def write_data(run: Run, folder: Path) -> list[Path]:
    """Write what the explorer shows: its index, a file for each subject, and pictures; returns the files.

    A variant with too few active latents is left out, and a line says so. Pictures that nothing names are removed.

    Raises
    ------
    lib.evidence.TooFewLatents
        If the main subject has too few.
    """
    entries, files, pictures = [], [], Pictures(folder / "pictures")
    for name, one in {"": run, **{name: run.changed(name) for name in run.profile.variants}}.items():
        try:
            about = every_latent(one)
        except TooFewLatents as error:
            if one is run:
                raise
            print(f"The explorer leaves out {one.profile.subject.name} ({name}): {error}")
            continue
        entries.append(entry(run.profile, name, one, about))
        data = subject(one, about, pictures) | {"id": entries[-1]["id"]}
        files.append(write_text(folder / entries[-1]["file"], f"window.explorerSubject({script(data)});\n"))
    whole = index(entries)
    files.append(write_text(folder / "index.js", f"window.explorerIndex = {script(whole)};\n"))
    for stale in set(pictures.folder.glob("*.webp")) - set(pictures.files):
        stale.unlink()
    return [*files, *pictures.files]


# -- what is in them -------------------------------------------------------------------------------


def slug(name: str) -> str:
    """A name as an address has it: ``later layer`` to ``later-layer``."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def index(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """What is common to all subjects, and an entry for each."""
    ways = [
        {"id": w.id, "label": w.label, "method": w.method.key, "control": w.control, "about": w.about} for w in WAYS
    ]
    metrics = [
        {"key": key, "title": m.title, "low": m.low, "high": m.high, "votes": m.votes, "about": MEASURES.get(key, "")}
        for key, m in METRICS.items()
    ]
    return {"subjects": entries, "ways": ways, "metrics": metrics, "roles": ROLES}


def entry(main: Profile, name: str, run: Run, about: EveryLatent) -> dict[str, Any]:
    """What the index says of a subject.

    Parameters
    ----------
    main : the profile, of which the subject is the variant ``name``; empty for its own.
    """
    p = run.profile
    layers, _ = p.subject.model.encoder or (None, None)
    words = {"name": p.subject.name, "layer": p.subject.layer, "main": main.subject.layer, "layers": layers}
    called = slug(name or main.name)
    chosen = {w.method.key: run.choice(w.method).best for w in WAYS if w.method.steer}
    return {
        "id": called,
        "file": f"{called}.js",
        "name": p.subject.name,
        "about": SPECIAL.get(name, OTHER).format(**words),
        "published": p.subject.published,
        "model": str(p.subject.model),
        "layer": p.subject.layer,
        "layers": layers,
        "latents": len(about.latents),
        "explained": int((about.latents.role != "silent").sum()),
        "grid": grid(run.shown),
        "min_images": p.explain.min_images,
        "chosen": chosen,
        "sweep": sorted({*p.explain.steering, chosen[STEERING.add.key]}),
        "demo": not name,  # the page steers the profile's own subject
    }


def subject(run: Run, about: EveryLatent, pictures: Pictures) -> dict[str, Any]:
    """All data of a subject but its name."""
    table = about.explanations
    words = table.explanation.drop_duplicates().tolist()
    place = {text: i for i, text in enumerate(words)}
    said = table.drop(columns="explanation").assign(words=table.explanation.map(place))
    sets = {"shown": run.shown, "held_out": run.held_out}
    return {
        "latents": about.latents.to_dict("list"),
        "clusters": about.clusters.to_dict("records"),
        "words": words,
        "explanations": said.to_dict("list"),
        "evidence": {name: evidence(one, run.profile.explain.k, pictures) for name, one in sets.items()},
    }


def grid(gathered: Gathered) -> int:
    """Patches along a side of a picture."""
    return round(gathered.top.heat.shape[2] ** 0.5)


def evidence(gathered: Gathered, k: int, pictures: Pictures) -> dict[str, list[list[Any]]]:
    """The top pictures of every latent, best first, at most ``k``: ``picture``, ``score``, ``heat``, a list for each.

    A picture that cannot be read is left out.
    """
    top = gathered.top
    wanted = sorted({int(i) for i in top.image[:, :k].flatten() if i >= 0})
    names = pictures.keep(gathered, wanted)
    out: dict[str, list[list[Any]]] = {"picture": [], "score": [], "heat": []}
    for latent, images in enumerate(top.image[:, :k].tolist()):
        there = [place for place, image in enumerate(images) if image in names]
        out["picture"].append([names[images[place]] for place in there])
        out["score"].append([float(top.score[latent, place]) for place in there])
        out["heat"].append([heat(top.heat[latent, place]) for place in there])
    return out


def heat(codes: Tensor) -> str:
    """Activation of the patches of a picture, ``[patches]``, a byte each, in base64.

    0 where it is not active; else 1 to 255, in proportion to the picture's largest.
    """
    values = codes.numpy().astype(float)
    share = values / max(float(values.max()), 1e-12)
    steps = np.where(values > 0, np.clip(np.rint(255 * share), 1, 255), 0).astype(np.uint8)
    return base64.b64encode(steps.tobytes()).decode("ascii")


class Pictures:
    """Pictures as WebP files, each once, named by their content, so that subjects share them.

    Parameters
    ----------
    folder : where they are written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names: dict[bytes, str] = {}  # by the digest of their pixels

    @property
    def files(self) -> list[Path]:
        """All that have been kept."""
        return sorted(self.folder / f"{name}.webp" for name in set(self._names.values()))

    def keep(self, gathered: Gathered, wanted: Iterable[int]) -> dict[int, str]:
        """Write pictures of a set, those that can be read: index to name."""
        names = {}
        for number in tqdm(list(wanted), "pictures", mininterval=5):
            for i, picture in zip(*readable(gathered.images, [number])):
                names[i] = self._kept(picture)
        return names

    def _kept(self, picture: Image.Image) -> str:
        picture = picture.convert("RGB")
        if picture.size != (SIDE, SIDE):
            picture = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        pixels = hashlib.sha256(picture.tobytes()).digest()
        if pixels not in self._names:
            data = io.BytesIO()
            picture.save(data, "WEBP", quality=75, method=4)
            name = hashlib.sha256(data.getvalue()).hexdigest()[:16]
            path = self.folder / f"{name}.webp"
            if not path.exists():
                write_atomically(path, lambda target: target.write_bytes(data.getvalue()))
            self._names[pixels] = name
        return self._names[pixels]


# -- how they are written --------------------------------------------------------------------------


def script(value: Any) -> str:
    """A value as JavaScript that is safe in a page: nothing in it ends a script, a comment or a line.

    All signs beyond ASCII are escaped, so that it reads the same whatever encoding a page has.
    """
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c")


def plain(value: Any) -> Any:
    """The same as JSON has it: numbers rounded, whole ones without a point, and null for what is no finite number."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (str, bool)):
        return value
    if value is pd.NA or not math.isfinite(value):
        return None
    short = round(float(value), DIGITS)
    return int(short) if short.is_integer() else short
