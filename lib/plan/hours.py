"""What takes how long: matrix products of every notebook of a profile, from the models' shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from lib.flops import Job, Shape, items, outline, published, shape_of
from lib.hub import Asset
from lib.methods import COMPARED, HYBRID, PUBLISHED, STEERED, STEERING, TOP_K, Method
from lib.plan.assets import known
from lib.profile import Profile

PROMPT = 40  # text tokens of a question about pictures, about
READING = (150, 30)  # tokens of a question about an explanation, and of its answer, about
MEANING = (
    "Hours are not measured: they are matrix products, counted from the shapes of the models, at the sustained "
    "speed above. Words are spoken one at a time, which is slower than that; explanations that say the same "
    "are drawn once, which is quicker. Loading, drawing scenes and plotting are not counted."
)
BASES = 3  # empty pictures tried besides the white one
CONTROLS = 2 * len(STEERING)  # of Steering: two kinds of direction for each of its methods
PERMUTED = sum(m in PUBLISHED for m in HYBRID)  # of the hybrid: another latent's direction
STEER, SHOW = STEERING.add, TOP_K.masks  # methods of one family, and the hybrid and Top-k, cost the same


def told(hours: float) -> str:
    """Hours as people read them: two digits, and no powers of ten."""
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"


class Cost(NamedTuple):
    """What takes long in a notebook: matrix products, at most; None if the model's shape is not known."""

    notebook: str
    what: str
    flops: float | None


def shape_for(model: Asset) -> Shape | None:
    """The shape of a model: from ``assets.yaml``, or from the configuration in its folder; None if neither has it."""
    shape = known().get(model.id, {}).get("shape")
    if shape:
        return Shape(**shape) if isinstance(shape, dict) else published()[shape]
    return _outlined(model.local) if model.local else None


@cache
def _outlined(folder: Path) -> Shape | None:
    try:
        return shape_of(outline(folder))
    except (OSError, ValueError):
        return None  # no such model: the run says what is wrong with it


@dataclass(frozen=True)
class Prices:
    """FLOPs of the steps that a run consists of.

    Attributes
    ----------
    profile : what is priced.
    shape : of the subject, or of another explainer.
    layers : of the encoder, up to the one that is read and steered.
    see : one image through the encoder up to the layer, and its codes.
    read : a question about an explanation, answered by the language model; 0 for scenes.
    mask : finding an explanation in the held-out top images of a latent.
    score : all metrics of one explanation, ``mask`` included.
    """

    profile: Profile
    shape: Shape
    layers: int
    see: float
    read: float
    mask: float
    score: float

    @staticmethod
    def of(profile: Profile, model: Asset | None = None) -> Prices | None:
        """Prices for a profile, with its subject or another explainer; None if the shape is not known."""
        shape = shape_for(model or profile.subject.model)
        if shape is None:
            return None
        s, k = profile.score, profile.explain.k
        layers = min(profile.subject.layer + 1, shape.vision_layers)
        see = shape.see(layers) + shape.encode(profile.sae.latents)
        read = 0 if profile.images.source == "scenes" else shape.hear(READING[0]) + shape.speak(*READING)
        mask = read + k * (_judge(s.detector) + _judge(s.segmenter))
        draw = _judge(s.generator) * s.steps * (2 if s.guidance > 1 else 1) * (s.size / 512) ** 2
        score = mask + s.synthetic_images * (draw + see) + (k + 1) * _judge(s.clip)
        return Prices(profile, shape, layers, see, read, mask, score)

    def explain(self, method: Method, latents: int, k: int | None = None) -> float:
        """Explanations of so many latents by a method, from ``k`` pictures (default: the profile's k)."""
        e = self.profile.explain
        job = Job(latents, 0, e.k if k is None else k, PROMPT, e.max_new_tokens, self.layers, 0)
        return sum(items(self.shape, job, method.family).values())


def _judge(model: Asset | None) -> float:
    """FLOPs of a judge, per picture; a judge of unknown size counts as nothing."""
    return 1e9 * known().get(model.id, {}).get("gflops", 0) if model else 0.0


def training_cost(p: Prices, images: int) -> float:
    """A dictionary that is trained: every image is encoded, and learnt from.

    The product that makes codes is dense. The rest of a step takes the active latents alone, and the dead ones that are
    revived: at most half the stream's width of them.
    """
    return images * (p.see + _step_cost(p))


