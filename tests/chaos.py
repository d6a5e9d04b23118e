"""Kill commands at random moments, and compare what is left in the end with an undisturbed run.

    python tests/chaos.py --signals 144

Each subject is a command. It runs once undisturbed. Then it is started, and one of its processes,
chosen at random, gets SIGKILL or SIGTERM at a random moment; the same command is started again
until it finishes. After every signal the first epoch that the continued stage shows must be the
one after the epoch of its last checkpoint. At the end the results must have the same bytes as
those of the undisturbed run, and no temporary file may be left. The table that is printed is the
one in docs/reliability.md.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from PIL import Image

from conftest import ONE_THREAD, REPOSITORY, SMALL
from stagetransfer.files import read_json
from stagetransfer.synthetic.lung import lung

TRAIN = [sys.executable, "train.py"]
TOOL = [sys.executable, "-m", "stagetransfer"]
SMALL_CHAIN = [*SMALL, "recipe.epochs=6"]
SLOTS = ["hydra/launcher=slots", "hydra.launcher.slots=2"]
VISUALS = ("visualization/**/*.csv", "visualization/**/*.png")
PREDICTED = ("predict/**/*.csv", "predict/**/*.png")
UNEQUAL = {"seconds", "images_per_second", "reused"}  # keys of metrics.json that may differ


@dataclass
class Subject:
    """A command, and what was done to it.

    Attributes:
        words: the command; {outputs} stands for the outputs folder, {run} for its first run.
        needs_runs: whether the command reads finished runs.
        results: patterns of the files that must have equal bytes, besides checkpoints.
        makes_new: whether the command refuses to write into a folder that exists.
    """

    name: str
    words: list[str]
    needs_runs: bool = False
    results: tuple[str, ...] = ("runs/*/*.csv",)
    makes_new: bool = False
    kills: int = 0
    terms: int = 0
    ended_before: int = 0  # times that the process had ended before the signal
    resumed: int = 0  # stages that continued from a checkpoint
    finished: int = 0  # times that the command finished and its results were compared
    faults: list[str] = field(default_factory=list)


def subjects() -> list[Subject]:
    """Return the commands that are disturbed."""
    folder = "paths.outputs={outputs}"
    sweep = ["-m", "+experiment=scratch,texture", "ratio=0.5,1.0", *SMALL_CHAIN, folder]
    read = ["{outputs}"]
    return [
        Subject("run", [*TRAIN, "+experiment=two_stage", *SMALL_CHAIN, folder]),
        Subject("sweep in one process", [*TRAIN, *sweep]),
        Subject("sweep with slots", [*TRAIN, *sweep, *SLOTS]),
        Subject("report", [*TOOL, "report", *read], True, ("report/**/*.csv", "report/*.md")),
        Subject("board", [*TOOL, "board", *read], True, ()),
        Subject("visualize", [*TOOL, "visualize", *read, "--images", "4"], True, VISUALS),
        Subject(
            "predict", [*TOOL, "predict", "{run}", "{outputs}/patch.png"], True, PREDICTED, True
        ),
        Subject("export", [*TOOL, "export", "{run}"], True, ("export/*/*.safetensors",), True),
    ]


def disturb(subject: Subject, folder: Path, runs: Path, draw: random.Random, signals: int) -> None:
    """Send so many signals to the subject's processes, in as many tries as that needs."""
    reference = folder / "reference"
    _prepare(reference, runs if subject.needs_runs else None)
    began = time.monotonic()
    done = _finish(subject, reference)
    seconds = time.monotonic() - began
    if done.returncode:
        subject.faults.append(f"undisturbed: exit code {done.returncode}: {done.stderr[-300:]}")
        return
    expected = results(reference, subject)
    outputs = folder / "disturbed"
    sent = 0
    while sent < signals:
        _prepare(outputs, runs if subject.needs_runs else None)
        for _ in range(12):  # then it may finish
            if sent == signals or not _signal(subject, outputs, draw, seconds):
                break
            sent += 1
        checkpoints = last_epochs(outputs)
        done = _finish(subject, outputs)
        _check_resumption(subject, checkpoints, done.stdout)
        # The try before may have completed the folder that the command only makes anew.
        complete = subject.makes_new and ": already exists." in done.stderr
        if done.returncode and not complete:
            subject.faults.append(f"exit code {done.returncode}: {done.stderr[-300:]}")
        found = results(outputs, subject)
        names = expected.keys() | found.keys()
        different = sorted(name for name in names if expected.get(name) != found.get(name))
        subject.faults += [f"differs: {name}" for name in different]
        subject.faults += [f"left behind: {path.relative_to(outputs)}" for path in litter(outputs)]
        subject.finished += 1


def _prepare(outputs: Path, runs: Path | None) -> None:
    shutil.rmtree(outputs, ignore_errors=True)
    if runs is None:
        outputs.mkdir(parents=True)
    else:
        shutil.copytree(runs, outputs)


def _command(subject: Subject, outputs: Path) -> dict[str, Any]:
    run = next((path.parent for path in sorted(outputs.glob("runs/*/metrics.json"))), None)
    words = [word.format(outputs=outputs, run=run) for word in subject.words]
    return {"args": words, "cwd": REPOSITORY, "env": ONE_THREAD, "text": True}


