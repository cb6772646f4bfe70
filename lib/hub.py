"""What a profile names and where it is found: a local folder, an installed package, or ``id@revision`` on the hub."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path
from typing import Any

from lib.contents import content_of, verify_shipped
from lib.store import ROOT, Damaged, read, write_text

PRETRAINED = "data/pretrained/subject-a-smollm2"  # a model that is put together here, of parts that are fetched
# Environment of transformers, which reads it when it is imported: no bars, and of its messages errors alone.
QUIET = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


def _here(name: str) -> Path | None:
    """The file or folder of a name, relative to the project, if there is one."""
    path = os.path.join(ROOT, os.path.expanduser(name))
    return Path(path) if name and os.path.exists(path) else None


class Asset(str):
    """A model, a data set or a dictionary, as it is written in a profile.

    A folder (relative to the project, absolute, or with ``~``), an installed package that carries a model in
    ``model/``, or ``id@revision`` on the Hugging Face hub. After a colon, on the hub or behind a folder: the part of
    it that is meant (``*layer_16_*/trainer_0``). It is text, so that it can be shown and written.
    """

    @property
    def _parts(self) -> tuple[str, str]:
        """Name and part, at the last colon before which something is here; else at the first."""
        colons = [i for i, letter in enumerate(self) if letter == ":"]
        end = next((i for i in (len(self), *reversed(colons)) if _here(self[:i])), min(colons, default=len(self)))
        return self[:end], self[end + 1 :]

    @property
    def local(self) -> Path | None:
        """The folder or file that is meant, if there is one here; packages included."""
        if path := _here(self._parts[0]):
            return path
        found = importlib.util.find_spec(self) if self.isidentifier() else None
        models = [Path(place, "model") for place in (found and found.submodule_search_locations) or ()]
        return next((path for path in models if path.is_dir()), None)

    @property
    def looks_local(self) -> bool:
        """Whether the name can only mean a folder, there or not."""
        return self.startswith(("data/", ".", "/", "~")) or self.local is not None

    @property
    def part(self) -> str:
        """What stands after the colon: a pattern of folders; empty for the whole."""
        return self._parts[1]

    @property
    def id(self) -> str:
        """On the hub: ``owner/name``; else the name without the part."""
        name = self._parts[0]
        return name if self.looks_local else name.partition("@")[0]

    @property
    def revision(self) -> str | None:
        """On the hub: the commit or branch that is asked for, if any."""
        return None if self.looks_local else self._parts[0].partition("@")[2] or None

    @property
    def encoder(self) -> tuple[int, int] | None:
        """Layers and patches of the vision encoder, as the ``config.json`` of a local model has them; else None."""
        try:
            config = read(self.local / "config.json")["vision_config"] if self.local else {}
            height, size = (v if isinstance(v := config[k], int) else min(v) for k in ("image_size", "patch_size"))
            return int(config["num_hidden_layers"]), (height // size) ** 2
        except (FileNotFoundError, Damaged, KeyError, TypeError, ValueError, ZeroDivisionError):
            return None  # what is wrong with it, the library that loads it says best

    def commit(self, kind: str = "model") -> str | None:
        """The commit that the revision stands for: of the cache if it is there, else as the hub says; None if local.

        A branch moves. So all that is loaded in one run is loaded by commit, and results are kept under it. The
        cache notes it as if the library had asked for the branch, so that the next run needs no network.

        Raises
        ------
        OSError
            If it is not in the cache, and the hub cannot be asked or does not know it.
        """
        if self.looks_local or (self.revision and len(self.revision) == 40):
            return self.revision
        from huggingface_hub import HfApi
        from huggingface_hub.constants import HF_HUB_CACHE
        from huggingface_hub.errors import HTTPError

        ref = Path(HF_HUB_CACHE, f"{kind}s--{self.id.replace('/', '--')}", "refs", self.revision or "main")
        if not ref.is_file():
            try:
                found = HfApi().repo_info(self.id, repo_type=kind, revision=self.revision)
            except (HTTPError, ValueError) as error:  # no network, no access, or no id that the hub could have
                raise OSError(f"{kind} {self.id} is not in the cache, and the hub does not give it: {error}") from error
            write_text(ref, str(found.sha))
        return ref.read_text(encoding="utf-8").strip()

    def need_local(self) -> None:
        """Raise an error that helps, if the name means a folder that is not there.

        Raises
        ------
        FileNotFoundError
            With what to do about it.
        """
        if self.looks_local and self.local is None:
            ways = {
                "data/models/": "; ./run_all.sh --from-scratch trains the desk models",
                PRETRAINED: "; ./run_all.sh puts it together before it runs the notebooks of a profile that names it",
            }
            how = next((way for start, way in ways.items() if self.startswith(start)), "")
            raise FileNotFoundError(
                f"there is no folder {self.id}: name an existing one, or an id on the hub (owner/name){how}"
            )

    def pretrained(self) -> tuple[str, dict[str, Any]]:
        """What ``from_pretrained`` is given: a folder or an id, and the revision as keyword.

        Raises
        ------
        FileNotFoundError
            If the name means a folder that is not there.
        Damaged
            If a model that ships with the project is not as it was shipped.
        """
        self.need_local()
        if self.local:
            return str(verify_shipped(self.local)), {}
        return self.id, {"revision": self.commit()}

    def fetch(self, *patterns: str, kind: str = "model") -> Path:
        """A folder that holds the files which ``patterns`` name: the local one, or a snapshot of the hub's.

        Raises
        ------
        FileNotFoundError, Damaged
            As :meth:`pretrained` does.
        """
        self.need_local()
        if self.local:
            return verify_shipped(self.local)
        from huggingface_hub import snapshot_download  # a local folder needs no hub

        wanted = list(patterns) or None
        return Path(snapshot_download(self.id, repo_type=kind, revision=self.commit(kind), allow_patterns=wanted))

    def identity(self) -> dict[str, Any]:
        """What decides which weights these are: the content of a local folder, or id and commit on the hub."""
        self.need_local()
        part = {"part": self.part} if self.part else {}
        if self.local is None:
            return {"id": self.id, "commit": self.commit(), **part}
        beside = self.local.with_name("config.json")  # of a dictionary that is named by its file
        more = {"config": content_of(beside)} if self.local.is_file() and beside.is_file() else {}
        return {"content": content_of(self.local), **more, **part}


def load_whole(cls: Any, source: str, unused: tuple[str, ...] = (), **keywords: Any) -> Any:
    """``cls.from_pretrained(source, **keywords)``, which alone would leave what a checkpoint lacks at random values.

    Parameters
    ----------
    unused : beginnings of the names of weights that may be missing, since nothing reads them.

    Raises
    ------
    Damaged
        If weights are missing or have another shape, or if layers are left out; the message names them.
    """
    model, found = cls.from_pretrained(source, output_loading_info=True, ignore_mismatched_sizes=True, **keywords)
    cut = [key for key in found["unexpected_keys"] if re.search(r"(vis|text|language)\w*\..*layers?\.\d+\.", key)]
    if cut:  # a library would only log it
        raise Damaged(f"{source} has layers that its config.json leaves out: {cut[0]} and {len(cut) - 1} more weights")
    other = [key if isinstance(key, str) else key[0] for key in found["mismatched_keys"]]
    wrong = sorted(key for key in {*found["missing_keys"], *other} if not key.startswith(unused))
    if wrong:
        names = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise Damaged(f"{source} is not a whole {cls.__name__}: missing, or of another shape: {names}")
    return model
