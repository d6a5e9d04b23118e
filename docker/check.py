#!/usr/bin/env python3
"""Check docker/Dockerfile without a Docker engine: run every instruction, then a small training.

    sudo docker/check.py BASE [--set NAME=VALUE ...] [--work FOLDER]

BASE is the root folder of a small Linux with Python 3.12. It replaces the image of FROM and is not
changed. Each step runs in a chroot of an overlay on BASE, with the user, the folder and the
environment of the Dockerfile only. Then the image's entry point trains for one epoch, and the
TensorBoard of the compose file is asked for its page, both as the image's user. The overlay is
deleted at the end. Requires root, Linux, `unshare` and 12 GB in --work.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

CONTEXT = Path(__file__).resolve().parents[1]
# The smallest run: one epoch at the smallest input size of AlexNet, on little data.
TRAINING = (
    "+experiment=scratch",
    "model.input_size=67",
    "recipe.epochs=1",
    "+domain.target.options.scale=0.15",
    "trainer.accelerator=cpu",
)
TENSORBOARD_URL = "http://127.0.0.1:6006/data/runs"


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Yield each instruction of a Dockerfile and its argument, with continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", "")
    for line in filter(None, map(str.strip, text.splitlines())):
        instruction, _, argument = line.partition(" ")
        yield instruction, argument.strip()


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replace `$NAME` and `${NAME}`."""
    return re.sub(r"\$\{?(\w+)\}?", lambda match: values.get(match[1], ""), text)


