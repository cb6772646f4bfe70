"""Read and write the residual stream of a vision encoder while a model runs (Eq. 5 and 6).

Both are context managers: whatever happens inside, the model is as before when they end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn


@contextmanager
def capture(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what ``layer`` returns: one ``[n_images, tokens, d]`` tensor per forward pass."""
    seen: list[Tensor] = []

    def hook(_module: nn.Module, _inputs: tuple, output: Tensor | tuple) -> None:
        seen.append((output if isinstance(output, Tensor) else output[0]).detach())

    handle = layer.register_forward_hook(hook)
    try:
        yield seen
    finally:
        handle.remove()


class _Reached(Exception):
    """The layer that was to be read has run."""


@contextmanager
def read_up_to(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Like :func:`capture`, but the forward pass ends at ``layer``: the layers above need not run."""
    seen: list[Tensor] = []

    def hook(_module: nn.Module, _inputs: tuple, output: Tensor | tuple) -> None:
        seen.append((output if isinstance(output, Tensor) else output[0]).detach())
        raise _Reached

    handle = layer.register_forward_hook(hook)
    try:
        yield seen
    except _Reached:
        pass
    finally:
        handle.remove()


@contextmanager
def edit(layer: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Replace what ``layer`` returns by ``change`` of it.

    It comes before every other hook of the layer: a model that collects its layers' outputs with hooks of its own
    (LLaVA, for the layer that it shows to the language model) collects what has been changed.
    """

    def hook(_module: nn.Module, _inputs: tuple, output: Tensor | tuple) -> Tensor | tuple:
        if isinstance(output, Tensor):
            return change(output)
        return (change(output[0]), *output[1:])

    handle = layer.register_forward_hook(hook, prepend=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def resumed(layers: Sequence[nn.Module], stream: Tensor) -> Iterator[None]:
    """Start the encoder above ``layers``: the last of them returns ``stream``, those below it do nothing.

    What was computed once for a picture is thus not computed again for every vector that is added to it. Hooks of the
    last layer see the stream as ever.

    Parameters
    ----------
    layers : the encoder's first layers, in order.
    stream : what the last of them returned for these pictures, in the shape in which it did.
    """

    def skip(hidden: Tensor, *_others: Any, **_more: Any) -> Tensor:
        return hidden

    def given(*_hidden: Any, **_more: Any) -> Tensor:
        return stream

    # An instance's own `forward` may be there already: accelerate's, for a model that is spread over devices.
    before = [vars(layer).get("forward") for layer in layers]
    try:
        for layer in layers:
            layer.forward = given if layer is layers[-1] else skip
        yield
    finally:
        for layer, old in zip(layers, before):
            if old is None:
                del layer.forward
            else:
                layer.forward = old


def resumes(layers: Sequence[nn.Module], stream: Tensor, run: Callable[[], Any]) -> bool:
    """Whether all that ``run`` returns is the same, to the bit, when the encoder is :func:`resumed`."""
    whole = list(_tensors(run()))
    with resumed(layers, stream):
        again = list(_tensors(run()))
    return all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (Mapping, list, tuple)):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(item)


def reaches(layer: nn.Module, run: Callable[[], Tensor]) -> bool:
    """Whether a large push of the stream after ``layer`` changes what ``run`` returns."""

    def push(stream: Tensor) -> Tensor:
        noise = torch.randn(stream.shape, generator=torch.Generator().manual_seed(0)).to(stream)
        return stream + 10 * stream.abs().max() * noise

    plain = run().float()
    with edit(layer, push):
        pushed = run().float()
    return bool((pushed - plain).norm() > 1e-3 * plain.norm())


@dataclass(frozen=True)
class Intervention:
    """What is done to the residual stream after a layer, image by image.

    Attributes
    ----------
    vectors : ``[n_images, d]``, the feature's direction times the coefficient, one per image in
        the order in which the images stand in the prompts.
    mode : ``add`` to the residual stream (what the published runs do), or ``replace`` it (what the
        paper's footnote 5 says).
    where : ``[n_images, tokens]`` bool, the positions to change; None for all of them, the class
        token included.
    """

    vectors: Tensor
    mode: Literal["add", "replace"] = "add"
    where: Tensor | None = None

    def __call__(self, residual: Tensor) -> Tensor:
        """Apply to ``[n_images, tokens, d]``; the same shape is returned.

        Raises
        ------
        ValueError
            If the number of images or positions does not fit: the processor may have split an image
            into several crops, which must be switched off.
        """
        if residual.shape[0] != len(self.vectors):
            raise ValueError(
                f"{len(self.vectors)} steering vectors for {residual.shape[0]} rows in the encoder: each image "
                "must be one row; switch off image splitting (do_image_splitting, crop_to_patches, pan and scan)"
            )
        if self.where is not None and self.where.shape != residual.shape[:2]:
            raise ValueError(
                f"positions {tuple(self.where.shape)} do not fit the encoder's {tuple(residual.shape[:2])}"
            )
        vectors = self.vectors.to(residual)[:, None, :]  # [n_images, 1, d]
        changed = residual + vectors if self.mode == "add" else vectors.expand_as(residual).contiguous()
        if self.where is None:
            return changed
        return torch.where(self.where.to(residual.device)[..., None], changed, residual)
