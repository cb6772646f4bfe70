"""Gemma 3 at desk size: the classes of desk subject A, with random weights.

Nothing here is special to the desk once the model is saved: it loads through ``AutoProcessor`` and
``AutoModelForImageTextToText``, as ``google/gemma-3-4b-it`` does.
"""

from __future__ import annotations

from torch import nn
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from lib.desk import small
from lib.desk.words import words
from lib.scenes.drawing import PATCH, SIZE

IMAGE_TOKENS = 16  # soft tokens per image, after the projector's pooling of 64 patches
_SPECIAL = ("<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>", "<image_soft_token>")


def vocabulary() -> list[str]:
    """Special tokens, then words."""
    return [*small.SPECIAL, *_SPECIAL, *words()]


def processor() -> Gemma3Processor:
    """A word-level tokenizer and an image processor for scenes, as Gemma 3 combines them."""
    tokens = {
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
        "image_token": "<image_soft_token>",
        "sot_token": "<start_of_turn>",
        "eot_token": "<end_of_turn>",
    }
    return Gemma3Processor(
        image_processor=Gemma3ImageProcessor(**small.PICTURES, do_pan_and_scan=False, do_convert_rgb=True),
        tokenizer=small.tokenizer(vocabulary(), "<eos>", **tokens),
        chat_template="{{ bos_token }}" + small.chat("<start_of_turn>", "<end_of_turn>", "<start_of_image>"),
        image_seq_length=IMAGE_TOKENS,
    )


def vision(width: int, layers: int, heads: int) -> SiglipVisionModel:
    """A random SigLIP encoder: Gemma 3's encoder class at desk size (no pooling head, as there)."""
    sizes = small.sizes(width, layers, heads, 4)
    config = SiglipVisionConfig(**sizes, image_size=SIZE, patch_size=PATCH, vision_use_head=False)
    return small.plain(SiglipVisionModel, config)


def build(vision: SiglipVisionModel, width: int, layers: int, heads: int) -> Gemma3ForConditionalGeneration:
    """A Gemma 3 of desk size around a trained encoder; the language model is random.

    Parameters
    ----------
    vision : the trained encoder.
    width, layers, heads : size of the language model.
    """
    ids = {token: i for i, token in enumerate(vocabulary())}
    side = width // heads
    config = Gemma3Config(
        text_config={
            **small.language(ids, "<end_of_turn>", width, layers, heads),
            "head_dim": side,
            "query_pre_attn_scalar": side,
            "sliding_window": 512,
        },
        vision_config=SiglipVisionConfig(**vision.config.to_dict()).to_dict(),
        mm_tokens_per_image=IMAGE_TOKENS,
        boi_token_index=ids["<start_of_image>"],
        eoi_token_index=ids["<end_of_image>"],
        image_token_index=ids["<image_soft_token>"],
        tie_word_embeddings=True,
    )
    model = small.assemble(Gemma3ForConditionalGeneration, config, vision)
    # Hugging Face starts the projector at zero; from there the language model cannot learn to look.
    nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=vision.config.hidden_size**-0.5)
    return model
