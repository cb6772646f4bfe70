"""What the desk models of both families share: sizes, tokenizer, the form of a chat, and how a model is assembled."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from lib.desk.words import word_tokenizer
from lib.scenes.drawing import SIZE

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")  # the first tokens of every vocabulary
PICTURES = {"size": {"height": SIZE, "width": SIZE}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
_CHAT = (
    "{% for message in messages %}START"
    "{{ 'model' if message['role'] == 'assistant' else message['role'] }} "
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}END{% endfor %}"
    "{% if add_generation_prompt %}STARTmodel {% endif %}"
)


def chat(start: str, end: str, image: str) -> str:
    """A chat template: the tokens that begin and end a turn, and the one that stands for a picture."""
    return _CHAT.replace("START", start).replace("END", end).replace("IMAGE", image)


def tokenizer(vocabulary: list[str], eos: str, **special: str) -> PreTrainedTokenizerFast:
    """A word-level tokenizer as the families' processors want it; ``special`` names their own tokens."""
    return PreTrainedTokenizerFast(
        tokenizer_object=word_tokenizer(vocabulary),
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token=eos,
        unk_token="<unk>",
        padding_side="left",
        extra_special_tokens=special,
    )


def sizes(width: int, layers: int, heads: int, wider: int) -> dict[str, int]:
    """The sizes of a transformer, as configurations name them; its MLPs are ``wider`` times as wide."""
    return {
        "hidden_size": width,
        "intermediate_size": wider * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
    }


def language(ids: dict[str, int], end: str, width: int, layers: int, heads: int) -> dict[str, int]:
    """Sizes and special tokens of a language model whose turns end with the token ``end``."""
    return {
        **sizes(width, layers, heads, 3),
        "vocab_size": len(ids),
        "num_key_value_heads": max(1, heads // 2),
        "max_position_embeddings": 1024,
        "pad_token_id": ids["<pad>"],
        "bos_token_id": ids["<bos>"],
        "eos_token_id": ids[end],
    }


def plain(cls: type[PreTrainedModel], config: PreTrainedConfig) -> Any:
    """A random model with plain attention: the fused kernel's backward pass is slow in bfloat16 on a CPU."""
    return cls._from_config(config, attn_implementation="eager")


def assemble(cls: type[PreTrainedModel], config: PreTrainedConfig, vision: nn.Module) -> Any:
    """A random model of a class around a trained encoder, which is frozen; it answers greedily, until the turn ends."""
    config.architectures = [cls.__name__]
    model = plain(cls, config)
    model.model.vision_tower.load_state_dict(vision.state_dict())
    model.model.vision_tower.requires_grad_(False)
    text = config.get_text_config()
    model.generation_config.eos_token_id = text.eos_token_id
    model.generation_config.pad_token_id = text.pad_token_id
    model.generation_config.do_sample = False
    return model
