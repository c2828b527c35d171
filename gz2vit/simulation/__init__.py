"""A simulated Galaxy Zoo 2: eight classes of galaxies through the optics and noise of SDSS.

The one entry is `simulate`, which writes a data folder (images, label tables, properties). The
modules, from truth to file:

- `population`: which classes, splits, magnitudes, sizes and colours the galaxies have;
- `canvas`: the grid of SDSS pixels on which light is laid through the seeing (uses GalSim);
- `structures`: what has no closed form: spiral arms, bars, clumps, tidal tails;
- `profiles`: which of `spheroids`, `edge_on`, `disks`, `disturbed`, `mergers` draws which class;
- `photometry`: Petrosian flux and radius, measured as SDSS measures them;
- `neighbours`: other stars and galaxies in the field;
- `artifacts`: what spoils an exposure, from glare to satellite trails;
- `survey`: noise, the colour composite, the cutout and its JPEG;
- `folder`: the data folder: processes, resuming, tables.
"""

from gz2vit.simulation.folder import simulate

__all__ = ["simulate"]
