"""Photographs of every kind are read, broken ones are noted and left out, and sets never overlap."""

import csv
import pickle
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib import hub as assets
from lib.hub import Asset
from lib.identity import differences, plain
from lib.images import UnreadableImage, readable
from lib.photos import decode, folders
from lib.photos.decode import read
from lib.photos.folders import Folder, folder
from lib.photos.layout import _glob, refuse_mixed, split_files
from lib.photos.sets import Photographs, log, photo_sets
from lib.photos.source import Hub, SourceUnavailable, hub, open_source


def coded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png(width: int, height: int, pixels: bytes = b"") -> bytes:
    """A PNG file that claims any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def flag(kind: str = "RGB") -> Image.Image:
    """Wider than high, its left third red."""
    image = Image.new("RGB", (60, 40), (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, 20, 40))
    return image.convert(kind)


def noise(seed: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


def near(pixel, colour, tolerance: int = 12) -> bool:
    return max(abs(a - b) for a, b in zip(pixel, colour)) <= tolerance


def fill(place: Path, n: int, first: int = 0) -> Path:
    """A folder of ``n`` small pictures, each of another colour."""
    place.mkdir(parents=True, exist_ok=True)
    for i in range(first, first + n):
        Image.new("RGB", (4, 4), (i % 256, i // 256, 99)).save(place / f"{i:04d}.png")
    return place


def make_sets(place: Path, log: Path, *, seed: int = 3, train_split: str = "train", **sizes) -> dict[str, Photographs]:
    return photo_sets(Asset(place), train_split, "validation", None, seed, log, **sizes)


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def no_network(tmp_path, monkeypatch):
    """The datasets library without a network, and with caches of its own."""
    datasets = pytest.importorskip("datasets")
    import huggingface_hub.constants

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return datasets


def fetched(place: Path, id: str, rows: dict[str, int], card: str = "") -> str:
    """A data set as it lies in the hub's cache once it was fetched: file -> number of rows."""
    import datasets

    here = place / "hub" / f"datasets--{id.replace('/', '--')}"
    (here / "refs").mkdir(parents=True)
    (here / "refs/main").write_text(COMMIT)
    for name, n in rows.items():
        file = here / "snapshots" / COMMIT / name
        file.parent.mkdir(parents=True, exist_ok=True)
        cells = [{"bytes": coded(Image.new("RGBA", (6, 5), (i, 0, 0, 255))), "path": None} for i in range(n)]
        datasets.Dataset.from_dict(
            {"label": list(range(n)), "picture": cells},
            features=datasets.Features({"label": datasets.Value("int64"), "picture": datasets.Image()}),
        ).to_parquet(file)
    if card:
        (here / "snapshots" / COMMIT / "README.md").write_text(card)
    return id


# reading


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", *decode.FORMATS[6:]])
def test_every_format_is_read_from_bytes_and_from_a_file(kind, tmp_path):
    data = coded(flag(), kind)
    (tmp_path / "x").write_bytes(data)
    for image in (read(data, "x"), read(tmp_path / "x", "x")):
        assert type(image) is Image.Image and image.mode == "RGB" and image.size == (60, 40)
        assert near(image.getpixel((5, 20)), (255, 0, 0), 40) and near(image.getpixel((45, 20)), (0, 0, 255), 40)


def test_cmyk_palette_grey_and_two_colours():
    assert near(read(coded(flag("CMYK"), "JPEG", quality=95), "x").getpixel((45, 20)), (0, 0, 255), 20)
    assert read(coded(flag("P")), "x").getpixel((45, 20)) == (0, 0, 255)
    assert read(coded(Image.new("L", (5, 5), 70)), "x").getpixel((0, 0)) == (70, 70, 70)
    assert read(coded(Image.new("1", (5, 5), 1)), "x").getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_of_16_bits_is_scaled_not_clipped(kind):
    ramp = np.linspace(0, 65535, 256).round().astype(np.uint16)[None].repeat(4, 0)
    seen = np.asarray(read(coded(Image.fromarray(ramp), kind), "x"))
    assert np.array_equal(seen[0, :, 0], np.arange(256)) and np.array_equal(seen[..., 0], seen[..., 2])


def test_32_bit_tiffs_are_stretched_and_holes_in_them_are_black():
    whole = np.array([[0, 500_000, 1_000_000]], dtype=np.int32)
    assert np.asarray(read(coded(Image.fromarray(whole), "TIFF"), "x"))[0, :, 0].tolist() == [0, 128, 255]
    real = np.array([[0.0, 1.0, np.nan]], dtype=np.float32)
    assert np.asarray(read(coded(Image.fromarray(real), "TIFF"), "x"))[0, :, 0].tolist() == [0, 255, 0]
    with pytest.raises(UnreadableImage, match="finite"):
        read(coded(Image.fromarray(np.full((2, 2), np.nan, np.float32)), "TIFF"), "x")


