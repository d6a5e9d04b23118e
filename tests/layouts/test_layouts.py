"""Each layout reads its published form, and refuses anything else with one line."""

import contextlib
import os
import re

import numpy as np
import pytest
from PIL import Image

from conftest import REPOSITORY
from stagetransfer.errors import UserError
from stagetransfer.layouts import LAYOUTS, check_images, read
from stagetransfer.layouts.samples import Samples

REAL = REPOSITORY.parent / "shared" / "data"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="../shared/data is not there")
DLD = ("CON", "GGO", "HCM", "RET", "EMP", "NOD", "NOR")
CURET = [f"sample{i:02d}/{i:02d}-001.png" for i in range(1, 62)]


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


def refused(layout, root, **options):
    """The one line of a refusal, without the folder of the test."""
    with pytest.raises(UserError) as caught:
        read(layout, root, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(root), "ROOT")


# A folder a class


def test_folder_is_read_in_the_order_of_ids_at_any_depth(put):
    root = put("b/2.png", "a/x/1.JPG", "a/.hidden.png", "a/Thumbs.db", "b/1.png", "a-b/1.webp")
    (root / "SOURCE.txt").write_text("beside the classes is fine")
    (root / "__MACOSX").mkdir()
    samples = read("folder", root)
    assert rows(samples) == [
        ("a-b/1.webp", "a-b"),
        ("a/x/1.JPG", "a"),
        ("b/1.png", "b"),
        ("b/2.png", "b"),
    ]
    assert samples.images[1] == root / "a" / "x" / "1.JPG"
    assert samples.groups is None
    assert samples.splits is None


def test_the_order_does_not_depend_on_the_file_system(put, monkeypatch):
    root = put(*(f"{c}/{c}{d}/{i}.png" for c in "cab" for d in "yx" for i in (2, 0, 1)))
    scandir = os.scandir

    @contextlib.contextmanager
    def shuffled(folder):
        with scandir(folder) as found:
            yield iter(np.random.default_rng().permutation(list(found)).tolist())

    expected = read("folder", root)
    monkeypatch.setattr(os, "scandir", shuffled)
    for _ in range(5):
        samples = read("folder", root)
        assert samples.ids == expected.ids == tuple(sorted(samples.ids))
        assert samples.classes == ("a", "b", "c")
        assert np.array_equal(samples.labels, expected.labels)


@pytest.mark.parametrize("name", ["val", "valid", "Validation"])
def test_folder_with_official_splits_and_groups_from_the_names(put, name):
    root = put(*(f"{s}/{c}/p{p}_{i}.png" for s, p in (("train", 1), (name, 2), ("test", 3))
                 for c in "ab" for i in range(2)))  # fmt: skip
    samples = read("folder", root, groups=r"(p\d)_")
    assert set(zip(samples.groups, samples.splits, strict=True)) == {
        ("p1", "train"), ("p2", "validation"), ("p3", "test"),
    }  # fmt: skip
    assert samples.classes == ("a", "b")


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ([], r"ROOT: no class folders; expected ROOT/<class>/image.png"),
        (["1.png"], r"ROOT: it has images, but no class folders. Give the folder above it as .*"),
        (["a/1.png"], r"ROOT: 1 class found \(a\); two or more are needed"),
        (["set/a/1.png", "set/b/1.png"],
         r"ROOT: its only folder is set, which has a, b. Give ROOT/set as the root."),
        (["a/1.png", "b/1.png", "x.png"],
         r"ROOT/x.png: an image beside the class folders; move it into one"),
        (["train/a/1.png", "train/b/1.png", "test/1.png"], r"ROOT/test: it has images, but no .*"),
        (["train/a/1.png", "train/b/1.png", "test/c/1.png"],
         r"ROOT: class c has test images and none for training"),
    ],
)  # fmt: skip
def test_trees_that_are_not_one_folder_per_class(put, files, line):
    assert re.fullmatch(line, refused("folder", put(*files)))


def test_an_empty_class(put):
    root = put("a/1.png", "b/1.png")
    (root / "c").mkdir()
    line = "ROOT/c: class c has no image; add some or remove the folder"
    for layout in ("folder", "dtd", "kth_tips"):
        assert refused(layout, root) == line
    assert len(read("folder", root, classes=["a", "b"])) == 2


