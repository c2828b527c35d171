"""gz2vit: "Galaxy Morphological Classification with Efficient Vision Transformer", reproduced.

The package holds everything that the notebooks share; imports point downwards only:

1. `training`, `figures`, `report`
2. `data`, `evaluation`, `simulation`
3. `models`
4. `catalog`, `results`, `profiles`, `paper`, `errors`

`python -m gz2vit --help` is its command line.
"""

__version__ = "0.1.0"
