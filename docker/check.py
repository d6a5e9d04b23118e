#!/usr/bin/env python3
"""Does what docker/Dockerfile says, without a Docker engine: every RUN, then a small training.

    sudo docker/check.py BASE [--set NAME=VALUE ...] [--work FOLDER]

BASE is the root folder of a small Linux with Python 3.12 that stands for the image of FROM; nothing
in it is changed. Each step runs in a chroot of an overlay on it, as the user and in the folder that
the Dockerfile says and with its environment alone. Then the image's entry point trains for one
epoch and the compose file's TensorBoard is asked for its page, both as the image's user. The
overlay is thrown away at the end. Needs root, Linux, unshare and 12 GB in --work.
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
# The smallest run: one epoch at AlexNet's smallest input, on little data.
TRAINING = (
    "+experiment=scratch",
    "model.input_size=67",
    "recipe.epochs=1",
    "+domain.target.options.scale=0.15",
    "trainer.accelerator=cpu",
)
BOARD = "http://127.0.0.1:6006/data/runs"


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Each instruction of a Dockerfile with its argument, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", "")
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        yield word, rest.strip()


def expand(text: str, values: Mapping[str, str]) -> str:
    """`$NAME` and `${NAME}` replaced."""
    return re.sub(r"\$\{?(\w+)\}?", lambda match: values.get(match[1], ""), text)


class Image:
    """A root folder, and what the instructions so far have set."""

    def __init__(self, root: Path, during_build: Mapping[str, str]) -> None:
        self.root = root
        self.env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        self.args: dict[str, str] = dict(during_build)
        self.folder, self.user = "/", "0"
        self.entry: list[str] = []
        ignored = (CONTEXT / ".dockerignore").read_text().splitlines()
        self.kept = {line[1:] for line in ignored if line.startswith("!")}
        self.left_out = [line[3:] for line in ignored if line.startswith("**/")]

    def do(self, word: str, rest: str) -> None:
        """One instruction; SystemExit if it fails or is none that is known here."""
        match word:
            case "FROM" | "CMD" | "VOLUME":
                pass
            case "ENV":
                for pair in shlex.split(rest):
                    name, _, value = pair.partition("=")
                    self.env[name] = expand(value, self.env)
            case "ARG":
                name, _, value = rest.partition("=")
                self.args.setdefault(name, value)
            case "WORKDIR":
                self.folder = rest
                (self.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "USER":
                self.user = expand(rest, self.args)
            case "COPY":
                *sources, target = rest.split()
                for source in sources:
                    self._copy(source, target)
            case "ENTRYPOINT":
                self.entry = json.loads(rest)
            case "RUN":
                self.run(["/bin/sh", "-c", rest], self.args)
            case _:
                sys.exit(f"{word}: not known to this check")

    def run(self, command: list[str], extra: Mapping[str, str] | None = None) -> None:
        """Runs a command in the image and waits; SystemExit if it fails."""
        if code := self.start(command, extra).wait():
            sys.exit(f"exit code {code}: {shlex.join(command)}")

    def start(
        self, command: list[str], extra: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Starts a command in the image, as its user and with its environment alone."""
        users = [row.split(":") for row in (self.root / "etc/passwd").read_text().splitlines()]
        _, _, number, group, _, home, *_ = next(row for row in users if row[2] == self.user)
        change = f"cd {shlex.quote(self.folder)} && exec {shlex.join(command)}"
        return subprocess.Popen(
            ["chroot", f"--userspec={number}:{group}", str(self.root), "/bin/sh", "-c", change],
            env={"HOME": home, **self.env, **(extra or {})},
        )

    def _copy(self, source: str, target: str) -> None:
        if source not in self.kept:
            sys.exit(f"COPY {source}: .dockerignore keeps it from the engine")
        place = self.root / self.folder.lstrip("/") / target
        if (CONTEXT / source).is_dir():
            ignore = shutil.ignore_patterns(*self.left_out)
            shutil.copytree(CONTEXT / source, place, ignore=ignore, dirs_exist_ok=True)
        else:
            shutil.copy(CONTEXT / source, place)