def test_a_file_without_the_suffix_of_an_image_in_a_class_folder(put):
    root = put("a/1.png", "b/x/1.png")
    (root / "b" / "x" / "notes.docx").touch()
    for layout in ("folder", "dtd", "kth_tips"):
        line = refused(layout, root)
        assert line.startswith("ROOT/b/x/notes.docx: not an image (.png, ")
        assert line.endswith("; move it out of the class folder")


def test_a_folder_that_leads_back_to_itself(put):
    root = put("a/1.png", "b/1.png")
    (root / "b" / "loop").symlink_to(root / "b" / "loop")
    assert "ROOT/b: cannot be read (Too many levels of symbolic links)" in refused("folder", root)


def test_groups_that_do_not_match(put):
    root = put("a/p1_1.png", "b/x.png")
    line = refused("folder", root, groups=r"(p\d)_")
    assert line.startswith(r"ROOT/b/x.png: options.groups='(p\\d)_' does not match it")
    assert "ROOT/b/x.png: options.groups" in refused("folder", root, groups=r"p(\d)|x")
    assert "needs one pair of parentheses" in refused("folder", root, groups="p")
    assert "needs one pair of parentheses" in refused("folder", root, groups="(p)(1)")
    assert "options.groups='(': not a regular expression" in refused("folder", root, groups="(")


def test_classes_are_chosen_and_ordered(put):
    root = put(*(f"{c}/1.png" for c in "abc"))
    samples = read("folder", root, classes=["c", "a"])
    assert rows(samples) == [("a/1.png", "a"), ("c/1.png", "c")]
    assert samples.classes == ("c", "a")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"classes": ["a", "x"]}, "ROOT: class x has no image; there are a, b, c"),
        ({"classes": ["a", "b", "a"]}, "options.classes: a is given twice"),
        ({"classes": "ab"}, "options.classes=ab: must be a list of names, numbers in quotes"),
        ({"classes": [1, 2]}, "options.classes=[1, 2]: must be a list of names, numbers in quotes"),
        ({"classes": 3}, "options.classes=3: must be a list of names, numbers in quotes"),
        ({"classes": ["a"]}, "ROOT: 1 class found (a); two or more are needed"),
        ({"max_classes": 1}, "options.max_classes=1: must be a whole number, 2 or more"),
        ({"max_per_class": 0}, "options.max_per_class=0: must be a whole number, 1 or more"),
        (
            {"max_per_class": "x"},
            "options.max_per_class=x: must be a whole number or null. Give another value.",
        ),
    ],
)
def test_impossible_options(put, options, line):
    root = put(*(f"{c}/1.png" for c in "abc"))
    assert refused("folder", root, **options).removeprefix("layout folder: ") == line
    (root / "labels.csv").write_text("file,label\na/1.png,a\nb/1.png,b\nc/1.png,c\n")
    if options != {"classes": ["a", "x"]} and options != {"classes": ["a"]}:
        assert refused("csv", root, **options).removeprefix("layout csv: ") == line


def test_a_part_of_a_large_set(put):
    root = put(*(f"{c}/{i}.png" for c in "abc" for i in range(9)))
    part = read("folder", root, max_classes=2, max_per_class=3)
    assert part.ids == ("a/0.png", "a/4.png", "a/8.png", "b/0.png", "b/4.png", "b/8.png")
    assert part.classes == ("a", "b")


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "litdata"])
def test_every_layout_takes_max_classes_and_max_per_class(put, layout):
    files = {
        "imagenet": [f"{s}/n{c}/{i}.JPEG" for s in ("train", "val") for c in (1, 2, 3)
                     for i in range(4)],
        "curet": [f"sample{c:02d}/{i}.png" for c in range(1, 62) for i in range(3)],
        "dld": [f"{s}/{c}/{i}.png" for s in ("train", "test") for c in DLD for i in range(4)],
    }.get(layout, [f"{c}/{i}.png" for c in "abc" for i in range(4)])  # fmt: skip
    root = put(*files)
    if layout == "csv":
        table = "".join(f"{file},{file[0]}\n" for file in files)
        (root / "labels.csv").write_text("file,label\n" + table)
    part = read(layout, root, max_classes=2, max_per_class=2)
    assert len(part.classes) == 2
    assert np.bincount(part.labels).tolist() == ([4, 4] if part.splits else [2, 2])


# Published sets


