"""Tiny random checkpoints of the models that profiles name, and a Hugging Face cache in which they are found offline.

Classes, processors and file layouts are those of the real checkpoints; sizes and weights are not.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import torch
from torch import nn

SIZE, PATCH, WIDTH, HEADS = 56, 14, 32, 2  # pixels, pixels, channels of encoders, attention heads
PATCHES = (SIZE // PATCH) ** 2
IMAGE_TOKENS = PATCHES // 4  # soft tokens of an image, where four patches become one
_HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def publish(cache: Path, repo_id: str, revision: str, build: Callable[[Path], Any], repo_type: str = "model") -> None:
    """Put what ``build`` writes into a Hugging Face cache, where ``HF_HUB_CACHE=cache HF_HUB_OFFLINE=1`` finds it.

    Parameters
    ----------
    cache : the cache's folder; further repositories and revisions may be published into it.
    repo_id : ``organisation/name``.
    revision : a commit (40 hexadecimal digits), or a branch, whose commit is then made up; ``main`` points at it too.
    build : called with the folder of the snapshot.
    repo_type : ``model`` or ``dataset``.
    """
    is_commit = re.fullmatch("[0-9a-f]{40}", revision) is not None
    commit = revision if is_commit else hashlib.sha1(f"{repo_id}@{revision}".encode()).hexdigest()
    repo = cache / f"{repo_type}s--{repo_id.replace('/', '--')}"
    snapshot = repo / "snapshots" / commit
    snapshot.mkdir(parents=True, exist_ok=True)
    build(snapshot)
    for name in {"main"} if is_commit else {"main", revision}:
        ref = repo / "refs" / name
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(commit)


def build_gemma3(folder: Path, *, language_width: int = 32, seed: int = 0, vision_layers: int = 4) -> None:
    """Gemma 3 around SigLIP: 16 patches, 4 soft tokens; sizes with one ``seed`` share their encoder, bit by bit."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3ImageProcessor, Gemma3Processor

    roles = {
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
        "image_token": "<image_soft_token>",
        "sot_token": "<start_of_turn>",
        "eot_token": "<end_of_turn>",
    }
    tokenizer = _tokenizer(roles)
    config = Gemma3Config(
        text_config=_language(tokenizer, language_width)
        | dict(head_dim=language_width // HEADS, query_pre_attn_scalar=language_width // HEADS, sliding_window=512),
        vision_config=_encoder(vision_layers) | {"model_type": "siglip_vision_model", "vision_use_head": False},
        mm_tokens_per_image=IMAGE_TOKENS,
        boi_token_index=_id(tokenizer, "<start_of_image>"),
        eoi_token_index=_id(tokenizer, "<end_of_image>"),
        image_token_index=_id(tokenizer, "<image_soft_token>"),
        tie_word_embeddings=True,
    )
    images = Gemma3ImageProcessor(size={"height": SIZE, "width": SIZE}, **_HALF)
    processor = Gemma3Processor(
        image_processor=images,
        tokenizer=tokenizer,
        chat_template=_chat("<start_of_image>", "<bos>"),
        image_seq_length=IMAGE_TOKENS,
    )
    _save(folder, Gemma3ForConditionalGeneration(config), processor, seed)


def build_internvl(folder: Path, *, language_width: int = 32, seed: int = 0, vision_layers: int = 4) -> None:
    """InternVL3: a class token and 16 patches, 4 soft tokens; its processor cuts tiles unless it is told not to."""
    from transformers import (
        GotOcr2ImageProcessor,
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLProcessor,
        InternVLVideoProcessor,
    )

    roles = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer = _tokenizer(roles)
    config = InternVLConfig(
        text_config=_language(tokenizer, language_width) | {"model_type": "qwen2", "tie_word_embeddings": True},
        vision_config=_encoder(vision_layers) | {"image_size": [SIZE, SIZE], "patch_size": [PATCH, PATCH]},
        image_token_id=_id(tokenizer, "<IMG_CONTEXT>"),
        image_seq_length=IMAGE_TOKENS,
        tie_word_embeddings=True,
    )
    size = {"height": SIZE, "width": SIZE}
    processor = InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(size=size, crop_to_patches=True, **_HALF),
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(size=size),
        image_seq_length=IMAGE_TOKENS,
        chat_template=_chat("<IMG_CONTEXT>"),
    )
    _save(folder, InternVLForConditionalGeneration(config), processor, seed)


