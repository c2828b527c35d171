"""gz2vit: "Galaxy Morphological Classification with Efficient Vision Transformer", reproduced.

The package holds everything that the notebooks share; imports point downwards only:

0. `pipeline`, `execution`: the road, and one step of it (`run_all.sh`, the `Snakefile`)
1. `training`, `figures`, `report`
2. `data`, `evaluation`, `simulation`
3. `models`
4. `selection`, `catalog`, `class_weights`, `galaxy_zoo`, `downloads`, `results`, `profiles`,
   `sources`, `paper`, `errors`

`python -m gz2vit --help` is its command line.
"""

__version__ = "0.1.0"
