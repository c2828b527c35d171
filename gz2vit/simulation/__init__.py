"""A simulated Galaxy Zoo 2: eight classes of galaxies through the optics and noise of SDSS.

The one entry is `simulate`, which writes a data folder (images, label tables, properties). The
modules, from truth to file:

- `population`: which classes, splits, magnitudes, sizes and colours the galaxies have;
- `canvas`: the grid of SDSS pixels on which light is laid through the seeing (uses GalSim);
- `structures`: what has no closed form: spiral arms, bars, clumps, tidal tails;
- `profiles`: the components of each of the eight classes;
- `photometry`: Petrosian flux and radius, measured as SDSS measures them;
- `survey`: neighbours, noise, the colour composite, the cutout and its JPEG;
- `folder`: the data folder: processes, resuming, tables.
"""

from gz2vit.simulation.folder import simulate

__all__ = ["simulate"]