def build_and_try(base: Path, work: Path, during_build: Mapping[str, str]) -> None:
    """All of it, within a mount namespace of its own."""
    upper, inner, root = (work / name for name in ("upper", "inner", "root"))
    for folder in (upper, inner, root):
        folder.mkdir()
    options = f"lowerdir={base},upperdir={upper},workdir={inner}"
    mount("-t", "overlay", "overlay", "-o", options, root)
    mount("--rbind", "/dev", root / "dev")
    mount("-t", "proc", "proc", root / "proc")
    for name in ("resolv.conf", "hosts"):  # as an engine does
        shutil.copy(f"/etc/{name}", root / "etc" / name)
    image = Image(root, during_build)
    for word, rest in instructions((CONTEXT / "docker/Dockerfile").read_text()):
        say(f"{word} {rest}")
        began = time.monotonic()
        image.do(word, rest)
        if word == "RUN":
            say(f"    {time.monotonic() - began:.0f} s, {used(upper):.2f} GB so far")
    if image.user == "0":
        sys.exit("the image's user is root")
    command = [*image.entry, *TRAINING]
    say(f"as user {image.user}: {shlex.join(command)}")
    image.run(command)
    (result,) = (root / "app/outputs/runs").glob("*/metrics.json")
    accuracy = json.loads(result.read_text())["test"]["accuracy"]
    say(f"trained: {result.parent.name}, accuracy {accuracy:.3f}")
    command = compose_command("tensorboard")
    say(f"as user {image.user}: {shlex.join(command)}")
    board = image.start(command)
    try:
        say(f"TensorBoard shows {runs_shown(board)}")
    finally:
        board.terminate()
        board.wait()


def compose_command(service: str) -> list[str]:
    """Entry point and command of a service of compose.yaml, where both are plain lists."""
    text = (CONTEXT / "docker/compose.yaml").read_text().split(f"\n  {service}:\n")[1]
    lists = [re.search(rf"^    {key}: \[(.*)\]$", text, re.M) for key in ("entrypoint", "command")]
    return [word for found in lists if found for word in re.split(r",\s*", found[1])]


def runs_shown(board: subprocess.Popen[bytes]) -> list[str]:
    """The runs that TensorBoard lists, once it answers and has read any."""
    for _ in range(60):
        time.sleep(1)
        if board.poll() is not None:
            break
        try:
            with urllib.request.urlopen(BOARD) as answer:
                if runs := json.load(answer):
                    return list(runs)
        except OSError:
            continue
    sys.exit("TensorBoard shows nothing")


def used(folder: Path) -> float:
    """Gigabytes."""
    return int(subprocess.check_output(["du", "-sk", str(folder)]).split()[0]) / 1e6


def mount(*words: str | Path) -> None:
    """Mounts in this namespace alone."""
    subprocess.run(["mount", *map(str, words)], check=True)


def say(line: str) -> None:
    """To the terminal at once."""
    print(f"[check] {line}", flush=True)


def main() -> None:
    """Goes into a namespace of its own first; what it mounted is gone with it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("base", type=Path, help="root folder that stands for the image of FROM")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                        help="for RUN steps alone, as docker build --build-arg")  # fmt: skip
    parser.add_argument("--work", type=Path, help="where the overlay lies meanwhile")
    asked = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("needs root: mount and chroot")
    if "CHECK_WORK" in os.environ:
        values = dict(pair.split("=", 1) for pair in asked.set)
        build_and_try(asked.base.resolve(), Path(os.environ["CHECK_WORK"]), values)
        return
    with tempfile.TemporaryDirectory(prefix="image-", dir=asked.work) as work:
        own = ["unshare", "--mount", "--pid", "--fork", "--kill-child", sys.executable, *sys.argv]
        sys.exit(subprocess.run(own, env={**os.environ, "CHECK_WORK": work}).returncode)


if __name__ == "__main__":
    main()