def _finish(subject: Subject, outputs: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(**_command(subject, outputs), capture_output=True, timeout=1200)


def _signal(subject: Subject, outputs: Path, draw: random.Random, seconds: float) -> bool:
    """Start the subject and send a signal; return False if it had finished before.

    After SIGKILL of the launcher its jobs end by themselves; they are waited for.
    """
    checkpoints = last_epochs(outputs)
    log = outputs.parent / "log.txt"
    with log.open("w") as file:
        process = psutil.Popen(**_command(subject, outputs), stdout=file, stderr=file)
    try:
        process.wait(draw.uniform(0, seconds))
        finished = True
    except psutil.TimeoutExpired:
        finished = False
        everyone = [process, *process.children(recursive=True)]
        victim = draw.choice(everyone)
        kind = signal.SIGTERM if draw.random() < 1 / 6 else signal.SIGKILL
        try:
            victim.send_signal(kind)
        except psutil.NoSuchProcess:
            subject.ended_before += 1
        else:
            subject.kills += kind == signal.SIGKILL
            subject.terms += kind == signal.SIGTERM
        _, alive = psutil.wait_procs(everyone, 600)
        for one in alive:
            subject.faults.append(f"process {one.pid} does not end")
            one.kill()
    text = log.read_text()
    _check_resumption(subject, checkpoints, text)
    if "Traceback" in text:
        subject.faults.append(f"a traceback: {text[-300:]}")
    return not finished


def last_epochs(outputs: Path) -> dict[str, int]:
    """Return the last saved epoch, from 1, of each unfinished stage, by the stage's domain."""
    found = {}
    for path in (
        *outputs.glob("runs/*/checkpoints/last.ckpt"),
        *outputs.glob("stages/*/last.ckpt"),
    ):
        if not (path.parents[1] / "metrics.json").is_file():
            content = torch.load(path, map_location="cpu", weights_only=True)
            classes = len(content["hyper_parameters"]["classes"])
            found[{10: "natural", 12: "texture"}.get(classes, "target")] = content["epoch"] + 1
    return found


def _check_resumption(subject: Subject, checkpoints: dict[str, int], output: str) -> None:
    """Compare the first epoch that each stage shows with the last one that was saved.

    A subject with one chain has one stage at a time; in a sweep a domain's name fits several.
    """
    if subject.name != "run":
        return
    for domain, saved in checkpoints.items():
        shown = re.search(rf"\d-{domain} epoch (\d+)/", output)
        if shown is None:
            continue
        subject.resumed += 1
        if int(shown[1]) != saved + 1:
            subject.faults.append(f"{domain}: epoch {saved} was saved, {shown[1]} came next")


def results(outputs: Path, subject: Subject) -> dict[str, str]:
    """Return a digest of each result, by the file's name."""
    found = {}
    for pattern in subject.results:
        for path in outputs.glob(pattern):
            name = path.relative_to(outputs)
            if not any(part.startswith(".") for part in name.parts):
                found[str(name)] = _digest(path.read_bytes())
    for path in (*outputs.glob("runs/*/metrics.json"), *outputs.glob("stages/*/stage.json")):
        found[str(path.relative_to(outputs))] = repr(_without_times(read_json(path)))
    for path in (*outputs.glob("runs/*/*/*.ckpt"), *outputs.glob("stages/*/*.ckpt")):
        state = torch.load(path, weights_only=True)["state_dict"]
        arrays = b"".join(state[name].numpy().tobytes() for name in sorted(state))
        found[str(path.relative_to(outputs))] = _digest(arrays)
    return found


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(own) for key, own in value.items() if key not in UNEQUAL}
    return [_without_times(own) for own in value] if isinstance(value, list) else value


def litter(outputs: Path) -> list[Path]:
    """Return what only an interrupted process leaves."""
    names = re.compile(r"\..+\.(part|again)|.+\.(partial|damaged)|last\.ckpt|failure\.(txt|log)")
    found = (path for path in outputs.rglob("*") if path.relative_to(outputs).parts[0] != "sweeps")
    return [path for path in found if names.fullmatch(path.name)]


def table(tried: list[Subject]) -> str:
    """Return the Markdown table of what was tried."""
    names = ["command", "SIGKILL", "SIGTERM", "stages resumed", "results compared", "faults"]
    rows = [names, ["---"] * len(names)]
    rows += [
        [one.name, one.kills, one.terms, one.resumed or "-", one.finished, len(one.faults)]
        for one in tried
    ]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def chaos(signals: int, seed: int, only: list[str] | None = None) -> list[Subject]:
    """Send so many signals in all, to trainings twice as many as to the other commands."""
    draw = random.Random(seed)
    chosen = [one for one in subjects() if only is None or one.name in only]
    weights = [1 if one.needs_runs else 2 for one in chosen]
    with tempfile.TemporaryDirectory() as name:
        runs = Path(name) / "runs_to_read"
        if any(one.needs_runs for one in chosen):
            _make_runs(runs)
        for one, weight in zip(chosen, weights, strict=True):
            share = max(1, round(signals * weight / sum(weights)))
            disturb(one, Path(name) / one.name.replace(" ", "_"), runs, draw, share)
            print(table([one]).splitlines()[-1], *one.faults, sep="\n  ", flush=True)
            shutil.rmtree(Path(name) / one.name.replace(" ", "_"))
    return chosen


def _make_runs(outputs: Path) -> None:
    """Make two finished runs, and an image to predict."""
    words = ["+experiment=scratch,texture", *SMALL, "recipe.epochs=1", f"paths.outputs={outputs}"]
    command: dict[str, Any] = {"cwd": REPOSITORY, "env": ONE_THREAD, "stdout": subprocess.DEVNULL}
    subprocess.run([*TRAIN, "-m", *words], check=True, **command)
    Image.fromarray(lung(scale=0.1).images[0]).save(outputs / "patch.png")


def main() -> None:
    """Send the signals, and print the table; exit code 1 if there was a fault."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--signals", type=int, default=144, help="in all; one in six is SIGTERM")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", help="names of subjects")
    options = parser.parse_args()
    tried = chaos(options.signals, options.seed, options.only)
    print(table(tried))
    sys.exit(any(one.faults for one in tried))


if __name__ == "__main__":
    main()
