"""Pictures of what a text says, by a diffusion model from diffusers; every picture is kept."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from lib import identity
from lib.device import DEVICE, half, halved
from lib.hub import Asset, load_whole
from lib.images import kept_picture
from lib.store import write_atomically

PREFIX = "A realistic image of "


@dataclass(frozen=True)
class Diffusion:
    """A text-to-image pipeline, such as Stable Diffusion 3.5 Medium; loads when first needed.

    Attributes
    ----------
    model : folder, or id and revision on the hub.
    seed : of the drawings; the same text gives the same pictures.
    steps, guidance, size : denoising steps, guidance scale, and edge length in pixels.
    without_t5 : leave out the large text encoder of Stable Diffusion 3 (10 GB in half precision), or
        say that the repository has none; texts are then read by its two CLIP encoders, 77 tokens.
    folder : where pictures are kept, as ``<digest>-<i>.png``; the digest changes with the text, the
        model, the settings and the code. A black picture there stands for one that did not come out.
    """

    model: Asset
    seed: int = 0
    steps: int = 30
    guidance: float = 7.5
    size: int = 512
    without_t5: bool = False
    folder: Path = field(kw_only=True, metadata=identity.NOT_PART, compare=False)

    def generate(self, text: str, n: int) -> list[Image.Image]:
        """``n`` pictures of ``text``, RGB; none if it is empty. What was drawn before is read back.

        Pictures that a safety checker withholds, and others that come out all black, are left out with a warning,
        and are not drawn again.
        """
        if not text.strip():
            return []
        found = {i: self._kept(text, i) for i in range(n)}
        missing = [i for i in range(n) if found[i] is None]
        drawn = dict(zip(missing, halved(lambda part: self._draw(text, part), missing) if missing else []))
        for i, picture in drawn.items():
            write_atomically(self._path(text, i), lambda path, picture=picture: picture.save(path, format="PNG"))
        if black := sum(map(_is_black, drawn.values())):
            warnings.warn(
                f"{black} of {len(drawn)} pictures of {text!r} came out black, or were withheld by the safety "
                f"checker of {self.model}: they are left out",
                stacklevel=2,
            )
        return [picture for picture in (found | drawn).values() if not _is_black(picture)]

    @cached_property
    def _all_but_the_text(self) -> dict[str, Any]:
        return identity.of(self)

    def _path(self, text: str, i: int) -> Path:
        return self.folder / f"{identity.digest([self._all_but_the_text, text])}-{i}.png"

    def _kept(self, text: str, i: int) -> Image.Image | None:
        picture = kept_picture(self._path(text, i))
        return picture and picture.convert("RGB")

    @cached_property
    def _pipeline(self) -> Any:
        import diffusers  # takes seconds; reading pictures back needs no model

        source, revision = self.model.pretrained()
        dtype = half() if DEVICE == "cuda" else torch.float32
        parts: dict[str, Any] = {"text_encoder_3": None, "tokenizer_3": None} if self.without_t5 else {}
        # A pipeline alone would give random values to weights that a part of it lacks.
        for name, part in diffusers.DiffusionPipeline.load_config(source, **revision).items():
            if name not in parts and isinstance(part, (list, tuple)) and part[0]:
                library = getattr(diffusers.pipelines, part[0], None) or import_module(part[0])
                if issubclass(cls := getattr(library, part[1]), torch.nn.Module):
                    keywords = {"subfolder": name, "dtype": dtype, "use_safetensors": True, **revision}
                    parts[name] = load_whole(cls, source, **keywords)
        out = diffusers.DiffusionPipeline.from_pretrained(source, use_safetensors=True, **revision, **parts)
        out.set_progress_bar_config(disable=True)
        return out.to(DEVICE)

    def _noise(self, text: str, i: int) -> torch.Generator:
        """Each picture's own source of noise, on the processor, where it is the same for every device."""
        state = np.random.SeedSequence([self.seed, zlib.crc32(text.encode()), i]).generate_state(1, np.uint64)
        return torch.Generator("cpu").manual_seed(int(state[0]))

    def _draw(self, text: str, numbers: Sequence[int]) -> list[Image.Image]:
        """Draw the pictures with these numbers together; black for those that are withheld."""
        made = self._pipeline(
            PREFIX + text,
            num_images_per_prompt=len(numbers),
            generator=[self._noise(text, i) for i in numbers],
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            height=self.size,
            width=self.size,
        )
        withheld = getattr(made, "nsfw_content_detected", None) or [False] * len(numbers)
        black = Image.new("RGB", (self.size, self.size))
        return [black if hidden else picture.convert("RGB") for picture, hidden in zip(made.images, withheld)]


def _is_black(picture: Image.Image) -> bool:
    return picture.getbbox() is None
