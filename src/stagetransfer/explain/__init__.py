"""Explaining trained networks: which parts of an image reach a layer, how similar features are.

The methods work on any network: saliency maps (`salinet`; for networks with ReLU also `desalinet`
and `deconvnet`), their control with random weights (`randomised`, `cascading_randomisation`) and
measures of maps and features (`edge_energy`, `ssim`, `linear_cka`). `write_visualization` applies
them to finished runs; `LogFeatureImages` is a Lightning callback.
"""

from stagetransfer.explain.backward_start import Start
from stagetransfer.explain.compared_runs import open_compared_runs
from stagetransfer.explain.edge_energy import edge_energy, edges
from stagetransfer.explain.image_grids import SCALES, image_grid, input_to_rgb, saliency_to_rgb
from stagetransfer.explain.log_feature_images import LogFeatureImages
from stagetransfer.explain.saliency import METHODS, SaliencyMethod, deconvnet, desalinet, salinet
from stagetransfer.explain.similarity import linear_cka, ssim
from stagetransfer.explain.strongest_patches import receptive_field, strongest_patches
from stagetransfer.explain.visualization_folder import write_visualization
from stagetransfer.explain.weight_randomisation import cascading_randomisation, randomised

__all__ = [
    "METHODS", "SCALES", "LogFeatureImages", "SaliencyMethod", "Start", "cascading_randomisation",
    "deconvnet", "desalinet", "edge_energy", "edges", "image_grid", "input_to_rgb", "linear_cka",
    "open_compared_runs", "randomised", "receptive_field", "saliency_to_rgb", "salinet", "ssim",
    "strongest_patches", "write_visualization",
]  # fmt: skip