def _step_cost(p: Prices) -> float:
    """Learning from the patches of one image, once they are encoded."""
    recipe = p.profile.sae
    return p.shape.learn(recipe.k + min(recipe.latents, p.shape.vision_width // 2))


def dictionary_cost(p: Prices) -> float:
    """Notebook 02: a dictionary is trained, unless there is a released one."""
    return 0.0 if p.profile.sae.pretrained else training_cost(p, p.profile.images.train)


def evidence_cost(p: Prices) -> float:
    """Notebook 03: both image sets are encoded once, for all dictionaries."""
    return (p.profile.images.explain + p.profile.images.evaluate) * p.see


def explanation_cost(p: Prices, methods: Sequence[Method], test: int, controls: int = 0) -> float:
    """Notebook 04: coefficients chosen on validation latents by IoU, then the test latents by all methods."""
    e = p.profile.explain
    tried = {m: len(e.steering if m in STEERING else e.hybrid) for m in methods if m in STEERED}
    sweep = sum(n * (p.explain(m, e.validation) + e.validation * p.mask) for m, n in tried.items())
    swapped = PERMUTED * p.explain(SHOW, test) if controls else 0
    return sweep + sum(p.explain(m, test) for m in methods) + controls * p.explain(STEER, test) + swapped


def costs(profile: Profile) -> Iterator[Cost]:
    """Matrix products of every notebook that computes much; those that are not listed compute next to nothing.

    Upper estimates: every explanation is taken to be new and as long as it may be. Nothing is measured.
    """
    p, test, n = Prices.of(profile), profile.explain.test, profile.study.latents
    yield Cost(
        "02", "released dictionary, loaded" if profile.sae.pretrained else "dictionary", p and dictionary_cost(p)
    )
    if profile.dictionaries > 1:
        yield Cost("02", "other dictionaries", p and _others_cost(p))
    yield Cost("03", "evidence", p and evidence_cost(p))
    yield Cost("04", "explanations", p and explanation_cost(p, COMPARED, test, CONTROLS))
    yield Cost("05", "scores", p and (len(COMPARED) + CONTROLS + PERMUTED) * test * p.score)
    if profile.dictionaries > 1:
        yield Cost("06", "other dictionaries", p and _replicas_cost(p))
    for name in profile.variants:
        other = Prices.of(profile.variant(name))
        yield Cost("07", f"variant {name}", other and _variant_cost(other))
    yield Cost("08", "protocols", p and len(PUBLISHED) * test * p.mask)
    controls = 3 * PERMUTED  # random directions, other images, or both; another's direction is there
    yield Cost("09", "controls", p and controls * (p.explain(SHOW, n) + n * p.score))
    yield Cost("10", "contextual bias", p and _bias_cost(p))
    for name, model in profile.explainers.items():
        if model != profile.subject.model:
            other = Prices.of(profile, model)
            yield Cost("12", f"explainer {name}", other and _explainer_cost(other))
    both = 2 * len(profile.images.sizes)  # Top-k and the hybrid
    yield Cost("13", "image set sizes", p and both * (p.explain(SHOW, n) + n * p.score))
    yield Cost("16", "sensitivity", p and _sensitivity_cost(p))


def _others_cost(p: Prices) -> float:
    """Notebook 02: dictionaries of other seeds are trained on the same activations."""
    return (p.profile.dictionaries - 1) * p.profile.images.train * _step_cost(p)


def _replicas_cost(p: Prices) -> float:
    """The comparison by dictionaries of other seeds, each with its own choices."""
    test, controls = p.profile.explain.test, 2  # random and permuted directions, added
    scores = (len(PUBLISHED) + controls + PERMUTED) * test * p.score
    return (p.profile.dictionaries - 1) * (explanation_cost(p, PUBLISHED, test, controls) + scores)


def _variant_cost(p: Prices) -> float:
    test = p.profile.explain.test
    scores = len(PUBLISHED) * test * p.score
    return dictionary_cost(p) + evidence_cost(p) + explanation_cost(p, PUBLISHED, test) + scores


def _bias_cost(p: Prices) -> float:
    """Photographs: every explanation is labelled. Scenes: doses, and dictionaries of other worlds."""
    study = p.profile.study
    if p.profile.images.source != "scenes":
        return len(PUBLISHED) * p.profile.explain.test * p.read
    images, shown = study.dose_images, 2 * p.explain(SHOW, study.latents)  # two methods look at images
    dose = images * p.see + shown
    world = training_cost(p, 2 * images) + 2 * images * p.see + shown + p.explain(STEER, study.latents)
    return len(study.doses) * dose + len(study.worlds) * world


def _explainer_cost(p: Prices) -> float:
    """Steering's coefficient chosen anew, then Steering and Top-k, and an answer without any intervention."""
    e, n = p.profile.explain, p.profile.study.latents
    chosen = len(e.steering) * (p.explain(STEER, e.validation) + e.validation * p.mask)
    return chosen + 2 * p.explain(STEER, n) + p.explain(SHOW, n) + 2 * n * p.score


def _sensitivity_cost(p: Prices) -> float:
    """Coefficients, numbers of top images, and empty pictures."""
    e, study = p.profile.explain, p.profile.study
    blank, hybrid = len(STEERING) * (len(e.steering) + BASES), len(e.hybrid)
    counts = [k for k in study.k if k != e.k]
    n, more = study.latents, sum(p.explain(SHOW, study.latents, k) for k in counts)
    explained = blank * p.explain(STEER, n) + hybrid * p.explain(SHOW, n) + more
    return explained + (blank + hybrid + len(counts)) * n * p.score
