"""What a target could be tuned from: stored stages, published weights, files, random values."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stagetransfer.config.schema import Model
from stagetransfer.errors import UserError, cause
from stagetransfer.files import read_json
from stagetransfer.models import Backbone, build_backbone, copy_blocks, read_weights
from stagetransfer.names import PUBLISHED
from stagetransfer.pipeline.stage_store import StageStore

RANDOM = "random"
SEEDS = 3  # random networks, and stages of one chain that are used at most


@dataclass(frozen=True)
class Candidate:
    """A network that a target could be tuned from.

    Attributes:
        name: such as "natural → texture", or that of the weights.
        trained: the number of stages that were trained here, which is what it costs.
        networks: with their weights, ready to predict; several if the source was trained with
            several seeds.
        words: overrides of train.py that tune from this candidate; empty if there are none.
        images: the domain and the fingerprint of the images of each stage that was trained here.
    """

    name: str
    trained: int
    networks: tuple[Backbone, ...]
    words: tuple[str, ...] = ()
    images: tuple[tuple[str, str], ...] = ()

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks of the network, from the input on, without the head."""
        return self.networks[0].blocks[:-1]


def find_candidates(sources: Sequence[str], model: Model) -> tuple[list[Candidate], list[str]]:
    """Return the candidates, random values first, and why some stages are none.

    UserError if a source is none of those below, or its weights do not fit the network.

    Args:
        sources: outputs folders, whose finished stages count; files with weights; and the names of
            published weights.
        model: the network; stages of another network are left out.
    """
    random = [build_backbone(model, 2) for _ in range(SEEDS)]
    for seed, network in enumerate(random):
        network.initialise(model.initialisation, seed)
        network.eval()
    found = [Candidate(RANDOM, 0, tuple(random))]
    left_out: list[str] = []
    for source in sources:
        path = Path(source)
        if path.is_dir():
            stages, problems = _stages(path, model)
            found += stages
            left_out += problems
        elif path.is_file() or source in PUBLISHED:
            words = "chain=[natural,target]", *_weights_words(source)
            found.append(Candidate(_weights_name(source), 0, (_network(source, model),), words))
        else:
            raise UserError(
                f"--sources {source}: no outputs folder, no file and none of {', '.join(PUBLISHED)}"
            )
    if len(found) == 1:
        more = f" ({left_out[0]})" if left_out else ""
        raise UserError(f"--sources {' '.join(sources)}: no weights that fit the network{more}")
    return found, left_out


def chain_name(sources: Sequence[Mapping[str, Any]]) -> str:
    """Return the name of a chain's source stages as a candidate, such as "natural → texture".

    Args:
        sources: their entries in `stages` of metrics.json or stage.json; none: random values.
    """
    named = (_weights_name(one["weights"]) if "weights" in one else one["name"] for one in sources)
    return " → ".join(map(str, named)) or RANDOM


def _weights_name(weights: str) -> str:
    return f"{weights} weights" if weights in PUBLISHED else Path(weights).name


def _weights_words(weights: str) -> tuple[str, str]:
    return "domain/natural=pretrained", f"domain.natural.weights={weights}"


def _stages(outputs: Path, model: Model) -> tuple[list[Candidate], list[str]]:
    store = StageStore(outputs / "stages")
    keys = sorted(path.parent.name for path in store.root.glob("*/DONE"))
    if not keys:
        raise UserError(
            f"--sources {outputs}: no finished stage in {store.root}. Train one first, for example "
            "with +experiment=two_stage, or give weights"
        )
    # Stages that differ in their seeds alone are one candidate.
    alike: dict[str, list[str]] = {}
    for key in keys:
        images = [one.get("weights", one.get("fingerprint")) for one in store.record(key)]
        last = read_json(store.path(key) / "stage.json").get("identity", {})
        shown = json.dumps([images, {**last, "seed": None}], sort_keys=True)
        alike.setdefault(shown, []).append(key)
    records = [(store.record(same[0]), same) for same in alike.values()]
    records.sort(key=lambda one: (len(one[0]), chain_name(one[0])))
    names = Counter(chain_name(record) for record, _ in records)
    found, left_out = [], []
    for record, same in records:
        name, networks = chain_name(record), list[Backbone]()
        name += f" ({same[0][:8]})" if names[name] > 1 else ""
        for key in same:
            if len(networks) == SEEDS:
                left_out.append(f"{name}: {SEEDS} of {len(same)} stages of this chain are used")
                break
            try:
                networks.append(_network(store.path(key) / "model.ckpt", model))
            except UserError as error:
                left_out.append(f"{name} ({key}): {cause(error)}")
        if networks:
            words = [f"chain=[{','.join(str(one['name']) for one in record)},target]"]
            words += _weights_words(record[0]["weights"]) if "weights" in record[0] else ()
            trained = tuple(
                (str(one["name"]), str(one["fingerprint"]))
                for one in record
                if "weights" not in one
            )
            found.append(Candidate(name, len(trained), tuple(networks), tuple(words), trained))
    return found, left_out


def _network(source: str | Path, model: Model) -> Backbone:
    state = read_weights(source, model)
    head = f"{build_backbone(model, 2).head}.weight"
    if head not in state:
        raise UserError(f"{source}: no tensor {head}, so it is of another network")
    network = build_backbone(model, len(state[head]))
    copy_blocks(network, state)
    return network.eval()