def test_what_is_transparent_becomes_white():
    for kind, ink in (("RGBA", (255, 0, 0)), ("LA", (0, 0, 0))):
        image = Image.new(kind, (4, 4), (255, 0, 0, 0) if kind == "RGBA" else (0, 0))
        image.putpixel((1, 1), (255, 0, 0, 255) if kind == "RGBA" else (0, 255))
        seen = read(coded(image), "x")
        assert seen.getpixel((0, 0)) == (255, 255, 255) and seen.getpixel((1, 1)) == ink
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.putpixel((1, 1), 1)
    for data in (coded(palette, transparency=0), coded(palette, "GIF", transparency=0)):
        assert read(data, "x").getpixel((0, 0)) == (255, 255, 255) and read(data, "x").getpixel((1, 1)) == (255, 0, 0)
    assert read(coded(Image.new("RGB", (4, 4)), transparency=(0, 0, 0)), "x").getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", *decode.FORMATS[6:]])
def test_pictures_taken_sideways_are_turned_upright_once(kind):
    exif = Image.Exif()
    exif[274] = 6  # the camera lay on its side: turn clockwise
    seen = read(coded(flag(), kind, exif=exif), "x")
    assert seen.size == (40, 60) and not seen.info
    assert near(seen.getpixel((20, 5)), (255, 0, 0), 40) and near(seen.getpixel((20, 45)), (0, 0, 255), 40)


def test_a_picture_with_broken_exif_is_still_read():
    exif = Image.Exif()
    exif[274] = 6
    data = coded(flag(), "WEBP", exif=exif)
    assert data.count(b"MM\x00*") + data.count(b"II*\x00") == 1  # the header of the notes
    broken = data.replace(b"MM\x00*", b"MM\x97*").replace(b"II*\x00", b"II*\x97")
    assert read(broken, "x").size == (60, 40)


def test_of_an_animation_the_first_frame_is_taken():
    for kind in ("GIF", "WEBP"):
        frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
        data = coded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert near(read(data, "x").getpixel((4, 4)), (255, 0, 0), 20)


def test_large_pictures_are_made_smaller_and_small_ones_are_left_alone():
    assert read(coded(Image.new("RGB", (3000, 1500))), "x").size == (1024, 512)
    assert read(coded(Image.new("L", (5, 4000))), "x").size == (1, 1024)
    exact = noise(1)
    assert np.array_equal(np.asarray(read(coded(exact), "x")), np.asarray(exact))


def test_a_huge_jpeg_is_decoded_at_a_fraction(monkeypatch):
    sizes, upright = [], decode._upright
    monkeypatch.setattr(decode, "_upright", lambda picture: sizes.append(picture.size) or upright(picture))
    image = flag().resize((8192, 2048))
    assert read(coded(image, "JPEG"), "x").size == (1024, 256)
    assert sizes == [(1024, 256)]  # an eighth of 8192 x 2048


BROKEN = {
    "truncated jpeg": (coded(noise(1), "JPEG")[:1500], "truncated"),
    "truncated progressive jpeg": (coded(noise(1), "JPEG", progressive=True)[:1500], "truncated"),
    "truncated png": (coded(noise(1))[:2000], "truncated|broken"),
    "truncated gif": (coded(noise(1), "GIF")[:1500], "truncated|broken"),
    "truncated webp": (coded(noise(1), "WEBP")[:900], "."),
    "truncated bmp": (coded(noise(1), "BMP")[:900], "truncated"),
    "truncated tiff": (coded(noise(1), "TIFF", compression="tiff_lzw")[:900], "."),
    "header alone": (coded(noise(1), "JPEG")[:20], "none of BMP, GIF"),
    "empty": (b"", "the file is empty"),
    "text": (b"<html>404 Not Found</html>" * 20, "none of BMP, GIF, JPEG"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "none of"),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "run `git lfs pull`"),
    "zero-size": (png(0, 7), "."),
    "bomb": (png(60_000, 60_000, b"\x00" * 10), "exceeds limit"),
    "nothing in it": (png(30, 30), "."),
}


@pytest.mark.parametrize("defect", BROKEN)
def test_broken_files_are_unreadable_and_say_why(defect, tmp_path):
    data, reason = BROKEN[defect]
    (tmp_path / "bad.jpg").write_bytes(data)
    for given in (data, tmp_path / "bad.jpg"):
        with pytest.raises(UnreadableImage, match=f"cannot read bad.jpg: .*({reason})") as caught:
            read(given, "bad.jpg")
        assert "\n" not in caught.value.reason and "0x" not in caught.value.reason