def test_imagenet(put):
    root = put(*(f"{s}/n0{c}/x_{c}.JPEG" for s in ("train", "val") for c in (1, 2)))
    (root / "test").mkdir()
    samples = read("imagenet", root)
    assert samples.classes == ("n01", "n02")
    assert samples.splits == ("train", "train", "validation", "validation")


def test_imagenet_as_the_official_archive_unpacks(put):
    root = put(*(f"ILSVRC/Data/CLS-LOC/{s}/n0{c}/x.JPEG" for s in ("train", "val") for c in (1, 2)))
    assert read("imagenet", root).ids[0] == "ILSVRC/Data/CLS-LOC/train/n01/x.JPEG"


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ([], "ROOT/train: no such folder; ImageNet's are train/ and val/"),
        (["train/n1/1.JPEG", "train/n2/1.JPEG"], "ROOT/val: no such folder; ImageNet's are .*"),
        (["train/n1/1.JPEG", "train/n2/1.JPEG", "val/ILSVRC2012_val_00000001.JPEG"],
         "ROOT/val: its images are not in class folders, as in the official archive. Sort them "
         "into one folder per class .*"),
        ([f"ILSVRC/Data/CLS-LOC/{f}" for f in ("train/n1/1.JPEG", "train/n2/1.JPEG", "val/1.JPEG")],
         "ROOT/ILSVRC/Data/CLS-LOC/val: its images are not in class folders, .*"),
        (["train/n1/1.JPEG", "train/n2/1.JPEG", "val/n2/1.JPEG", "val/n3/1.JPEG"],
         "ROOT: class n3 has validation images and none for training"),
    ],
)  # fmt: skip
def test_what_is_not_imagenet(put, files, line):
    assert re.fullmatch(line, refused("imagenet", put(*files)))


def test_curet(put):
    samples = read("curet", put(*CURET))
    assert len(samples.classes) == 61
    assert rows(samples)[0] == ("sample01/01-001.png", "sample01")


@pytest.mark.parametrize("count", [0, 2, 60])
def test_a_part_of_curet_needs_an_option(put, count):
    root = put(*CURET[:count])
    line = f"ROOT: {count} folders sampleNN, CUReT has 61. Give the folder that has them all, or "
    assert refused("curet", root).startswith(line)
    if count:
        assert len(read("curet", root, partial=True).classes) == count
    else:
        assert refused("curet", root, partial=True).startswith(line)


@pytest.fixture
def dtd(put):
    root = put(*(f"images/{c}/{c}_{i}.jpg" for c in ("banded", "woven") for i in range(3)))
    (root / "labels").mkdir()
    for i, name in enumerate(("train", "val", "test")):
        (root / "labels" / f"{name}2.txt").write_text(f"banded/banded_{i}.jpg\nwoven/woven_{i}.jpg")
    return root


def test_dtd(dtd):
    samples = read("dtd", dtd, fold=2)
    assert samples.splits == ("train", "validation", "test") * 2
    assert samples.ids[0] == "images/banded/banded_0.jpg"
    assert samples.classes == ("banded", "woven")


def test_dtd_without_lists_or_images_folder(put):
    samples = read("dtd", put("banded/1.jpg", "woven/1.jpg"))
    assert samples.ids == ("banded/1.jpg", "woven/1.jpg")
    assert samples.splits is None


def test_dtd_lists_and_images_must_agree(dtd):
    assert refused("dtd", dtd).startswith("ROOT/labels/train1.txt: no such file; options.fold must")
    (dtd / "labels" / "train1.txt").write_bytes("banded/ä.jpg".encode("latin-1"))
    assert refused("dtd", dtd).startswith("ROOT/labels/train1.txt: cannot be read ('utf-8' codec")
    train = dtd / "labels" / "train2.txt"
    good = train.read_text()
    for text, line in (
        (good.split()[0], "ROOT/images/woven/woven_0.jpg: in none of the lists labels/*2.txt"),
        (f"{good}\nwoven/w.jpg", "ROOT/images/woven/w.jpg: in labels/*2.txt, but there is no such"),
        (f"{good}\nwoven/woven_2.jpg", "ROOT/labels/test2.txt: woven/woven_2.jpg is in the train "),
    ):
        train.write_text(text)
        assert refused("dtd", dtd, fold=2).startswith(line)


@pytest.mark.parametrize("top", ["", "KTH-TIPS2-b/"])
def test_kth_tips_2_has_physical_samples_as_groups(put, top):
    root = put(*(f"{top}{c}/sample_{s}/x.png" for c in ("cork", "wool") for s in "abcd"))
    samples = read("kth_tips", root)
    assert samples.classes == ("cork", "wool")
    assert samples.groups == tuple(f"{c}/sample_{s}" for c in ("cork", "wool") for s in "abcd")


