"""Image names and SDSS object ids: Galaxy Zoo 2's file map (`gz2_filename_mapping.csv`).

An image is `<asset_id>.jpg`; votes and properties go by the SDSS DR7 object id. Hart, R. E., et al.
2016 and Willett et al. 2013 describe the samples; the map is at https://doi.org/10.5281/zenodo.3565489.
"""

from pathlib import Path

import pandas as pd

from gz2vit.errors import Gz2vitError

# A galaxy can have several images, one for each sample: that of the main survey comes first.
SAMPLE_ORDER = ("original", "extra", "stripe82", "stripe82_coadd_1", "stripe82_coadd_2")
COLUMNS = ("objid", "sample", "asset_id")


def read_mapping(path: Path | str) -> pd.DataFrame:
    """The file map: text columns objid, sample, asset_id, a row for each image.

    Raises `Gz2vitError` for a file that cannot be read, a missing column, or an image that stands
    there twice.
    """
    try:
        mapping = pd.read_csv(path, usecols=list(COLUMNS), dtype=str)
    except FileNotFoundError:
        raise Gz2vitError(
            f"there is no file map {path}; `python -m gz2vit download mapping --to DIR` fetches it"
        ) from None
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise Gz2vitError(f"{path} cannot be read as the file map of GZ2: {error}") from error
    twice = mapping.asset_id[mapping.asset_id.duplicated()]
    if len(twice):
        raise Gz2vitError(f"{path}: image {twice.iloc[0]} stands there more than once")
    return mapping


def object_ids(mapping: pd.DataFrame) -> pd.Series:
    """The SDSS object id of each image, indexed by asset id."""
    return mapping.set_index("asset_id").objid


def asset_ids(mapping: pd.DataFrame) -> pd.Series:
    """One image for each SDSS object, the main survey's first, indexed by object id."""
    ranks = {name: rank for rank, name in enumerate(SAMPLE_ORDER)}
    order = mapping["sample"].map(ranks).fillna(len(ranks))
    first = mapping.assign(rank=order).sort_values("rank", kind="stable")
    return first.drop_duplicates("objid").set_index("objid").asset_id


def rename_to_assets(classes: pd.Series, mapping: pd.DataFrame) -> tuple[pd.Series, int]:
    """`classes` indexed by image name instead of object id, and how many have no image."""
    assets = asset_ids(mapping).reindex(classes.index)
    known = assets.notna().to_numpy()
    renamed = pd.Series(classes[known].to_numpy(), assets[known].to_numpy(), name=classes.name)
    return renamed, int((~known).sum())


def rename_to_objects(labels: pd.Series, mapping: pd.DataFrame) -> pd.Series:
    """`labels` indexed by object id instead of image name.

    Where two images of one object were labelled, the first stays. Raises `Gz2vitError` for labels
    of images that the file map does not hold at all.
    """
    objects = object_ids(mapping).reindex(labels.index)
    if objects.isna().all() and len(labels):
        raise Gz2vitError("none of the labelled galaxies is in the file map; is it GZ2's?")
    renamed = pd.Series(labels.to_numpy(), objects.to_numpy(), name=labels.name)
    renamed = renamed[renamed.index.notna()]
    return renamed[~renamed.index.duplicated()]