def test_missing_files_and_folders_are_unreadable_and_the_error_travels(tmp_path):
    with pytest.raises(UnreadableImage, match="No such file") as caught:
        read(tmp_path / "gone.jpg", "gone.jpg")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    with pytest.raises(UnreadableImage, match="directory"):
        read(tmp_path, "folder")


@pytest.mark.filterwarnings("ignore")  # PIL comments on each
def test_damaged_bytes_never_raise_anything_else():
    random = np.random.default_rng(0)
    exif = Image.Exif()
    exif[274] = 6
    files = [coded(noise(2, (20, 16)), kind, exif=exif) for kind in ("JPEG", "PNG", "WEBP", "TIFF")]
    files += [coded(noise(2, (20, 16)), kind) for kind in ("GIF", "BMP", *decode.FORMATS[6:])]
    for turn in range(600):
        data = bytearray(files[turn % len(files)])
        for place in random.integers(0, min(len(data), 400), 4):
            data[place] = random.integers(256)
        try:
            assert read(bytes(data), "x").mode == "RGB"
        except UnreadableImage as error:
            assert error.reason


# sources


def test_a_folder_is_any_tree_of_pictures_sorted_without_hidden_files(tmp_path):
    for name in ("b/2.JPEG", "b/1.jpg", "a.PNG", "c.webp", "d.tiff", "e.Tif", "f.bmp", "g.gif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    for name in (".h.jpg", "notes.txt", "b/._1.jpg"):
        (tmp_path / name).write_bytes(b"x")
    fill(tmp_path / ".hidden", 1)
    (tmp_path / "folder.jpg").mkdir()
    found = folder(tmp_path)
    names = [str(Path(found.name(i)).relative_to(tmp_path)) for i in range(len(found))]
    assert found.left_out == () and names == [
        "a.PNG",
        "b/1.jpg",
        "b/2.JPEG",
        "c.webp",
        "d.tiff",
        "e.Tif",
        "f.bmp",
        "g.gif",
    ]
    assert all(found.read(i).size == (4, 4) for i in range(len(found)))


def test_links_are_followed_but_no_file_comes_twice(tmp_path):
    real = fill(tmp_path / "elsewhere", 3)
    place = fill(tmp_path / "set", 1, first=7)
    (place / "linked").symlink_to(real)
    (place / "round").symlink_to(place)
    (place / "again.png").symlink_to(real / "0000.png")
    (place / "dangling.png").symlink_to(tmp_path / "gone.png")
    (place / "itself").symlink_to(place / "itself")
    found = folder(place)
    assert len(found) == 4
    assert [(Path(name).name, "leads nowhere" in why or "symbolic links" in why) for name, why in found.left_out] == [
        ("dangling.png", True),
        ("itself", True),
    ]


def test_a_folder_without_pictures_says_what_was_looked_for(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(FileNotFoundError, match=r"no pictures below .*looked for .jpg .jpeg .*any case"):
        folder(tmp_path)


@pytest.mark.parametrize(
    ("split", "inside"),
    [
        ("train", "train"),
        ("train", "ILSVRC/Data/CLS-LOC/train"),
        ("validation", "validation"),
        ("validation", "val"),
        ("validation", "ILSVRC/Data/CLS-LOC/val"),
        ("mine", "mine"),
    ],
)
def test_splits_are_sub_folders_by_imagenets_names_too(split, inside, tmp_path):
    fill(tmp_path / inside / "n01440764", 3)
    fill(tmp_path / "other", 2)
    assert len(open_source(Asset(tmp_path), split)) == 3
    assert len(open_source(Asset(tmp_path), None)) == 5
    assert len(open_source(Asset(tmp_path), "unknown")) == 5


def test_folders_are_looked_for_in_the_project_and_at_home(tmp_path, monkeypatch):
    fill(tmp_path / "photos", 2)
    monkeypatch.setattr(assets, "ROOT", tmp_path)
    monkeypatch.setattr(folders, "ROOT", tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_source(Asset("photos"), None).name(1) == "photos/0001.png"
    assert len(open_source(Asset("~/photos"), None)) == 2
    for name in ("./gone", "/gone", "~/gone", "data/gone", "/me@work/gone"):
        with pytest.raises(FileNotFoundError, match=f"there is no folder {name}; give"):
            open_source(Asset(name), None)


@pytest.mark.parametrize("name", ["me@work", "a:b", "a b", "ünï", "[x]*"])
def test_a_folder_may_have_any_name(name, tmp_path):
    fill(tmp_path / name / "validation", 3)
    sets = make_sets(tmp_path / name, tmp_path / "log.csv", train=1, explain=1, evaluate=1)
    assert all(f"/{name}/validation/" in part.ids[0] and part[0].size == (4, 4) for part in sets.values())


def closed(monkeypatch, *names: str) -> None:
    """Folders of these names may not be looked into; whoever runs the tests might be root, whom nothing stops."""
    scan = folders.os.scandir

    def guarded(path):
        if Path(path).name in names:
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(folders.os, "scandir", guarded)


def test_what_cannot_be_looked_into_is_left_out_and_named(tmp_path, monkeypatch):
    place = fill(tmp_path / "disk", 6)
    fill(place / "lost+found", 2, first=50)
    closed(monkeypatch, "lost+found")
    with pytest.warns(UserWarning, match=r"disk: 1 files or folders are left out; .*log.csv says why"):
        sets = make_sets(place, tmp_path / "log.csv", train=2, explain=2, evaluate=2)
    assert not any("lost" in name for part in sets.values() for name in part.ids)
    assert (tmp_path / "log.csv").read_text().splitlines()[1] == f"{place}/lost+found,Permission denied"
    closed(monkeypatch, "disk")
    with pytest.raises(
        FileNotFoundError, match=r"no pictures below .*left out: 1, the first .*disk: Permission denied"
    ):
        folder(place)


def test_every_spelling_of_a_suffix_is_found(tmp_path):
    for i, suffix in enumerate((".jfif", ".JPE", ".jif", ".Jpeg")):
        noise(i).save(tmp_path / f"{i}{suffix}", "JPEG")
    noise(9).save(tmp_path / "9.apng", "PNG")
    found = folder(tmp_path)
    assert len(found) == 5 and all(found.read(i).size == (64, 48) for i in range(5))


def test_pictures_of_formats_that_are_not_decoded_are_named_in_the_log_with_the_reason(tmp_path):
    place = fill(tmp_path / "phone", 3)
    for name in ("a.HEIC", "b.jxl", "c.dng", "notes.txt", ".hidden.heic"):
        (place / name).write_bytes(b"x")
    with pytest.warns(UserWarning, match="3 files or folders are left out"):
        make_sets(place, tmp_path / "log.csv", train=1, explain=1, evaluate=1)
    with (tmp_path / "log.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert [Path(name).name for name, _ in rows] == ["a.HEIC", "b.jxl", "c.dng"]
    assert rows[0][1] == "HEIC is not decoded: convert it to JPEG or PNG"
    for file in place.glob("*.png"):
        file.unlink()
    with pytest.raises(FileNotFoundError, match=r"no pictures below .*left out: 3, the first .*a.HEIC: HEIC is not"):
        folder(place)


def test_avif_is_read_where_pil_can_and_named_where_it_cannot():
    assert (".avif" in decode.SUFFIXES) == ("AVIF" in decode.FORMATS) != (".avif" in decode.OTHERS)


@pytest.mark.parametrize("zip", [False, True])
def test_a_png_with_megabytes_of_text_is_read(zip):
    from PIL.PngImagePlugin import PngInfo

    history = PngInfo()
    for i in range(3):
        history.add_text(f"edit {i}", "layer " * 2_000_000, zip=zip)
    seen = read(coded(flag(), pnginfo=history), "x")
    assert seen.getpixel((5, 20)) == (255, 0, 0) and not seen.info


def test_names_that_are_no_text_are_spelled_out_wherever_they_are_written(tmp_path):
    place = fill(tmp_path / "old", 2)
    (place / "caf\udce9.png").write_bytes(b"broken")
    part = make_sets(place, tmp_path / "log.csv", train=0, explain=3, evaluate=0)["explain"]
    assert len(readable(part, range(3))[0]) == 2 and plain(part)["n"] == 3
    assert sorted(name.encode().decode() for name in part.ids)[-1] == f"{place}/caf\\xe9.png"
    assert "/caf\\xe9.png," in (tmp_path / "log.csv").read_text(encoding="utf-8")
    (tmp_path / "log.csv").write_bytes(b"name,reason\r\ncaf\xe9.png,an older log\r\n")
    log(tmp_path / "log.csv", [("new", "why"), ("caf\\xe9.png", "again")])
    assert (tmp_path / "log.csv").read_text(encoding="utf-8").splitlines()[1:] == [
        "caf\\xe9.png,an older log",
        "new,why",
    ]


def test_a_set_of_which_nothing_can_be_read_is_refused_with_the_reason(tmp_path):
    place = fill(tmp_path / "clone", 3)
    for file in place.iterdir():
        file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(SourceUnavailable, match=r"none of the 1 pictures of images.train can.*run `git lfs pull`"):
        make_sets(place, tmp_path / "log.csv", train=1, explain=1, evaluate=1)
    Image.new("RGB", (4, 4)).save(place / "0001.png")
    with pytest.raises(SourceUnavailable, match="none of the 1 pictures"):
        make_sets(place, tmp_path / "log.csv", train=1, explain=1, evaluate=1)
    sets = make_sets(place, tmp_path / "log.csv", train=0, explain=3, evaluate=0)  # one is enough to go on
    assert len(readable(sets["explain"], range(3))[0]) == 1


# the hub


@pytest.fixture
def flowers(tmp_path, no_network) -> str:
    """A data set with labels, images and one broken image, as it was fetched from the hub."""
    id = fetched(tmp_path, "some/flowers", {})
    for split, n in (("train", 12), ("validation", 8)):
        cells = [{"bytes": coded(Image.new("RGBA", (6, 5), (i, 0, 0, 255))), "path": None} for i in range(n)]
        cells[2] = {"bytes": b"no picture", "path": "2.jpg"}
        rows = no_network.Dataset.from_dict(
            {"label": list(range(n)), "picture": [*cells[:-1], None]},
            features=no_network.Features({"label": no_network.Value("int64"), "picture": no_network.Image()}),
        )
        file = tmp_path / f"hub/datasets--some--flowers/snapshots/{COMMIT}/data/{split}-00000-of-00001.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        rows.to_parquet(file)
    return id


def test_a_data_set_is_read_through_our_own_decoder(flowers):
    source = hub(Asset(flowers), "validation")
    assert source.column == "picture" and len(source) == 8
    assert source.read(np.int64(4)).getpixel((0, 0)) == (4, 0, 0) and source.read(4).mode == "RGB"
    assert source.name(4) == "some/flowers/validation/4"
    assert hub(Asset("some/flowers@main"), "validation").name(4) == "some/flowers@main/validation/4"
    with pytest.raises(UnreadableImage, match="validation/2: it is none of"):
        source.read(2)
    with pytest.raises(UnreadableImage, match="holds no picture"):
        source.read(7)


def test_rows_may_hold_paths(tmp_path, no_network):
    datasets = no_network
    files = [str(path) for path in sorted(fill(tmp_path / "f", 3).iterdir())]
    data = datasets.Dataset.from_dict({"image": files}).cast_column("image", datasets.Image(decode=False))
    assert Hub(data, "image").read(2).getpixel((0, 0)) == (2, 0, 99)
    Path(files[2]).unlink()
    with pytest.raises(UnreadableImage, match="row/2: .*No such file"):
        Hub(data, "image").read(2)


CARD = """---
configs:
- config_name: day
  data_files:
  - split: test
    path: day/test-*
  - split: test_ood
    path: [day/test_ood-*]
- config_name: night
  data_dir: night
  data_files:
    test: test-*
---
"""
FILES = {
    "day/test-00000-of-00001.parquet": 3,
    "day/test_ood-00000-of-00001.parquet": 4,
    "night/test-00000-of-00001.parquet": 2,
}


@pytest.mark.parametrize("card", [CARD, "", "---\nlicense: mit\n---\n"])
def test_one_configuration_and_the_whole_name_of_a_split_are_taken(card, tmp_path, no_network):
    id = Asset(fetched(tmp_path, "some/streets", FILES, card))
    for configuration, split, n in (("day", "test", 3), ("day", "test_ood", 4), ("night", "test", 2)):
        source = open_source(id, split, configuration)
        assert len(source) == n and source.name(1) == f"some/streets/{configuration}/{split}/1"
    with pytest.raises(ValueError, match="some/streets: there are several configurations: .*configuration: day, night"):
        open_source(id, "test")
    with pytest.raises(ValueError, match="no configuration 'dusk'; name one of day, night"):
        open_source(id, "test", "dusk")


@pytest.mark.parametrize(
    "names",
    [
        ["test.parquet", "test_ood.parquet", "test-hard.parquet", "pretest.parquet", "contest.parquet"],
        ["data/test-00000-of-00001.parquet", "data/test_ood-00000-of-00001.parquet", "data/latest-1.parquet"],
        ["test-00000-of-00001-a09b74b3ef9c3b56.parquet", "testing-00000-of-00001-a09b74b3ef9c3b56.parquet"],
        ["default/test/0000.parquet", "default/test_ood/0000.parquet", "default/test.ood/0000.parquet"],
        ["test.parquet", "README.md", "test.csv", "train/test_.parquet"],
        ["test/test.parquet", "test/train.parquet"],
    ],
)
def test_files_are_taken_for_a_split_by_their_whole_name(names):
    assert split_files(names, [], "test", None)[1] == names[:1]
    assert split_files(names, [], None, None) == (None, [])  # then the library looks for the only one


def test_shards_are_sorted_and_a_part_of_them_is_not_taken_for_the_whole(tmp_path, no_network):
    shards = [f"data/test-0000{i}-of-00003.parquet" for i in (2, 0, 1)]
    assert split_files(shards, [], "test", None) == ("default", sorted(shards))
    id = Asset(fetched(tmp_path, "some/streets", dict.fromkeys(shards, 2)))
    assert len(hub(id, "test")) == 6
    next((tmp_path / "hub").rglob("test-00001*")).unlink()
    with pytest.raises(SourceUnavailable, match="2 of 3 files of test are here"):
        hub(id, "test")


def test_other_formats_are_refused_where_the_library_would_merge_splits():
    base = f"hf://datasets/some/streets@{COMMIT}"
    words = ["test", "testing", "eval"]
    for mixed in (["test.zip", "test_ood.zip"], ["test/1.jpg", "test_ood/1.jpg"], ["eval/a-1.jpg", "eval-hard/a.jpg"]):
        with pytest.raises(ValueError, match="would be taken for one split; give a local folder"):
            refuse_mixed([f"{base}/{name}" for name in mixed], words)
    for fine in (
        ["test-00000.zip", "test-00001.zip"],
        ["test/test_cat.jpg", "test/1.jpg"],
        ["test_a.jpg", "test_b.jpg"],
    ):
        refuse_mixed([f"{base}/{name}" for name in fine], words)


def test_what_the_library_finds_itself_has_the_split_or_an_error_that_names_those_there_are(
    tmp_path, no_network, monkeypatch
):
    id = Asset(fetched(tmp_path, "some/pets", {"val-00000-of-00001.parquet": 5, "train.parquet": 4}))
    place, asked = next((tmp_path / "hub").rglob(COMMIT)), []
    for name in ("load_dataset_builder", "load_dataset"):
        real = getattr(no_network, name)

        def from_folder(what, configuration=None, *, revision=None, real=real, **more):
            asked.append(revision)
            return real(str(place) if what == id else what, configuration, **more)

        monkeypatch.setattr(no_network, name, from_folder)
    assert len(hub(id, "validation")) == 5 and COMMIT in asked
    with pytest.raises(ValueError, match="some/pets: there is no split 'test'; name one of train, validation"):
        hub(id, "test")
    with pytest.raises(ValueError, match="no split None; name one of train, validation"):
        hub(id, None)
    no_network.Dataset.from_dict({"label": [1], "text": ["a"]}).to_parquet(place / "words.parquet")
    with pytest.raises(ValueError, match="no column of images; its columns: label, text"):
        hub(id, "words")


def test_what_cannot_be_fetched_says_what_to_do(tmp_path, no_network, monkeypatch):
    for name in ("some/imagenet@main", f"some/imagenet@{COMMIT}", "some/imagenet"):
        with pytest.raises(SourceUnavailable, match=r"huggingface.co/datasets/some/imagenet .*hf auth login.*folder"):
            open_source(Asset(name), "train")
    with pytest.raises(SourceUnavailable, match="my pictures .*give a local folder"):
        open_source(Asset("my pictures"), "train")

    def gated(*args, **kwargs):
        raise no_network.exceptions.DatasetNotFoundError("Dataset 'some/imagenet' is a gated dataset on the Hub.")

    fetched(tmp_path, "some/imagenet", {"train.zip.parquet": 1})
    monkeypatch.setattr(no_network, "load_dataset_builder", gated)
    with pytest.raises(SourceUnavailable, match="gated dataset on the Hub.*hf auth login"):
        open_source(Asset("some/imagenet"), "train")


def test_sets_of_a_data_set_are_disjoint_and_use_its_splits(flowers, tmp_path):
    sets = make_sets(flowers, tmp_path / "log.csv", train=12, explain=5, evaluate=3)
    assert {name.rpartition("/")[0] for name in sets["train"].ids} == {f"{flowers}/train"}
    assert sorted(sets["explain"].ids + sets["evaluate"].ids) == [f"{flowers}/validation/{i}" for i in range(8)]
    assert len(readable(sets["train"], range(12))[0]) == 10  # the broken one and the missing one left out
    one = make_sets(flowers, tmp_path / "log.csv", train_split="validation", train=2, explain=3, evaluate=3)
    assert len({name for part in one.values() for name in part.ids}) == 8


# identity


def test_the_identity_of_photographs_is_what_a_stage_sees_of_them(tmp_path):
    fill(tmp_path / "one", 40)
    sizes = {"train": 10, "explain": 10, "evaluate": 5}

    def seen(**changed) -> dict[str, dict]:
        sets = make_sets(tmp_path / "one", tmp_path / "log.csv", **{**sizes, **changed})
        assert all(part.counter(8) is None for part in sets.values())
        return {name: plain(part) for name, part in sets.items()}

    before = seen()
    assert before == seen() and before["explain"]["n"] == 10 and before["explain"]["folder"] == "one"
    raised = seen(explain=12)  # moves the stretch that the dictionary is trained on
    assert all(before[name] != raised[name] for name in before)
    assert seen(train=11)["explain"] == before["explain"] and seen(seed=4)["explain"] != before["explain"]

    chosen = make_sets(tmp_path / "one", tmp_path / "log.csv", **sizes)
    used = {Path(name) for part in chosen.values() for name in part.ids}
    other = next(path for path in (tmp_path / "one").iterdir() if path not in used)
    other.write_bytes(b"not in any of these sets")
    assert seen() == before
    Image.new("RGB", (40, 30)).save(chosen["explain"].ids[3])  # overwritten by another
    assert differences(before, seen())[0].startswith("explain.pictures: ") and len(differences(before, seen())) == 1
    fill(tmp_path / "one", 1, first=99)  # one more copied in
    assert all(before[name] != part for name, part in seen().items())


def test_a_folder_may_move_but_its_pictures_may_not_change_places(tmp_path):
    fill(tmp_path / "a/photos", 9)
    before = make_sets(tmp_path / "a/photos", tmp_path / "l", train=3, explain=3, evaluate=3)["train"].identity()
    (tmp_path / "a").rename(tmp_path / "b")
    moved = make_sets(tmp_path / "b/photos", tmp_path / "l", train=3, explain=3, evaluate=3)["train"]
    assert moved.identity() == before
    turned = Photographs(moved.source, moved.order[::-1], moved.skipped)
    assert turned.identity() != before and moved[:2].identity() != before
    Path(moved.ids[0]).unlink()
    assert Photographs(moved.source, moved.order, moved.skipped).identity() != before


def test_the_identity_of_a_data_set_names_commit_configuration_split_and_rows(tmp_path, no_network):
    id = fetched(tmp_path, "some/streets", FILES, CARD)
    source = open_source(Asset(f"{id}@main"), "test", "day")
    seen = plain(Photographs(source, np.array([2, 0]), tmp_path / "l"))
    assert {key: seen[key] for key in ("dataset", "commit", "configuration", "split", "rows", "n")} == {
        "dataset": "some/streets",
        "commit": COMMIT,
        "configuration": "day",
        "split": "test",
        "rows": 3,
        "n": 2,
    }
    assert plain(Photographs(source, np.array([0, 2]), tmp_path / "l")) != seen
    other = open_source(Asset(id), "test_ood", "day")
    assert plain(Photographs(other, np.array([2, 0]), tmp_path / "l")) != seen


# sets


@pytest.fixture
def some(tmp_path) -> Photographs:
    """Ten photographs in an order of their own; the files of places 3 and 7 are broken."""
    place = fill(tmp_path / "photos", 10)
    (place / "0003.png").write_bytes(b"")
    (place / "0007.png").write_bytes(b"text, not pixels")
    return Photographs(folder(place), np.array([9, 3, 1, 7, 0, 2]), tmp_path / "run" / "skipped.csv")


def test_a_set_is_a_sequence_of_pictures(some):
    assert len(some) == 6 and some[0].getpixel((0, 0)) == (9, 0, 99)
    part = some[2:5]
    assert len(part) == 3 and part[2].getpixel((0, 0)) == (0, 0, 99) and part.ids == some.ids[2:5]
    assert len(some[4:99]) == 2 and len(some[-2:]) == 2 and len(some[3:3]) == 0
    assert len(set(some.ids)) == 6
    with pytest.raises(ValueError, match="no steps"):
        some[::2]
    for index in (6, -1, np.int64(6)):
        with pytest.raises(IndexError, match="of a set of 6"):
            some[index]
    with pytest.raises(IndexError):
        part[3]


def test_broken_pictures_are_logged_once_each(some):
    for _ in range(2):
        for index in (1, 3):
            with pytest.raises(UnreadableImage):
                some[index]
    with pytest.raises(UnreadableImage):
        some[1:3][0]
    with some.skipped.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["name", "reason"] and [row[0] for row in rows[1:]] == [some.ids[1], some.ids[3]]
    assert rows[1][1] == "the file is empty" and rows[2][1].startswith("it is none of BMP, GIF")


def test_several_writers_lose_no_row_of_the_log(tmp_path):
    place = fill(tmp_path / "photos", 12)
    for file in place.iterdir():
        file.write_bytes(b"")
    log = tmp_path / "skipped.csv"

    def scan(_: int) -> list[int]:
        return readable(Photographs(folder(place), np.arange(12), log), range(12))[0]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(scan, range(4))) == [[]] * 4
    names = [line.partition(",")[0] for line in log.read_text().splitlines()[1:]]
    assert len(names) == len(set(names)) == 12


def test_readable_leaves_broken_ones_out_and_keeps_indices_right(some, pictures):
    indices, images = readable(some, [5, 1, 0, 3, 2])
    assert indices == [5, 0, 2]
    assert [image.getpixel((0, 0))[0] for image in images] == [2, 9, 1]
    assert readable(pictures, range(3))[0] == [0, 1, 2]  # any set will do
    with pytest.raises(IndexError):
        readable(some, [6])


def test_a_set_without_broken_pictures_writes_no_log(some):
    readable(some[4:], range(2))
    assert not some.skipped.exists()


def test_sets_are_disjoint_with_and_without_a_training_split(tmp_path):
    sizes = {"train": 20, "explain": 10, "evaluate": 9}
    fill(tmp_path / "one", 40)
    fill(tmp_path / "two/train", 40)
    fill(tmp_path / "two/val", 30, first=100)
    fill(tmp_path / "inside/train", 45)  # the held-out split is then the whole folder, with train in it
    fill(tmp_path / "inside/more", 9, first=50)
    for place in ("one", "two", "inside"):
        sets = make_sets(tmp_path / place, tmp_path / "log.csv", **sizes)
        assert {name: len(part) for name, part in sets.items()} == sizes
        assert len({name for part in sets.values() for name in part.ids}) == 39
    assert all(
        "/two/train/" in name for name in make_sets(tmp_path / "two", tmp_path / "log.csv", **sizes)["train"].ids
    )


def test_a_seed_fixes_the_sets_and_the_training_set_does_not_move_the_others(tmp_path):
    fill(tmp_path / "one", 40)

    def ids(seed: int = 3, train: int = 20) -> dict[str, list[str]]:
        sets = make_sets(tmp_path / "one", tmp_path / "log.csv", seed=seed, train=train, explain=10, evaluate=5)
        return {name: part.ids for name, part in sets.items()}

    assert ids() == ids() and ids() != ids(seed=4)
    assert ids(train=2)["explain"] == ids()["explain"] and ids(train=2)["evaluate"] == ids()["evaluate"]
    assert ids()["explain"] != sorted(ids()["explain"])


def test_too_few_pictures_say_which_settings_to_lower(tmp_path):
    fill(tmp_path / "one", 10)
    with pytest.raises(ValueError, match=r"10 pictures, but 12 .*images.train \(6\) or images.explain \(4\) or"):
        make_sets(tmp_path / "one", tmp_path / "log.csv", train=6, explain=4, evaluate=2)
    fill(tmp_path / "two/train", 5)
    fill(tmp_path / "two/val", 6, first=50)
    with pytest.raises(ValueError, match=r"train.*5 pictures, but 6 are asked for; lower images.train \(6\)$"):
        make_sets(tmp_path / "two", tmp_path / "log.csv", train=6, explain=3, evaluate=3)
    with pytest.raises(ValueError, match=r"6 pictures, but 7 .*lower images.explain \(4\) or images.evaluate \(3\)$"):
        make_sets(tmp_path / "two", tmp_path / "log.csv", train=5, explain=4, evaluate=3)


def test_names_are_relative_inside_the_project(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "ROOT", tmp_path)
    assert Folder((str(tmp_path / "data" / "a.jpg"), "/else/b.jpg")).name(0) == "data/a.jpg"
    assert Folder((str(tmp_path / "data" / "a.jpg"), "/else/b.jpg")).name(1) == "/else/b.jpg"


def test_pictures_of_one_size_are_told_apart_by_their_time(tmp_path):
    """Uncompressed pictures of one shape all have one size, whatever they show."""
    for kind, colour in (("cats", "red"), ("dogs", "blue")):
        for i in range(4):
            path = tmp_path / kind / "train" / f"{i}.bmp"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), colour).save(path)
    one, other = (folder(tmp_path / kind / "train").identity() for kind in ("cats", "dogs"))
    assert one != other
    Image.new("RGB", (8, 8), "green").save(tmp_path / "cats/train/0.bmp")
    assert folder(tmp_path / "cats/train").identity() != one


@pytest.mark.parametrize(
    ("pattern", "takes", "leaves"),
    [
        ("data/*.parquet", "data/a.parquet", "data/ood/a.parquet"),
        ("**/test-*", "test-0", "test_ood-0"),
        ("**/test-*", "a/b/test-0", "a/test-0/b"),
        ("data/**", "data/ood/a.parquet", "other/a.parquet"),
        ("a+b/x?.parquet", "a+b/x1.parquet", "aab/x1.parquet"),
    ],
)
def test_patterns_of_a_card_are_read_as_its_library_reads_them(pattern, takes, leaves):
    assert _glob(pattern).fullmatch(takes) and not _glob(pattern).fullmatch(leaves)
