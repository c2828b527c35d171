"""The images of a data folder: finding broken ones before any work, and reading one.

The paper's images are 424 x 424 px, of which the central 224 x 224 px are used
(`torchvision.transforms.CenterCrop(224)` in the authors' notebooks). What counts as broken, and
what cannot be found out, stands in `decoding`.
"""

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from gz2vit.catalog import DataFolder, folder_signature
from gz2vit.data.broken import broken_table, read_broken, refuse_broken, write_broken
from gz2vit.data.decoding import JPEG_END as JPEG_END  # the simulator finds it here
from gz2vit.data.decoding import check, decode
from gz2vit.paper import IMAGE_PX

THREADS = 8  # they wait for the disk, and Pillow and file reads release the interpreter's lock
MEND = "mend the data folder and run again"
LEAVE_OUT = f"{MEND}, or leave such galaxies out with --set LEAVE_OUT_BROKEN=true"


def check_images(paths: Iterable[Path], image_px: int = IMAGE_PX) -> None:
    """Check that every file is a whole JPEG of `image_px` x `image_px`, without decoding it.

    Raises one `Gz2vitError` that names the first bad files and counts them. A file whose end
    marker is missing is decoded, to be sure.
    """
    paths = list(paths)
    found = zip(paths, find_faults(paths, image_px), strict=True)
    refuse_broken([(path, fault) for path, fault in found if fault], None, MEND)


def find_faults(
    paths: Sequence[Path], image_px: int = IMAGE_PX, whole: bool = False
) -> list[str | None]:
    """For each file what is wrong with it, or None; decoded in any case with `whole`."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda path: check(path, image_px, whole), paths))


def check_folder(
    folder: DataFolder, results_dir: Path | str | None = None, leave_out_broken: bool = False
) -> str:
    """Check all images of a data folder; a short text that changes when the folder does.

    A results folder remembers, in `logs/checked.json`, what was found in which state
    (`catalog.folder_signature`), so that the road and its notebooks read the images once; only
    those found broken, here or in packing, are looked at again. All broken ones are listed in
    `logs/broken_images.csv`. Raises `Gz2vitError` as `check_images`, unless they shall be left
    out: then the returned text also changes with what is broken.
    """
    signature = folder_signature(folder.path)
    if results_dir is None:
        broken = _look_at_all(folder)
    else:
        past = read_broken(results_dir, folder.path, signature)
        broken = _look_at_all(folder) if past is None else _look_again(past)
        if past is None or len(past):
            write_broken(results_dir, folder.path, signature, broken)
    if not leave_out_broken:
        faults = list(zip(broken.path, broken.fault, strict=True))
        refuse_broken(faults, results_dir, LEAVE_OUT if results_dir is not None else MEND)
    if broken.empty:
        return signature
    ids = "\n".join(sorted(broken.galaxyID))
    return f"{signature}-{hashlib.sha256(ids.encode()).hexdigest()[:16]}"


def _look_at_all(folder: DataFolder) -> pd.DataFrame:
    """The broken images of a folder, each file's header and end looked at."""
    galaxies = [
        (name, split, folder.image_path(name))
        for split, table in folder.tables.items()
        for name in table.galaxyID
    ]
    faults = find_faults([path for _, _, path in galaxies])
    found = zip(galaxies, faults, strict=True)
    return broken_table((*galaxy, fault) for galaxy, fault in found if fault)


def _look_again(past: pd.DataFrame) -> pd.DataFrame:
    """Those of `past` that are still broken: a right or a disk may have been mended meanwhile."""
    faults = find_faults([Path(path) for path in past.path], whole=True)
    return past.assign(fault=faults).dropna(subset="fault")


def read_image(path: Path, crop_px: int | None = None) -> np.ndarray:
    """Decode one image: uint8 (H, W, 3), its central `crop_px` x `crop_px` if given.

    Raises `Gz2vitError` for a file that is missing, truncated or smaller than the crop.
    """
    return np.asarray(decode(path, crop_px))
