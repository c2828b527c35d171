"""What the checks of attention maps found, in words made from the numbers."""

import pandas as pd

from gz2vit.errors import Gz2vitError

MAP_WORDS = {"attention": "attention", "class": "the predicted class's evidence"}

WANTED = (
    *("deletion_gain", "deletion_gain_centre", "light_gain"),
    *("randomised_similarity", "other_galaxy_similarity"),
)


def describe_checks(table: pd.DataFrame) -> str:
    """A list in Markdown: for each model and kind of map what deletion, light and weights say.

    `table`: as of `Checks.table`, of any models. Each verdict rests on a 95 % interval: an
    interval that holds 0 shows nothing. Raises `Gz2vitError` for a table without the quantities.
    """
    lines = []
    for (model, kind), rows in table.groupby(["model", "map"], sort=False):
        known = rows.set_index("quantity")
        lost = [name for name in WANTED if name not in known.index]
        if lost:
            raise Gz2vitError(f"the checks of {model} have no {lost[0]}; run 'attention' again")
        told = [_deletion(known), _centre(known), _light(known), _weights(known)]
        lines.append(f"- **{model}**, {MAP_WORDS[kind]}: " + " ".join(told))
    return "\n".join(lines)


def describe_failures(table: pd.DataFrame) -> str:
    """One sentence: for which maps deletion does not hurt measurably more than random order."""
    gains = table[table["quantity"] == "deletion_gain"]
    weak = gains[~(gains["low"] > 0)]
    if weak.empty:
        return f"For all {len(gains)} maps, deleting by the map hurts more than random order."
    pairs = zip(weak["model"], weak["map"], strict=True)
    names = "; ".join(f"{model}, {MAP_WORDS[kind]}" for model, kind in pairs)
    return (
        f"For {len(weak)} of {len(gains)} maps, deleting by the map does **not** hurt measurably "
        f"more than random order: {names}. Such a map does not show what its network relies on."
    )


def _deletion(known: pd.DataFrame) -> str:
    """Does deleting by the map hurt more than deleting at random?"""
    gain = known.loc["deletion_gain"]
    areas = (
        f"area {known.value['deletion_most']:.3f} against {known.value['deletion_random']:.3f}, "
        f"difference {_interval(gain)}"
    )
    if gain.low > 0:
        return f"deleting its highest patches first **hurts more** than random order ({areas})."
    if gain.high < 0:
        return f"deleting its highest patches first **hurts less** than random order ({areas})."
    return (
        f"deleting its highest patches first **does not hurt measurably more** than random order "
        f"({areas})."
    )


def _centre(known: pd.DataFrame) -> str:
    """Does the map know more than that galaxies stand in the middle?"""
    gain = known.loc["deletion_gain_centre"]
    verdict = "no better or worse than"
    if gain.low > 0:
        verdict = "better than"
    if gain.high < 0:
        verdict = "worse than"
    return f"It is {verdict} going from the centre outwards ({_interval(gain)})."


def _light(known: pd.DataFrame) -> str:
    """Does the map lie on the galaxy?"""
    light, gain = known.loc["light"], known.loc["light_gain"]
    if not light.galaxies:
        return "No galaxy stood out from its sky, so that light says nothing."
    share = f"{100 * light.value:.0f} % of it lies on the galaxy"
    even = f"{100 * (light.value - gain.value):.0f} %"
    if gain.low > 0:
        return f"{share}, more than the {even} of an even map."
    if gain.high < 0:
        return f"{share}, less than the {even} of an even map."
    return f"{share}, as of an even map ({even})."


def _weights(known: pd.DataFrame) -> str:
    """Is the map another one when the network knows nothing?"""
    one, other = known.loc["randomised_similarity"], known.loc["other_galaxy_similarity"]
    if not one.galaxies:
        return "With random weights it is flat."
    words = f"Its rank correlation with that of random weights is {_interval(one)}"
    if not other.galaxies:
        return f"{words}."
    return f"{words}, with that of another galaxy {_interval(other)}."


def _interval(row: pd.Series) -> str:
    """A value with its interval."""
    return f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]"
