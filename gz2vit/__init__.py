"""gz2vit: "Galaxy Morphological Classification with Efficient Vision Transformer", reproduced.

What the notebooks share, one module per subject; imports point downwards. `cli` and `workflow` run
the notebooks as steps; `predict` and `training` train and test networks of `models` on `batches` of
`images`; `catalog`, `votes` and `download` are the galaxies and where they come from; `evaluation`,
`comparisons`, `calibration` and `evidence` are the statistics; `attention`, `attention_maps`,
`attention_checks`, `features` and `explorer` look into networks; `plots`, `results_table` and
`report` show the results; `sim2real` compares real galaxies with those of `gz2sim`. Published
numbers are in `paper`, safe files in `io`.
"""

__version__ = "0.1.0"