def build_smolvlm(folder: Path, *, language_width: int = 32, seed: int = 0, vision_layers: int = 4) -> None:
    """SmolVLM: 16 patches, 4 soft tokens; its processor splits images unless it is told not to."""
    from transformers import (
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
        SmolVLMImageProcessor,
        SmolVLMProcessor,
        SmolVLMVideoProcessor,
    )

    roles = {
        "fake_image_token": "<fake_token_around_image>",
        "image_token": "<image>",
        "global_image_token": "<global-img>",
        "end_of_utterance_token": "<end_of_utterance>",
        "video_token": "<video>",
    }
    tokenizer = _tokenizer(roles)
    config = SmolVLMConfig(
        text_config=_language(tokenizer, language_width) | {"model_type": "llama"},
        vision_config=_encoder(vision_layers),
        scale_factor=2,
        image_token_id=_id(tokenizer, "<image>"),
        pad_token_id=_id(tokenizer, "<pad>"),
        tie_word_embeddings=True,
    )
    sizes = {"size": {"longest_edge": 2 * SIZE}, "max_image_size": {"longest_edge": SIZE}}
    processor = SmolVLMProcessor(
        image_processor=SmolVLMImageProcessor(do_image_splitting=True, **sizes, **_HALF),
        tokenizer=tokenizer,
        video_processor=SmolVLMVideoProcessor(**sizes),
        image_seq_len=IMAGE_TOKENS,
        chat_template=_chat("<image>"),
    )
    _save(folder, SmolVLMForConditionalGeneration(config), processor, seed)


def build_llava(
    folder: Path, *, language_width: int = 32, seed: int = 0, vision_layers: int = 4, shown: int | list[int] = -2
) -> None:
    """LLaVA 1.5 around CLIP: a class token and 16 patches; the last layer but one is shown to the language model.

    ``shown`` is that layer, or several, counted from the stream before the first.
    """
    from transformers import CLIPImageProcessor, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

    tokenizer = _tokenizer({"image_token": "<image>"})
    config = LlavaConfig(
        text_config=_language(tokenizer, language_width) | {"model_type": "llama"},
        vision_config=_encoder(vision_layers) | {"model_type": "clip_vision_model", "projection_dim": WIDTH},
        image_token_index=_id(tokenizer, "<image>"),
        image_seq_length=PATCHES,
        vision_feature_select_strategy="default",
        vision_feature_layer=shown,
    )
    images = CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    processor = LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_chat("<image>", "<bos>"),
    )
    _save(folder, LlavaForConditionalGeneration(config), processor, seed)


def build_paligemma(folder: Path, *, language_width: int = 32, seed: int = 0, vision_layers: int = 4) -> None:
    """PaliGemma around SigLIP: 16 patches, as many soft tokens. (The real checkpoints have no chat template.)"""
    from transformers import (
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        PaliGemmaProcessor,
        SiglipImageProcessor,
    )

    tokenizer = _tokenizer({"image_token": "<image>"})
    images = SiglipImageProcessor(size={"height": SIZE, "width": SIZE}, **_HALF)
    images.image_seq_length = PATCHES
    processor = PaliGemmaProcessor(image_processor=images, tokenizer=tokenizer, chat_template=_chat("<image>"))
    config = PaliGemmaConfig(  # after the processor, which adds tokens for places
        text_config=_language(tokenizer, language_width)
        | {"model_type": "gemma", "head_dim": language_width // HEADS, "num_image_tokens": PATCHES},
        vision_config=_encoder(vision_layers)
        | {"model_type": "siglip_vision_model", "vision_use_head": False, "projection_dim": language_width},
        projection_dim=language_width,
        image_token_index=_id(tokenizer, "<image>"),
        tie_word_embeddings=True,
    )
    _save(folder, PaliGemmaForConditionalGeneration(config), processor, seed)


def build_qwen2vl(folder: Path, *, language_width: int = 32, seed: int = 0, vision_layers: int = 4) -> None:
    """Qwen2-VL: 8 x 8 patches, two by two; what its configuration calls the encoder's width is the language model's."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    vision = {"embed_dim": WIDTH, "hidden_size": language_width, "mlp_ratio": 2}
    _build_qwen(folder, Qwen2VLConfig, Qwen2VLForConditionalGeneration, vision, language_width, seed, vision_layers)


def build_qwen25vl(folder: Path, *, language_width: int = 32, seed: int = 0, vision_layers: int = 4) -> None:
    """Qwen2.5-VL: 8 x 8 patches of a square picture, in windows of 4 x 4, which merge two by two into soft tokens."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    vision = {
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "out_hidden_size": language_width,
        "window_size": SIZE,
        "fullatt_block_indexes": list(range(1, vision_layers, 2)),
    }
    family = Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
    _build_qwen(folder, *family, vision, language_width, seed, vision_layers)


