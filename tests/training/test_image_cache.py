"""Decoded images on disk: the pixels of decoding, each file decoded once, never a wrong image."""

import logging
import multiprocessing
import os
import pickle
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stagetransfer.data import StageSettings, TargetDataModule, images
from stagetransfer.pipeline.stage_store import StageStore
from stagetransfer.training import image_cache, use_image_cache

SIDES = [(40, 30), (56, 56), (300, 200)]  # the last one is decoded at a lower scale
COUNT = 24
fork = multiprocessing.get_context("fork")


@pytest.fixture
def tree(tmp_path):
    """Two classes of twelve photos, grey and in colour, of several sizes."""
    random = np.random.default_rng(0)
    for i in range(COUNT):
        path = tmp_path / "tree" / "ab"[i % 2] / f"{i:02d}{('.jpg', '.png')[i % 4 // 2]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (*SIDES[i % 3], *[[3], []][i % 5 // 4])
        Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(path)
    settle()
    return tmp_path / "tree"


def settle():
    """Wait until no file seems to change while it is read."""
    time.sleep(2 * image_cache._TICK)


@pytest.fixture
def decoded(monkeypatch):
    """The list of files that are decoded from now on."""
    paths, original = [], images.read_image

    def read(path, **options):
        paths.append(path)
        return original(path, **options)

    monkeypatch.setattr(images, "read_image", read)
    return paths


def read(tree, **settings):
    stage = StageSettings("target", batch_size=5, input_size=32)
    given = {"memory_limit_gib": 0, "check_images": False, "split_by": "image", **settings}
    return TargetDataModule(stage, layout="folder", root=tree, **given).read()


def cached(tree, outputs, **settings):
    data = read(tree, **settings)
    use_image_cache(data, StageStore(outputs / "images"))
    return data


def pixels(data, split="train"):
    return data.image_set(split).__getitems__(range(data.count(split))).images.expand(-1, 3, -1, -1)


def check_same(one, other):
    for split in ("train", "validation", "test"):
        assert torch.equal(pixels(one, split), pixels(other, split)), split


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"fit": "stretch", "crop": 0.2},
        {"confounder": 0.9},
        {"confounder": 0.9, "confounder_kind": "noise"},
        {"confounder": 0.9, "confounder_kind": "frequency", "check_images": True},
    ],
)
def test_the_pixels_are_those_of_decoding(tree, tmp_path, settings):
    found = cached(tree, tmp_path, **settings)
    assert found.cached_images is not None
    check_same(found, read(tree, **settings))
    check_same(found, read(tree, **settings, memory_limit_gib=1))
    limit = 3 * 40**2 * 8 / 2**30  # some splits fit in memory
    part = cached(tree, tmp_path, **{"memory_limit_gib": limit, **settings})
    held = {split: part.image_set(split).held is not None for split in part.rows}
    assert held == {"train": False, "validation": True, "test": True}
    check_same(found, part)


def test_every_file_is_decoded_once_for_all_epochs_runs_and_splits(tree, tmp_path, decoded):
    data = cached(tree, tmp_path)
    assert len(decoded) == len(set(decoded)) == COUNT
    for again in (data, cached(tree, tmp_path, split_seed=1, workers=2, label_noise=0.5)):
        for loader in (again.train_dataloader(), again.val_dataloader(), again.test_dataloader()):
            assert loader.num_workers == 0
            assert sum(len(batch.images) for batch in [*loader, *loader]) > 0
        assert again.cached_images == data.cached_images
    assert len(decoded) == COUNT


def test_what_decides_the_pixels_decides_the_key(tree, tmp_path, monkeypatch):
    files = [cached(tree, tmp_path, **own).cached_images for own in ({}, {"fit": "stretch"})]
    files += [cached(tree, tmp_path, crop=0.2).cached_images]
    first = tree / "a" / "00.jpg"
    Image.new("RGB", (300, 200), "red").save(first)
    os.utime(first, (1, 1))
    settle()
    changed = cached(tree, tmp_path)
    check_same(changed, read(tree))
    monkeypatch.setattr(image_cache.PIL, "__version__", "0")
    files += [changed.cached_images, cached(tree, tmp_path).cached_images]
    assert None not in files
    assert len(set(files)) == 5


