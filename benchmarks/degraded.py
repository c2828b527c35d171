"""Does the same network do worse where the same simulated galaxies are blurred and noisy?

    python benchmarks/degraded.py --model DIR_OR_CKPT [--galaxies N] [--processes P]

The galaxies are simulated as they are, and again with one thing changed: the seeing, the noise,
their magnitude, their size. All else comes from the same random numbers; only where the measured
R90 changes is the cutout another, with other neighbours. The network is one that has learnt from
other simulated galaxies. Exit status 1 if it does not do worse each time (McNemar's test, 0.01).
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from gz2sim.folder import make_images
from gz2sim.population import Galaxy, assign_classes
from gz2sim.survey import Night
from gz2vit.comparisons import compare_right
from gz2vit.images import LabelledImages, pack_images
from gz2vit.paper import CROP_PX
from gz2vit.predict import predict
from gz2vit.training import load_classifier

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


def simulate_way(
    folder: Path, change: Worse, classes: np.ndarray, processes: int | None
) -> LabelledImages:
    """All galaxies with one change, as the JPEG files that the simulation makes."""
    folder.mkdir()
    ids = [str(number) for number in make_images(folder, classes, SEED, processes, change)]
    paths = [folder / f"{name}.jpg" for name in ids]
    cache = pack_images(paths, ids, folder / "store", CROP_PX)
    return LabelledImages("test", cache, classes)


def main() -> None:
    """Simulate, predict, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--galaxies", type=int, default=600)
    parser.add_argument("--processes", type=int, default=None)
    options = parser.parse_args()
    classifier = load_classifier(options.model)
    classes, _ = assign_classes(options.galaxies, SEED)
    first, failed = None, False
    with TemporaryDirectory() as scratch:
        for number, (name, change) in enumerate(WAYS.items()):
            folder = Path(scratch) / str(number)
            answers = predict(classifier, simulate_way(folder, change, classes, options.processes))
            right = (answers["class"] == answers["pred"]).to_numpy()
            first = right if first is None else first
            found = compare_right(first, right)
            failed |= number > 0 and not (found["low"] > 0 and found["p_value"] < 0.01)
            changes = f"{found['only_first']} lost, {found['only_second']} gained"
            accuracy = f"{100 * right.mean():5.1f} %"
            print(f"{name:40} {accuracy}   {changes}, p = {found['p_value']:.1g}", flush=True)
    raise SystemExit(int(failed))


if __name__ == "__main__":
    main()
