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
    PreTrainedTokenizerFast,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from lib.desk.words import word_tokenizer, words
from lib.scenes.drawing import PATCH, SIZE

IMAGE_TOKENS = 16  # soft tokens per image, after the projector's pooling of 64 patches
_SPECIAL = (
    "<pad>",
    "<bos>",
    "<eos>",
    "<unk>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<start_of_image>",
    "<end_of_image>",
    "<image_soft_token>",
)
_CHAT = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>"
    "{{ 'model' if message['role'] == 'assistant' else message['role'] }} "
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<start_of_image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<end_of_turn>{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model {% endif %}"
)


def vocabulary() -> list[str]:
    """Special tokens, then words."""
    return [*_SPECIAL, *words()]


def processor() -> Gemma3Processor:
    """A word-level tokenizer and an image processor for scenes, as Gemma 3 combines them."""
    fast = PreTrainedTokenizerFast(
        tokenizer_object=word_tokenizer(vocabulary()),
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        padding_side="left",
        extra_special_tokens={
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "image_token": "<image_soft_token>",
            "sot_token": "<start_of_turn>",
            "eot_token": "<end_of_turn>",
        },
    )
    images = Gemma3ImageProcessor(
        size={"height": SIZE, "width": SIZE},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        do_pan_and_scan=False,
        do_convert_rgb=True,
    )
    return Gemma3Processor(image_processor=images, tokenizer=fast, chat_template=_CHAT, image_seq_length=IMAGE_TOKENS)


def vision(width: int, layers: int, heads: int) -> SiglipVisionModel:
    """A random SigLIP encoder: Gemma 3's encoder class at desk size (no pooling head, as there)."""
    config = SiglipVisionConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        image_size=SIZE,
        patch_size=PATCH,
        vision_use_head=False,
    )
    # Plain attention: the fused kernel's backward pass is slow in bf16 on a CPU.
    return SiglipVisionModel._from_config(config, attn_implementation="eager")


def build(vision: SiglipVisionModel, width: int, layers: int, heads: int) -> Gemma3ForConditionalGeneration:
    """A Gemma 3 of desk size around a trained encoder; the language model is random.

    Parameters
    ----------
    vision : the trained encoder; it is frozen, as Gemma 3's is.
    width, layers, heads : size of the language model.
    """
    ids = {token: i for i, token in enumerate(vocabulary())}
    config = Gemma3Config(
        text_config=dict(
            vocab_size=len(ids),
            hidden_size=width,
            intermediate_size=3 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=max(1, heads // 2),
            head_dim=width // heads,
            query_pre_attn_scalar=width // heads,
            max_position_embeddings=1024,
            sliding_window=512,
            pad_token_id=ids["<pad>"],
            bos_token_id=ids["<bos>"],
            eos_token_id=ids["<end_of_turn>"],
        ),
        vision_config=SiglipVisionConfig(**vision.config.to_dict()).to_dict(),
        mm_tokens_per_image=IMAGE_TOKENS,
        boi_token_index=ids["<start_of_image>"],
        eoi_token_index=ids["<end_of_image>"],
        image_token_index=ids["<image_soft_token>"],
        tie_word_embeddings=True,
    )
    config.architectures = ["Gemma3ForConditionalGeneration"]
    model = Gemma3ForConditionalGeneration._from_config(config, attn_implementation="eager")
    model.model.vision_tower.load_state_dict(vision.state_dict())
    model.model.vision_tower.requires_grad_(False)
    # Hugging Face starts the projector at zero; from there the language model cannot learn to look.
    nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=vision.config.hidden_size**-0.5)
    model.generation_config.eos_token_id = ids["<end_of_turn>"]
    model.generation_config.pad_token_id = ids["<pad>"]
    model.generation_config.do_sample = False
    return model
