"""What a target could be tuned from: stored stages, published weights, files, random weights."""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stagetransfer.config.compose import as_override, compose_settings
from stagetransfer.config.schema import Model
from stagetransfer.errors import UserError, cause
from stagetransfer.files import read_json
from stagetransfer.models import Backbone, build_backbone, copy_blocks, read_weights
from stagetransfer.names import PUBLISHED
from stagetransfer.pipeline.chain import ChainRunner
from stagetransfer.pipeline.stage_store import StageStore
from stagetransfer.runs.run import LEARNED

RANDOM = "random"
SEEDS = 3  # random networks, and stages of one chain that are used at most


@dataclass(frozen=True)
class Candidate:
    """A network that a target could be tuned from, or several that differ in the seed alone."""

    name: str  # such as "natural → texture", or that of the weights
    trained: int  # number of stages that were trained here, which is what it costs
    networks: tuple[Backbone, ...]  # with their weights, ready to predict
    words: tuple[str, ...] = ()  # overrides of train.py that tune from it, if there are any
    images: tuple[tuple[str, str], ...] = ()  # domain and fingerprint of each stage trained here
    keys: tuple[str, ...] = ()  # of the stored stages, which differ in the seed alone

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks of the network, from the input on, without the head."""
        return self.networks[0].blocks[:-1]


def find_candidates(sources: Sequence[str], model: Model) -> tuple[list[Candidate], list[str]]:
    """Return the candidates, random weights first, and doubts: why some stages are none, and more.

    Sources are outputs folders, whose finished stages count; files with weights; and the names of
    published weights. Stages of another network than `model` are left out. Each candidate has a
    name of its own: where two have one name, the file or the key is added. UserError if a source is
    none of these, or its weights do not fit the network.
    """
    random = [build_backbone(model, 2) for _ in range(SEEDS)]
    for seed, network in enumerate(random):
        network.initialise(model.initialisation, seed)
        network.eval()
    by_place, doubts = dict[str, Candidate](), list[str]()
    for source in sources:
        path = Path(source)
        if path.is_dir():
            stages, problems = _stages(path, model)
            by_place |= stages
            doubts += problems
        elif path.is_file() or source in PUBLISHED:
            words = "chain=[natural,target]", *_weights_words(source)
            name, networks = _weights_name(source), (_network(source, model),)
            by_place[os.path.normpath(source)] = Candidate(name, 0, networks, words)
        else:
            raise UserError(
                f"--sources {source}: no outputs folder, no file and none of {', '.join(PUBLISHED)}"
            )
    if not by_place:
        more = f" ({doubts[0]})" if doubts else ""
        raise UserError(f"--sources {' '.join(sources)}: no weights that fit the network{more}")
    names = Counter(one.name for one in by_place.values())
    found = [
        replace(one, name=f"{one.name} ({place})") if names[one.name] > 1 else one
        for place, one in by_place.items()
    ]
    return [Candidate(RANDOM, 0, tuple(random)), *found], doubts


def join_words(words: Sequence[str], one: Candidate) -> list[str]:
    """Return the `words` of the target and the model with those of a candidate.

    Words on the images of a domain that weights replace are left out, because it has no such keys.
    """
    replaced = [word.split("=")[0] for word in one.words if word.endswith("=pretrained")]
    of_images = tuple(start for of in replaced for start in (f"{of}=", f"{of.replace('/', '.')}."))
    return [*(word for word in words if not word.lstrip("+~").startswith(of_images)), *one.words]


def check_words(
    candidates: Sequence[Candidate], words: Sequence[str]
) -> tuple[list[Candidate], list[str]]:
    """Return the candidates, with their words only if these tune from what was probed, and doubts.

    With the `words` of the target and the model, those of a candidate must lead to its own stage,
    which paths.outputs must hold. Otherwise, another stage would be trained and tuned from.
    """
    checked, doubts = list[Candidate](), list[str]()
    for one in candidates:
        why = _why_not(one, words) if one.words else ""
        doubts += [f"no command and no short training for {one.name}: {why}"] if why else []
        checked.append(replace(one, words=()) if why else one)
    return checked, doubts


def _why_not(one: Candidate, words: Sequence[str]) -> str:
    """Return why a command with these words would not tune from a candidate; "" if it would."""
    try:
        runner = ChainRunner(compose_settings(join_words(words, one)))
    except UserError as error:
        return cause(error)
    key = runner.stages[-2].key
    if one.keys and key not in one.keys:
        return (
            "the words of this command lead to another stage. Add those of its training, such as "
            "recipe=..., source_seed=... or domain/texture=..."
        )
    if one.keys and not runner.store.finished(key):
        return f"its stage is not in {runner.store.root}. Give its outputs folder as paths.outputs"
    return ""


def chain_name(sources: Sequence[Mapping[str, Any]]) -> str:
    """Return the name as a candidate of a chain's source stages, such as "natural → texture".

    These are entries in `stages` of metrics.json or stage.json; without any, it is `RANDOM`.
    """
    named = (_weights_name(one["weights"]) if "weights" in one else one["name"] for one in sources)
    return " → ".join(map(str, named)) or RANDOM


def _weights_name(weights: str) -> str:
    return f"{weights} weights" if weights in PUBLISHED else Path(weights).name


def _weights_words(weights: str, domain: str = "natural") -> tuple[str, str]:
    return f"domain/{domain}=pretrained", as_override(f"domain.{domain}.weights", weights)


def _stages(outputs: Path, model: Model) -> tuple[dict[str, Candidate], list[str]]:
    """Return the candidates of an outputs folder by the first 8 digits of their key, and doubts."""
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
        seen = [one.get("weights", one.get("fingerprint")) for one in store.record(key)]
        last = read_json(store.path(key) / "stage.json").get("identity", {})
        shown = json.dumps([seen, {**last, "seed": None}], sort_keys=True)
        alike.setdefault(shown, []).append(key)
    records = [(store.record(same[0]), same) for same in alike.values()]
    records.sort(key=lambda one: (len(one[0]), chain_name(one[0])))
    found, doubts = dict[str, Candidate](), list[str]()
    for record, same in records:
        name, networks = chain_name(record), list[Backbone]()
        for key in same:
            if len(networks) == SEEDS:
                used = f"{SEEDS} of {len(same)} stages of this chain are used"
                doubts.append(f"left out: {name}: {used}")
                break
            health = store.record(key)[-1].get("health") or {}
            if health.get("verdict", LEARNED) != LEARNED:
                doubts.append(f"{name} ({key[:8]}) did not learn: {health['verdict']}")
            try:
                networks.append(_network(store.path(key) / "model.ckpt", model))
            except UserError as error:
                doubts.append(f"left out: {name} ({key}): {cause(error)}")
        if networks:
            chain = ",".join(str(one["name"]) for one in record)
            first = record[0]
            weights = _weights_words(first["weights"], first["name"]) if "weights" in first else ()
            own = [one for one in record if "weights" not in one]
            images = tuple((str(one["name"]), str(one["fingerprint"])) for one in own)
            words = f"chain=[{chain},target]", *weights
            found[same[0][:8]] = Candidate(
                name, len(own), tuple(networks), words, images, tuple(same)
            )
    return found, doubts


def _network(source: str | Path, model: Model) -> Backbone:
    state = read_weights(source, model)
    head = f"{build_backbone(model, 2).head}.weight"
    if head not in state:
        raise UserError(f"{source}: no tensor {head}, so it is of another network")
    network = build_backbone(model, len(state[head]))
    copy_blocks(network, state)
    return network.eval()
