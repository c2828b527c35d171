"""Looking inside a network: where it looks, whether that means something, what its layers know.

Tensors in, tensors and numbers out; nothing here draws or reads files. Networks are those of
`gz2vit.models.build_model`, images their normalised input (B, 3, H, W).
"""

from gz2vit.attention.activation import class_activation
from gz2vit.attention.collection import collect_attention, effective_attention, effective_row_sums
from gz2vit.attention.embeddings import layer_embeddings
from gz2vit.attention.intervals import Interval, bootstrap_interval, paired_difference
from gz2vit.attention.light import LightFraction, light_fraction, segment_galaxy
from gz2vit.attention.maps import Gaze, gaze, resize_maps, why_no_map
from gz2vit.attention.masking import Curve, deletion_curve, insertion_curve
from gz2vit.attention.networks import predict_probabilities
from gz2vit.attention.probes import linear_probe, nearest_neighbours
from gz2vit.attention.randomisation import (
    randomise_weights,
    randomised_similarity,
    rank_correlation,
)
from gz2vit.attention.relevance import class_relevance
from gz2vit.attention.rollout import attention_rollout, layer_attention

__all__ = [
    "Curve",
    "Gaze",
    "Interval",
    "LightFraction",
    "attention_rollout",
    "bootstrap_interval",
    "class_activation",
    "class_relevance",
    "collect_attention",
    "deletion_curve",
    "effective_attention",
    "effective_row_sums",
    "gaze",
    "insertion_curve",
    "layer_attention",
    "layer_embeddings",
    "light_fraction",
    "linear_probe",
    "nearest_neighbours",
    "paired_difference",
    "predict_probabilities",
    "randomise_weights",
    "randomised_similarity",
    "rank_correlation",
    "resize_maps",
    "segment_galaxy",
    "why_no_map",
]
