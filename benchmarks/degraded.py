"""Does the same network do worse where the same simulated galaxies are blurred and noisy?

    python benchmarks/degraded.py --model DIR_OR_CKPT [--galaxies N] [--processes P]

The galaxies are simulated as they are, and again with one thing changed: the seeing, the noise,
their magnitude, their size. All else is the same, down to the last star in the field. The network
is one that has learnt from other simulated galaxies. Exit status 1 if it does not do worse each
time by more than McNemar's test (exact, one-sided) gives to chance at 0.01.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from scipy.stats import binomtest

from gz2vit.data import LabelledImages, pack_images
from gz2vit.paper import CROP_PX
from gz2vit.simulation.exposure import expose
from gz2vit.simulation.population import Galaxy, assign_classes
from gz2vit.simulation.survey import Night
from gz2vit.training.classifier import load_classifier
from gz2vit.training.predict import predict

SEED = 77  # of galaxies that no profile simulates


@dataclass(frozen=True)
class Worse:
    """How much worse: a factor on the seeing's width, on the noise and on R90; magnitudes."""

    seeing: float = 1.0
    noise: float = 1.0
    size: float = 1.0
    fainter_mag: float = 0.0

    def __call__(self, galaxy: Galaxy, night: Night) -> tuple[Galaxy, Night]:
        """The galaxy and the night after the change."""
        galaxy = replace(
            galaxy,
            r_mag=galaxy.r_mag + self.fainter_mag,
            r90_arcsec=galaxy.r90_arcsec * self.size,
        )
        noise = tuple(self.noise * value for value in night.noise_nmgy)
        night = replace(night, fwhm_arcsec=night.fwhm_arcsec * self.seeing, noise_nmgy=noise)
        return galaxy, night


WAYS = {
    "as they are": Worse(),
    "seeing twice as wide": Worse(seeing=2.0),
    "noise 3 times as strong": Worse(noise=3.0),
    "1.5 mag fainter": Worse(fainter_mag=1.5),
    "0.6 times the size": Worse(size=0.6),
    # 5 log10(1 / 0.6) mag fainter, so that the surface brightness stays.
    "0.6 times the size, as bright per area": Worse(size=0.6, fainter_mag=1.11),
}


def write_image(folder: Path, change: Worse, galaxy: tuple[int, int]) -> Path:
    """Simulate galaxy (number, class) into `folder`, without loss, and return its file."""
    number, class_index = galaxy
    image, _ = expose(number, class_index, SEED, change)
    path = folder / f"{number}.png"
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return path


def simulate_way(
    folder: Path, change: Worse, classes: np.ndarray, processes: int | None
) -> LabelledImages:
    """All galaxies with one change."""
    folder.mkdir()
    numbered = [(number, int(index)) for number, index in enumerate(classes, start=1)]
    with ProcessPoolExecutor(processes) as pool:
        paths = list(pool.map(partial(write_image, folder, change), numbered, chunksize=16))
    ids = [path.stem for path in paths]
    store = pack_images(paths, ids, folder / "store.npy", CROP_PX, "simulated")
    return LabelledImages("test", store, classes)


def main() -> None:
    """Simulate, predict, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--galaxies", type=int, default=600)
    parser.add_argument("--processes", type=int, default=None)
    options = parser.parse_args()
    classifier = load_classifier(options.model)
    classes, _ = assign_classes(options.galaxies, SEED)
    right: dict[str, np.ndarray] = {}
    failed = False
    with TemporaryDirectory() as scratch:
        for number, (name, change) in enumerate(WAYS.items()):
            folder = Path(scratch) / str(number)
            answers = predict(classifier, simulate_way(folder, change, classes, options.processes))
            right[name] = (answers["class"] == answers["pred"]).to_numpy()
            first = right["as they are"]
            lost, gained = int((first & ~right[name]).sum()), int((~first & right[name]).sum())
            line = f"{name:40} {100 * right[name].mean():5.1f} %"
            if number:
                p = binomtest(lost, max(lost + gained, 1), alternative="greater").pvalue
                failed |= p > 0.01
                line += f"   {lost} lost, {gained} gained, p = {p:.1g}"
            print(line, flush=True)
    raise SystemExit(int(failed))


if __name__ == "__main__":
    main()
