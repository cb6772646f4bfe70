"""Teach SmolLM2 to look: a connector from the default encoder's patches, and low-rank adapters (LoRA), from captions.

The encoder and the published weights stay as they are. What is asked, and about which pictures, is what the default
subject's own language model learns from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, SmolVLMForConditionalGeneration, SmolVLMProcessor

from lib import prompts
from lib.desk import smollm2
from lib.desk.explainer import ExplainerRecipe, Study, examples, study
from lib.desk.quality import measure_subject
from lib.desk.shipping import MODELS, WORK, describe, publish, work_of
from lib.desk.subjects import encoder_of, studied
from lib.desk.training import fit
from lib.families import text_of
from lib.hub import Asset
from lib.vlm import VLM, Checkpoint

ADAPTED = r".*text_model.*\.(q_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
START = 6000  # captions that the connector starts from
RIDGE = 1e-2  # in units of the features' mean square
_SMALL_WORDS = " a an the of and on in with at by"  # of a caption; all others say what is seen


@dataclass(frozen=True)
class ConnectorRecipe:
    """How connector and adapters are trained.

    Attributes
    ----------
    lessons : what is asked, how often, and at which rate; its sizes of a language model are not used.
    rank : of the adapters.
    encoder : the subject whose encoder is read.
    """

    lessons: ExplainerRecipe = ExplainerRecipe(steps=700, batch=24, lr=3e-3, seed=13)
    rank: int = 8
    encoder: Asset = smollm2.ENCODER


@torch.inference_mode()
def begin(whole: SmolVLMForConditionalGeneration, proc: SmolVLMProcessor, data: Study) -> None:
    """Set the connector to the least-squares map (ridge) from a picture's mean patch to its caption's mean word.

    So soft tokens begin as something like the words of what is seen, at the length that words have.
    """
    embeddings = whole.get_input_embeddings().weight
    small_words = set(proc.tokenizer(_SMALL_WORDS).input_ids)
    captions = data.answers[prompts.DESCRIBE][:START]
    words = [[i for i in ids if i not in small_words] for ids in proc.tokenizer([f" {c}" for c in captions]).input_ids]
    wanted = torch.stack([embeddings[ids].mean(0) if ids else embeddings.mean(0) for ids in words])  # [n, width]
    seen = whole.model.connector.pixel_shuffle(torch.from_numpy(data.scenes[:START]).float(), whole.config.scale_factor)
    mean = seen.mean(1)  # [n, patches of a token * d]
    gram = mean.T @ mean
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram))
    matrix = torch.linalg.solve(gram + ridge, mean.T @ wanted)
    scale = embeddings.norm(dim=1).mean() / (seen @ matrix).norm(dim=-1).mean()
    whole.model.connector.modality_projection.proj.weight.copy_((matrix * scale).T)


def answer_loss(
    whole: SmolVLMForConditionalGeneration,
    proc: SmolVLMProcessor,
    prompt: str,
    features: Tensor,
    answers: list[str],
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the answers given the pictures' features, and the share of exact answers.

    The question, the same for all, stands before the pictures, and is read once.

    Parameters
    ----------
    features : of ``k`` pictures for each of ``n`` questions, ``[n, k, patches, d]``.
    answers : ``n`` noun phrases; each is spoken after the fixed opening.
    """
    n, text, tokenizer = len(answers), whole.model.text_model, proc.tokenizer
    soft = whole.model.connector(features.flatten(0, 1)).unflatten(0, (n, -1)).flatten(1, 2)  # [n, tokens, width]
    question = tokenizer(text_of(proc, 0, prompt), add_special_tokens=False, return_tensors="pt").input_ids
    read = text(input_ids=question, use_cache=True).past_key_values
    cache = DynamicCache()
    for i, layer in enumerate(read.layers):
        cache.update(layer.keys.expand(n, -1, -1, -1), layer.values.expand(n, -1, -1, -1), i)
    end = tokenizer.convert_ids_to_tokens(whole.config.text_config.eos_token_id)
    turns = [f"{prompts.OPENING} {answer}.{end}" for answer in answers]
    spoken = tokenizer(turns, add_special_tokens=False, padding=True, padding_side="right", return_tensors="pt")
    words = whole.get_input_embeddings()(spoken.input_ids[:, :-1])
    place = torch.arange(question.shape[1], question.shape[1] + soft.shape[1] + words.shape[1])[None]
    hidden = text(
        inputs_embeds=torch.cat([soft, words], 1), past_key_values=cache, position_ids=place, use_cache=True
    ).last_hidden_state[:, soft.shape[1] - 1 :]
    counts = spoken.attention_mask.bool()
    logits, target = whole.lm_head(hidden[counts]), spoken.input_ids[counts]
    right = torch.ones_like(counts)
    right[counts] = logits.argmax(-1) == target
    return nn.functional.cross_entropy(logits, target), right.all(1).float().mean()


