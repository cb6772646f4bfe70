"""InternVL3 at desk size: the classes of desk subject B, with random weights.

Unlike Gemma 3's, the encoder has a class token in front of the patches, and is trained on together
with the language model.
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
    PreTrainedTokenizerFast,
)

from lib.desk.words import word_tokenizer, words
from lib.scenes.drawing import GRID, PATCH, SIZE

IMAGE_TOKENS = GRID * GRID // 4  # soft tokens per image, after the pixel shuffle
_SPECIAL = (
    "<pad>",
    "<bos>",
    "<eos>",
    "<unk>",
    "<im_start>",
    "<im_end>",
    "<img>",
    "<end_of_img>",
    "<img_context>",
    "<video>",
)
_CHAT = (
    "{% for message in messages %}<im_start>"
    "{{ 'model' if message['role'] == 'assistant' else message['role'] }} "
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<img_context>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<im_end>{% endfor %}"
    "{% if add_generation_prompt %}<im_start>model {% endif %}"
)


def vocabulary() -> list[str]:
    """Special tokens, then words."""
    return [*_SPECIAL, *words()]


def processor() -> InternVLProcessor:
    """A word-level tokenizer and an image processor for scenes, as InternVL combines them."""
    fast = PreTrainedTokenizerFast(
        tokenizer_object=word_tokenizer(vocabulary()),
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<im_end>",
        unk_token="<unk>",
        padding_side="left",
        extra_special_tokens={
            "start_image_token": "<img>",
            "end_image_token": "<end_of_img>",
            "context_image_token": "<img_context>",
            "video_token": "<video>",
        },
    )
    size = {"height": SIZE, "width": SIZE}
    images = GotOcr2ImageProcessor(size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3, crop_to_patches=False)
    return InternVLProcessor(
        image_processor=images,
        tokenizer=fast,
        video_processor=InternVLVideoProcessor(size=size),
        image_seq_length=IMAGE_TOKENS,
        chat_template=_CHAT,
    )


def vision(width: int, layers: int, heads: int) -> InternVLVisionModel:
    """A random InternViT encoder at desk size, with its class token."""
    config = InternVLVisionConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        image_size=[SIZE, SIZE],
        patch_size=[PATCH, PATCH],
        layer_scale_init_value=1.0,  # there is no depth here that would need taming
    )
    # Plain attention: the fused kernel's backward pass is slow in bf16 on a CPU.
    return InternVLVisionModel._from_config(config, attn_implementation="eager")


def build(vision: InternVLVisionModel, width: int, layers: int, heads: int) -> InternVLForConditionalGeneration:
    """An InternVL of desk size around a trained encoder, which stays trainable; the language model is random.

    Parameters
    ----------
    vision : the trained encoder.
    width, layers, heads : size of the language model.
    """
    ids = {token: i for i, token in enumerate(vocabulary())}
    config = InternVLConfig(
        text_config=dict(
            model_type="qwen2",
            vocab_size=len(ids),
            hidden_size=width,
            intermediate_size=3 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=max(1, heads // 2),
            max_position_embeddings=1024,
            pad_token_id=ids["<pad>"],
            bos_token_id=ids["<bos>"],
            eos_token_id=ids["<im_end>"],
            tie_word_embeddings=True,
        ),
        vision_config=vision.config.to_dict(),
        image_token_id=ids["<img_context>"],
        image_seq_length=IMAGE_TOKENS,
        tie_word_embeddings=True,
    )
    config.architectures = ["InternVLForConditionalGeneration"]
    model = InternVLForConditionalGeneration._from_config(config, attn_implementation="eager")
    model.model.vision_tower.load_state_dict(vision.state_dict())
    model.generation_config.eos_token_id = ids["<im_end>"]
    model.generation_config.pad_token_id = ids["<pad>"]
    model.generation_config.do_sample = False
    return model
