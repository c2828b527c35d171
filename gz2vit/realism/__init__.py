"""How far simulated galaxies are from real ones: measured, compared, told apart by a classifier.

- `names`: the two sides and the features, as tables and figures call them;
- `sides`: the real and the simulated galaxies of a run, matched by class;
- `features`: what is measured of a picture (the only user of photutils);
- `distances`: two-sample distances of each feature, by class, with intervals;
- `discrimination`: a classifier that tells the two kinds apart, and what gives them away;
- `transfer`: what networks that learnt from simulated galaxies reach on real ones, as a table.
"""
