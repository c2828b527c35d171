"""Files from elsewhere: Galaxy Zoo 2 (`galaxy_zoo`) and pretrained weights (`weights`).

Everything is fetched once, verified before it is used, and never replaced in silence. Nothing is
imported here: whoever wants data files should not wait for torch, and a change in the download of
data should not make a training stale.
"""
