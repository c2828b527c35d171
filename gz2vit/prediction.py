"""The command `predict`: its options; the work is done by `training.inference`.

A module of its own, so that the command line's help need not wait for PyTorch.
"""

import argparse
from pathlib import Path


def add_predict(commands: argparse._SubParsersAction) -> None:
    """Add `predict`: a trained network's classes for folders of images."""
    predict = commands.add_parser("predict", help="classify images with a trained model")
    predict.add_argument(
        "images", nargs="+", metavar="IMAGES", help="images, folders, @LIST, or - (standard input)"
    )
    predict.add_argument(
        "--model", type=Path, required=True, metavar="PATH", help="a model's folder or checkpoint"
    )
    predict.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the table: .csv or .parquet"
    )
    flags = {
        "--average": "average over the eight flips and quarter turns",
        "--resize": "take images of any size",
        "--strict": "end at the first broken image",
        "--overwrite": "replace a table that is there",
        "--restart": "drop what an interrupted run has left",
    }
    for name, told in flags.items():
        predict.add_argument(name, action="store_true", help=told)
    predict.add_argument(
        "--crop-px", type=int, default=0, metavar="N", help="central square (the model's own)"
    )
    predict.add_argument("--batch-size", type=int, default=0, metavar="N", help="images at once")
    predict.add_argument("--workers", type=int, default=0, metavar="N", help="decoding threads")
    predict.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps (a GPU if any)")
    predict.set_defaults(command=run_predict)


def run_predict(options: argparse.Namespace) -> None:
    """Predict, and say in one line what came out."""
    from gz2vit.training.inference import InferenceOptions, predict_images

    names = ("average", "resize", "strict", "crop_px", "batch_size", "workers", "device")
    chosen = InferenceOptions(**{name: getattr(options, name) for name in names})
    done = predict_images(
        options.model, options.images, options.out, chosen, options.overwrite, options.restart
    )
    told = f"{options.out}: {done.images - done.broken:,} images"
    if done.broken:
        told += f"; {done.broken:,} broken ones are listed in {options.out}.broken.csv"
    print(told)
