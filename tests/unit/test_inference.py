"""Predicting files: training's own numbers, continued to the same bytes, and clear errors."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from gz2vit import predict as output_parts
from gz2vit.cli import main
from gz2vit.evaluation import PROBABILITY_COLUMNS, read_predictions
from gz2vit.io import Gz2vitError
from gz2vit.paper import CLASS_NAMES
from gz2vit.predict import (
    ImageReader,
    InferenceOptions,
    Predictor,
    choose_device,
    crop_px_of,
    cut,
    evaluate_model,
    load_model,
    predict_images,
    symmetries,
)
from gz2vit.training import train_model
from tests.unit.small_training import SETTINGS, make_results, open_splits

P = list(PROBABILITY_COLUMNS)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with a trained model and its predictions; its images are of 424 px."""
    folder = make_results(tmp_path_factory.mktemp("road"))
    train, valid, test = open_splits(folder)
    train_model(SETTINGS, train, valid, folder / "models" / "linformer")
    evaluate_model(folder, "linformer", test)
    return folder


@pytest.fixture(scope="module")
def model(results: Path) -> Path:
    return results / "models" / "linformer"


@pytest.fixture(scope="module")
def images(results: Path) -> list[str]:
    """The test galaxies' images, in the order of the split."""
    return sorted(map(str, (results / "mine" / "images").glob("test-*.jpg")))


@pytest.fixture
def parts_of_ten(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(output_parts, "PART_IMAGES", 10)


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"GalaxyID": str})


@pytest.mark.parametrize("batch_size", [0, 7])
@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_images_get_the_probabilities_of_the_models_predictions(
    model: Path, images: list[str], tmp_path: Path, name: str, batch_size: int, parts_of_ten: None
):
    options = InferenceOptions(batch_size=batch_size)
    done = predict_images(model, images, tmp_path / name, options)
    ours = pd.read_parquet(tmp_path / name) if name.endswith("t") else read(tmp_path / name)
    known = read_predictions(model / "predictions.csv")
    assert done == (24, 0)
    assert ours.path.tolist() == images
    assert ours.GalaxyID.tolist() == known.GalaxyID.tolist()
    assert ours.pred.tolist() == known.pred.tolist()
    assert np.abs(ours[P].to_numpy() - known[P].to_numpy()).max() < 1e-6
    assert ours.class_name.tolist() == [CLASS_NAMES[index] for index in ours.pred]


def test_a_model_knows_its_crop_from_its_store_or_is_told(
    model: Path, images: list[str], tmp_path: Path
):
    known = read_predictions(model / "predictions.csv")[P].to_numpy()
    alone = tmp_path / "alone"
    shutil.copytree(model, alone)
    assert (crop_px_of(model), crop_px_of(model / "best.ckpt"), crop_px_of(alone)) == (64, 64, 224)
    off = []
    for number, options in enumerate((InferenceOptions(), InferenceOptions(crop_px=64))):
        predict_images(alone, images, tmp_path / f"{number}.csv", options)
        off.append(np.abs(read(tmp_path / f"{number}.csv")[P].to_numpy() - known).max())
    assert off[0] > 1e-3
    assert off[1] < 1e-6


def test_averaging_makes_turned_and_mirrored_images_alike(
    model: Path, images: list[str], tmp_path: Path
):
    image = Image.open(images[3])
    for number in range(8):
        turned = image.rotate(90 * (number % 4))
        turned = turned.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if number > 3 else turned
        turned.save(tmp_path / f"{number}.png")
    plain, mean = tmp_path / "plain.csv", tmp_path / "mean.csv"
    predict_images(model, [tmp_path], plain)
    predict_images(model, [tmp_path], mean, InferenceOptions(average=True))
    one_by_one, averaged = read(plain)[P].to_numpy(), read(mean)[P].to_numpy()
    assert one_by_one.std(axis=0).max() > 1e-4
    assert averaged.std(axis=0).max() < 1e-6
    assert averaged[0] == pytest.approx(one_by_one.mean(axis=0), abs=1e-6)


def test_there_are_eight_symmetries():
    views = list(symmetries(torch.arange(12).reshape(1, 3, 2, 2)))
    assert len({tuple(view.flatten().tolist()) for view in views}) == 8


