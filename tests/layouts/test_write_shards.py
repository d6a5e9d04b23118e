"""Sets packed into litdata's shards: the same images, labels and batches as from their folder."""

import json
import multiprocessing
import os
import pickle
import shutil
import sys
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from stagetransfer.cli.app import app
from stagetransfer.data import NaturalDataModule, StageSettings
from stagetransfer.data.loader import EpochSampler
from stagetransfer.errors import UserError
from stagetransfer.files import read_json
from stagetransfer.layouts import check_images, read, write_shards
from stagetransfer.layouts.shards import MIXED, Shards
from stagetransfer.training import last_checkpoint
from stagetransfer.training.module import ClassifierModule

PER_CLASS = 40
SUFFIXES = (".png", ".jpg")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Two classes of noise, each with a mean of its own, as PNG and JPEG of several sizes."""
    root, random = tmp_path_factory.mktemp("tree"), np.random.default_rng(0)
    for mean, label in ((90, "a"), (160, "b")):
        (root / "train" / label).mkdir(parents=True)
        (root / "val" / label).mkdir(parents=True)
        for i in range(PER_CLASS + 4):
            split = "train" if i < PER_CLASS else "val"
            pixels = random.normal(mean, 20, (20 + i % 3, 24, 3)).clip(0, 255).astype(np.uint8)
            name = f"{i:02d}{SUFFIXES[i % 2]}"
            Image.fromarray(pixels).save(root / split / label / name)
    (root / ".hidden.png").write_bytes(b"")
    return root


@pytest.fixture(scope="module")
def packed(tree, tmp_path_factory):
    """The tree in more shards than are mixed at a time."""
    out = tmp_path_factory.mktemp("packed") / "set"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write_shards, "SHARD_BYTES", 3000)
        write_shards.write_packed(read("folder", tree), tree, out)
    return out


def module(layout, root, **settings):
    stage = StageSettings(name="natural", is_target=False, batch_size=8, input_size=24, seed=3)
    return NaturalDataModule(stage, layout=layout, root=root, **settings).read()


def batches(data, trainer=None, epoch=0):
    data.trainer = trainer
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def rows_of(found):
    return torch.cat([batch.rows for batch in found])


def test_a_packed_set_has_the_files_labels_splits_and_digests_of_the_folder(tree, packed):
    one, other = read("folder", tree), read("litdata", packed)
    assert [*other.ids] == [*one.ids]
    assert (other.classes, other.groups, other.splits) == (one.classes, one.groups, one.splits)
    assert np.array_equal(other.labels, one.labels)
    assert np.array_equal(check_images(other), check_images(one))
    for stored, path in zip(other.images, one.images, strict=True):
        assert stored.read_bytes() == path.read_bytes()
    about = read_json(packed / "pack.json")
    assert about["classes"] == ["a", "b"]
    assert about["counts"] == {"train": {"a": 40, "b": 40}, "validation": {"a": 4, "b": 4}}
    assert about["fingerprint"] == one.fingerprint(check_images(one))
    assert (about["images"], about["left_out"]) == (88, 1)
    assert about["shards"] == len([*packed.glob("chunk-*.bin")]) > 2 * MIXED


def test_litdata_reads_the_shards_itself(tree, packed, monkeypatch):
    monkeypatch.setattr("litdata.helpers._LITDATA_DISABLE_VERSION_CHECK", 1)
    from litdata import StreamingDataset

    found = {item["key"]: item for item in StreamingDataset(str(packed))}
    samples = read("folder", tree)
    assert sorted(found) == [*samples.ids]
    for i, (key, path) in enumerate(zip(samples.ids, samples.images, strict=True)):
        assert found[key]["image"] == path.read_bytes()
        assert (found[key]["label"], found[key]["split"]) == (samples.labels[i], samples.splits[i])
    splits = [item["split"] for item in StreamingDataset(str(packed))]
    assert [split for split, _ in groupby(splits)] == ["train", "validation"]


@pytest.mark.parametrize("limit", [0.0, 4.0])
def test_a_packed_set_gives_the_pixels_of_the_folder(tree, packed, limit):
    one = module("folder", tree).image_set("validation").__getitems__(range(8))
    data = module("litdata", packed, memory_limit_gib=limit)
    assert (data.image_set("validation").held is None) == (limit == 0)
    other = data.image_set("validation").__getitems__(range(8))
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a, b)


def test_the_side_of_square_images_is_recorded(packed, tmp_path, monkeypatch):
    for label in ("a", "b"):
        (tmp_path / "set" / label).mkdir(parents=True)
        for grey in range(8):
            Image.new("L", (16, 16), 9 * grey).save(tmp_path / "set" / label / f"{grey}.png")
    root = tmp_path / "packed"
    about = write_shards.write_packed(read("folder", tmp_path / "set"), tmp_path / "set", root)
    assert (about["side"], read_json(packed / "pack.json")["side"]) == (16, 0)
    opened = []
    original = Shards.read
    monkeypatch.setattr(Shards, "read", lambda *words: opened.append(words) or original(*words))
    # Images of several sizes, or larger than the input of 24 pixels, get the size of the input.
    assert (module("litdata", root).side, module("litdata", packed).side, opened) == (16, 24, [])
    del about["side"]
    for recorded, side in (({"side": 40}, 24), ({}, 16)):
        (root / "pack.json").write_text(json.dumps(about | recorded))
        assert module("litdata", root).side == side
    assert len(opened) == 16  # of the pack of an earlier version


# The order of an epoch


@given(st.integers(0, 5), st.integers(0, 5), st.booleans())
def test_an_epoch_reads_each_shard_within_one_window(seed, epoch, balanced):
    shards = torch.arange(3 * MIXED + 2).repeat_interleave(5)
    shards = shards[torch.randperm(len(shards), generator=torch.Generator().manual_seed(1))]

    def order(epoch):
        sampler = EpochSampler(shards % 2, seed, balanced=balanced, shards=shards)
        sampler.set_epoch(epoch)
        return torch.tensor(list(sampler))

    drawn = order(epoch)
    assert torch.equal(drawn, order(epoch))
    assert not torch.equal(drawn, order(epoch + 1))
    if balanced:
        counts = torch.bincount((shards % 2)[drawn])
        assert (counts > len(shards) / 4).all()
        return
    assert torch.equal(drawn.sort().values, torch.arange(len(shards)))
    of_draws = shards[drawn]
    window = [{*of_draws[i : i + 5 * MIXED].tolist()} for i in range(0, len(drawn), 5 * MIXED)]
    assert sum(map(len, window)) == len({*shards.tolist()})  # no shard is in two windows
    assert len({*of_draws[: 5 * MIXED // 2].tolist()}) > MIXED // 2  # and its images are mixed
    assert not torch.equal(of_draws, of_draws.sort().values)


def test_few_shards_have_the_order_and_the_identity_of_the_folder(tree, packed, tmp_path):
    write_shards.write_packed(read("folder", tree), tree, tmp_path / "few")
    folder, few, many = (
        module(layout, root)
        for layout, root in (("folder", tree), ("litdata", tmp_path / "few"), ("litdata", packed))
    )
    assert folder.identity() == few.identity()
    assert torch.equal(rows_of(batches(folder)), rows_of(batches(few)))
    assert many.identity().keys() - few.identity().keys() == {"order"}
    assert not torch.equal(rows_of(batches(folder)), rows_of(batches(many)))


# Several processes


def _share(root, url, rank, queue):
    torch.set_num_threads(1)
    data = module("litdata", root, options={"url": url}, memory_limit_gib=0, workers=1)
    queue.put((rank, [tuple(one.numpy() for one in batch) for batch in batches(
        data, SimpleNamespace(world_size=2, global_rank=rank)
    )]))  # fmt: skip


def test_two_processes_share_an_epoch_and_download_each_shard_once(tree, packed, tmp_path):
    process = multiprocessing.get_context("fork")
    queue, shares = process.Queue(), {}
    running = [
        process.Process(target=_share, args=(tmp_path, f"local:{packed}", rank, queue))
        for rank in (0, 1)
    ]
    for one in running:
        one.start()
    for _ in running:
        rank, share = queue.get(timeout=120)
        shares[rank] = share
    for one in running:
        one.join()
    alone = module("folder", tree)
    wanted = alone.image_set("train")
    seen = np.concatenate([rows for share in shares.values() for _, _, rows in share])
    assert sorted(seen.tolist()) == alone.rows["train"].tolist()
    order = rows_of(batches(module("litdata", packed)))
    for rank, share in shares.items():
        rows = np.concatenate([rows for _, _, rows in share])
        assert rows.tolist() == order[rank::2].tolist()
        for images, labels, rows in share:
            expected = wanted.__getitems__(np.searchsorted(alone.rows["train"], rows).tolist())
            assert np.array_equal(images, expected.images)
            assert np.array_equal(labels, expected.labels)
    held = {path.name for path in tmp_path.glob("*.bin")}
    places = read("litdata", packed).images.places[alone.rows["train"], 0]
    assert held == {f"chunk-0-{number}.bin" for number in places}  # none of validation images only


class Killed(Exception):
    pass


@pytest.mark.parametrize("shards", ["few", pytest.param("many", marks=pytest.mark.slow)])
def test_a_killed_training_sees_the_batches_of_a_whole_one(
    start, tree, packed, tmp_path, monkeypatch, shards
):
    """With few shards, the whole training is on the folder, and the run has the same name."""
    words = [
        "+experiment=scratch", "recipe.epochs=2", "recipe.batch_size=8",
        "~domain.target.options.scale", "trainer.checkpoint_every_minutes=30",
        "model=timm", "model.name=test_resnet", "model.input_size=64",
    ]  # fmt: skip
    root, seen, now, kill = packed, [], [0.0], []
    if shards == "few":
        root = tmp_path / "few"
        write_shards.write_packed(read("folder", tree), tree, root)

    def words_of(layout, root):
        return [*words, f"domain/target={layout}", f"domain.target.root={root}"]

    monkeypatch.setattr(last_checkpoint, "time", SimpleNamespace(monotonic=lambda: now[0]))
    original = ClassifierModule.training_step

    def training_step(self, batch, batch_idx):
        now[0] += 3600 * (batch_idx == 3)
        if kill and (self.current_epoch, batch_idx) == kill[0]:
            kill.clear()
            raise Killed
        seen.append((self.current_epoch, batch_idx, batch.rows.tolist(), batch.labels.tolist()))
        return original(self, batch, batch_idx)

    monkeypatch.setattr(ClassifierModule, "training_step", training_step)
    first = words_of("folder", tree) if shards == "few" else words_of("litdata", root)
    whole = start(tmp_path / "whole", *first).run()
    expected = seen.copy()
    seen.clear()
    kill.append((1, 5))
    again = [*words_of("litdata", root), "domain.target.workers=1"]
    again.append("domain.target.memory_limit_gib=0")
    with pytest.raises(Killed):
        start(tmp_path / "killed", *again).run()
    before = len(seen)
    resumed = start(tmp_path / "killed", *again).run()
    assert seen[before][:2] == (1, 4)  # not from the beginning of the epoch
    assert [*seen[:before], *seen[before + 1 :]] == expected
    assert seen[before] == seen[before - 1]  # the batch after the saved one
    assert resumed.name == whole.name
    names = ("predictions.csv", "validation.csv")
    assert all((whole / name).read_bytes() == (resumed / name).read_bytes() for name in names)


# Object storage


class Storage(SimpleHTTPRequestHandler):
    """As much of S3 as reading needs: objects and ranges of them."""

    def send_head(self):
        path = self.translate_path(self.path)
        self.server.asked.append((self.command, path, self.headers.get("Range")))
        if not Path(path).is_file():
            self.send_error(404)
            return None
        content = Path(path).read_bytes()
        begin, end = 0, len(content) - 1
        if (wanted := self.headers.get("Range")) is not None:
            begin, end = (int(x or end) for x in wanted.removeprefix("bytes=").split("-"))
        self.send_response(200 if wanted is None else 206)
        self.send_header("Content-Length", str(end - begin + 1))
        self.send_header("Content-Range", f"bytes {begin}-{end}/{len(content)}")
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", self.date_time_string(0))
        self.end_headers()
        return BytesIO(content[begin : end + 1])

    def log_message(self, *words):
        pass


@pytest.fixture
def storage(packed, tmp_path, monkeypatch):
    """What was asked of a server that holds the packed set as s3://bucket/set."""
    bucket = tmp_path / "server" / "bucket"
    shutil.copytree(packed, bucket / "set")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Storage, directory=bucket.parent))
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    names = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    # obstore refuses plain HTTP; litdata then reads with boto3.
    monkeypatch.setattr("litdata.streaming.downloader._OBSTORE_AVAILABLE", False)
    yield server.asked
    server.shutdown()


