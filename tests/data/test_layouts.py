"""Each layout reads what its publisher ships, and refuses what it is not with one line."""

import numpy as np
import pytest
from PIL import Image

from conftest import REPOSITORY
from stagetransfer.data.layouts import (
    check_images,
    read_csv,
    read_curet,
    read_dld,
    read_dtd,
    read_folder,
    read_imagenet,
    read_kth_tips,
)
from stagetransfer.errors import UserError

REAL = REPOSITORY.parent / "shared" / "data"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="../shared/data is not there")


@pytest.fixture
def put(tmp_path):
    """Makes small images at these paths below a root."""

    def make(*paths):
        for path in paths:
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (4, 4), 9).save(file, "PNG")
        return tmp_path

    return make


def rows(samples):
    return [
        (i, samples.classes[label]) for i, label in zip(samples.ids, samples.labels, strict=True)
    ]


def test_folder_is_read_in_the_order_of_names_at_any_depth(put):
    root = put("b/2.png", "a/x/1.JPG", "a/.hidden.png", "a/Thumbs.db", "b/1.png")
    (root / "SOURCE.txt").write_text("beside the classes is fine")
    samples = read_folder(root)
    assert rows(samples) == [("a/x/1.JPG", "a"), ("b/1.png", "b"), ("b/2.png", "b")]
    assert samples.groups is None
    assert samples.splits is None


def test_folder_with_official_splits_and_groups_from_the_names(put):
    root = put(*(f"{s}/{c}/p{p}_{i}.png" for s, p in (("train", 1), ("val", 2), ("test", 3))
                 for c in "ab" for i in range(2)))  # fmt: skip
    samples = read_folder(root, groups=r"(p\d)_")
    assert set(zip(samples.groups, samples.splits, strict=True)) == {
        ("p1", "train"), ("p2", "validation"), ("p3", "test"),
    }  # fmt: skip


def test_a_part_of_a_large_set(put):
    root = put(*(f"{c}/{i}.png" for c in "abc" for i in range(9)))
    part = read_folder(root, max_classes=2, max_per_class=3)
    assert part.ids == ("a/0.png", "a/4.png", "a/8.png", "b/0.png", "b/4.png", "b/8.png")
    assert read_folder(root, classes=["c", "a"]).classes == ("c", "a")


def test_imagenet(put):
    root = put(*(f"{s}/n0{c}/x_{c}.JPEG" for s in ("train", "val") for c in (1, 2)))
    samples = read_imagenet(root)
    assert samples.classes == ("n01", "n02")
    assert samples.splits == ("train", "train", "validation", "validation")


def test_imagenet_as_the_official_archive_unpacks(put):
    root = put(*(f"ILSVRC/Data/CLS-LOC/{s}/n0{c}/x.JPEG" for s in ("train", "val") for c in (1, 2)))
    assert len(read_imagenet(root)) == 4


def test_curet(put):
    root = put(*(f"sample{i:02d}/{i:02d}-001.png" for i in range(1, 62)))
    assert len(read_curet(root).classes) == 61


def test_dtd(put):
    root = put(*(f"images/{c}/{c}_{i}.jpg" for c in ("banded", "woven") for i in range(3)))
    (root / "labels").mkdir()
    for i, name in enumerate(("train", "val", "test")):
        (root / "labels" / f"{name}2.txt").write_text(f"banded/banded_{i}.jpg\nwoven/woven_{i}.jpg")
    samples = read_dtd(root, fold=2)
    assert samples.splits == ("train", "validation", "test") * 2
    assert samples.ids[0] == "images/banded/banded_0.jpg"


def test_kth_tips_2_has_physical_samples_as_groups(put):
    root = put(*(f"{c}/sample_{s}/x.png" for c in ("cork", "wool") for s in "abcd"))
    samples = read_kth_tips(root)
    assert samples.classes == ("cork", "wool")
    assert samples.groups[0] == "cork/sample_a"


def test_kth_tips(put):
    samples = read_kth_tips(put("cork/1-scale_1_im_1_col.png", "wool/2.png"))
    assert samples.groups is None
    assert len(samples) == 2


def test_csv(put):
    root = put("x/1.png", "x/2.png", "3.png")
    (root / "labels.csv").write_text(
        "label,file,patient,split,age\nb,x/1.png,p1,train,9\na,x/2.png,p2,val,8\nb,3.png,p3,test,\n"
    )
    samples = read_csv(root)
    assert rows(samples) == [("3.png", "b"), ("x/1.png", "b"), ("x/2.png", "a")]
    assert samples.groups == ("p3", "p1", "p2")
    assert samples.splits == ("test", "train", "validation")