def adapt(whole: SmolVLMForConditionalGeneration, rank: int) -> Any:
    """The model with fresh adapters, in PEFT's wrapping: they and the connector are all that learns."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=ADAPTED, modules_to_save=["modality_projection"])
    return get_peft_model(whole, config)


def train(
    whole: SmolVLMForConditionalGeneration,
    proc: SmolVLMProcessor,
    encoder: nn.Module,
    recipe: ConnectorRecipe,
    folder: Path,
    pictures: Path,
) -> tuple[Any, list[dict[str, float]]]:
    """Train connector and adapters; returns the model in PEFT's wrapping, and the log.

    Parameters
    ----------
    whole : the model that is adapted; all of it is frozen.
    encoder : gives the features that are studied.
    folder : training resumes from it.
    pictures : what is studied is kept there.
    """
    lessons = recipe.lessons
    data = study(encoder, lessons, pictures)
    begin(whole, proc, data)
    torch.manual_seed(lessons.seed)
    adapted = adapt(whole, recipe.rank)
    # Named so that the optimiser knows them for matrices inside a model.
    learnt = {f"layer-{name.replace('.', '-')}": p for name, p in adapted.named_parameters() if p.requires_grad}

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        prompt, features, answers = examples(step, lessons, data)
        value, right = answer_loss(whole, proc, prompt, features, answers)
        return value, {"exact": round(right.item(), 4), "images": features.shape[1]}

    log = fit(nn.ParameterDict(learnt), loss, steps=lessons.steps, lr=lessons.lr, folder=folder, name="connector")
    return adapted, log


def build_adapter(
    folder: Path = MODELS / Path(smollm2.ADAPTER).name,
    work: Path = WORK,
    recipe: ConnectorRecipe = ConnectorRecipe(),
    measure: int = 200,
) -> None:
    """Train connector and adapters, and write them to ``folder`` with card and training log.

    ``measure`` is the number of held-out pictures behind each figure on the card.

    Raises
    ------
    OSError
        If the language model cannot be had.
    """
    model, tokenizer = smollm2.language(work)
    proc, place = smollm2.processor(tokenizer), recipe.encoder.fetch()
    _, vision, _ = encoder_of(recipe.encoder, work)
    whole = smollm2.build(model, proc.image_token_id, place)
    fresh, merged = work / "smollm2-adapter", work / "smollm2"
    own = work_of(work, "connector", recipe)
    pictures = work_of(work, "studied", studied(recipe.encoder, recipe.lessons))
    adapted, log = train(whole, proc, vision, recipe, own, pictures)
    adapted.to(torch.bfloat16).save_pretrained(str(fresh))
    # What is measured is what every user puts together.
    smollm2.save(smollm2.build(model, proc.image_token_id, place), proc, fresh, merged)
    vlm = VLM.load(Checkpoint(Asset(merged), 0))
    lessons, learnt = recipe.lessons, sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    facts = {
        "class": f"`{type(vlm.model).__name__}`, once it is put together; this folder is in PEFT's format",
        "encoder": f"that of `{place.name}`, frozen",
        "language model": f"SmolLM2-135M-Instruct, {vlm.language_parameters:,} parameters, from the Python package "
        f"`{smollm2.PACKAGE}` (Apache 2.0), in four bits each; frozen",
        "trained here": f"a linear connector, and adapters of rank {recipe.rank}: {learnt:,} parameters",
        "trained on": f"{lessons.steps * lessons.batch:,} questions, those of the default subject: captions, the main "
        "thing, what several pictures have in common; never a masked or heat-mapped one; never on steered activations",
        "training time": f"{log[-1]['seconds'] / 60:.0f} minutes on a CPU",
    }
    lines = [
        "What stands between the default subject's encoder and SmolLM2-135M-Instruct, a language model that others",
        "have trained on web text. `./run_all.sh --profile smollm2` fetches it and puts the explainer together.",
    ]
    quality = measure_subject(vlm, measure)
    describe(fresh, "Connector and adapters for SmolLM2", lines, quality, facts, {"connector": log})
    publish(fresh, folder, merged, own)
