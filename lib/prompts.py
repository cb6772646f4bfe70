"""Everything that is said to a language model, in one place.

The explanation prompts mirror each other: only what the pictures are differs between methods. Each
asks for one sentence with a fixed opening, which is cut off afterwards.
"""

from __future__ import annotations

OPENING = "It shows"
_FORM = f"Answer with one sentence that starts with: {OPENING}"

DESCRIBE = f"Describe this image. {_FORM}"
DESCRIBE_GENERALLY = f"Describe this image in general words. {_FORM}"

STEERING = f"What is the main thing in this image? {_FORM}"
TOP_K = {
    "masks": f"What do the visible parts of these images have in common? {_FORM}",
    "heatmaps": f"What do the bright parts of these images have in common? {_FORM}",
}


def clean(completion: str) -> str:
    """A completion without its opening and final full stop; empty if it says nothing."""
    text = " ".join(completion.split())
    if text.lower().startswith(OPENING.lower()):
        text = text[len(OPENING) :]
    return text.strip().strip(".:").strip()
