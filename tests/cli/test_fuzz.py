"""Nasty values for every key and every option: exit code 2 and one line, or they are valid.

A value that is accepted leads through everything before the first training or drawing. Nothing is
written by what is refused, and nothing takes long. A share of all combinations is tried, another
one with each new key or option; `-m slow` tries all of them.
"""

import contextlib
import copy
import csv
import io
import os
import random
import signal
import subprocess
import sys
import time
from functools import cache

import numpy as np
import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from PIL import Image

from cli import fuzz
from ct.ct_series import series
from made_runs import make_run, write_metrics_csv
from stagetransfer import errors, inference
from stagetransfer.cli import app, train
from stagetransfer.config.validate import check_folders, validate_config
from stagetransfer.errors import UserError
from stagetransfer.pipeline import restore
from stagetransfer.pipeline.chain import ChainRunner

LONGEST = 10  # seconds


class Accepted(BaseException):
    """A command has come to its work, which the tests leave out."""


class TooSlow(BaseException):
    """Something hangs."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The working folder: a pipe, a file, images, runs, a CT series with annotations."""
    world = tmp_path_factory.mktemp("world")
    os.mkfifo(world / "pipe")
    (world / "file.txt").write_text("x")
    rows = [("file", "label", "patient")]
    for i in range(24):
        image = Image.new("L", (32, 32), 10 * i)
        for file in (world / f"patches/{i}.png", world / f"tree/{'ab'[i % 2]}/{i}.png"):
            file.parent.mkdir(parents=True, exist_ok=True)
            image.save(file)
        rows.append((f"{i}.png", "ab"[i % 2], f"p{i % 8}"))
    write_csv(world / "patches/labels.csv", rows)
    for seed in range(2):
        folder = make_run(world / "made", "scratch", seed=seed)
        write_metrics_csv(folder, {9: {"validation/auroc": 0.5}, 19: {"validation/auroc": 0.8}})
    series(world / "scan", np.random.default_rng(0).integers(-900, -700, (2, 64, 64)))
    write_csv(world / "points.csv", [("x", "y", "label"), (30, 30, "a")])
    write_csv(world / "lesions.csv", [("case", "lesion"), ("a", "1"), ("b", "")])
    candidates = [("case", "lesion", "score"), ("a", "1", 0.9), ("b", "", 0.4), ("a", "", 0.2)]
    write_csv(world / "candidates.csv", candidates)
    before = os.getcwd()
    os.chdir(world)
    yield world
    os.chdir(before)


def write_csv(file, rows):
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows(rows)


@contextlib.contextmanager
def limited():
    """Raise if the block hangs, or takes more than LONGEST seconds of this process alone."""

    def stop(*_):
        raise TooSlow("it hangs")

    before, start = signal.signal(signal.SIGALRM, stop), time.process_time()
    signal.alarm(10 * LONGEST)  # the machine may do other work
    try:
        yield
        if time.process_time() - start > LONGEST:
            raise TooSlow(f"more than {LONGEST} s")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def written(world):
    return {str(path) for path in world.rglob("*")}


def small(world):
    """The settings of a run on the images of the world."""
    return (
        "domain/target=csv", f"domain.target.root={world}/patches", "model.input_size=67",
        "recipe.epochs=2", "recipe.batch_size=4", "recipe.min_steps=0", "trainer.accelerator=cpu",
    )  # fmt: skip


@pytest.fixture(scope="module")
def prepare(world, compose_config):
    """Prepare a run with one more override; return the exit code and the line."""
    source = ("+experiment=texture", "domain/texture=folder", f"domain.texture.root={world}/tree")
    base = compose_config(*small(world), *source, f"paths.outputs={world}/out")
    parser = OverridesParser.create()

    def prepared(key, value):
        cfg = copy.deepcopy(base)
        try:
            train.refuse_odd_numbers([f"++{key}={value}"])
            overrides = parser.parse_overrides([f"++{key}={value}"])
            ConfigLoaderImpl._apply_overrides_to_config(overrides, cfg)
            settings = validate_config(cfg)
            check_folders(settings)
            ChainRunner(settings)
        except UserError as error:
            return 2, str(error)
        except (HydraException, OmegaConfBaseException) as error:
            return 2, train.refusal(error)
        return 0, ""

    return prepared


def check_keys(world, prepare, cases):
    numbers, before, wrong = fuzz.numbers(), written(world), []
    for key, value in cases:
        try:
            with limited():
                code, line = prepare(key, value)
        except BaseException as error:
            code, line = 1, f"{type(error).__name__}: {error}"
        number = key in numbers and (value in fuzz.NO_NUMBERS or value.startswith("-"))
        number = number and (key, value) != fuzz.ALL_STEPS
        good = not number if code == 0 else code == 2 and one_line(line) and names(line, key, value)
        if not good or written(world) != before:
            wrong.append(f"{key}={value[:80]} ends with {code}: {line[:200]}")
    assert not wrong, "\n".join(wrong)


def one_line(text):
    return text.strip() and "\n" not in text.rstrip("\n")


def names(line, key, value):
    """Whether a line names the key or the mapping that holds it, or a path that is the value."""
    parts = key.split(".")
    text = value.strip('"')
    path = "/" in text or parts[-1] in ("root", "split_file", "table")
    return parts[-1] in line or ".".join(parts[:-1]) in line.split(":")[0] or path


def sample(cases, count):
    return random.Random(0).sample(cases, count)


