"""What a target could be tuned from: stored stages, published weights, files, random values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stagetransfer.config.schema import Model
from stagetransfer.errors import UserError, cause
from stagetransfer.models import Backbone, build_backbone, copy_blocks, read_weights
from stagetransfer.names import PUBLISHED
from stagetransfer.pipeline.stage_store import StageStore

RANDOM = "random"


@dataclass(frozen=True)
class Candidate:
    """A network that a target could be tuned from.

    Attributes:
        name: such as "natural → texture", or that of the weights.
        trained: the number of stages that were trained here, which is what it costs.
        networks: with their weights, ready to predict; several if the source was trained with
            several seeds.
        words: overrides of train.py that tune from this candidate; empty if there are none.
    """

    name: str
    trained: int
    networks: tuple[Backbone, ...]
    words: tuple[str, ...] = ()

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks of the network, from the input on, without the head."""
        return self.networks[0].blocks[:-1]


def find_candidates(
    sources: Sequence[str], model: Model, *, seeds: int = 3
) -> tuple[list[Candidate], list[str]]:
    """Return the candidates, random values first, and why some stages are none.

    Args:
        sources: outputs folders, whose finished stages count; files with weights; and the names of
            published weights.
        model: the network; stages of another network are left out.
        seeds: the number of random networks, and of stages of one chain that are used at most.

    Raises:
        UserError: a source is none of these, or its weights do not fit the network.
    """
    random = [build_backbone(model, 2) for _ in range(seeds)]
    for seed, network in enumerate(random):
        network.initialise(model.initialisation, seed)
        network.eval()
    found = [Candidate(RANDOM, 0, tuple(random))]
    left_out: list[str] = []
    for source in sources:
        path = Path(source)
        if path.is_dir():
            stages, problems = _stages(path, model, seeds)
            found += stages
            left_out += problems
        elif path.is_file() or source in PUBLISHED:
            name = path.name if path.is_file() else f"{source} weights"
            words = "chain=[natural,target]", "domain/natural=pretrained"
            weights = f"domain.natural.weights={source}"
            found.append(Candidate(name, 0, (_network(source, model),), (*words, weights)))
        else:
            raise UserError(
                f"--sources {source}: no outputs folder, no file and none of {', '.join(PUBLISHED)}"
            )
    if len(found) == 1:
        more = f" ({left_out[0]})" if left_out else ""
        raise UserError(f"--sources {' '.join(sources)}: no weights that fit the network{more}")
    return found, left_out


def _stages(outputs: Path, model: Model, most: int) -> tuple[list[Candidate], list[str]]:
    store = StageStore(outputs / "stages")
    keys = sorted(path.parent.name for path in store.root.glob("*/DONE"))
    if not keys:
        raise UserError(
            f"--sources {outputs}: no finished stage in {store.root}. Train one first, for example "
            "with +experiment=two_stage, or give weights"
        )
    of_chain: dict[tuple[str, ...], list[str]] = {}
    for key in keys:
        chain = tuple(str(one["name"]) for one in store.record(key))
        of_chain.setdefault(chain, []).append(key)
    found, left_out = [], []
    for chain, same in sorted(of_chain.items(), key=lambda item: (len(item[0]), item[0])):
        name, networks = " → ".join(chain), list[Backbone]()
        for key in same:
            if len(networks) == most:
                left_out.append(f"{name}: {most} of {len(same)} stages of this chain are used")
                break
            try:
                networks.append(_network(store.path(key) / "model.ckpt", model))
            except UserError as error:
                left_out.append(f"{name} ({key}): {cause(error)}")
        if networks:
            word = f"chain=[{','.join(chain)},target]"
            found.append(Candidate(name, len(chain), tuple(networks), (word,)))
    return found, left_out


def _network(source: str | Path, model: Model) -> Backbone:
    state = read_weights(source, model)
    head = f"{build_backbone(model, 2).head}.weight"
    if head not in state:
        raise UserError(f"{source}: no tensor {head}, so it is of another network")
    network = build_backbone(model, len(state[head]))
    copy_blocks(network, state)
    return network.eval()
