"""Build desk subject A: Gemma 3's classes, from scratch, at desk size.

Nothing here is special to the desk once the model is saved: it loads through ``AutoProcessor`` and
``AutoModelForImageTextToText``, as ``google/gemma-3-4b-it`` does.
"""

from __future__ import annotations

import torch
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Split
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

from lib import prompts
from lib.scenes.catalogue import elements
from lib.scenes.drawing import SIZE

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
    """Special tokens, then every word of the prompts and of the catalogue, in alphabetical order."""
    texts = [
        "user model and on in front of nothing , . : ?",
        prompts.DESCRIBE,
        prompts.DESCRIBE_GENERALLY,
        prompts.STEERING,
        *prompts.TOP_K.values(),
    ]
    for element in elements().values():
        texts += [element.name, element.phrase, *element.synonyms]
    splitter = word_splitter()
    words = {word for text in texts for word, _ in splitter.pre_tokenize_str(text.lower())}
    return [*_SPECIAL, *sorted(words)]


def word_splitter() -> Split:
    """Words, hyphenated ones whole; special tokens; punctuation marks one by one."""
    return Split(Regex(r"<[a-z_]+>|[a-z]+(?:-[a-z]+)?|[^\sa-z]"), behavior="removed", invert=True)


def processor() -> Gemma3Processor:
    """A word-level tokenizer and an image processor for scenes, as Gemma 3 combines them."""
    tokens = {token: i for i, token in enumerate(vocabulary())}
    tokenizer = Tokenizer(WordLevel(tokens, unk_token="<unk>"))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = word_splitter()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
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


def parameter_count(model: nn.Module) -> int:
    """Number of parameters, tied ones once."""
    return sum(p.numel() for p in {id(p): p for p in model.parameters()}.values())


def chat(images: int, prompt: str) -> list[dict]:
    """One user turn: ``images`` pictures, then the prompt."""
    content = [{"type": "image"}] * images + [{"type": "text", "text": prompt}]
    return [{"role": "user", "content": content}]


def prefix_ids(proc: Gemma3Processor, images: int, prompt: str) -> torch.Tensor:
    """Token ids of a prompt up to where the answer starts: ``[length]``."""
    text = proc.apply_chat_template(chat(images, prompt), add_generation_prompt=True, tokenize=False)
    return proc.tokenizer(
        text.replace(proc.boi_token, proc.full_image_sequence), add_special_tokens=False, return_tensors="pt"
    ).input_ids[0]