@pytest.mark.parametrize("top", ["", "KTH_TIPS/"])
def test_kth_tips(put, top):
    root = put(f"{top}cork/01-scale_1_im_1_col.png", f"{top}wool/02-scale_9_im_3_col.png")
    samples = read("kth_tips", root)
    assert rows(samples)[0] == (f"{top}cork/01-scale_1_im_1_col.png", "cork")
    assert samples.groups is None


def test_kth_tips_refuses_an_image_without_a_physical_sample(put):
    root = put("cork/sample_a/1.png", "cork/2.png", "wool/sample_a/1.png")
    assert refused("kth_tips", root) == "ROOT/cork/2.png: not in a folder sample_a to sample_d, as other images are"  # fmt: skip  # noqa: E501


# Tables


def test_csv(put):
    root = put("x/1.png", "x/2.png", "3.png")
    (root / "labels.csv").write_text(
        "\ufefflabel,file,patient,split,age\r\n"
        "b,x/1.png, p1,train,9\r\n"
        "a,x\\2.png,p2,TRAIN,8\r\n\r\n"
        '"b",./3.png,p3,val,\r\n',
        encoding="utf-8",
    )
    samples = read("csv", root)
    assert rows(samples) == [("3.png", "b"), ("x/1.png", "b"), ("x/2.png", "a")]
    assert samples.groups == ("p3", "p1", "p2")
    assert samples.splits == ("validation", "train", "train")
    (root / "labels.csv").rename(root / "mine.csv")
    assert len(read("csv", root, table="mine.csv")) == 3
    assert refused("csv", root) == "ROOT/labels.csv: no such table; name it with options.table=..."


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ": no column 'file'; there are none"),
        ("file,class\n1.png,a", ": no column 'label'; there are file, class"),
        ("file|label\n1.png|a", ": no column 'file'; there are file|label"),
        ("file,label,file\n1.png,a,2.png", ": two columns 'file'; keep one"),
        ("file,label\n", ": 0 classes found; two or more are needed"),
        ("file,label\n1.png,a\n2.png,a", ": 1 class found (a); two or more are needed"),
        ("file,label\n1.png,a\n9.png,b", " line 3: no file ROOT/9.png"),
        ("file,label\n\n1.png,a\n\n9.png,b", " line 5: no file ROOT/9.png"),
        ("file,label\n1.png,a\n1.png,b", " line 3: 1.png is in line 2 already"),
        ("file,label\n1.png,a\n./1.png,b", " line 3: 1.png is in line 2 already"),
        ("file,label\n1.png,a\n../2.png,b", " line 3: ../2.png is not below ROOT; give the path"),
        ("file,label\n/2.png,b", " line 2: /2.png is not below ROOT; give the path from there"),
        ("file,label\nC:\\2.png,b", " line 2: C:/2.png is not below ROOT; give the path"),
        ("file,label\n1.txt,b", " line 2: 1.txt is not an image; these are .png, .jpg"),
        ("file,label\n,b", " line 2: no file; fill the cell"),
        ("file,label\n1.png,", " line 2: no label; fill the cell"),
        ("file,label\n1.png", " line 2: 1 cells, the header has 2; put a cell with a comma in quo"),
        ("file,label\n1,1.png,a", " line 2: 3 cells, the header has 2; put a cell with a comma"),
        ("file,label,patient\n1.png,a, \n2.png,b,q", " line 2: no patient; fill the cell or remov"),
        ("file,label,split\n1.png,a,train\n2.png,b,new", " line 3: split 'new' is none of train,"),
        ("file,label,split\n1.png,a,\n2.png,b,test", " line 2: split '' is none of train, valid"),
        ('file,label\n1.png,"a', " line 2: not a readable CSV (unexpected end of data)"),
        (b"file,label\n\xff.png,a", ": not in UTF-8"),
        ("sep=;\nfile;label\n1.png;a", " line 1: 'sep=;' is no header"),
        ("file,label\n , \n1.png,a\n9.png,b", " line 4: no file ROOT/9.png"),
    ],
)  # fmt: skip
def test_a_bad_table_names_its_line(put, text, line):
    root = put("1.png", "2.png")
    (root / "labels.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert refused("csv", root).startswith(f"ROOT/labels.csv{line}")


def test_the_classes_of_a_table_may_be_fixed(put):
    root = put("1.png", "2.png")
    (root / "labels.csv").write_text("file,label\n1.png,a\n2.png,b\n")
    assert read("csv", root, classes=["b", "a"]).labels.tolist() == [1, 0]
    line = refused("csv", root, classes=["b", "c"])
    assert line == "ROOT/labels.csv line 2: unknown class 'a'; known are b, c"
    line = refused("csv", root, classes=["b", "a", "c"])
    assert line == "ROOT/labels.csv: class c has no image; there are a, b"


# Diffuse lung disease


def test_dld_keeps_the_papers_order_of_classes(put):
    root = put(*(f"{s}/{c}/p1_{s}.png" for s in ("train", "test") for c in DLD))
    samples = read("dld", root, groups="p1_(.*).png")
    assert samples.classes == DLD
    assert samples.groups == samples.splits
    table = "file,label,split\n" + "".join(f"train/{c}/p1_train.png,{c},train\n" for c in DLD)
    (root / "labels.csv").write_text(table)
    samples = read("dld", root)
    assert samples.classes == DLD
    assert samples.splits == ("train",) * 7
    (root / "labels.csv").rename(root / "mine.csv")
    assert len(read("dld", root, table="mine.csv")) == 7


def test_what_is_not_dld(put):
    root = put(*(f"{c}/1.png" for c in DLD[:-1]))
    assert refused("dld", root).startswith("ROOT: class NOR has no image; there are CON, EMP,")
    put("NOR/1.png", "FIB/1.png")
    assert refused("dld", root).startswith("ROOT/FIB: unknown class; known are CON, GGO, HCM,")
    assert refused("dld", root, table="x.csv").startswith("ROOT/x.csv: no such table; name it")
    (root / "labels.csv").write_text("file,label\nCON/1.png,CON\nFIB/1.png,FIB\n")
    line = refused("dld", root)
    assert line.startswith("ROOT/labels.csv line 3: unknown class 'FIB'; known are CON, GGO")
    line = refused("dld", root, groups="(.)")
    assert line.endswith("in ROOT/labels.csv the column patient names the groups")


# All of them


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_missing_folder(layout, tmp_path):
    (tmp_path / "file").touch()
    for name in ("nowhere", "file"):
        line = refused(layout, tmp_path / name)
        assert line == "ROOT: no such folder; give the folder that holds the images"


def test_an_unknown_option(tmp_path):
    line = refused("dtd", tmp_path, split=1)
    assert line.endswith("unexpected keyword argument 'split'; there are fold, max_classes, max_per_class")  # fmt: skip  # noqa: E501


def test_files_that_are_not_images_are_counted(put):
    root = put(*(f"{c}/{i}.png" for c in "ab" for i in range(300)))  # more than a chunk
    check_images(read("folder", root))
    (root / "b" / "99.png").write_bytes(b"nothing")
    with pytest.raises(UserError) as caught:
        check_images(read("folder", root))
    assert str(caught.value) == f"{root}/b/99.png: not an image; remove or replace it"
    image = (root / "a" / "7.png").read_bytes()
    (root / "a" / "7.png").write_bytes(image[:-20])
    with pytest.raises(UserError) as caught:
        check_images(read("folder", root))
    line = rf"{root}/a/7.png: not a readable image \(.+\); .* \(and 1 more such files\)"
    assert re.fullmatch(line, str(caught.value))


def test_images_in_memory_need_no_check():
    images = np.zeros((2, 4, 4), np.uint8)
    check_images(Samples(images, ("a", "b"), np.array([0, 1]), ("a", "b")))


@needs_real
def test_real_sets():
    natural = read("folder", REAL / "natural")
    assert np.bincount(natural.labels).tolist() == [100] * 50
    for layout in ("dtd", "folder"):
        assert np.bincount(read(layout, REAL / "texture").labels).tolist() == [49] * 10
    lung = read("csv", REAL / "lung_ct")
    assert lung.classes == ("CT_COVID", "CT_NonCOVID")
    assert np.bincount(lung.labels).tolist() == [349, 397]
    assert len(set(lung.groups)) == 496
    by_folder = read("folder", REAL / "lung_ct")
    assert by_folder.ids == lung.ids
    assert np.array_equal(by_folder.labels, lung.labels)
    check_images(lung)
