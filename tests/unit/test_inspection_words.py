"""gz2vit.inspection.words: the sentence follows the interval, also where a check fails."""

import pandas as pd
import pytest

from gz2vit.attention_checks import describe_checks, describe_failures
from gz2vit.io import Gz2vitError

NAN = float("nan")
ROWS = {  # value, low, high, galaxies
    "deletion_most": (0.3, 0.2, 0.4, 50),
    "deletion_random": (0.5, 0.4, 0.6, 50),
    "deletion_gain": (0.2, 0.1, 0.3, 50),
    "deletion_gain_centre": (-0.1, -0.2, -0.05, 50),
    "light": (0.6, 0.5, 0.7, 50),
    "light_gain": (0.2, 0.1, 0.3, 50),
    "randomised_similarity": (0.1, 0.0, 0.2, 50),
    "other_galaxy_similarity": (0.9, 0.8, 0.95, 50),
}


def table(model: str = "vit", kind: str = "attention", **changed: tuple) -> pd.DataFrame:
    """Checks of one map as `check_maps` leaves them."""
    columns = ["quantity", "value", "low", "high", "galaxies"]
    rows = [(name, *values) for name, values in (ROWS | changed).items()]
    made = pd.DataFrame(rows, columns=columns)
    made.insert(0, "map", kind)
    made.insert(0, "model", model)
    return made


def test_a_map_that_passes():
    assert describe_checks(table()) == (
        "- **vit**, attention: deleting its highest patches first **hurts more** than random order "
        "(area 0.300 against 0.500, difference 0.200 [0.100, 0.300]). It is worse than going from "
        "the centre outwards (-0.100 [-0.200, -0.050]). 60 % of it lies on the galaxy, more than "
        "the 40 % of an even map. Its rank correlation with that of random weights is 0.100 "
        "[0.000, 0.200], with that of another galaxy 0.900 [0.800, 0.950]."
    )


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"deletion_gain": (0.1, -0.1, 0.3, 50)}, "**does not hurt measurably more** than random"),
        ({"deletion_gain": (0.0, 0.0, 0.0, 50)}, "**does not hurt measurably more** than random"),
        ({"deletion_gain": (-0.2, -0.3, -0.1, 50)}, "**hurts less** than random order"),
        ({"deletion_gain_centre": (0.1, 0.05, 0.2, 50)}, "It is better than going from the centre"),
        ({"deletion_gain_centre": (0.0, -0.1, 0.1, 50)}, "It is no better or worse than going"),
        ({"light_gain": (-0.1, -0.2, -0.05, 50)}, "60 % of it lies on the galaxy, less than the"),
        ({"light_gain": (0.0, -0.1, 0.1, 50)}, "60 % of it lies on the galaxy, as of an even map"),
        ({"light": (NAN, NAN, NAN, 0)}, "No galaxy stood out from its sky"),
        ({"randomised_similarity": (NAN, NAN, NAN, 0)}, "With random weights it is flat."),
        ({"other_galaxy_similarity": (NAN, NAN, NAN, 0)}, "weights is 0.100 [0.000, 0.200]."),
    ],
)
def test_other_outcomes(changed: dict, words: str):
    assert words in describe_checks(table(**changed))


def test_failures_are_named_and_only_they():
    weak = table("cnn", "class", deletion_gain=(0.1, -0.1, 0.3, 50))
    told = describe_failures(pd.concat([table(), weak]))
    assert told.startswith("For 1 of 2 maps, deleting by the map does **not** hurt measurably more")
    assert "cnn, the predicted class's evidence." in told
    assert "vit" not in told
    told = describe_failures(table())
    assert told == "For all 1 maps, deleting by the map hurts more than random order."


def test_a_gain_without_galaxies_is_a_failure():
    told = describe_failures(table(deletion_gain=(NAN, NAN, NAN, 0)))
    assert "does **not** hurt measurably more" in told


def test_a_table_without_a_quantity_is_refused():
    own = table()
    with pytest.raises(Gz2vitError, match="checks of vit have no light_gain; run"):
        describe_checks(own[own["quantity"] != "light_gain"])
