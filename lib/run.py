"""A run: a profile, the stages it consists of, and what a notebook asks of it.

Images, model, dictionary, evidence, explanations, scores: each stage names the notebook that makes
it and is kept under a digest of its settings, its code and the stages before it. So a second run
reuses what still holds, and a changed setting remakes what it touches and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from lib.activations import ShuffledActivations, activations
from lib.evidence import Evidence, Scores, TopImages, stream, watch
from lib.explain import (
    HYBRID,
    NOTHING,
    STEERING,
    TOP_K,
    Explainer,
    Method,
    kept,
    permuted_directions,
    permuted_evidence,
    random_directions,
)
from lib.judges import Segmenter
from lib.judges.clip import OpenClip
from lib.metrics import SyntheticImages, mean_ious, score_table
from lib.profile import Profile, ProfileError
from lib.sae import SAETraining, TopKSAE, load_sae, quality, released, train_sae
from lib.store import ROOT, Stage, add_rows, code, digest, model_digest, write_atomically, write_json
from lib.truth import MEASURES, Truth
from lib.vlm import DEVICE, VLM
from lib.world import PhotoWorld, SceneWorld, World

PERMUTED = ("permuted", "images", "both")  # controls in which latents swap directions, images, or both
KEEP = 10  # top images kept per latent; up to as many can be shown


class Run:
    """A profile with its data, models and results.

    Parameters
    ----------
    profile : what to run.
    command : what a user typed for it, for error messages.

    Raises
    ------
    ProfileError
        If more top images are to be shown than are kept.
    """

    def __init__(self, profile: Profile, command: str = "./run_all.sh") -> None:
        if not 0 < profile.explain.k <= KEEP:
            raise ProfileError(f"explain.k must lie between 1 and {KEEP}, not {profile.explain.k}")
        self.profile, self.command = profile, command
        self.figures = ROOT / "figures" / profile.label

    def variant(self, name: str) -> Run:
        """The same computation with one of the profile's variants: another layer, another subject.

        Raises
        ------
        ProfileError
            If the profile has no such variant.
        """
        if name not in self.profile.variants:
            raise ProfileError(
                f"profile {self.profile.name} has no variant {name!r}: {', '.join(self.profile.variants)}"
            )
        return self.changed(self.profile.variants[name])

    def changed(self, changes: dict[str, Any]) -> Run:
        """The same computation with settings changed; stages that the change does not touch are shared."""
        return Run(self.profile.variant(changes), self.command)

    # -- stages -----------------------------------------------------------------------------------

    def _stage(self, name: str, notebook: str, *depends: Any) -> Stage:
        folder = ROOT / "data" / "runs" / self.profile.name / f"{name}-{digest(*depends)}"
        return Stage(folder, f"{self.command} --from {notebook}")

    @cached_property
    def sae_stage(self) -> Stage:
        """The dictionary, made by notebook 02."""
        p, subject = self.profile.as_dict(), self.profile.subject
        images = {k: v for k, v in p["images"].items() if k not in ("explain", "evaluate", "sizes")}
        source = code("scenes", "images", "photos", "vlm", "hooks", "activations", "sae")
        # What a model is called, and what its tables stand beside, changes nothing in it.
        settings = {k: v for k, v in p["subject"].items() if k not in ("name", "published")}
        return self._stage("sae", "02", p["seed"], settings, model_digest(subject.model), images, p["sae"], source)

    @cached_property
    def evidence_stage(self) -> Stage:
        """Top images and truth, made by notebook 03."""
        p = self.profile.as_dict()
        above = self.sae_stage.folder.name
        return self._stage(
            "evidence", "02", above, p["images"], p["score"]["negatives"], code("evidence", "truth", "run")
        )

    @cached_property
    def explanation_stage(self) -> Stage:
        """Explanations and chosen coefficients, made by notebook 04."""
        source = code("explain", "prompts", "overlay", "metrics", "judges", "run")
        above, others = self.evidence_stage.folder.name, map(model_digest, self.profile.explainers.values())
        return self._stage("explanations", "02", above, self.profile.as_dict()["explain"], *others, source)

    @cached_property
    def score_stage(self) -> Stage:
        """Scores, made by notebook 05."""
        judge = model_digest(self.profile.score.clip)
        source = code("metrics", "judges", "truth", "run")
        above, explain = self.evidence_stage.folder.name, self.profile.explain
        settings = {k: v for k, v in self.profile.as_dict()["score"].items() if k != "sentences"}
        return self._stage("scores", "05", above, explain.k, settings, judge, source)

    # -- data and models --------------------------------------------------------------------------

    @cached_property
    def world(self) -> World:
        """The images, and the judges that belong to them."""
        if self.profile.images.source == "scenes":
            return SceneWorld(self.profile)
        return PhotoWorld(self.profile, lambda: self.vlm, self.world_folder)

    @property
    def world_folder(self) -> Path:
        """Where judges keep what depends on the judges alone."""
        c = self.profile
        name = digest(c.images.source, c.subject.model, c.seed, c.as_dict()["score"], code("judges"))
        return ROOT / "data" / "runs" / c.name / f"world-{name}"

    @property
    def sets(self) -> dict[str, Sequence[Image.Image]]:
        """The disjoint image sets: ``train``, ``explain`` and ``evaluate``."""
        return self.world.sets

    @cached_property
    def models(self) -> dict[str, Run]:
        """What the paper has a table for, by its name there: this run, and those of its variants that have one."""
        own = self.profile.subject.published or self.profile.subject.name
        named = {changes.get("subject.published"): name for name, changes in self.profile.variants.items()}
        return {own: self, **{paper: self.variant(name) for paper, name in named.items() if paper}}

    @cached_property
    def vlm(self) -> VLM:
        """The subject, which is also the explainer."""
        c = self.profile.subject
        return VLM.load(c.model, c.layer, c.dtype, c.layers)

    @cached_property
    def subject_training(self) -> dict[str, Any] | None:
        """Log and held-out quality that a desk model was shipped with; None for any other model."""
        path = ROOT / self.profile.subject.model / "training.json"
        return json.loads(path.read_text()) if path.is_file() else None

    @cached_property
    def sae(self) -> TopKSAE:
        """The trained dictionary."""
        return load_sae(self.sae_stage.need("sae.safetensors")).to(DEVICE)

    @cached_property
    def sae_report(self) -> dict[str, Any]:
        """Quality of the dictionary on held-out activations, the residual stream's norm, the training log."""
        return json.loads(self.sae_stage.need("report.json").read_text())

    @cached_property
    def explain_evidence(self) -> Evidence:
        """Top images of the explanation set: what an explainer may see."""
        return Evidence.load(self.evidence_stage.need("explain.safetensors"))

    @cached_property
    def evaluate_evidence(self) -> Evidence:
        """Top images of the held-out set: what explanations are scored on."""
        return Evidence.load(self.evidence_stage.need("evaluate.safetensors"))

    @property
    def knows_truth(self) -> bool:
        """Whether it is known what every latent is active on: for scenes it is, for photographs nobody knows."""
        return isinstance(self.world, SceneWorld)

    @cached_property
    def truth(self) -> Truth:
        """What every latent is active on, over the held-out set.

        Raises
        ------
        ProfileError
            For photographs.
        """
        if not self.knows_truth:
            raise ProfileError("nobody knows what is in a photograph: this needs images.source scenes")
        return Truth.load(self.evidence_stage.need("truth.safetensors"))

    @property
    def known_truth(self) -> Truth | None:
        """:attr:`truth` where there is one, for tables that are the richer for it."""
        return self.truth if self.knows_truth else None

    @property
    def skipped(self) -> pd.DataFrame:
        """Pictures that could not be read so far, and why."""
        path = self.world_folder / "skipped.csv"
        return pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["name", "reason"])

    @cached_property
    def latents(self) -> dict[str, list[int]]:
        """Active latents, in order: the first choose coefficients (``validation``), the next report (``test``).

        Raises
        ------
        ProfileError
            If the dictionary has too few active latents.
        """
        c = self.profile.explain
        seen = (self.explain_evidence.fired >= c.min_images) & (self.evaluate_evidence.fired >= c.min_images)
        active = torch.nonzero(seen).flatten().tolist()
        if len(active) < c.validation + c.test:
            raise ProfileError(
                f"{len(active)} active latents for {c.validation} validation and {c.test} test latents: lower "
                "explain.test, or raise sae.latents, images.explain or images.evaluate"
            )
        return {"validation": active[: c.validation], "test": active[c.validation : c.validation + c.test]}

    # -- making the stages ------------------------------------------------------------------------

    def train_sae(self) -> dict[str, Any]:
        """Train the dictionary unless it is there; returns :attr:`sae_report`."""
        path = self.sae_stage.path("sae.safetensors")
        if not path.exists():
            c, sets, size, seed = self.profile.sae, self.sets, self.profile.subject.batch, self.profile.seed
            if c.pretrained:
                sae, log = load_sae(released(c.pretrained)), []
            else:
                dtype = getattr(torch, c.dtype)
                stream = ShuffledActivations(self.vlm, sets["train"], c.batch, size, c.buffer, seed, dtype)
                recipe = SAETraining(c.latents, c.k, c.batch, c.lr, c.warmup, c.dead_after, c.aux_weight, c.dtype)
                sae, log = train_sae(stream.batches, len(stream), recipe, self.sae_stage.folder, seed, c.checkpoint)
            if sae.directions.shape[1] != self.vlm.width:
                raise ProfileError(
                    f"the dictionary is {sae.directions.shape[1]} wide and the encoder {self.vlm.width}: "
                    f"{c.pretrained} was not made for {self.profile.subject.model}"
                )
            held_out = activations(self.vlm, sets["explain"], range(min(500, len(sets["explain"]))), size)
            write_json(self.sae_stage.path("report.json"), {**quality(sae, held_out), "log": log})
            sae.save(path)
        return self.sae_report

    def gather_evidence(self) -> None:
        """One pass over each set: top images of both and of smaller sets; truth and negatives of the held-out one."""
        m, batch = self.sae.encoder.out_features, self.profile.subject.batch
        for name in ("explain", "evaluate"):
            images, path = self.sets[name], self.evidence_stage.path(f"{name}.safetensors")
            if path.exists():
                continue
            patches = self.vlm.patches
            top = TopImages(m, KEEP, patches)
            if name == "explain":
                smaller = {n: TopImages(m, KEEP, patches, limit=n) for n in self.profile.images.sizes}
                watch(stream(self.vlm, self.sae, images, batch, name), top, *smaller.values())
                for n, part in smaller.items():
                    part.result().save(self.evidence_stage.path(f"explain-{n}.safetensors"))
            else:
                truth, scores = self.world.counter(m, images), Scores(m, self.negative_images)
                watch(stream(self.vlm, self.sae, images, batch, name), top, scores, *([truth] if truth else []))
                if truth:
                    truth.result().save(self.evidence_stage.path("truth.safetensors"))
                write_atomically(self.evidence_stage.path("negatives.npy"), lambda p: _save_array(p, scores.scores))
            top.result().save(path)

    @cached_property
    def negative_images(self) -> list[int]:
        """Random held-out images: the negatives of AUROC."""
        rng = np.random.default_rng([self.profile.seed, 5])
        n = min(self.profile.score.negatives, len(self.sets["evaluate"]))
        return sorted(rng.choice(len(self.sets["evaluate"]), n, replace=False).tolist())

    @cached_property
    def explainer(self) -> Explainer:
        """Asks for explanations with the dictionary's own directions."""
        c = self.profile.explain
        return Explainer(
            self.vlm,
            self.sae.directions,
            self.explain_evidence,
            self.sets["explain"],
            self.sae_report["norm"],
            c.k,
            c.batch,
            c.max_new_tokens,
        )

    def control(self, kind: str, latents: list[int]) -> dict[str, Any]:
        """What a control changes in the explainer (appendix J).

        ``random``: random directions; ``permuted``: another latent's direction; ``images``: another
        latent's images; ``both``: both from the same other latent, which is then all it explains.
        """
        own, seed = self.explainer, self.profile.seed + 9
        changes: dict[str, Any] = {}
        if kind == "random":
            changes["directions"] = random_directions(own.directions, seed)
        if kind in ("permuted", "both"):
            changes["directions"] = permuted_directions(own.directions, latents, seed)
        if kind in ("images", "both"):
            changes["evidence"] = permuted_evidence(own.evidence, latents, seed)
        return changes

    def explanations(self, method: Method, latents: list[int], variation: str = "", **changes: Any) -> pd.DataFrame:
        """Explanations of latents by a method; each is made once, then read.

        Parameters
        ----------
        variation : name of what is changed, unique within this run; column ``control`` of the result.
        changes : fields of the explainer that differ.
        """
        parts = [method.key, *([variation] if variation else []), f"{method.coefficient:g}"]
        among = [digest(latents)] if variation in PERMUTED else []  # who gets whose depends on all of them
        path = self.explanation_stage.path("-".join(parts + among).replace(" ", "_") + ".parquet")
        table = kept(replace(self.explainer, **changes), latents, method, path, " ".join(parts))
        return table.assign(control=variation)

    def coefficients(self, method: Method) -> tuple[float, ...]:
        """The coefficients that are tried for a method."""
        return self.profile.explain.steering if method in STEERING else self.profile.explain.hybrid

    @property
    def chosen(self) -> dict[str, float]:
        """The coefficients chosen so far: for each method the one with the highest IoU on validation latents."""
        path = self.explanation_stage.path
        keys = [m.key for m in (*STEERING, *HYBRID) if path(f"coefficient-{m.key}.json").exists()]
        return {key: json.loads(path(f"coefficient-{key}.json").read_text()) for key in keys}

    def at_best(self, method: Method) -> Method:
        """The method with the coefficient that was chosen for it, if it steers."""
        if not method.steer:
            return method
        path = self.explanation_stage.need(f"coefficient-{method.key}.json")
        return replace(method, coefficient=json.loads(path.read_text()))

    def sweep(self, methods: tuple[Method, ...], variation: str = "", **changes: Any) -> pd.DataFrame:
        """Explain the validation latents with every coefficient: ``method, coefficient, latent, iou``.

        And ``correctness``, where it is known.
        """
        tries = [replace(m, coefficient=c) for m in methods if m.steer for c in self.coefficients(m)]
        tables = [self.explanations(m, self.latents["validation"], variation, **changes) for m in tries]
        said = pd.concat(tables, ignore_index=True)
        self.world.reader.prepare("phrases", said.explanation)
        table = said[["method", "coefficient", "latent"]].copy()
        table["iou"] = mean_ious(said, [(self.evaluate_evidence, self.segmenter, range(self.profile.explain.k))])
        if self.knows_truth:
            table["correctness"] = [self.truth.score(i, text) for i, text in zip(said.latent, said.explanation)]
        return table

    def choose_coefficients(self, methods: tuple[Method, ...] = (*STEERING, *HYBRID)) -> pd.DataFrame:
        """Fix the coefficient of every steered method by the highest mean IoU; returns the whole sweep."""
        table = self.sweep(methods)
        for key, coefficient in best_coefficients(table).items():
            write_json(self.explanation_stage.path(f"coefficient-{key}.json"), coefficient)
        return table

    def explain_all(self) -> pd.DataFrame:
        """Explanations of the test latents by all methods, and Steering's controls, at the chosen coefficients."""
        test = self.latents["test"]
        jobs = [(self.at_best(m), "") for m in (NOTHING, *TOP_K, *STEERING, *HYBRID)]
        jobs += [(m, c) for m, _ in jobs if m.family == "Steering" for c in ("random", "permuted")]
        tables = [self.explanations(m, test, c, **(self.control(c, test) if c else {})) for m, c in jobs]
        write_atomically(
            self.explanation_stage.path("test.parquet"),
            lambda path: pd.concat(tables, ignore_index=True).to_parquet(path, index=False),
        )
        return self.all_explanations()

    def all_explanations(self) -> pd.DataFrame:
        """What :meth:`explain_all` has left."""
        return pd.read_parquet(self.explanation_stage.need("test.parquet"))

    def results(self, methods: tuple[Method, ...]) -> pd.DataFrame:
        """The whole way from dictionary to scores for some methods, without controls; what is there is read."""
        self.train_sae()
        self.gather_evidence()
        new = tuple(m for m in methods if m.steer and m.key not in self.chosen)
        if new:
            self.choose_coefficients(new)
        tables = [self.explanations(self.at_best(m), self.latents["test"]) for m in methods]
        return self.score(pd.concat(tables, ignore_index=True))

    # -- scoring ----------------------------------------------------------------------------------

    @cached_property
    def segmenter(self) -> Segmenter:
        """Finds what an explanation names in the held-out images."""
        return self.world.segmenter(self.sets["evaluate"])

    @cached_property
    def synthetic(self) -> SyntheticImages:
        """Draws explanations and encodes the drawings."""
        folder = self.score_stage.path("synthetic")
        # Pictures depend on text and generator alone, so they outlive a change of all else.
        generator = self.world.generator(ROOT / "data" / "runs" / self.profile.name / "drawings")
        return SyntheticImages(generator, self.profile.score.synthetic_images, self.vlm, self.sae, folder)

    @cached_property
    def clip(self) -> OpenClip:
        """The CLIP judge."""
        return OpenClip(self.profile.score.clip)

    @cached_property
    def negatives(self) -> torch.Tensor:
        """Image activation scores of the negative images, ``[n, latents]``."""
        return torch.from_numpy(np.load(self.evidence_stage.need("negatives.npy")))

    def score_all(self) -> pd.DataFrame:
        """All that :meth:`explain_all` has left, scored."""
        return self.score(self.all_explanations())

    def score(self, explained: pd.DataFrame) -> pd.DataFrame:
        """Explanations with the four metrics and the truth.

        A score depends on the latent and the words alone, so each pair is scored once, whoever said it.
        """
        path, names = self.score_stage.path("scores.parquet"), ["latent", "explanation"]
        known = pd.read_parquet(path) if path.exists() else pd.DataFrame(columns=names)
        wanted = explained[names].drop_duplicates()
        new = wanted[~pd.MultiIndex.from_frame(wanted).isin(pd.MultiIndex.from_frame(known[names]))]
        if len(new):
            self.world.reader.prepare("phrases", new.explanation)
            table = score_table(
                new,
                evidence=self.evaluate_evidence,
                images=self.sets["evaluate"],
                k=self.profile.explain.k,
                segmenter=self.segmenter,
                synthetic=self.synthetic,
                negatives=self.negatives,
                clip=self.clip,
            )
            for measure in MEASURES if self.knows_truth else ():
                pairs = zip(table.latent, table.explanation)
                table[measure] = [self.truth.score(latent, text, measure) for latent, text in pairs]
            known = add_rows(path, table, names)
        return explained.merge(known, on=names, how="left", validate="many_to_one")

    def table_note(self, scored: pd.DataFrame) -> str:
        """What stands under a table of scores: protocol, numbers, coefficients."""
        c, subject = self.chosen, self.profile.subject
        return (
            f"{subject.name}, layer {subject.layer}; {scored.latent.nunique()} test latents, mean and 95 % bootstrap "
            "interval; protocol: corrected (held-out images, failures scored as failures, AUROC per latent). "
            f"Coefficients in units of the mean norm: {', '.join(f'{m} {v:g}' for m, v in c.items())}."
        )


def best_coefficients(sweep: pd.DataFrame) -> dict[str, float]:
    """For each method the coefficient with the highest mean IoU."""
    mean = sweep.groupby(["method", "coefficient"], sort=True).iou.mean()
    return {method: float(mean[method].idxmax()) for method in dict.fromkeys(sweep.method)}


def _save_array(path: Path, values: torch.Tensor) -> None:
    with path.open("wb") as file:
        np.save(file, values.numpy())
