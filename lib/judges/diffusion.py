"""Pictures of what a text says, by a diffusion model from diffusers; every picture is kept."""

from __future__ import annotations

import zlib
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lib.judges.grounding import half, source
from lib.store import digest, model_digest, write_atomically
from lib.vlm import DEVICE

PREFIX = "A realistic image of "


class Diffusion:
    """A text-to-image pipeline, such as Stable Diffusion 3.5 Medium; loads when first needed.

    Parameters
    ----------
    model, revision : folder, or id and revision on the hub.
    folder : where pictures are kept, as ``<digest>-<i>.png``; the digest changes with the text, the
        model and the settings.
    seed : of the drawings; the same text gives the same pictures.
    steps, guidance, size : denoising steps, guidance scale, and edge length in pixels.
    without_t5 : leave out the large text encoder of Stable Diffusion 3 (10 GB in half precision), or
        say that the repository has none; texts are then read by its two CLIP encoders, 77 tokens.
    """

    def __init__(
        self,
        model: str,
        revision: str | None,
        folder: Path,
        seed: int = 0,
        steps: int = 30,
        guidance: float = 7.5,
        size: int = 512,
        without_t5: bool = False,
    ) -> None:
        self.model, self.revision, self.folder, self.seed = model, revision, folder, seed
        self.steps, self.guidance, self.size, self.without_t5 = steps, guidance, size, without_t5
        self._together = True  # pictures of a text are drawn together, as long as they fit into memory

    def generate(self, text: str, n: int) -> list[Image.Image]:
        """``n`` pictures of ``text``, RGB; none if it is empty. What was drawn before is read back."""
        if not text.strip():
            return []
        paths = [self._path(text, i) for i in range(n)]
        missing = [i for i in range(n) if not paths[i].exists()]
        for i, picture in zip(missing, self._draw(text, missing)):
            write_atomically(paths[i], lambda path, picture=picture: picture.save(path, format="PNG"))
        return [Image.open(path).convert("RGB") for path in paths]

    @cached_property
    def _settings(self) -> str:
        """Digest of all but the text; that of a local model takes a while."""
        model = (model_digest(self.model), self.revision)
        return digest(model, PREFIX, self.seed, self.steps, self.guidance, self.size, self.without_t5)

    def _path(self, text: str, i: int) -> Path:
        return self.folder / f"{digest(self._settings, text)}-{i}.png"

    @cached_property
    def _pipeline(self):
        from diffusers import DiffusionPipeline  # takes seconds; reading pictures back needs no model

        out = DiffusionPipeline.from_pretrained(
            source(self.model),
            revision=self.revision,
            dtype=half() if DEVICE == "cuda" else torch.float32,
            use_safetensors=True,
            **({"text_encoder_3": None, "tokenizer_3": None} if self.without_t5 else {}),
        )
        out.set_progress_bar_config(disable=True)
        return out.to(DEVICE)

    def _noise(self, text: str, i: int) -> torch.Generator:
        """Each picture's own source of noise, on the processor, where it is the same for every device."""
        state = np.random.SeedSequence([self.seed, zlib.crc32(text.encode()), i]).generate_state(1, np.uint64)
        return torch.Generator("cpu").manual_seed(int(state[0]))

    def _draw(self, text: str, numbers: list[int]) -> list[Image.Image]:
        """Draw the pictures with these numbers, together if they fit into memory."""
        if len(numbers) > 1 and not self._together:
            return [picture for i in numbers for picture in self._draw(text, [i])]
        if not numbers:
            return []
        try:
            return self._pipeline(
                PREFIX + text,
                num_images_per_prompt=len(numbers),
                generator=[self._noise(text, i) for i in numbers],
                num_inference_steps=self.steps,
                guidance_scale=self.guidance,
                height=self.size,
                width=self.size,
            ).images
        except torch.OutOfMemoryError:
            if len(numbers) == 1:
                raise
        # Outside of the handler, whose traceback would keep the tensors of the failed attempt alive.
        if DEVICE == "cuda":
            torch.cuda.empty_cache()
        self._together = False
        return self._draw(text, numbers)