class Image:
    """A root folder, and the settings of the instructions so far."""

    def __init__(self, root: Path, build_args: Mapping[str, str]) -> None:
        self.root = root
        self.env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        self.args: dict[str, str] = dict(build_args)
        self.folder, self.user = "/", "0"
        self.entry: list[str] = []
        ignored = (CONTEXT / ".dockerignore").read_text().splitlines()
        self.included = {line[1:] for line in ignored if line.startswith("!")}
        self.excluded = [line[3:] for line in ignored if line.startswith("**/")]

    def execute(self, instruction: str, argument: str) -> None:
        """Execute one instruction.

        Raises:
            SystemExit: if the instruction fails or is unknown to this script.
        """
        match instruction:
            case "FROM" | "CMD" | "VOLUME":
                pass
            case "ENV":
                for pair in shlex.split(argument):
                    name, _, value = pair.partition("=")
                    self.env[name] = expand(value, self.env)
            case "ARG":
                name, _, value = argument.partition("=")
                self.args.setdefault(name, value)
            case "WORKDIR":
                self.folder = argument
                (self.root / argument.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "USER":
                self.user = expand(argument, self.args)
            case "COPY":
                *sources, target = argument.split()
                for source in sources:
                    self._copy(source, target)
            case "ENTRYPOINT":
                self.entry = json.loads(argument)
            case "RUN":
                self.run(["/bin/sh", "-c", argument], self.args)
            case _:
                sys.exit(f"error: docker/Dockerfile: {instruction} is unknown to this script")

    def run(self, command: list[str], extra: Mapping[str, str] | None = None) -> None:
        """Run a command in the image and wait for its end.

        Raises:
            SystemExit: if the command fails.
        """
        if code := self.start(command, extra).wait():
            sys.exit(f"exit code {code}: {shlex.join(command)}")

    def start(
        self, command: list[str], extra: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a command in the image, as its user and with its environment only."""
        users = [row.split(":") for row in (self.root / "etc/passwd").read_text().splitlines()]
        _, _, number, group, _, home, *_ = next(row for row in users if row[2] == self.user)
        change = f"cd {shlex.quote(self.folder)} && exec {shlex.join(command)}"
        return subprocess.Popen(
            ["chroot", f"--userspec={number}:{group}", str(self.root), "/bin/sh", "-c", change],
            env={"HOME": home, **self.env, **(extra or {})},
        )

    def _copy(self, source: str, target: str) -> None:
        if source not in self.included:
            sys.exit(f"error: COPY {source}: excluded by .dockerignore")
        place = self.root / self.folder.lstrip("/") / target
        if (CONTEXT / source).is_dir():
            ignore = shutil.ignore_patterns(*self.excluded)
            shutil.copytree(CONTEXT / source, place, ignore=ignore, dirs_exist_ok=True)
        else:
            shutil.copy(CONTEXT / source, place)


def build_and_run(base: Path, work: Path, build_args: Mapping[str, str]) -> None:
    """Build the image and run its commands; call it in a mount namespace of its own."""
    upper, inner, root = (work / name for name in ("upper", "inner", "root"))
    for folder in (upper, inner, root):
        folder.mkdir()
    options = f"lowerdir={base},upperdir={upper},workdir={inner}"
    mount("-t", "overlay", "overlay", "-o", options, root)
    mount("--rbind", "/dev", root / "dev")
    mount("-t", "proc", "proc", root / "proc")
    for name in ("resolv.conf", "hosts"):  # as a Docker engine does
        shutil.copy(f"/etc/{name}", root / "etc" / name)
    image = Image(root, build_args)
    for instruction, argument in instructions((CONTEXT / "docker/Dockerfile").read_text()):
        log(f"{instruction} {argument}")
        start = time.monotonic()
        image.execute(instruction, argument)
        if instruction == "RUN":
            log(f"    {time.monotonic() - start:.0f} s, {used(upper):.2f} GB so far")
    if image.user == "0":
        sys.exit("error: docker/Dockerfile: the image's user is root")
    command = [*image.entry, *TRAINING]
    log(f"as user {image.user}: {shlex.join(command)}")
    image.run(command)
    (result,) = (root / "app/outputs/runs").glob("*/metrics.json")
    accuracy = json.loads(result.read_text())["test"]["accuracy"]
    log(f"trained: {result.parent.name}, accuracy {accuracy:.3f}")
    command = compose_command("tensorboard")
    log(f"as user {image.user}: {shlex.join(command)}")
    board = image.start(command)
    try:
        log(f"TensorBoard shows {runs_shown(board)}")
    finally:
        board.terminate()
        board.wait()


def compose_command(service: str) -> list[str]:
    """Return the entry point and command of a service in compose.yaml; both must be plain lists."""
    text = (CONTEXT / "docker/compose.yaml").read_text().split(f"\n  {service}:\n")[1]
    lists = [re.search(rf"^    {key}: \[(.*)\]$", text, re.M) for key in ("entrypoint", "command")]
    return [part for found in lists if found for part in re.split(r",\s*", found[1])]


def runs_shown(board: subprocess.Popen[bytes]) -> list[str]:
    """Return the runs that TensorBoard lists, as soon as it has read any."""
    for _ in range(60):
        time.sleep(1)
        if board.poll() is not None:
            break
        try:
            with urllib.request.urlopen(TENSORBOARD_URL) as answer:
                if runs := json.load(answer):
                    return list(runs)
        except OSError:
            continue
    sys.exit("error: TensorBoard lists no runs")


def used(folder: Path) -> float:
    """Return the size of a folder in gigabytes."""
    return int(subprocess.check_output(["du", "-sk", str(folder)]).split()[0]) / 1e6


def mount(*arguments: str | Path) -> None:
    """Call mount(8)."""
    subprocess.run(["mount", *map(str, arguments)], check=True)


def log(line: str) -> None:
    """Print a line at once."""
    print(f"[check] {line}", flush=True)


def main() -> None:
    """Start this script again in a new namespace, whose mounts end with it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("base", type=Path, help="root folder that replaces the image of FROM")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                        help="as docker build --build-arg")  # fmt: skip
    parser.add_argument("--work", type=Path, help="parent folder of the overlay")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("error: mount and chroot require root")
    if "CHECK_WORK" in os.environ:
        values = dict(pair.split("=", 1) for pair in options.set)
        build_and_run(options.base.resolve(), Path(os.environ["CHECK_WORK"]), values)
        return
    with tempfile.TemporaryDirectory(prefix="image-", dir=options.work) as work:
        command = [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            sys.executable,
            *sys.argv,
        ]
        sys.exit(subprocess.run(command, env={**os.environ, "CHECK_WORK": work}).returncode)


if __name__ == "__main__":
    main()
