"""The live demo's files: the subject's graphs, its dictionary, and what its latents are about.

The page runs them with onnxruntime-web. :func:`answers` is what the page does, with the same graphs, in Python: nothing
is written that answers otherwise than the subject.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
from PIL import Image

from lib import prompts
from lib.bundle import NOTICES, bundle, licences, packages
from lib.explorer import plain, script, slug
from lib.graphs import Graph, export, prompted
from lib.images import readable
from lib.methods import STEERING
from lib.run import Run
from lib.store import write_text

WASM = "node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm"
PICTURES = 6  # of the run's own, to steer on, beside the blank one


class Differs(RuntimeError):
    """The graphs answer otherwise than the subject."""


def about(run: Run, known: pd.DataFrame) -> dict[str, Any]:
    """What a panel says of a subject and its latents, as ``lib/web/panel.js`` reads it; JSON.

    Parameters
    ----------
    known : of some latents, ``latent, words, role, concept, fit, other``, as :attr:`EveryLatent.known` has it; of
        latents without another one, half the dictionary away stands their control.

    Raises
    ------
    ValueError
        If the dictionary has one latent alone.
    """
    p, vlm, n = run.profile, run.vlm, len(run.sae.directions)
    steering = p.explain.steering
    chosen = run.chosen.get("steering-add", steering[len(steering) // 2])
    rows = known.set_index("latent").to_dict("index")
    empty = {"words": "", "role": "other", "concept": "", "fit": None, "other": -1}
    latents = [{"latent": i, **empty, **rows.get(i, {})} for i in range(n)]
    for row, other in zip(latents, others(n)):
        row["other"] = other if row["other"] < 0 else row["other"]
    grid = round(vlm.patches**0.5)
    said = {
        "subject": p.subject.name,
        "explorer": slug(p.name),
        "layer": p.subject.layer,
        "layers": len(vlm.layers),
        "grid": grid,
        "side": side(run),
        "prompt": prompts.STEERING,
        "chosen": chosen,
        "largest": max(chosen, *steering),  # the grid grows where the best value lies at its end
        "latents": latents,
        "pictures": _pictures(run),
    }
    return plain(said)


def side(run: Run) -> int:
    """Pixels along a side of the pictures that the panel shows: the subject's own size, but no more than 224."""
    vision = run.vlm.model.config.vision_config
    size = getattr(vision, "image_size", 224)
    return min(224, size if isinstance(size, int) else size[0])


def _pictures(run: Run) -> list[dict[str, str]]:
    """The first pictures that can be read of those that explainers see: ``name``, and ``data``, an address."""
    images = run.sets["explain"]
    there = (picture for i in range(len(images)) for picture in readable(images, [i])[1])
    return [{"name": f"picture {i}", "data": _png(one, side(run))} for i, one in enumerate(islice(there, PICTURES), 1)]


def _png(picture: Image.Image, size: int) -> str:
    with io.BytesIO() as file:
        picture.convert("RGB").resize((size, size)).save(file, "PNG")
        return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def others(n: int) -> list[int]:
    """Of each of ``n`` latents, the one half the dictionary away: its control, where no other is known.

    Raises
    ------
    ValueError
        If there is no other.
    """
    if n < 2:
        raise ValueError("a dictionary of one latent has no other to compare with: raise sae.latents")
    return [(latent + n // 2) % n for latent in range(n)]


def specification(run: Run) -> dict[str, Any]:
    """All that the page needs to ask the graphs, beside them and the directions."""
    vlm = run.vlm
    c, tokenizer = vlm.model.config.text_config, vlm.processor.tokenizer
    end = vlm.model.generation_config.eos_token_id
    return {
        "norm": run.dictionary.report["norm"],
        "ids": prompted(vlm, prompts.STEERING),
        "words": tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))),
        "special": sorted(tokenizer.all_special_ids),
        "end": end if isinstance(end, list) else [end],
        "pad": vlm.model.generation_config.pad_token_id,
        "longest": run.profile.explain.max_new_tokens,
        "heads": [c.num_hidden_layers, c.num_key_value_heads, c.head_dim],
        "opening": prompts.OPENING,
    }