@pytest.mark.parametrize("keep", [True, False])
def test_object_storage_is_read_by_shards_or_by_images(storage, tree, tmp_path, keep):
    root = tmp_path / "root"
    root.mkdir()
    data = module(
        "litdata", root, options={"url": "s3://bucket/set", "keep": keep}, memory_limit_gib=0
    )
    assert not [path for _, path, _ in storage if path.endswith(".bin")]
    found = data.image_set("train").__getitems__([5, 40, 7])
    expected = module("folder", tree).image_set("train").__getitems__([5, 40, 7])
    assert torch.equal(found.images, expected.images)
    shards = {path.rpartition("/")[2] for _, path, _ in storage if path.endswith(".bin")}
    assert {path.name for path in root.glob("*.bin")} == (shards if keep else set())
    assert 0 < len(shards) <= 4  # one image decides the side of all


# Refusals


def copy_of(packed, tmp_path):
    return shutil.copytree(packed, tmp_path / "copy")


def refusal(root, **options):
    def read_all():
        return [image.read_bytes() for image in read("litdata", root, **options).images]

    with pytest.raises(UserError) as caught:
        read_all()
    return str(caught.value)


def test_damaged_and_foreign_packs_are_refused(packed, tree, tmp_path):
    root = copy_of(packed, tmp_path)
    shard = root / "chunk-0-3.bin"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-5])
    assert refusal(root).startswith(f"{shard}: the shard has {len(whole) - 5} bytes instead of")
    shard.unlink()
    assert refusal(root).startswith(f"{shard}: the shard is missing")
    shard.write_bytes(bytes(len(whole)))
    assert refusal(root).startswith(f"{shard}: ")
    shard.write_bytes(whole)
    for name in ("samples.npz", "index.json", "pack.json"):
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[: len(content) // 2])
        assert refusal(root).startswith(f"{root / name}: ")
        (root / name).unlink()
        assert refusal(root).startswith(f"{root / name}: ")
        (root / name).write_bytes(content)
    refused_name = "pack.json"
    assert refusal(tree).startswith(f"{tree / refused_name}: ")


def test_shards_of_another_pack_are_refused(packed, tree, tmp_path, monkeypatch):
    monkeypatch.setattr(write_shards, "SHARD_BYTES", 3000)
    other = write_shards.write_packed(
        read("folder", tree, max_per_class=39), tree, tmp_path / "other"
    )
    assert other["images"] == 2 * 39 + 8
    root = copy_of(packed, tmp_path)
    shutil.copy(tmp_path / "other" / "samples.npz", root)
    assert refusal(root).startswith(f"{root / 'samples.npz'}: does not belong to")
    shutil.copy(tmp_path / "other" / "pack.json", root)
    assert refusal(root).startswith(f"{root / 'index.json'}: does not belong to")


def test_a_shard_with_other_images_is_refused(packed, tmp_path):
    root = copy_of(packed, tmp_path)
    with np.load(root / "samples.npz") as file:
        arrays = {name: file[name] for name in file.files}
    arrays["places"][[0, 1]] = arrays["places"][[1, 0]]
    np.savez(root / "samples.npz", **arrays)
    assert "it holds train/a/01.jpg where samples.npz has train/a/00.png" in refusal(root)
    for column, value in ((0, 99), (1, -1)):  # no such shard; before its first byte
        places = arrays["places"].copy()
        places[0, column] = value
        np.savez(root / "samples.npz", **arrays | {"places": places})
        assert refusal(root).startswith(f"{root / 'samples.npz'}: does not belong to")


def change_index(root, change):
    index = read_json(root / "index.json")
    change(index)
    (root / "index.json").write_text(json.dumps(index))


class Payload:
    def __init__(self, made):
        self.made = made

    def __reduce__(self):
        return os.mkdir, (str(self.made),)


@pytest.mark.parametrize("exchanged", ["before", "while the set is open"])
def test_a_pack_with_pickled_items_is_not_executed(packed, tmp_path, exchanged):
    root, made = copy_of(packed, tmp_path), tmp_path / "made"
    samples = read("litdata", root)
    number, begin, _ = samples.images.places[0].tolist()
    with (root / f"chunk-0-{number}.bin").open("r+b") as shard:
        shard.seek(begin + 16)  # after the four sizes
        shard.write(pickle.dumps(Payload(made)))
    change_index(root, lambda index: index["config"]["data_format"].__setitem__(0, "pickle"))
    with pytest.raises(UserError) as caught:
        (read("litdata", root) if exchanged == "before" else samples).images[0].read_bytes()
    assert str(caught.value).startswith(f"{root / 'index.json'}: its items are not those of")
    assert not made.exists()


def test_a_pack_whose_items_import_a_module_is_refused(packed, tmp_path):
    root = copy_of(packed, tmp_path)
    change_index(
        root,
        lambda index: index["config"].update(
            data_spec=index["config"]["data_spec"].replace(
                "builtins.dict", "collections.defaultdict"
            )
        ),
    )
    assert refusal(root).startswith(f"{root / 'index.json'}: its items are not those of")


@pytest.mark.parametrize("name", ["../escaped.bin", "below/chunk-0-0.bin", "..", "pack.json", 3])
def test_shards_lie_in_the_folder(packed, tmp_path, name):
    bucket, root = copy_of(packed, tmp_path), tmp_path / "root"
    (tmp_path / "escaped.bin").write_bytes((bucket / "chunk-0-0.bin").read_bytes())
    root.mkdir()
    change_index(bucket, lambda index: index["chunks"][0].update(filename=name))
    assert refusal(root, url=f"local:{bucket}/").startswith(f"{root / 'index.json'}: its list of")
    assert {path.name for path in root.iterdir()} == {"index.json", "samples.npz", "pack.json"}


@pytest.mark.parametrize(
    "change",
    [
        lambda index: index.pop("config"),
        lambda index: index.update(config=[]),
        lambda index: index["config"].pop("data_format"),
        lambda index: index.pop("chunks"),
        lambda index: index.update(chunks={}),
        lambda index: index["chunks"].append("chunk-0-0.bin"),
        *(
            lambda index, key=key: index["chunks"][0].pop(key)
            for key in ("filename", "chunk_bytes", "chunk_size")
        ),
        lambda index: index["chunks"][0].update(chunk_size="3"),
        lambda index: index["chunks"][0].update(chunk_bytes=-1),
    ],
)
def test_a_damaged_index_is_one_line(packed, tmp_path, change):
    root = copy_of(packed, tmp_path)
    change_index(root, change)
    assert refusal(root).startswith(f"{root / 'index.json'}: its ")


def test_missing_places_and_modules_are_named(packed, tmp_path, monkeypatch):
    assert f"options.url=local:{tmp_path}/no: " in refusal(tmp_path, url=f"local:{tmp_path}/no")
    with monkeypatch.context() as patch:
        usage = SimpleNamespace(free=10)
        patch.setattr("stagetransfer.layouts.shards.shutil.disk_usage", lambda path: usage)
        line = refusal(tmp_path, url=f"local:{packed}")
        assert line.startswith(f"{tmp_path}: ")
        assert "options.keep=false" in line
    monkeypatch.setitem(sys.modules, "litdata.streaming.reader", None)
    from stagetransfer.layouts import shards

    shards._opened.cache_clear()
    assert 'pip install "stagetransfer[stream]"' in refusal(packed)


def run(*words):
    result = CliRunner().invoke(app, ["pack", *map(str, words)])
    return result.exit_code, result.output, result.exception


def test_what_was_packed_is_compared_with_the_set(tree, tmp_path):
    tree, out = shutil.copytree(tree, tmp_path / "tree"), tmp_path / "out"
    linked = tmp_path / "linked"
    linked.mkdir()
    for folder in tree.iterdir():
        (linked / folder.name).symlink_to(folder)
    assert "; 1 other image files left out" in run("folder", linked, "--out", tmp_path / "more")[1]
    assert run("folder", tree, "--out", out)[0] == 0
    one, other = sorted(tree.rglob("train/a/*.jpg"))[:2]
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    os.utime(one, (time.time() + 10, time.time() + 10))
    _, _, error = run("folder", tree, "--out", out)
    assert str(error).startswith(f"{out}: ")
    assert one.relative_to(tree).as_posix() in str(error)
    one.write_bytes(kept)
    one.rename(one.with_name("renamed.jpg"))
    _, _, error = run("folder", tree, "--out", out)
    assert str(error).startswith(f"{out}: ")
    one.with_name("renamed.jpg").rename(one)
    assert run("folder", tree, "--out", out)[0] == 0
    (shard,) = out.glob("*.bin")
    shard.unlink()
    _, _, error = run("folder", tree, "--out", out)
    assert str(error).startswith(f"{shard}: ")


def test_the_command_packs_once_and_leaves_nothing_half_written(tree, tmp_path):
    out = tmp_path / "out"
    code, text, _ = run("folder", tree, "--out", out)
    assert (code, text.count("88 images of 2 classes in 1 shards")) == (0, 1)
    assert "1 other image files left out" in text
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    code, text, _ = run("folder", tree, "--out", out)
    assert (code, text.count(f"{out}: packed before")) == (0, 1)
    assert before == {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    for path in tree.rglob("*.jpg"):
        path.touch()  # newer, but with the same content
    code, text, _ = run("folder", tree, "--out", out)
    assert (code, text.count(f"{out}: packed before")) == (0, 1)
    code, _, error = run("folder", tree, "--out", out, "--option", "max_per_class=5")
    assert (code, str(error).partition(":")[0]) == (1, str(out))
    _, _, error = run("folder", tree, "--out", tree / "below")
    assert str(error).startswith(f"--out {tree / 'below'}: ")
    _, _, error = run("embedded", tree, "--out", tmp_path / "other")
    assert str(error).startswith("layout embedded: ")
    bad = shutil.copytree(tree, tmp_path / "bad")
    (bad / "train/a/03.jpg").write_bytes(b"no image")
    _, _, error = run("folder", bad, "--out", tmp_path / "other")
    assert str(error).startswith(f"{bad / 'train/a/03.jpg'}: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad", "out"]
