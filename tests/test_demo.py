"""The live demo answers as the subject does: its graphs, its files, and its panel in Jupyter."""

import base64
import gzip
import json
import re

import numpy as np
import pytest
import torch

from lib import prompts
from lib.demo import answers, others, payload
from lib.graphs import NoGraphs, export, prompted
from lib.hooks import Intervention
from lib.hub import Asset
from lib.images import BLANK
from lib.panel import notebook
from lib.questions import Question
from lib.vlm import VLM, Checkpoint

SUBJECT = Checkpoint(Asset("data/models/subject-a"), 3)
LENGTH = 80.0  # of the vectors: two mean norms of the stream, about, at which the subject says many different things


@pytest.fixture(scope="module")
def vlm() -> VLM:
    return VLM.load(SUBJECT)


@pytest.fixture(scope="module")
def graphs():
    return export(SUBJECT, prompts.STEERING)


@pytest.fixture(scope="module")
def spec(vlm) -> dict:
    c, tokenizer = vlm.model.config.text_config, vlm.processor.tokenizer
    return {
        "ids": prompted(vlm, prompts.STEERING),
        "words": tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))),
        "special": tokenizer.all_special_ids,
        "end": [vlm.model.generation_config.eos_token_id],
        "pad": vlm.model.generation_config.pad_token_id,
        "longest": 16,
        "heads": [c.num_hidden_layers, c.num_key_value_heads, c.head_dim],
    }


def vectors(n: int) -> torch.Tensor:
    made = torch.randn(n, 192, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.normalize(made, dim=1) * LENGTH


@pytest.mark.slow(50)
class TestGraphs:
    def test_they_answer_as_the_subject_does(self, vlm, graphs, spec):
        added = vectors(48)
        question = Question((BLANK,), prompts.STEERING)
        own = vlm.answer([question] * 48, 16, Intervention(added))
        pixels = vlm.inputs([BLANK])["pixel_values"].numpy()
        assert answers(graphs, spec, pixels, added.numpy()) == own
        assert len(set(own)) > 5  # else it would be no test

    def test_one_row_is_answered_as_many_are(self, graphs, spec):
        pixels = np.ones((1, 3, 96, 96), np.float32)
        many = answers(graphs, spec, pixels, vectors(5).numpy())
        assert [answers(graphs, spec, pixels, row[None])[0] for row in vectors(5).numpy()] == many

    def test_another_picture_is_another_stream(self, vlm, graphs, spec, pictures):
        (own,) = vlm.answer([Question((pictures[0],), prompts.STEERING)], 16)
        pixels = vlm.inputs([pictures[0]])["pixel_values"].numpy()
        assert answers(graphs, spec, pixels, np.zeros((1, 192), np.float32)) == [own]

    def test_they_have_the_same_bytes_when_they_are_made_again_and_name_no_folder(self, graphs):
        again = export(SUBJECT, prompts.STEERING)
        assert again == graphs
        assert not any(b"/lib/" in graph.model or b"site-packages" in graph.model for graph in graphs.values())


def test_other_classes_are_refused_by_name():
    with pytest.raises(NoGraphs, match="not of InternVLForConditionalGeneration"):
        export(Checkpoint(Asset("data/models/subject-b"), 3), prompts.STEERING)


def test_a_payload_is_a_script_that_holds_the_bytes():
    files = {"a": bytes(range(256)) * 9, "b.data": b"</script>"}
    script = payload(files)
    calls = re.findall(r'steeringFile\("([^"]+)","([^"]+)"\);\n', script)
    assert {name: gzip.decompress(base64.b64decode(part)) for name, part in calls} == files
    assert script == payload(files) and "<" not in script


def test_no_latent_is_its_own_control():
    assert all(other != latent for latent, other in enumerate(others(7)))
    assert sorted(others(8)) == list(range(8))


def test_the_demo_s_notebook_opens_the_profile_that_was_asked_for():
    made = notebook("smoke", {"sae.k": 4})
    code = "\n".join(cell.source for cell in made.cells if cell.cell_type == "code")
    assert "open_run('smoke', {'sae.k': 4})" in code and "Panel(run)" in code
    compile(code, "demo", "exec")
    assert json.dumps(made) == json.dumps(notebook("smoke", {"sae.k": 4}))
