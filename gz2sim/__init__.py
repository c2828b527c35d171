"""A simulated Galaxy Zoo 2, drawn with GalSim: every class from its physics, seen by SDSS."""


class SimulationError(ValueError):
    """One sentence for the user: an argument out of range, or a folder that cannot be used."""
