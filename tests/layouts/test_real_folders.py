"""Folders and tables as people have them: read as they are meant, or refused with one line."""

import os

import numpy as np
import pytest
from PIL import Image

from stagetransfer.data import DomainDataModule, StageSettings
from stagetransfer.data.copies import Copies
from stagetransfer.data.split_files import read_split_file
from stagetransfer.errors import UserError
from stagetransfer.layouts import read


@pytest.fixture
def put(tmp_path):
    """Makes different small images at these paths below a root."""

    def make(*paths):
        for number, path in enumerate(paths):
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(file)
        return tmp_path

    return make


def trees(*tops, classes=("a", "b"), count=2):
    return [f"{top}/{name}/{i}.png" for top in tops for name in classes for i in range(count)]


def refused(layout, root, **options):
    with pytest.raises(UserError) as caught:
        read(layout, root, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("tops", "splits"),
    [
        (("Training", "Testing"), {"train", "test"}),
        (("TRAIN", "TEST"), {"train", "test"}),
        (("train", "dev", "test"), {"train", "validation", "test"}),
        (("train", "validate"), {"train", "validation"}),
        (("training", "valid", "testing"), {"train", "validation", "test"}),
        (("Train", "Val"), {"train", "validation"}),
        (("train", "validation"), {"train", "validation"}),
    ],
)
def test_folders_of_splits(put, tops, splits):
    samples = read("folder", put(*trees(*tops)))
    assert samples.classes == ("a", "b")
    assert {*samples.splits} == splits


@pytest.mark.parametrize(
    ("paths", "named"),
    [
        ([*trees("train", "test"), "outputs/1.png"], "outputs"),
        ([*trees("Training", "Testing"), "other/1.png"], "other"),
        (trees("train", "test", "val", "chest_xray/train", "chest_xray/test"), "chest_xray"),
        (trees("train", "fold2"), "fold2"),
        (["train/1.png", "test/1.png", "tram/1.png"], "tram"),
    ],
)
def test_split_names_beside_others_are_refused(put, paths, named):
    root = put(*paths)
    line = refused("folder", root)
    assert named in line
    assert "options.splits" in line
    kept = read("folder", root, splits=True) if "train/a" in "".join(paths) else None
    assert kept is None or kept.classes == ("a", "b")


def test_split_names_may_be_classes_if_that_is_said(put):
    root = put("train/1.png", "test/1.png", "tram/1.png")
    samples = read("folder", root, splits=False)
    assert samples.classes == ("test", "train", "tram")
    assert samples.splits is None


@pytest.mark.parametrize("tops", [("fold1", "fold2"), ("left", "right", "both")])
def test_top_folders_with_the_same_folders_are_refused(put, tops):
    root = put(*trees(*tops))
    assert "options.splits=false" in refused("folder", root)
    assert read("folder", root, splits=False).classes == tuple(sorted(tops))


@pytest.mark.parametrize("classes", [("a",), ("a", "c")])
def test_a_site_may_lack_a_class(put, classes):
    root = put(*trees("site1", "site2"), *trees("site3", classes=classes))
    if classes == ("a",):
        assert "options.splits=false" in refused("folder", root)
    else:  # one name in three in common: patients with images in each class
        assert read("folder", root).classes == ("site1", "site2", "site3")


def test_top_folders_with_different_folders_are_classes(put):
    assert read("folder", put("a/p1/1.png", "a/p2/1.png", "b/p3/1.png")).classes == ("a", "b")


@pytest.mark.parametrize(
    "names", [("Nodule", "nodule"), ("01", "1"), ("1", "1.0"), ("x y", "x  y")]
)
def test_two_spellings_of_a_class_or_patient(put, names):
    root = put(*(f"{i}.png" for i in range(4)))
    first, second = names
    labels = f"file,label\n0.png,{first}\n1.png,{second}\n2.png,c\n"
    (root / "labels.csv").write_text(labels)
    assert "two spellings" in refused("csv", root)
    rows = f"0.png,a,{first}\n1.png,b,{second}\n"
    (root / "labels.csv").write_text(f"file,label,patient\n{rows}")
    assert "two spellings" in refused("csv", root)
    (root / "splits.csv").write_text(f"id,group,split\n0.png,{first},train\n1.png,{second},test\n")
    with pytest.raises(UserError, match="two spellings"):
        read_split_file(root / "splits.csv")


def test_two_spellings_of_a_class_folder(put):
    assert "two spellings" in refused("folder", put("Nodule/1.png", "nodule/2.png", "x/1.png"))


