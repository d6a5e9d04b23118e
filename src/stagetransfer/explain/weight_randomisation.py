"""The control of a saliency map: networks whose blocks are re-initialised at random.

Adebayo et al. 2018, "Sanity checks for saliency maps" (NeurIPS), cascading randomisation: first the
head is re-initialised, then the head and the block before it, and in the end every block. A map
that does not change on the way says nothing about what the network has learnt.
"""

import copy
from collections.abc import Iterator

from stagetransfer.models import AlexNet, Backbone

# Not the seed of a run, whose initial values the control would share.
CONTROL_SEED = 2**31 - 1


def cascading_randomisation(
    network: Backbone, seed: int = CONTROL_SEED
) -> Iterator[tuple[str, Backbone]]:
    """Yield (block, copy of the network with this and all later blocks re-initialised).

    The first pair is that of the head, the last pair that of the first block. A block has the same
    random values in all copies. The network itself does not change, and the caller may change the
    copies. `seed` alone decides the values, on every device.

    AlexNet's weights are drawn from N(0, 2 / fan_in), biases are 0 (He et al. 2015, eq. 10), so
    that activations keep their size. Other networks get the initial values of their library, and
    their normalisations the initial statistics.
    """
    random = randomised(network, seed)
    for block in reversed(network.blocks):
        network = copy.deepcopy(network)
        network.net.load_state_dict(random.state([block]), strict=False)
        yield block, network


def randomised(network: Backbone, seed: int = CONTROL_SEED) -> Backbone:
    """Return the copy with all blocks re-initialised, the last of `cascading_randomisation`."""
    scheme = "kaiming" if isinstance(network.net, AlexNet) else "own"
    network = copy.deepcopy(network)
    network.initialise(scheme, seed)
    return network