def interrupted(monkeypatch: pytest.MonkeyPatch, run: Callable, after: int) -> None:
    """Run until `after` parts are written, then end it as Ctrl-C does."""
    write = output_parts.OutputParts.write

    def stop(parts: output_parts.OutputParts, number: int, *tables: pd.DataFrame) -> None:
        if number == after:
            raise KeyboardInterrupt
        write(parts, number, *tables)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(output_parts.OutputParts, "write", stop)
        run()


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_an_interrupted_run_continues_to_the_same_bytes(
    model: Path, images: list[str], tmp_path: Path, name: str, parts_of_ten: None,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    folder = tmp_path / "sky"
    shutil.copytree(Path(images[0]).parent, folder)
    for number in (5, 15, 95):
        sorted(folder.iterdir())[number].write_text("broken")
    options = InferenceOptions(batch_size=4)
    assert predict_images(model, [folder], tmp_path / f"whole_{name}", options) == (96, 3)

    def run() -> tuple[int, int]:
        return predict_images(model, [folder], tmp_path / name, options)

    interrupted(monkeypatch, run, after=3)
    interrupted(monkeypatch, run, after=7)
    read_again, read_images = [], ImageReader.read
    monkeypatch.setattr(
        ImageReader,
        "read",
        lambda self, paths: read_images(self, read_again.append(paths) or paths),
    )
    assert run() == (96, 3)
    assert sum(map(len, read_again)) == 96 - 7 * 10
    for ending in ("", ".broken.csv"):
        ours, whole = tmp_path / f"{name}{ending}", tmp_path / f"whole_{name}{ending}"
        assert ours.read_bytes() == whole.read_bytes()
    assert not (tmp_path / f"{name}.parts").exists()


def test_a_folder_that_has_changed_is_not_continued(
    model: Path, images: list[str], tmp_path: Path, parts_of_ten: None,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    folder, out = tmp_path / "sky", tmp_path / "out.csv"
    shutil.copytree(Path(images[0]).parent, folder)
    interrupted(monkeypatch, lambda: predict_images(model, [folder], out), after=1)
    (folder / "another.jpg").touch()
    with pytest.raises(Gz2vitError, match=r"\(images, images_sha256 differ\); give --restart"):
        predict_images(model, [folder], out)
    assert predict_images(model, [folder], out, restart=True) == (97, 1)


def test_broken_images_do_not_stop_a_run(
    model: Path, images: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
):
    broken, small = tmp_path / "broken.jpg", tmp_path / "small.png"
    broken.write_bytes(Path(images[0]).read_bytes()[:3000])
    Image.open(images[1]).resize((212, 212)).save(small)
    words = ["predict", "--model", str(model), "--out", str(tmp_path / "out.csv")]
    words += [str(broken), images[0], str(small)]
    assert main(words) == 0
    told = capsys.readouterr().out
    where = tmp_path / "out.csv.broken.csv"
    assert told == f"{tmp_path / 'out.csv'}: 1 images; 2 broken ones are listed in {where}\n"
    assert read(tmp_path / "out.csv").path.tolist() == [images[0]]
    faults = read(where)
    assert faults.path.tolist() == [str(broken), str(small)]
    assert "212 x 212 px instead of 424 x 424" in faults.fault[1]
    assert main([*words, "--overwrite", "--strict"]) == 1
    assert "mend or remove it" in capsys.readouterr().err.splitlines()[-1]
    assert main([*words, "--overwrite", "--restart", "--resize"]) == 0
    assert read(tmp_path / "out.csv").path.tolist() == [images[0], str(small)]


def test_a_run_of_broken_images_alone_ends_with_the_first(
    model: Path, images: list[str], tmp_path: Path
):
    for number in range(3):
        Image.open(images[number]).resize((300, 300)).save(tmp_path / f"{number}.png")
    told = r"0.png is 300 x 300 px .* none of the first 3 images can be used; .* need --resize"
    with pytest.raises(Gz2vitError, match=told):
        predict_images(model, [tmp_path], tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_the_command_line_knows_everything(
    model: Path, images: list[str], tmp_path: Path, capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(images[:2])))
    out = tmp_path / "out.parquet"
    words = ["predict", "-", "--model", str(model / "best.ckpt"), "--out", str(out)]
    more = ["--average", "--batch-size", "3", "--workers", "2", "--device", "cpu"]
    assert main([*words, *more]) == 0
    assert pd.read_parquet(out).path.tolist() == images[:2]
    assert main(words) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {out} exists already")


def test_weights_that_give_no_numbers_are_found(model: Path, images: list[str]):
    classifier = load_model(model)
    with torch.no_grad():
        next(classifier.network.parameters()).fill_(float("nan"))
    predictor = Predictor(classifier, ImageReader(32), batch_size=2)
    with pytest.raises(Gz2vitError, match="no numbers for image .*test-000.jpg; its weights"):
        list(predictor.predict(iter(images), 10))


def test_batches_end_with_their_part():
    sizes = [len(batch) for batch in cut(map(str, range(25)), part_images=10, batch_size=4)]
    assert sizes == [4, 4, 2, 4, 4, 2, 4, 1]


def test_what_is_not_there_is_named(model: Path, tmp_path: Path):
    with pytest.raises(Gz2vitError, match="nowhere does not exist; --model takes a trained"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(Gz2vitError, match=f"{tmp_path}/best.ckpt does not exist"):
        load_model(tmp_path)
    shutil.copy(model / "metrics.json", tmp_path / "best.ckpt")
    with pytest.raises(Gz2vitError, match="is not a checkpoint of this suite"):
        load_model(tmp_path / "best.ckpt")
    for name in ("abacus", "cuda:99", "meta"):
        with pytest.raises(Gz2vitError, match=f"no device '{name}'"):
            choose_device(name)
    for name, value in (("batch_size", -1), ("workers", -2), ("crop_px", 500)):
        with pytest.raises(Gz2vitError, match=f"{name} (is )?{value}"):
            InferenceOptions(**{name: value})
