"""Files of a desk subject's weights: the encoder has one of its own, which subjects that read one encoder share."""

from __future__ import annotations

import os
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from lib.store import write_json

PARTS = ("encoder", "language")


def split_weights(folder: Path) -> None:
    """Keep a saved model's encoder in a file of its own, with the index by which transformers finds all weights."""
    whole = folder / "model.safetensors"
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    for name, weights in load_file(whole).items():
        parts["encoder" if "vision_tower" in name else "language"][name] = weights
    for part, weights in parts.items():
        save_file(weights, folder / f"{part}.safetensors", {"format": "pt"})
    where = {name: f"{part}.safetensors" for part, weights in parts.items() for name in weights}
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": where})
    whole.unlink()


def share_encoder(folder: Path, ships: Path, other: Path) -> None:
    """Replace a model's encoder by a link to that of another, of which it is a copy.

    Parameters
    ----------
    folder : where the model is.
    ships : where it will be; the link is relative to that.
    other : the folder of the model whose encoder it took.

    Raises
    ------
    ValueError
        If the two encoders differ.
    """
    own, theirs = (place / "encoder.safetensors" for place in (folder, other))
    if own.read_bytes() != theirs.read_bytes():
        raise ValueError(f"the encoder in {folder} is not that of {other}, which it was to take frozen")
    own.unlink()
    own.symlink_to(os.path.relpath(theirs.resolve(), ships.resolve()))