def answers(graphs: Mapping[str, Graph], spec: Mapping[str, Any], pixels: np.ndarray, vectors: np.ndarray) -> list[str]:
    """What the graphs answer about one picture, steered by each vector at every patch.

    Parameters
    ----------
    pixels : ``[1, 3, side, side]``, float32, from -1 to 1.
    vectors : ``[n, d]``, float32: directions times coefficient times norm.

    Returns
    -------
    The raw answers.
    """
    run = {name: _session(name, graph) for name, graph in graphs.items()}
    (stream,) = run["below"].run(None, {"pixels": pixels})
    (shown,) = run["above"].run(None, {"stream": stream + vectors[:, None]})
    layers, heads, d = spec["heads"]
    n = len(vectors)
    keys = values = np.zeros((layers, n, heads, 0, d), np.float32)
    new, said, done = np.array([spec["ids"]] * n), [], np.zeros(n, bool)
    for _ in range(spec["longest"]):
        inputs = {"ids": new, "shown": shown, "keys": keys, "values": values}
        logits, keys, values = run["speaker"].run(None, inputs)
        next_ = np.where(done, spec["pad"], logits.argmax(1))
        said.append(next_)
        done |= np.isin(next_, spec["end"])
        if done.all():
            break
        new = next_[:, None]
    left_out = set(spec["special"])
    return [" ".join(spec["words"][i] for i in row if i not in left_out) for row in np.stack(said, 1).tolist()]


def _session(name: str, graph: Graph) -> onnxruntime.InferenceSession:
    how = onnxruntime.SessionOptions()
    how.add_external_initializers_from_files_in_memory([f"{name}.onnx.data"], [graph.weights], [len(graph.weights)])
    return onnxruntime.InferenceSession(graph.model, how, providers=["CPUExecutionProvider"])


def checked(run: Run, graphs: Mapping[str, Graph], latents: Sequence[int]) -> int:
    """Ask graphs and subject about latents, steered on a blank picture; how many were asked.

    Raises
    ------
    Differs
        If one answer is not the same.
    """
    spec, at = specification(run), run.at_best(STEERING.add)
    said = run.explanations(at, list(latents)).raw.tolist()
    vectors = run.sae.directions[list(latents)].cpu().numpy() * np.float32(at.coefficient * spec["norm"])
    size = run.vlm.model.config.vision_config.image_size
    there = answers(graphs, spec, np.ones((1, 3, size, size), np.float32), vectors)
    for latent, own, graph in zip(latents, said, there):
        if prompts.clean(own) != prompts.clean(graph):
            raise Differs(
                f"latent {latent} at {at.coefficient:g}: {own!r} by PyTorch, {graph!r} by the graphs. The page would "
                "show another subject: make the run's explanations and the book on one machine, without a GPU"
            )
    return len(there)


def payload(files: Mapping[str, bytes]) -> str:
    """Files as a script: each compressed, and written in letters that a script may hold."""
    parts = (base64.b64encode(gzip.compress(content, 9, mtime=0)).decode() for content in files.values())
    return "".join(f"steeringFile({json.dumps(name)},{json.dumps(part)});\n" for name, part in zip(files, parts))


def _notices() -> str:
    """Licences of what onnxruntime's WebAssembly is built from, which its package for the web does not bring along."""
    beside = Path(onnxruntime.__file__)
    texts = (beside.with_name(name).read_text(encoding="utf-8-sig") for name in ("LICENSE", "ThirdPartyNotices.txt"))
    return "\n".join(["The source of onnxruntime-web is that of onnxruntime, whose licences are:\n", *texts])


def write(run: Run, known: pd.DataFrame, folder: Path) -> list[Path]:
    """Write the files of the page's live demo; returns them.

    Parameters
    ----------
    known : see :func:`about`.

    Raises
    ------
    lib.graphs.NoGraphs
        If the subject cannot be exported.
    Differs
        If the exported subject answers otherwise about a test latent.
    lib.bundle.BundleError
        If a script cannot be bundled.
    """
    graphs = export(run.profile.subject.checkpoint, prompts.STEERING)
    checked(run, graphs, run.latents["test"])
    directions = run.sae.directions.cpu()
    model = {"spec": json.dumps(specification(run)).encode()}
    for name, graph in graphs.items():
        model |= {name: graph.model, f"{name}.data": graph.weights}
    model["directions"] = directions.numpy().tobytes()
    model["random"] = run.control("random", []).directions(directions).numpy().tobytes()
    runtime = {"worker": bundle("worker.js").encode(), "wasm": (packages() / WASM).read_bytes()}
    files = {"model.js": payload(model), "runtime.js": payload(runtime)}
    sizes = {name.removesuffix(".js"): round(len(text) / 1e6, 1) for name, text in files.items()}
    said = script(about(run, known) | {"megabytes": sizes})
    files |= {"about.js": f"window.demoAbout={said};\n", "demo.js": bundle("demo.js"), "demo.css": bundle("demo.css")}
    files[NOTICES] = f"{licences()}\n{'-' * 80}\n\n{_notices()}"
    return [write_text(folder / name, text) for name, text in files.items()]
