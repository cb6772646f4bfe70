"""Local files count by content, read once and in chunks; and a name in a profile is one place, here or on the hub."""

import json
import os
import tracemalloc
from pathlib import Path

import huggingface_hub
import pytest

from lib import contents, hub, identity
from lib.contents import content_of, file_digest, verify_shipped, visible
from lib.hub import Asset
from lib.store import Damaged

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch) -> Path:
    """A project's folder of our own."""
    root = tmp_path / "project"
    (root / "data").mkdir(parents=True)
    monkeypatch.setattr(contents, "ROOT", root)
    monkeypatch.setattr(contents, "REMEMBERED", root / "data" / "runs" / "contents.json")
    monkeypatch.setattr(contents, "SHIPPED", root / "data" / "checksums.json")
    monkeypatch.setattr(hub, "ROOT", root)
    contents.shipped.cache_clear()
    yield root
    contents.shipped.cache_clear()


@pytest.fixture
def reads(monkeypatch) -> list[Path]:
    """The files that are read whole."""
    found, whole = [], contents._whole
    monkeypatch.setattr(contents, "_whole", lambda path: found.append(path) or whole(path))
    return found


def large(path: Path, letter: str = "a") -> Path:
    path.write_bytes(letter.encode() * contents.LARGE)
    return path


# Digests


