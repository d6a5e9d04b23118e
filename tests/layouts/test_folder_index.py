"""The index of a folder tree: used while the tree is unchanged, without influence on the data."""

import multiprocessing
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stagetransfer.data import DomainDataModule, StageSettings
from stagetransfer.data.images import ImageSet
from stagetransfer.errors import UserError
from stagetransfer.layouts import folder_index, read_folder, read_imagenet
from stagetransfer.layouts.compact_strings import FilePaths, PackedStrings

PNG = np.zeros((4, 4), dtype=np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An own cache folder, and an index for the smallest tree."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(folder_index, "MINIMUM", 1)
    return tmp_path / "cache" / "stagetransfer" / "index"


def settle(root):
    """Make the whole tree an hour old: a tree with recent changes is not indexed."""
    for folder, folders, files in os.walk(root):
        for name in (".", *folders, *files):
            os.utime(Path(folder) / name, (time.time() - 3600,) * 2)


@pytest.fixture
def root(tmp_path):
    for split in ("train", "val"):
        for label in ("a", "b"):
            folder = tmp_path / "set" / split / label
            (folder / "deep").mkdir(parents=True)
            for i in range(3):
                Image.fromarray(PNG).save(folder / f"p{i}_{label}.png")
    settle(tmp_path / "set")
    return tmp_path / "set"


class Counting:
    """A reader that counts how often it is asked."""

    def __init__(self, reader=read_folder):
        self.reader, self.calls = reader, 0

    def __call__(self, root, **options):
        self.calls += 1
        return self.reader(root, **options)


def read(reader, root, *, check=False, **options):
    samples, fingerprint, _ = folder_index.read_indexed(
        reader, "folder", root, options, check=check
    )
    return samples, fingerprint


def same(a, b):
    assert list(a.ids) == list(b.ids)
    assert list(a.images) == list(b.images)
    assert a.labels.tolist() == b.labels.tolist()
    assert a.labels.dtype == b.labels.dtype
    assert (a.classes, a.groups, a.splits) == (b.classes, b.groups, b.splits)


@pytest.mark.parametrize("options", [{}, {"groups": r"(p\d)_"}, {"max_per_class": 2}])
def test_the_second_read_uses_the_index_and_returns_the_same_samples(root, options):
    reader = Counting()
    first, again = read(reader, root, **options), read(reader, root, **options)
    assert reader.calls == 1
    plain = read_folder(root, **options)
    for samples, fingerprint in (first, again):
        same(samples, plain)
        assert fingerprint == plain.fingerprint() == samples.fingerprint()


def test_imagenet_is_indexed_too(root):
    reader = Counting(read_imagenet)
    for _ in range(2):
        same(read(reader, root)[0], read_imagenet(root))
    assert reader.calls == 1


def test_each_tree_and_each_set_of_options_has_its_own_index(root, tmp_path, cache):
    reader = Counting()
    read(reader, root)
    read(reader, root, max_per_class=1)
    root.rename(tmp_path / "other")
    read(reader, tmp_path / "other")
    assert reader.calls == len(list(cache.iterdir())) == 3


def add(root):
    Image.fromarray(PNG).save(root / "train" / "a" / "new.png")


def add_where_there_was_none(root):
    Image.fromarray(PNG).save(root / "train" / "a" / "deep" / "new.png")


def remove(root):
    (root / "val" / "b" / "p1_b.png").unlink()


def rename(root):
    (root / "val" / "b" / "p1_b.png").rename(root / "val" / "b" / "p9_b.png")


def move(root):
    (root / "train" / "a" / "p1_a.png").rename(root / "train" / "b" / "moved.png")


def overwrite(root):
    Image.fromarray(np.zeros((9, 9), dtype=np.uint8)).save(root / "train" / "a" / "p1_a.png")


def another_class(root):
    for split in ("train", "val"):
        (root / split / "c").mkdir()
        Image.fromarray(PNG).save(root / split / "c" / "p0_c.png")


@pytest.mark.parametrize(
    "change", [add, add_where_there_was_none, remove, rename, move, overwrite, another_class]
)
def test_a_changed_tree_is_read_again(root, change):
    reader = Counting()
    before = read(reader, root)[1]
    change(root)
    samples, fingerprint = read(reader, root)
    assert reader.calls == 2
    same(samples, read_folder(root))
    assert fingerprint != before
    settle(root)
    settled = read(reader, root)[1]  # unchecked files count by their time
    assert read(reader, root)[1] == settled
    assert reader.calls == 3


def test_a_tree_with_recent_changes_is_not_indexed(root, cache):
    add(root)
    read(Counting(), root)
    assert not cache.exists()


def test_the_index_keeps_the_digests_of_checked_images(root):
    fresh = folder_index.read_indexed(read_folder, "folder", root, {}, check=True)
    again = folder_index.read_indexed(read_folder, "folder", root, {}, check=True)
    assert fresh[1] == again[1]
    assert np.array_equal(fresh[2], again[2])
    assert len(again[2]) == len(again[0])


def test_every_file_of_a_checked_tree_is_compared(root, monkeypatch):
    """Pixels that were changed in place must not give the result of the old ones."""
    monkeypatch.setattr(folder_index, "_FILES", 2)
    before = read(read_folder, root, check=True)[1]
    file = root / "train" / "b" / "p1_b.png"
    Image.fromarray(PNG + 1).save(file)
    os.utime(file, (time.time() - 1800,) * 2)
    assert read(read_folder, root, check=True)[1] != before


def test_small_trees_are_not_indexed(root, cache, monkeypatch):
    monkeypatch.setattr(folder_index, "MINIMUM", 13)
    read(Counting(), root)
    assert not cache.exists()


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 no index", pickle.dumps({"a": 1})])
def test_a_damaged_index_is_written_again(root, cache, damage):
    reader = Counting()
    read(reader, root)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    for content in (damage, whole[: len(whole) // 2]):
        file.write_bytes(content)
        same(read(reader, root)[0], read_folder(root))
    assert reader.calls == 3
    read(reader, root)
    assert reader.calls == 3


def test_the_index_of_an_unchecked_tree_is_not_used_when_a_check_is_asked_for(root):
    (root / "train" / "a" / "p1_a.png").write_text("no image")
    settle(root)
    read(Counting(), root)
    with pytest.raises(UserError, match=r"p1_a.png: not an image"):
        read(Counting(), root, check=True)
    Image.fromarray(PNG).save(root / "train" / "a" / "p1_a.png")
    settle(root)
    reader = Counting()
    for check in (True, True, False):
        read(reader, root, check=check)
    assert reader.calls == 1


def test_nothing_is_written_among_the_images(root, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(root / ".cache"))
    before = sorted(root.rglob("*"))
    read(Counting(), root)
    assert sorted(root.rglob("*")) == before


def test_a_cache_that_cannot_be_written_is_no_error(root, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    same(read(Counting(), root)[0], read_folder(root))
    assert "cannot write the index" in caplog.text


def _start(root):
    for _ in range(5):
        same(read(read_folder, root)[0], read_folder(root))


def test_two_processes_at_once(root, cache):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_start, args=(root,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(list(cache.iterdir())) == 1


def test_a_data_module_is_the_same_with_and_without_an_index(root):
    def module(index):
        stage = StageSettings("t", is_target=False, input_size=67)
        return DomainDataModule(stage, layout="folder", root=root, index=index).read()

    plain, first, again = module(False), module(True), module(True)
    for data in (first, again):
        assert data.identity() == plain.identity()
        assert all(np.array_equal(data.rows[split], plain.rows[split]) for split in plain.rows)
    again.setup("fit")
    assert again.image_set("train").held is not None


def test_worker_processes_get_no_list_of_paths(root):
    samples, _ = read(read_folder, root)
    part = ImageSet(samples, np.array([4, 1]), 4, "crop", memory_limit=0)
    assert isinstance(part.files, FilePaths)
    assert isinstance(part.files.names, PackedStrings)
    assert list(part.files) == [samples.images[4], samples.images[1]]
    assert part.__getitems__([1]).rows.tolist() == [1]


@given(st.lists(st.text(st.characters(codec="utf-8"))), st.data())
def test_packed_strings(strings, data):
    names = PackedStrings.of(strings)
    assert list(names) == strings
    if strings:
        rows = data.draw(st.lists(st.integers(0, len(strings) - 1)))
        taken = names.take(np.array(rows, dtype=np.int64))
        assert list(taken) == [strings[row] for row in rows]
        assert list(taken[1:]) == [strings[row] for row in rows[1:]]
        assert names[-1] == strings[-1]
    with pytest.raises(IndexError):
        names[len(strings)]


def test_packed_strings_that_are_not_utf8():
    name = os.fsdecode(b"caf\xe9.png")
    assert PackedStrings.of([name])[0] == name
