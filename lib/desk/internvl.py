"""InternVL3 at desk size: the classes of desk subject B, with random weights.

Unlike Gemma 3's, the encoder has a class token in front of the patches.
"""

from __future__ import annotations

from transformers import (
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    InternVLVisionConfig,
    InternVLVisionModel,
)

from lib.desk import small
from lib.desk.words import words
from lib.scenes.drawing import GRID, PATCH, SIZE

IMAGE_TOKENS = GRID * GRID // 4  # soft tokens per image, after the pixel shuffle
_SPECIAL = ("<im_start>", "<im_end>", "<img>", "<end_of_img>", "<img_context>", "<video>")


def vocabulary() -> list[str]:
    """Special tokens, then words."""
    return [*small.SPECIAL, *_SPECIAL, *words()]


def processor() -> InternVLProcessor:
    """A word-level tokenizer and an image processor for scenes, as InternVL combines them."""
    tokens = {
        "start_image_token": "<img>",
        "end_image_token": "<end_of_img>",
        "context_image_token": "<img_context>",
        "video_token": "<video>",
    }
    return InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(**small.PICTURES, crop_to_patches=False),
        tokenizer=small.tokenizer(vocabulary(), "<im_end>", **tokens),
        video_processor=InternVLVideoProcessor(size=small.PICTURES["size"]),
        image_seq_length=IMAGE_TOKENS,
        chat_template=small.chat("<im_start>", "<im_end>", "<img_context>"),
    )


def vision(width: int, layers: int, heads: int) -> InternVLVisionModel:
    """A random InternViT encoder at desk size, with its class token."""
    config = InternVLVisionConfig(
        **small.sizes(width, layers, heads, 4),
        image_size=[SIZE, SIZE],
        patch_size=[PATCH, PATCH],
        layer_scale_init_value=1.0,  # there is no depth here that would need taming
    )
    return small.plain(InternVLVisionModel, config)


def build(vision: InternVLVisionModel, width: int, layers: int, heads: int) -> InternVLForConditionalGeneration:
    """An InternVL of desk size around a trained encoder; the language model is random.

    Parameters
    ----------
    vision : the trained encoder.
    width, layers, heads : size of the language model.
    """
    ids = {token: i for i, token in enumerate(vocabulary())}
    config = InternVLConfig(
        text_config={
            "model_type": "qwen2",
            "tie_word_embeddings": True,
            **small.language(ids, "<im_end>", width, layers, heads),
        },
        vision_config=vision.config.to_dict(),
        image_token_id=ids["<img_context>"],
        image_seq_length=IMAGE_TOKENS,
        tie_word_embeddings=True,
    )
    return small.assemble(InternVLForConditionalGeneration, config, vision)