def test_a_large_file_is_never_held_in_memory(tmp_path):
    path = tmp_path / "shard.safetensors"
    with path.open("wb") as file:
        file.truncate(300 << 20)  # sparse: it takes no space
    tracemalloc.start()
    content_of(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_a_large_file_is_read_once_until_its_size_or_time_changes(tmp_path, reads):
    path = large(tmp_path / "weights")
    first = file_digest(path)
    assert file_digest(path) == first and len(reads) == 1
    os.utime(large(path, "b"), ns=(1, 1))
    assert file_digest(path) != first and len(reads) == 2
    path.write_bytes(b"a" * (contents.LARGE + 1))
    os.utime(path, ns=(1, 1))
    assert file_digest(path) != first and len(reads) == 3
    small = tmp_path / "small"
    small.write_text("a")
    assert [file_digest(small), file_digest(small)] == [file_digest(small)] * 2 and len(reads) == 6


@pytest.mark.parametrize("text", ["", "null", "[]", '{"a', '{"PATH": 3}', '{"PATH": []}', '{"PATH": [4194304]}'])
def test_a_memory_that_is_damaged_costs_time_and_nothing_else(tmp_path, text):
    path = large(tmp_path / "weights")
    known = file_digest(path)
    contents.REMEMBERED.write_text(text.replace("PATH", str(path)))
    assert file_digest(path) == known
    assert json.loads(contents.REMEMBERED.read_text())[str(path)][-1] == known


def test_digests_need_no_place_to_remember_them(tmp_path, project):
    (project / "data" / "runs").write_text("no folder")
    assert file_digest(large(tmp_path / "weights"))


def test_names_that_are_no_utf8_have_digests_too(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    folder = tmp_path / "pictures"
    folder.mkdir()
    large(folder / name)
    assert content_of(folder) == content_of(folder) and [p.name for p in visible(folder)] == [name]


def test_a_folder_counts_by_names_and_contents_but_not_by_what_is_hidden_or_compiled(tmp_path):
    (tmp_path / "a.py").write_text("x = 1")
    before = content_of(tmp_path)
    for hidden in ("__pycache__/a.pyc", ".cache/b.py", ".hidden"):
        (tmp_path / hidden).parent.mkdir(exist_ok=True)
        (tmp_path / hidden).write_text("compiled")
    assert content_of(tmp_path) == before
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    renamed = content_of(tmp_path)
    (tmp_path / "b.py").write_text("x = 2")
    assert len({before, renamed, content_of(tmp_path)}) == 3


def test_a_folder_in_a_hidden_place_is_not_empty(tmp_path):
    (tmp_path / ".cache" / "model").mkdir(parents=True)
    (tmp_path / ".cache" / "model" / "w").write_text("1")
    assert len(visible(tmp_path / ".cache" / "model")) == 1


def test_links_are_followed_but_not_in_circles_and_only_files_are_read(tmp_path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "w").write_text("1")
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights").symlink_to("../blobs/w")
    (model / "twice").symlink_to("../blobs")
    (model / "again").symlink_to("../blobs")
    (model / "itself").symlink_to(".")
    (model / "up").symlink_to("..")
    (model / "gone").symlink_to("nowhere")
    os.mkfifo(model / "pipe")  # reading it would wait for ever
    names = [path.relative_to(model).as_posix() for path in visible(model)]
    assert {"again/w", "twice/w", "weights"} <= {*names} and len(names) < 12
    before = content_of(model)
    (tmp_path / "blobs" / "w").write_text("2")
    assert content_of(model) != before


def test_what_is_not_there_has_no_digest(tmp_path):
    with pytest.raises(FileNotFoundError):
        content_of(tmp_path / "gone")


# What ships


@pytest.fixture
def model(project) -> Path:
    """A model that ships."""
    folder = project / "data" / "models" / "subject"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    digest = file_digest(folder / "model.safetensors")
    contents.SHIPPED.write_text(json.dumps({"data/models/subject/model.safetensors": digest}))
    return folder


def test_a_flipped_bit_of_a_shipped_weight_is_found_where_it_is_loaded(model, project):
    weights, asset = model / "model.safetensors", Asset("data/models/subject")
    (model / "notes.txt").write_text("of my own")
    assert asset.pretrained() == (str(model), {}) and asset.fetch() == model
    time = weights.stat().st_mtime_ns
    weights.write_bytes(b"weightr")
    os.utime(weights, ns=(time, time))
    (project / "link").symlink_to(model)
    for name in ("data/models/subject", "data/models/../models/subject", str(model), "link"):
        for load in (Asset(name).pretrained, Asset(name).fetch):
            with pytest.raises(Damaged, match=r"subject/model.safetensors is not as it was shipped.*git checkout"):
                load()
    weights.unlink()
    with pytest.raises(Damaged, match="not as it was shipped"):
        verify_shipped(model)
    with pytest.raises(Damaged, match="not as it was shipped"):
        verify_shipped(weights)


@pytest.mark.parametrize("text", ["", "{", "3", "[1]"])
def test_damaged_checksums_say_how_to_bring_them_back(model, text):
    contents.SHIPPED.write_text(text)
    with pytest.raises(Damaged, match="git checkout"):
        verify_shipped(model)


# Names in a profile


def test_a_name_is_text_with_a_place():
    asset = Asset("owner/name@v1:*layer_16_*/trainer_0")
    assert asset == "owner/name@v1:*layer_16_*/trainer_0" and json.loads(json.dumps(asset)) == asset
    assert (asset.id, asset.revision, asset.part, asset.local) == ("owner/name", "v1", "*layer_16_*/trainer_0", None)
    bare = Asset("owner/name")
    assert (bare.id, bare.revision, bare.part, bare.looks_local) == ("owner/name", None, "", False)


@pytest.mark.parametrize("name", ["mine", "mine@home", "mine:2", "a@b:c/d@e"])
def test_a_folder_may_be_called_anything(project, tmp_path, monkeypatch, name):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for root, spelt in ((project, name), (tmp_path, str(tmp_path / name)), (tmp_path / "home", f"~/{name}")):
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "weights").write_text(spelt)
        asset = Asset(spelt)
        assert (asset.local, asset.id, asset.revision, asset.part) == (folder, spelt, None, "")
        assert asset.pretrained() == (str(folder), {}) and asset.fetch("*.json") == folder
        before = asset.identity()
        (folder / "weights").write_text("other")
        assert asset.identity() != before
        part = Asset(f"{spelt}:layer_*")
        assert (part.local, part.id, part.part) == (folder, spelt, "layer_*")
        assert part.identity() == {**asset.identity(), "part": "layer_*"}


@pytest.mark.parametrize("name", ["data/gone", "./gone", "/gone/x@main", "~/gone", "~nobody-here/x", "data/models/x"])
def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(name):
    asset = Asset(name)
    for use in (asset.pretrained, asset.fetch, asset.identity):
        with pytest.raises(FileNotFoundError, match=f"there is no folder {name}: .*or an id on the hub"):
            use()


@pytest.mark.parametrize("name", ["", ":x", "a" * 300, "a\0b"])
def test_an_odd_name_is_no_place(name):
    assert Asset(name).local is None


def test_a_folder_made_later_is_found(project):
    asset = Asset("data/models/new")
    assert asset.local is None
    (project / "data" / "models" / "new").mkdir(parents=True)
    assert asset.local


def test_a_package_may_carry_a_model(tmp_path, monkeypatch):
    for package in ("weights_in_a_package", "package_without_any"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    folder = tmp_path / "weights_in_a_package" / "model"
    folder.mkdir()
    (folder / "weights").write_text("1")
    monkeypatch.syspath_prepend(tmp_path)
    asset = Asset("weights_in_a_package")
    assert asset.local == folder and asset.pretrained() == (str(folder), {})
    before = asset.identity()
    (folder / "weights").write_text("2")
    assert asset.identity() != before
    assert Asset("package_without_any").local is None


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """The hub's cache; there is no network, unless the hub is asked for the commit of ``name@new``."""

    class Hub:
        def repo_info(self, name, repo_type, revision):
            assert (name, revision) == ("owner/name", "new"), "no network"
            return type("Info", (), {"sha": COMMIT})

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    return tmp_path / "cache"


@pytest.mark.parametrize(
    ("name", "ref"), [("owner/name", "main"), ("owner/name@v1", "v1"), ("owner/name@pr/1:x", "pr/1")]
)
@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_a_branch_stands_for_the_commit_that_the_cache_holds(cache, name, ref, kind):
    path = cache / f"{kind}s--owner--name" / "refs" / ref
    path.parent.mkdir(parents=True)
    path.write_text(COMMIT)
    assert Asset(name).commit(kind) == COMMIT
    if kind == "model":
        assert Asset(name).pretrained() == ("owner/name", {"revision": COMMIT})
        assert Asset(name).identity()["commit"] == COMMIT


def test_a_commit_is_asked_for_once_and_a_branch_does_not_move_between_runs(cache, monkeypatch):
    assert Asset(f"owner/other@{COMMIT}").commit() == COMMIT  # nobody need be asked
    assert Asset("owner/name@new").commit() == COMMIT
    monkeypatch.delattr(huggingface_hub, "HfApi")
    monkeypatch.setattr(huggingface_hub, "HfApi", None, raising=False)
    assert Asset("owner/name@new").commit() == COMMIT


def test_fetching_from_the_hub_takes_one_commit_and_what_is_wanted(cache, monkeypatch):
    asked = {}
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda name, **how: asked.update(how, id=name) or "/there"
    )
    assert Asset("owner/name@new").fetch("*.json", kind="dataset") == Path("/there")
    assert asked == {"id": "owner/name", "repo_type": "dataset", "revision": COMMIT, "allow_patterns": ["*.json"]}


@pytest.mark.parametrize(
    ("config", "encoder"),
    [
        ('{"vision_config": {"image_size": 96, "patch_size": 12, "num_hidden_layers": 6}}', (6, 64)),
        ('{"vision_config": {"image_size": [96, 96], "patch_size": [12, 12], "num_hidden_layers": 6}}', (6, 64)),
        ('{"vision_config": {"patch_size": 14, "depth": 32}}', None),
        ('{"vision_config": {"image_size": 96, "patch_size": 0, "num_hidden_layers": 6}}', None),
        ('{"vision_config": null}', None),
        ("[]", None),
        ("{", None),
    ],
)
def test_the_shape_of_a_local_encoder_is_known(project, config, encoder):
    (project / "m").mkdir()
    assert Asset("m").encoder is None and Asset("gone").encoder is None
    (project / "m" / "config.json").write_text(config)
    assert Asset("m").encoder == encoder


def test_what_a_result_notes_of_a_model_is_its_content(project):
    (project / "m").mkdir()
    (project / "m" / "w").write_text("1")
    assert identity.plain({"model": Asset("m")}) == {"model": {"content": content_of(project / "m")}}
