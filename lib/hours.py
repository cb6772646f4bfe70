"""How long a profile takes: matrix products of every notebook, from the models' shapes, at a stated speed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lib.assets import View, known, views
from lib.flops import Job, Shape, items, published
from lib.profile import Profile, StudyConfig
from lib.store import ROOT, hub_id

PROMPT = 40  # text tokens of a question about pictures, about
READING = (150, 30)  # tokens of a question about an explanation, and of its answer, about
BASES = 3  # empty pictures tried besides the white one


@dataclass(frozen=True)
class StageCost:
    """What a notebook computes.

    Attributes
    ----------
    notebook : its number.
    what : what takes long in it.
    flops : matrix products, at most; None if the model's shape is not known.
    hours : at the sustained speed that the profile states.
    """

    notebook: str
    what: str
    flops: float | None
    hours: float | None


def shape_for(model: str) -> Shape | None:
    """The shape of a model: from ``assets.yaml``, or from the configuration in its folder; None if neither has it."""
    name, _ = hub_id(model)
    shape = known().get(name, {}).get("shape")
    if isinstance(shape, str):
        return published()[shape]
    if shape:
        return Shape(**shape)
    return _from_config(ROOT / name) if (ROOT / name / "config.json").is_file() else None


@cache
def _from_config(folder: Path) -> Shape | None:
    from transformers import AutoConfig  # seconds to import, and only local models need it

    config = AutoConfig.from_pretrained(folder)
    vision, text = getattr(config, "vision_config", None), config.get_text_config()
    if vision is None:
        return None
    image, side = (v if isinstance(v, int) else v[0] for v in (vision.image_size, vision.patch_size))
    patches = (image // side) ** 2
    shrink = getattr(config, "scale_factor", 2)  # pixel shuffle: Idefics3 says how much, InternVL halves each side
    shown = getattr(config, "mm_tokens_per_image", None) or patches // shrink**2
    return Shape(
        vision_layers=vision.num_hidden_layers,
        vision_width=vision.hidden_size,
        vision_mlp=vision.intermediate_size,
        tokens=patches + (config.model_type == "internvl"),
        image_tokens=shown,
        pixels=3 * side * side,
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        mlp=text.intermediate_size,
        heads=text.num_attention_heads,
        kv_heads=text.num_key_value_heads,
        head_dim=getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
        vocabulary=text.vocab_size,
        projector=vision.hidden_size * text.hidden_size,
    )


@dataclass(frozen=True)
class Methods:
    """How many methods of each family are compared (:mod:`lib.explain` has them)."""

    steering: int
    top_k: int
    hybrid: int

    @property
    def all(self) -> int:
        """Methods of any family."""
        return self.steering + self.top_k + self.hybrid


EVERY = Methods(2, 2, 4)
PUBLISHED = Methods(1, 2, 2)  # without replacing
CONTROLS = 4  # of Steering: two kinds of direction for each of its two methods


@dataclass(frozen=True)
class Prices:
    """FLOPs of the steps that a run consists of.

    Attributes
    ----------
    see : one image through the encoder up to the layer, and its codes.
    train : one image's activations through the dictionary, forwards and backwards, after the encoder.
    read : a question about an explanation, answered by the language model; 0 for scenes.
    mask : finding an explanation in the held-out top images of a latent.
    score : all metrics of one explanation, ``mask`` included.
    """

    shape: Shape
    view: View
    see: float
    train: float
    read: float
    mask: float
    score: float

    @staticmethod
    def of(view: View, model: str | None = None) -> Prices | None:
        """Prices for a view of a profile, with its subject or another explainer; None if the shape is not known."""
        shape = shape_for(model or view.get("subject.model"))
        if shape is None:
            return None
        codes = 2 * shape.tokens * shape.vision_width * view.get("sae.latents")
        see = shape.see(min(view.get("subject.layer", 0) + 1, shape.vision_layers)) + codes
        prompt, answer = READING
        spoken = sum(shape.read(1, prompt + i) + shape.logits() for i in range(answer))
        read = 0 if view.scenes else shape.read(prompt) + spoken
        k, drawn = view.get("explain.k", 5), view.get("score.synthetic_images", 3)
        mask = read + k * (_judge(view, "score.detector") + _judge(view, "score.segmenter"))
        size, guided = view.get("score.size", 512), 2 if view.get("score.guidance", 7.5) > 1 else 1
        draw = _judge(view, "score.generator") * view.get("score.steps", 30) * guided * (size / 512) ** 2
        score = mask + drawn * (draw + see) + (k + 1) * _judge(view, "score.clip")
        return Prices(shape, view, see, 6 * codes, read, mask, score)

    def explain(self, n: float, shown: int | None = None) -> float:
        """``n`` explanations from ``shown`` pictures each (default: the profile's k); by Steering if that is 0."""
        k = self.view.get("explain.k", 5) if shown is None else shown
        job = Job(1, 0, max(1, k), PROMPT, self.view.get("explain.max_new_tokens", 16), 0, 0)
        cost = items(self.shape, job, "Top-k" if k else "Steering")
        return n * sum(value for name, value in cost.items() if name.startswith("explain"))


def _judge(view: View, key: str) -> float:
    """FLOPs of a judge, per picture; a judge of unknown size counts as nothing."""
    name, _ = hub_id(view.get(key, ""))
    return 0.0 if view.scenes else 1e9 * known().get(name, {}).get("gflops", 0)


def dictionary_cost(p: Prices) -> float:
    """Notebook 02: nothing for a released dictionary; else every training image is encoded, and learnt from."""
    return 0.0 if p.view.get("sae.pretrained") else p.view.get("images.train") * (p.see + p.train)


def evidence_cost(p: Prices) -> float:
    """Notebook 03: both image sets are encoded once."""
    return (p.view.get("images.explain") + p.view.get("images.evaluate")) * p.see


def explanation_cost(p: Prices, methods: Methods = EVERY, controls: int = CONTROLS) -> float:
    """Notebook 04: coefficients chosen on validation latents by IoU, then the test latents by all methods."""
    validation, test = p.view.get("explain.validation"), p.view.get("explain.test")
    swept = methods.steering * len(p.view.get("explain.steering")), methods.hybrid * len(p.view.get("explain.hybrid"))
    sweep = p.explain(swept[0] * validation, 0) + p.explain(swept[1] * validation) + sum(swept) * validation * p.mask
    blank, shown = methods.steering + controls, methods.top_k + methods.hybrid
    return sweep + p.explain(blank * test, 0) + p.explain(shown * test)


def stages(profile: Profile) -> list[StageCost]:
    """Matrix products of every notebook that computes much, and their hours.

    Upper estimates: every explanation is taken to be new and as long as it may be. Hours are FLOPs at a stated
    sustained rate; nothing is measured. Notebooks that are not listed compute next to nothing.
    """
    first, *others = views(profile)
    study = getattr(profile, "study", StudyConfig(0, ()))
    p, n = Prices.of(first), study.latents
    test = first.get("explain.test")
    rows: list[tuple[str, str, float | None]] = []

    def add(notebook: str, what: str, flops: float | None) -> None:
        rows.append((notebook, what, flops))

    add("02", "released dictionary, loaded" if first.get("sae.pretrained") else "dictionary", p and dictionary_cost(p))
    add("03", "evidence", p and evidence_cost(p))
    add("04", "explanations", p and explanation_cost(p))
    add("05", "scores", p and (EVERY.all + CONTROLS) * test * p.score)
    for view in others:
        add("07", f"variant {view.name}", _variant_cost(view))
    add("08", "protocols", p and PUBLISHED.all * test * p.mask)
    add("09", "controls", p and 8 * (p.explain(n) + n * p.score))
    add("10", "contextual bias", p and _bias_cost(p, study))
    for name, model in getattr(profile, "explainers", {}).items():
        if model != first.get("subject.model"):
            add("12", f"explainer {name}", _explainer_cost(first, model, n))
    sizes = len(first.get("images.sizes", ()))
    add("13", "image set sizes", p and sizes * 2 * (p.explain(n) + n * p.score))
    add("16", "sensitivity", p and _sensitivity_cost(p, study))
    rate = profile.hardware.tflops * 1e12 * 3600
    return [StageCost(nb, what, f, None if f is None else f / rate) for nb, what, f in rows]


def _variant_cost(view: View) -> float | None:
    p = Prices.of(view)
    if p is None:
        return None
    scores = PUBLISHED.all * view.get("explain.test") * p.score
    return dictionary_cost(p) + evidence_cost(p) + explanation_cost(p, PUBLISHED, 0) + scores


def _bias_cost(p: Prices, study: StudyConfig) -> float:
    """Photographs: every explanation is labelled. Scenes: doses, and dictionaries of other worlds."""
    if not p.view.scenes:
        return PUBLISHED.all * p.view.get("explain.test") * p.read
    images, shown = study.dose_images, 3  # methods that look at images
    dose = images * p.see + shown * p.explain(study.latents)
    world = 4 * images * p.see + 2 * images * p.train + shown * p.explain(study.latents) + p.explain(study.latents, 0)
    return len(study.doses) * dose + len(study.worlds) * world


def _explainer_cost(view: View, model: str, n: int) -> float | None:
    """Steering's coefficient chosen anew, then Steering and Top-k, and an answer without any intervention."""
    p = Prices.of(view, model)
    if p is None:
        return None
    sweep = len(view.get("explain.steering")) * view.get("explain.validation")
    return p.explain(sweep + 2 * n, 0) + sweep * p.mask + p.explain(n) + 2 * n * p.score


def _sensitivity_cost(p: Prices, study: StudyConfig) -> float:
    """Coefficients, numbers of top images, and empty pictures."""
    n, own = study.latents, p.view.get("explain.k", 5)
    blank = EVERY.steering * (len(p.view.get("explain.steering")) + BASES)
    hybrid, counts = len(p.view.get("explain.hybrid")), [k for k in study.k if k != own]
    explained = p.explain(blank * n, 0) + p.explain(hybrid * n) + sum(p.explain(n, k) for k in counts)
    return explained + (blank + hybrid + len(counts)) * n * p.score
