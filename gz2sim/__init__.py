"""A simulated Galaxy Zoo 2, drawn with GalSim."""
