"""The two sides of the comparison and the features, as tables and figures call them."""

from types import MappingProxyType

REAL, SIMULATED = "real", "simulated"
# Names of the features, and what they are called on an axis.
FEATURES = MappingProxyType(
    {
        "redness": "colour, 2.5 log R/B",
        "colour_gradient": "colour, inside less outside",
        "colour_saturation": "colour saturation",
        "concentration": "concentration",
        "asymmetry": "asymmetry",
        "clumpiness": "clumpiness",
        "gini": "Gini coefficient",
        "axis_ratio": "axis ratio",
        "radius_px": "radius (px)",
        "brightness": "mean level of the galaxy",
        "saturated_percent": "saturated pixels (%)",
        "neighbours": "other objects",
        "sky_level": "sky level",
        "sky_noise": "sky noise",
        "sky_colour_noise": "sky noise, R less B",
        "sky_grain": "grain of the sky noise",
    }
)