@pytest.mark.parametrize("text", ["nan", "NA", "NaN", "n/a", "NULL", "<NA>", "None"])
@pytest.mark.parametrize("column", ["label", "patient"])
def test_texts_for_missing_values(put, text, column):
    root = put("0.png", "1.png")
    cells = {"label": ("a", "b"), "patient": ("p", "q"), column: ("x", text)}
    lines = [f"{i}.png,{cells['label'][i]},{cells['patient'][i]}" for i in range(2)]
    (root / "labels.csv").write_text("\n".join(["file,label,patient", *lines]))
    line = refused("csv", root)
    assert "line 3" in line
    assert "missing value" in line


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("header", ["file label patient", "File LABEL Patient"])
def test_tables_of_other_programs(put, separator, start, end, header):
    root = put("x/0.png", "x/1.png")
    rows = [header.split(), [str(root / "x" / "0.png"), "a", "p"], ["x\\1.png", "b", "q"]]
    text = start + "".join(separator.join(row) + end for row in rows)
    (root / "labels.csv").write_bytes(text.encode())
    samples = read("csv", root)
    assert samples.ids == ("x/0.png", "x/1.png")
    assert samples.classes == ("a", "b")
    assert samples.groups == ("p", "q")


@pytest.mark.parametrize("place", ["file", "folder", "root"])
def test_names_that_are_not_utf8(tmp_path, place):
    strange = b"M\xfcller".decode("utf-8", "surrogateescape")
    root = tmp_path / (strange if place == "root" else "set")
    for name in ("a", "b"):
        folder = root / name / (strange if place == "folder" else "x")
        folder.mkdir(parents=True)
        Image.new("L", (4, 4)).save(folder / f"{strange if place == 'file' else 1}.png")
    assert "not UTF-8" in refused("folder", root)


def module(root, **settings):
    stage = StageSettings("t", input_size=67)
    return DomainDataModule(stage, layout="folder", root=str(root), test_share=0.5, **settings)


def test_pixels_changed_in_place_give_another_fingerprint(put):
    root = put(*(f"{c}/{i}.png" for c in "ab" for i in range(8)))
    file = root / "a" / "3.png"
    state, before = file.stat(), module(root).read().fingerprint
    assert module(root).read().fingerprint == before
    pixels = np.asarray(Image.open(file)).copy()
    raw = {}
    for content in (pixels, 255 - pixels):  # uncompressed: files of equal size
        Image.fromarray(content).save(file, compress_level=0)
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
        raw[file.stat().st_size, module(root).read().fingerprint] = content
    assert len({size for size, _ in raw}) == 1
    assert len({fingerprint for _, fingerprint in raw}) == 2
    assert before in {fingerprint for _, fingerprint in raw}


def test_unchecked_files_count_by_their_time(put):
    root = put(*(f"{c}/{i}.png" for c in "ab" for i in range(8)))
    before = module(root, check_images=False).read().fingerprint
    os.utime(root / "a" / "3.png", ns=(0, 0))
    assert module(root, check_images=False).read().fingerprint != before


def test_copies_across_splits_and_classes(put):
    root = put(*(f"{s}/{c}/{i}.png" for s in ("train", "test") for c in "ab" for i in range(4)))
    data = module(root).read()
    assert data.copies == Copies(True)
    assert data.copies.lines == []
    (root / "test" / "a" / "0.png").write_bytes((root / "train" / "a" / "1.png").read_bytes())
    for name, mode in (("8.bmp", "L"), ("9.bmp", "RGB")):  # grey stored in colour is a copy too
        Image.open(root / "train" / "a" / "2.png").convert(mode).save(root / "train" / "b" / name)
    data = module(root).read()
    assert ("test/a/0.png", "train/a/1.png") in data.copies.across_splits
    pairs = [("train/a/2.png", "train/b/8.bmp"), ("train/a/2.png", "train/b/9.bmp")]
    assert list(data.copies.across_classes) == pairs
    assert data.copies.record()["across_classes"] == 2
    assert data.copies.lines[1].startswith("2 images have the same pixels as one in another class")
    assert module(root, check_images=False).read().copies == Copies(False)


def test_unknown_patients_are_said(put, caplog):
    root = put(*(f"{c}/p{i}_{i}.png" for c in "ab" for i in range(8)))
    module(root).read().log_doubts()
    assert "the patients are unknown" in caplog.text
    caplog.clear()
    module(root, options={"groups": r"(p\d)_"}).read().log_doubts()
    assert not caplog.text


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_worker_is_one_line(put, workers):
    root = put(*(f"{c}/{i}.png" for c in "ab" for i in range(8)))
    data = module(root, check_images=False, memory_limit_gib=0, workers=workers).read()
    for name in "ab":
        for i in range(8):
            (root / name / f"{i}.png").write_bytes(b"nothing")
    with pytest.raises(UserError) as caught:
        list(data.train_dataloader())
    assert str(caught.value).endswith(".png: not an image; remove or replace it")
    assert str(caught.value).startswith(str(root))
