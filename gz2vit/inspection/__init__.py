"""Looking inside the trained models of a results folder: maps, their checks, features.

Brings trained models (`gz2vit.training`) and what `gz2vit.attention` computes together, and
leaves the results as files; the explorer (`gz2vit.inspection.explorer`) shows them on request.
"""

from gz2vit.inspection.checks import Checks, check_maps
from gz2vit.inspection.drawing import draw_first, draw_heads, draw_list
from gz2vit.inspection.features import (
    Features,
    features_path,
    layers_of,
    read_features,
    write_features,
)
from gz2vit.inspection.galaxies import (
    Sample,
    choose_lists,
    draw_test_images,
    is_papers_list,
    load_sample,
    read_all_predictions,
    read_sample,
    write_sample,
)
from gz2vit.inspection.knowledge import (
    nearest_galaxies,
    probe_layers,
    property_values,
    read_umap,
    umap_table,
)
from gz2vit.inspection.maps import GalaxyMaps, map_galaxies, read_maps, write_maps
from gz2vit.inspection.models import TrainedModel, describe_models, open_model, trained_models
from gz2vit.inspection.projection import project
from gz2vit.inspection.viewer import Viewer
from gz2vit.inspection.words import describe_checks, describe_failures

__all__ = [
    "Checks",
    "Features",
    "GalaxyMaps",
    "Sample",
    "TrainedModel",
    "Viewer",
    "check_maps",
    "choose_lists",
    "describe_checks",
    "describe_failures",
    "describe_models",
    "draw_first",
    "draw_heads",
    "draw_list",
    "draw_test_images",
    "features_path",
    "is_papers_list",
    "layers_of",
    "load_sample",
    "map_galaxies",
    "nearest_galaxies",
    "open_model",
    "probe_layers",
    "project",
    "property_values",
    "read_all_predictions",
    "read_features",
    "read_maps",
    "read_sample",
    "read_umap",
    "trained_models",
    "umap_table",
    "write_features",
    "write_maps",
    "write_sample",
]
