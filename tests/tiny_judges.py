"""Tiny random checkpoints of the photograph judges, in the formats in which the real ones are published."""

from __future__ import annotations

from pathlib import Path

import torch

SAM2_CONFIG = "configs/sam2.1/sam2.1_hiera_t.yaml"
SAM2_OVERRIDES = (
    "++model.image_encoder.trunk.embed_dim=8",
    "++model.image_encoder.trunk.stages=[1,1,2,1]",
    "++model.image_encoder.trunk.global_att_blocks=[3]",
    "++model.image_encoder.neck.backbone_channel_list=[64,32,16,8]",
    "++model.image_encoder.neck.d_model=32",  # the mask decoder's width, too
    "++model.image_encoder.neck.position_encoding.num_pos_feats=32",
    "++model.memory_attention.num_layers=1",
)


def build_grounding_dino(folder: Path, num_queries: int = 10) -> Path:
    """A random Grounding DINO: 10 queries, a one-layer Swin and a one-layer BERT."""
    from transformers import (
        BertConfig,
        BertTokenizer,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
        SwinConfig,
    )

    folder.mkdir(parents=True, exist_ok=True)
    # The model knows [CLS], [SEP], "." and "?" by their numbers in BERT's vocabulary.
    tokens = [f"[unused{i}]" for i in range(1030)]
    tokens[0], tokens[100], tokens[101], tokens[102], tokens[103] = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
    tokens[1012], tokens[1029] = ".", "?"
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens += ["dog", "grass", "sky", "red", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")

    torch.manual_seed(0)
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(
            image_size=64,
            embed_dim=8,
            depths=[1, 1, 1],
            num_heads=[1, 2, 2],
            window_size=4,
            out_features=["stage2", "stage3"],
            out_indices=[2, 3],
        ),
        text_config=BertConfig(
            vocab_size=len(tokens),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=256,
        ),
        num_queries=num_queries,
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_feature_levels=3,
    )
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    GroundingDinoProcessor(
        image_processor=GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}),
        tokenizer=BertTokenizer(vocab=str(folder / "vocab.txt")),
    ).save_pretrained(folder)
    return folder


def build_sam2(folder: Path) -> tuple[str, tuple[str, ...]]:
    """A random SAM 2.1, saved as ``sam2.1_hiera_tiny.pt``; returns the configuration and overrides it needs."""
    from sam2.build_sam import build_sam2 as build

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = build(SAM2_CONFIG, None, device="cpu", hydra_overrides_extra=list(SAM2_OVERRIDES))
    torch.save({"model": model.state_dict()}, folder / "sam2.1_hiera_tiny.pt")
    return SAM2_CONFIG, SAM2_OVERRIDES


def _clip_tokenizer(length: int):
    """A tokenizer of letters, in CLIP's format."""
    from transformers import CLIPTokenizer

    letters = [chr(i) for i in range(33, 127)]
    pieces = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    return CLIPTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], model_max_length=length)


def build_sd3(folder: Path) -> Path:
    """A random Stable Diffusion 3 for pictures of 64 pixels; it has no T5 encoder."""
    from diffusers import (
        AutoencoderKL,
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    torch.manual_seed(0)
    tokenizer = _clip_tokenizer(77)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=16,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    transformer = SD3Transformer2DModel(
        sample_size=32,
        patch_size=2,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=32,
        out_channels=4,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.06,
        scaling_factor=1.5,
    )
    StableDiffusion3Pipeline(
        transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae.eval(),
        text_encoder=CLIPTextModelWithProjection(text).eval(),
        tokenizer=tokenizer,
        text_encoder_2=CLIPTextModelWithProjection(text).eval(),
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
    ).save_pretrained(folder)
    return folder


def build_sam3(folder: Path) -> Path:
    """A random SAM 3 for pictures of 56 pixels: one layer of everything, 5 queries."""
    from transformers import CLIPTextConfig, Sam3Config, Sam3ImageProcessor, Sam3Model, Sam3Processor

    torch.manual_seed(0)
    tokenizer = _clip_tokenizer(32)
    small = {"hidden_size": 32, "num_attention_heads": 2}
    config = Sam3Config(
        vision_config={
            "backbone_config": {
                "model_type": "sam3_vit_model",
                "image_size": 56,
                "patch_size": 14,
                "pretrain_image_size": 56,
                "window_size": 2,
                "intermediate_size": 32,
                "num_hidden_layers": 2,
                "global_attn_indexes": [1],
                **small,
            },
            "fpn_hidden_size": 32,
            "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        },
        text_config=CLIPTextConfig(
            vocab_size=len(tokenizer),
            intermediate_size=32,
            projection_dim=16,
            num_hidden_layers=1,
            max_position_embeddings=32,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
            **small,
        ),
        geometry_encoder_config={"num_layers": 1, "intermediate_size": 32, **small},
        detr_encoder_config={"num_layers": 1, "intermediate_size": 32, **small},
        detr_decoder_config={"num_layers": 1, "num_queries": 5, "intermediate_size": 32, **small},
        mask_decoder_config=small,
    )
    Sam3Model(config).save_pretrained(folder)
    Sam3Processor(
        image_processor=Sam3ImageProcessor(size={"height": 56, "width": 56}), tokenizer=tokenizer
    ).save_pretrained(folder)
    return folder


def build_sentences(folder: Path) -> Path:
    """A random sentence-transformers model: a one-layer BERT and mean pooling."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    bert = folder / "bert"
    bert.mkdir(parents=True)
    (bert / "vocab.txt").write_text("\n".join(tokens) + "\n")
    BertModel(BertConfig(vocab_size=len(tokens), **sizes)).save_pretrained(bert)
    BertTokenizer(vocab=str(bert / "vocab.txt")).save_pretrained(bert)
    modules = [Transformer(str(bert)), Pooling(16)]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder / "whole"))
    return folder / "whole"