def many(cases):
    """A third of the cases; all of them, some ten minutes more, with FUZZ=all."""
    return cases if os.environ.get("FUZZ") == "all" else sample(cases, len(cases) // 3)


def test_keys(world, prepare):
    check_keys(world, prepare, sample(fuzz.overrides(world), 500))


@pytest.mark.slow
def test_all_keys(world, prepare):
    check_keys(world, prepare, many(fuzz.overrides(world)))


@pytest.fixture(scope="module")
def command(world, compose_config):
    """Call the command with these words up to its work; return exit code, output and errors."""
    settings = compose_config(*small(world), f"paths.outputs={world}/trained")
    run = ChainRunner(validate_config(settings)).run()
    restored = cache(restore._restore)
    reference = inference.open_reference(restored(run), "cpu")
    lesions = ["--lesions", world / "lesions.csv"]
    points = ["--annotations", world / "points.csv"]
    plain = {
        "advise": ([f"paths.outputs={world}/trained"], ["--out", world / "new"]),
        "ensemble": ([world / "made"], []),
        "report": ([world / "made"], []),
        "visualize": ([run], []),
        "board": ([world / "made"], []),
        "roc": ([world / "made"], []),
        "froc": ([world / "candidates.csv"], lesions),
        "convergence": ([world / "made"], []),
        "stress": ([run], ["--device", "cpu"]),
        "serve": ([run], ["--device", "cpu"]),
        "predict": ([run, world / "patches/0.png"], ["--device", "cpu"]),
        "export": ([run], []),
        "split": (["csv", world / "patches"], ["--folds", "2"]),
        "pack": (["csv", world / "patches"], ["--out", world / "new"]),
        "extract": ([world / "scan"], [*points, "--out", world / "new"]),
        "phantom": ([world / "new"], []),
        "example": (["polyp", world / "new"], []),
        "import": ([world / "points.csv"], ["--like", run]),
    }
    work = (
        "advise.write_advice.find_candidates", "runs.ensembles.calibrated",
        "reporting.write_report.Study",
        "reporting.tensorboard_board.Study", "export.bundle.Study",
        "runs.roc_study.RocStudy.metrics_table", "runs.froc_study.compare_systems",
        "reporting.convergence_plots.convergence_plot", "stress.corrupted_tests.tested",
        "serve.serve",
        "explain.visualization_folder.SaliencyFigures",
        "inference.write_predictions", "data.split_files.write_text",
        "layouts.write_shards.write_packed",
        "ct.write_dataset", "synthetic.lung_slices.lung_slice",
        "synthetic.example_tasks.atomic_folder", "runs.imported.read_record",
    )  # fmt: skip

    def accept(*_, **__):
        raise Accepted

    def call(name, option, value):
        arguments, options = plain[name]
        arguments = list(map(str, arguments))
        options = list(map(str, options))
        if isinstance(option, int):
            arguments[option : option + 1] = [value]
        elif option in fuzz.flags(name):
            options.append(f"{option}={value}")
        else:
            options += [option, value]
        sys.argv = ["stagetransfer", name, *options, *arguments]
        error, shown = io.StringIO(), io.StringIO()
        with contextlib.redirect_stderr(error), contextlib.redirect_stdout(shown), limited():
            try:
                app.main()
            except Accepted:
                return 0, ""
            except SystemExit as ended:
                return ended.code or 0, error.getvalue()
            except BaseException as crash:
                return 1, f"{type(crash).__name__}: {crash}"
        raise AssertionError("main always exits")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [])
        patch.setattr(restore, "_restore", restored)
        patch.setattr(inference, "open_reference", lambda *_: reference)
        for place in work:
            patch.setattr(f"stagetransfer.{place}", accept)
        yield call


def check_options(world, command, cases):
    before, wrong = written(world), []
    for name, option, value in cases:
        code, line = command(name, option, value)
        after = written(world)
        if code == 0:
            good = not (fuzz.takes_number(name, option) and value in fuzz.NO_NUMBERS)
        else:
            shown = errors.one_line(value)[:20]  # a path; an empty one is the working folder
            named = (
                isinstance(option, int) or option.strip("-") in line or shown in line or not value
            )
            good = code == 2 and line.startswith("error: ") and one_line(line) and named
            good = good and after == before
        if not good:
            wrong.append(f"{name} {option} {value[:60]!r} ends with {code}: {line[:300]!r}")
        elif code == 0 and os.environ.get("SHOW"):
            print("ACCEPT", name, option, repr(value[:40]), file=sys.__stdout__)
        before = after
    assert not wrong, "\n".join(wrong)


def every_option(world):
    return [(*one, value) for one in fuzz.options() for value in fuzz.words(world)]


def test_options(world, command):
    check_options(world, command, sample(every_option(world), 300))


@pytest.mark.slow
def test_all_options(world, command):
    check_options(world, command, many(every_option(world)))


def test_what_the_harness_says_is_what_processes_do(world, prepare):
    keys = sample(fuzz.overrides(world), 40)
    refused = [(key, value) for key, value in keys if prepare(key, value)[0] == 2]
    base = [f"paths.outputs={world / 'out'}", "trainer.accelerator=cpu"]
    chosen = [["train", *base, f"++{key}={value}"] for key, value in refused[:4]]
    chosen += [["roc", str(world / "made"), "--count", "99"], ["phantom", "--size", "nan", "new"]]
    before = written(world)
    for words in chosen:
        done = subprocess.run(
            [sys.executable, "-m", "stagetransfer", *words],
            cwd=world, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        assert one_line(done.stderr), done.stderr
        assert done.stderr.startswith("error: "), done.stderr
    assert written(world) == before