def build_qwen3vl(folder: Path, *, language_width: int = 32, seed: int = 0, vision_layers: int = 4) -> None:
    """Qwen3-VL: 8 x 8 patches, two by two; two layers are shown to layers of the language model besides the last."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    vision = {
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "out_hidden_size": language_width,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0, 2],
    }
    family = Qwen3VLConfig, Qwen3VLForConditionalGeneration
    _build_qwen(folder, *family, vision, language_width, seed, vision_layers)


def _build_qwen(
    folder: Path, config_class: Any, model_class: Any, vision: dict, language_width: int, seed: int, vision_layers: int
) -> None:
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    roles = {
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "vision_start_token": "<|vision_start|>",
        "vision_end_token": "<|vision_end|>",
    }
    tokenizer = _tokenizer(roles)
    half = language_width // HEADS // 2
    part = 3 * half // 8  # rotary positions: time, height, width in the ratio 1 : 1.5 : 1.5
    rotary = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [half - 2 * part, part, part]}
    config = config_class(
        text_config=_language(tokenizer, language_width)
        | {"rope_parameters": rotary, "head_dim": language_width // HEADS, "tie_word_embeddings": True},
        vision_config=vision | {"depth": vision_layers, "num_heads": HEADS, "patch_size": PATCH},
        image_token_id=_id(tokenizer, "<|image_pad|>"),
        video_token_id=_id(tokenizer, "<|video_pad|>"),
        vision_start_token_id=_id(tokenizer, "<|vision_start|>"),
        vision_end_token_id=_id(tokenizer, "<|vision_end|>"),
        tie_word_embeddings=True,
    )
    area = {"shortest_edge": (2 * SIZE) ** 2, "longest_edge": (2 * SIZE) ** 2}
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=area, patch_size=PATCH),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(size=area, patch_size=PATCH),
        chat_template=_chat("<|vision_start|><|image_pad|><|vision_end|>"),
    )
    _save(folder, model_class(config), processor, seed)


def build_open_clip(folder: Path, *, seed: int = 0) -> None:
    """A CLIP model as open_clip keeps it on the hub, with OpenAI's activation (``quick_gelu``) and tokenizer."""
    from open_clip import CLIP
    from safetensors.torch import save_file

    sizes = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": SIZE, "layers": 2, "width": WIDTH, "head_width": 16, "patch_size": PATCH},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
    }
    model = CLIP(**sizes, quick_gelu=True)
    _randomise(model, seed)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    preprocess = {
        "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    config = {"model_cfg": sizes | {"quick_gelu": True}, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=1))


def build_sentences(folder: Path, *, seed: int = 0) -> None:
    """A sentence-transformers model: MPNet, mean pooling, unit length, as all-mpnet-base-v2."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import MPNetConfig, MPNetModel

    tokenizer = _tokenizer({})
    sizes = _language(tokenizer, WIDTH)
    config = MPNetConfig(
        **{k: sizes[k] for k in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")},
        num_attention_heads=HEADS,
        pad_token_id=_id(tokenizer, "<pad>"),
    )
    model = MPNetModel(config)
    _randomise(model, seed)
    parts = folder / "parts"
    model.save_pretrained(parts)
    tokenizer.save_pretrained(parts)
    SentenceTransformer(
        modules=[Transformer(str(parts), max_seq_length=384), Pooling(WIDTH), Normalize()], device="cpu"
    ).save(str(folder))
    for file in parts.iterdir():
        file.unlink()
    parts.rmdir()


def build_released_sae(
    folder: Path, d: int, latents: int, k: int, seed: int, *, layer: int = 1, lm_name: str = "tiny"
) -> None:
    """A TopK dictionary in dictionary_learning's format: ``ae.pt`` and ``config.json``.

    Parameters
    ----------
    folder : of the trainer (``.../trainer_0``).
    d, latents, k : width of the residual stream, number of latents, number of them active at a time.
    seed : of the weights.
    layer, lm_name : what the configuration says it was trained on.
    """
    made = torch.Generator().manual_seed(seed)
    decoder = nn.functional.normalize(torch.randn(d, latents, generator=made), dim=0)  # unit columns
    state = {
        "encoder.weight": decoder.T.clone(),
        "encoder.bias": 0.1 * torch.randn(latents, generator=made),
        "decoder.weight": decoder,
        "b_dec": 0.1 * torch.randn(d, generator=made),
        "k": torch.tensor(k),
        "threshold": torch.tensor(0.5),
    }
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / "ae.pt")
    trainer = {"dict_class": "AutoEncoderTopK", "k": k, "dict_size": latents, "activation_dim": d}
    config = {"trainer": trainer | {"layer": layer, "lm_name": lm_name, "seed": seed}}
    (folder / "config.json").write_text(json.dumps(config, indent=1))


def _tokenizer(roles: dict[str, str]) -> Any:
    """One token a byte, so that all text can be written, and special tokens; ``roles`` are the processor's names."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<bos>", "<eos>", "<end_of_turn>", "<unk>", *roles.values()]
    tokens = dict.fromkeys([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])
    backend = Tokenizer(BPE({token: i for i, token in enumerate(tokens)}, [], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        extra_special_tokens=roles,
        model_max_length=1024,
    )


def _id(tokenizer: Any, token: str) -> int:
    return tokenizer.convert_tokens_to_ids(token)


def _chat(image: str, start: str = "") -> str:
    """A chat template: role, images and text of each turn."""
    return (
        start + "{% for message in messages %}{{ message['role'] }}: {% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}" + image + "{% else %}{{ part['text'] }}{% endif %}"
        "{% endfor %}<end_of_turn>{% endfor %}{% if add_generation_prompt %}model: {% endif %}"
    )


def _language(tokenizer: Any, width: int) -> dict[str, Any]:
    """Settings of a small language model that all families share."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": HEADS,
        "num_key_value_heads": 1,
        "max_position_embeddings": 4096,
        "pad_token_id": _id(tokenizer, "<pad>"),
        "bos_token_id": _id(tokenizer, "<bos>"),
        "eos_token_id": _id(tokenizer, "<eos>"),
    }


def _encoder(layers: int) -> dict[str, Any]:
    """Settings of a small encoder that most families share."""
    return {
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "image_size": SIZE,
        "patch_size": PATCH,
    }


def _randomise(model: nn.Module, seed: int) -> None:
    """Draw all weights, each from its own name and the seed: an encoder does not depend on what stands beside it.

    Larger than Hugging Face's beginnings, so that a picture's influence is seen in the words; this fills Gemma 3's
    projector too, which begins at zero.
    """
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1 or (weight.numel() > 1 and weight.std() > 0):  # constants (of norms) stay
                drawn = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))
                scale = weight[0].numel() ** -0.5 if weight.dim() > 1 else 0.1
                weight.copy_(scale * torch.randn(weight.shape, generator=drawn))


def _save(folder: Path, model: nn.Module, processor: Any, seed: int) -> None:
    """Random weights, greedy answers of letters alone (so that none is empty), everything written to ``folder``."""
    _randomise(model, seed)
    tokenizer = processor.tokenizer
    letters = {_id(tokenizer, letter) for letter in ascii_lowercase}
    settings = model.generation_config
    settings.suppress_tokens = [i for i in range(model.get_output_embeddings().weight.shape[0]) if i not in letters]
    settings.do_sample = False
    settings.pad_token_id, settings.eos_token_id = _id(tokenizer, "<pad>"), _id(tokenizer, "<eos>")
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