@pytest.mark.parametrize("killed_at", [1, 11])
def test_a_killed_process_leaves_images_that_the_next_one_continues(
    tree, tmp_path, monkeypatch, decoded, killed_at
):
    monkeypatch.setattr(image_cache, "_CHUNK", 4)
    original = image_cache.decode

    def kill(path, *options):
        if path == data.samples.images[killed_at]:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(path, *options)

    data = read(tree)
    monkeypatch.setattr(image_cache, "decode", kill)
    process = fork.Process(target=cached, args=(tree, tmp_path))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    monkeypatch.setattr(image_cache, "decode", original)
    (part,) = tmp_path.glob("images/*.partial/images.npy")
    with part.open("ab") as file:
        file.write(b"half an image")
    found = cached(tree, tmp_path)
    assert len(decoded) == COUNT - killed_at // 4 * 4
    check_same(found, data)


def fill(tree, outputs, barrier, count):
    original = image_cache.decode

    def counted(*arguments):
        with count.get_lock():
            count.value += 1
        return original(*arguments)

    image_cache.decode = counted
    torch.set_num_threads(1)  # a forked process has none of the threads of its parent
    barrier.wait()
    check_same(cached(tree, outputs), read(tree))


def test_of_processes_that_start_at_once_one_decodes(tree, tmp_path):
    barrier, count = fork.Barrier(3), fork.Value("i", 0)
    arguments = (tree, tmp_path, barrier, count)
    processes = [fork.Process(target=fill, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert count.value == COUNT


def not_cached(data, caplog):
    """Check that the data are decoded in each epoch, and return the line that says why."""
    (record,) = (one for one in caplog.records if "each epoch" in one.message)
    assert data.cached_images is None
    assert len(pixels(data)) == data.count("train")
    return record.message


def test_a_set_above_the_limit_is_decoded_in_each_epoch(tree, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    size = COUNT * 3 * 32**2 / 2**30
    data = cached(tree, tmp_path, disk_limit_gib=size * 0.99)
    assert "disk_limit_gib" in not_cached(data, caplog)
    caplog.clear()
    assert cached(tree, tmp_path, disk_limit_gib=0).cached_images is None
    assert cached(tree, tmp_path, memory_limit_gib=size).cached_images is None
    assert not caplog.records
    assert not (tmp_path / "images").exists()
    assert cached(tree, tmp_path, disk_limit_gib=size).cached_images is not None


def test_a_file_that_changes_while_images_are_decoded_is_not_cached(tree, tmp_path, caplog):
    data = read(tree)
    image = tree / "b" / "05.jpg"
    Image.new("RGB", (300, 200), "red").save(image)
    os.utime(image, (1, 1))
    data.read_at = image.stat().st_ctime + 0.004  # as if it had changed just after the tick
    use_image_cache(data, StageStore(tmp_path / "images"))
    assert "05.jpg" in not_cached(data, caplog)
    assert not [*tmp_path.rglob("images.npy")]


@pytest.mark.parametrize("known", [True, False])
def test_a_full_disk_is_one_line_and_leaves_its_space(tree, disk, monkeypatch, caplog, known):
    outputs = disk("size=48k")
    if not known:  # as under a quota
        monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 0, 1e9))
    data = cached(tree, outputs)
    assert str(outputs) in not_cached(data, caplog)
    assert not [path for path in outputs.rglob("*") if path.is_file()]


def test_a_damaged_image_or_cache_is_one_line(tree, tmp_path, caplog):
    file = cached(tree, tmp_path).cached_images
    os.truncate(file, 1000)
    images.memory_map.cache_clear()
    assert str(file) in not_cached(cached(tree, tmp_path), caplog)
    caplog.clear()
    data = read(tree)
    broken = data.samples.images[data.rows["test"][0]]
    broken.write_bytes(b"no image")
    assert broken.name in not_cached(cached(tree, tmp_path), caplog)


def test_a_process_that_may_not_write_reads_what_is_there(tree, tmp_path, caplog):
    data, store = read(tree), StageStore(tmp_path / "images")
    use_image_cache(data, store, fill=False)
    assert data.cached_images is None
    assert not caplog.records
    file = cached(tree, tmp_path).cached_images
    use_image_cache(data, store, fill=False)
    assert data.cached_images == file


def test_worker_processes_get_the_name_of_the_file_and_not_its_content(tree, tmp_path):
    data = cached(tree, tmp_path)
    part = data.image_set("train")
    again = pickle.loads(pickle.dumps(part))
    assert again.cache == Path(data.cached_images)
    assert len(pickle.dumps(part)) < 10_000