def test_dld_keeps_the_papers_order_of_classes(put):
    names = ("CON", "GGO", "HCM", "RET", "EMP", "NOD", "NOR")
    root = put(*(f"{s}/{c}/1.png" for s in ("train", "test") for c in names))
    assert read_dld(root).classes == names
    (root / "labels.csv").write_text(
        "file,label\n" + "".join(f"train/{c}/1.png,{c}\n" for c in names)
    )
    assert read_dld(root).splits is None


@pytest.mark.parametrize(
    ("read", "files", "line"),
    [
        (read_folder, [], "no class folders with images"),
        (read_folder, ["1.png"], "no class folders with images"),
        (read_folder, ["a/1.png"], "1 class found; two or more"),
        (read_folder, ["train/a/1.png", "train/b/1.png", "test/a/1.png"], None),
        (read_imagenet, ["train/a/1.png"], "val: expected a folder a class"),
        (read_curet, ["sample01/1.png", "sample02/1.png"], "2 folders sampleNN, CUReT has 61"),
        (read_csv, ["a/1.png"], "labels.csv: no such table; name it with options.table="),
        (read_dld, ["CON/1.png", "GGO/1.png"], "class HCM has no image"),
    ],
)
def test_what_is_not_the_layout_gets_one_line(put, tmp_path, read, files, line):
    root = put(*files)
    if line is None:
        assert len(read(root)) == 3
        return
    with pytest.raises(UserError) as caught:
        read(root)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [read_folder, read_imagenet, read_curet, read_dtd, read_kth_tips])
def test_a_missing_folder(read, tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        read(tmp_path / "nowhere")


def test_an_empty_class(put):
    root = put("a/1.png", "b/1.png")
    (root / "c").mkdir()
    with pytest.raises(UserError, match=r"c: class c has no image; add some or remove the folder"):
        read_folder(root)


def test_a_stranger_in_a_class_folder(put):
    root = put("a/1.png", "b/1.png")
    (root / "b" / "notes.docx").touch()
    with pytest.raises(UserError, match=r"notes.docx: not an image; move it out"):
        read_folder(root)


def test_groups_that_do_not_match(put):
    root = put("a/p1_1.png", "b/x.png")
    with pytest.raises(UserError, match=r"x.png: options.groups=.* does not match"):
        read_folder(root, groups=r"(p\d)_")
    with pytest.raises(UserError, match="needs one pair of parentheses"):
        read_folder(root, groups="p")
    with pytest.raises(UserError, match="is no pattern"):
        read_folder(root, groups="(")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("file,class\n1.png,a", "no column 'label'; there are file, class"),
        ("file,label\n1.png,a\n9.png,b", "line 3: no file"),
        ("file,label\n1.png,a\n1.png,b", "line 3: 1.png stands in line 2 already"),
        ("file,label,patient\n1.png,a,\n2.png,b,q", "line 2: no patient"),
        ("file,label,split\n1.png,a,train\n2.png,b,dev", "line 3: split 'dev' is none of"),
        ('file,label\n1.png,"a', "not a readable CSV"),
    ],
)
def test_a_bad_table_names_its_line(put, text, line):
    root = put("1.png", "2.png")
    (root / "labels.csv").write_text(text)
    with pytest.raises(UserError) as caught:
        read_csv(root)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_class_in_the_table(put):
    root = put("1.png", "2.png")
    (root / "labels.csv").write_text("file,label\n1.png,CON\n2.png,XXX\n")
    with pytest.raises(UserError, match=r"line 3: unknown class 'XXX'; known are CON, GGO"):
        read_dld(root)


def test_files_that_are_no_images_are_counted(put):
    root = put("a/1.png", "b/1.png")
    for name in ("a/2.png", "b/2.png"):
        (root / name).write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"a/2.png: not an image \(and 1 more files\)"):
        check_images(read_folder(root))


@needs_real
def test_real_sets():
    natural = read_folder(REAL / "natural")
    assert (len(natural.classes), len(natural)) == (50, 5000)
    texture = read_dtd(REAL / "texture")
    assert (len(texture.classes), len(texture)) == (10, 490)
    lung = read_csv(REAL / "lung_ct")
    assert np.bincount(lung.labels).tolist() in ([349, 397], [397, 349])
    assert lung.groups is not None
