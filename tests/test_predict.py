"""Predicting files: training's own numbers, continued to the same bytes, and clear errors."""

import io
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from unittest.mock import DEFAULT, Mock

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from torch import nn

from gz2vit import io as files
from gz2vit import predict as module
from gz2vit import training
from gz2vit.batches import shrink
from gz2vit.cli import main
from gz2vit.evaluation import PROBABILITY_COLUMNS, read_predictions
from gz2vit.images import read_image
from gz2vit.io import Gz2vitError
from gz2vit.paper import CLASS_NAMES
from gz2vit.predict import InferenceOptions, Logits, find_images, predict_images, read_images
from gz2vit.training import load_classifier
from tests.trained_run import SETTINGS, make_results, open_splits

P = list(PROBABILITY_COLUMNS)
OPTIONS = InferenceOptions(crop_px=224)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with a trained model and its predictions; its images are of 424 px."""
    folder = make_results(tmp_path_factory.mktemp("predict"))
    train, valid, test = open_splits(folder)
    network, place = training.build_network(SETTINGS), folder / "models" / "linformer"
    training.train_model(network, SETTINGS, train, valid, place)
    module.evaluate_model(folder, "linformer", test)
    return folder


@pytest.fixture(scope="module")
def model(results: Path) -> Path:
    return results / "models" / "linformer"


@pytest.fixture(scope="module")
def images(results: Path) -> list[str]:
    """The test galaxies' images, in the order of the split."""
    return sorted(map(str, (results / "mine" / "images").glob("test-*.jpg")))


@pytest.fixture(autouse=True)
def parts_of_ten(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "PART_IMAGES", 10)


def read(path: Path) -> pd.DataFrame:
    ids = {"GalaxyID": str}
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=ids)


def predicted(*words: object, **how: object) -> np.ndarray:
    """The probabilities that `predict_images` writes (N, 8)."""
    predict_images(*words, InferenceOptions(**how), overwrite=True)
    return read(words[2])[P].to_numpy()


@pytest.mark.parametrize(("batch_size", "precision", "bound"), [
    (0, "float32", 1e-6), (7, "float32", 1e-6), (7, "auto", 0.01),
])  # fmt: skip
def test_images_get_the_probabilities_of_the_models_predictions(
    model: Path, images: list[str], tmp_path: Path, batch_size: int, precision: str, bound: float
):
    options, tables = InferenceOptions(batch_size=batch_size, precision=precision), []
    known, threads = read_predictions(model / "predictions.csv"), torch.get_num_threads()
    for name in ("out.csv", "out.parquet"):
        assert predict_images(model, images, tmp_path / name, options) == (24, 0)
        tables.append(ours := read(tmp_path / name))
        assert tuple(ours.columns) == module.COLUMNS and ours.path.tolist() == images
        assert ours.GalaxyID.tolist() == known.GalaxyID.tolist()
        assert np.abs(ours[P].to_numpy() - known[P].to_numpy()).max() < bound
        assert ours.pred.tolist() == ours[P].to_numpy().argmax(axis=1).tolist()
        assert ours.class_name.tolist() == [CLASS_NAMES[index] for index in ours.pred]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.parquet"]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    assert torch.get_num_threads() == threads


def test_a_copied_model_keeps_its_crop(model: Path, images: list[str], tmp_path: Path):
    known = read_predictions(model / "predictions.csv")[P].to_numpy()
    alone = shutil.copytree(model, tmp_path / "alone")
    words = (alone / "best.ckpt", images, tmp_path / "out.csv")
    ours, other = (predicted(*words, crop_px=px, precision="float32") for px in (0, 224))
    assert np.abs(ours - known).max() < 1e-6
    assert np.abs(other - known).max() > 1e-3


def test_what_a_training_has_set_does_not_reach_predictions(results: Path, model: Path):
    """Products in TF32 or bfloat16 are fine to learn with; the test galaxies' digits are ours."""
    classifier, test = load_classifier(model), open_splits(results)[2]
    known = module.predict(classifier, test)
    torch.set_float32_matmul_precision("medium")
    try:
        assert module.predict(classifier, test).equals(known)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_half_precision_is_for_transformers_and_costs_little(images: list[str], monkeypatch):
    """A CNN's probabilities would differ by more than a hundredth."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    for key, dtype in (("hf_vit", torch.bfloat16), ("resnet50", torch.float32)):
        settings = asdict(training.TrainingSettings(key))
        classifier = training.GalaxyClassifier(nn.Identity(), settings, [1.0] * 8)
        assert Logits(classifier, torch.device("cpu"), "auto").dtype == dtype
    with pytest.raises(Gz2vitError, match="precision is 'half'"):
        Logits(classifier, torch.device("cpu"), "half")
    pixels, found = pixels_of(images[::3], 224, OPTIONS)[0], {}
    batch, classifier = torch.from_numpy(pixels).permute(0, 3, 1, 2), load_classifier("bundled")
    for name, half in (("auto", True), ("other", False), ("float32", True)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda half=half: half)
        precision = "float32" if name == "float32" else "auto"
        logits = Logits(classifier, torch.device("cpu"), precision)(batch)
        found[name] = module.mean_probabilities(classifier, [logits])
    assert found["float32"].std(axis=0).max() > 0.02
    assert 0 < np.abs(found["auto"] - found["float32"]).max() < 0.01
    assert np.abs(found["other"] - found["float32"]).max() < 1e-5


@pytest.mark.parametrize("name", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_files_are_decoded_in_a_batch(images: list[str], tmp_path: Path, name: str, monkeypatch):
    """Files that the device decodes; those that it cannot, and broken ones, as the CPU has them."""
    Image.open(images[0]).save(tmp_path / "png.png")
    Image.open(images[0]).convert("L").save(tmp_path / "grey.jpg")
    (tmp_path / "cut.jpg").write_bytes(Path(images[0]).read_bytes()[:3000])
    paths = [*images[:3], *map(str, sorted(tmp_path.iterdir()))]
    known, wrong = pixels_of(paths, 224, OPTIONS)
    options = InferenceOptions(crop_px=224, gpu_decode=True)
    for decoder in (Mock(wraps=module.decode_jpeg), Mock(side_effect=RuntimeError("unknown JPEG"))):
        monkeypatch.setattr(module, "decode_jpeg", decoder)
        batch, faults = module._read_batch(paths, 224, torch.device(name), options)
        assert len(decoder.call_args_list[0][0][0]) == 3
        assert tuple(faults) == wrong
        assert np.abs(batch.cpu().permute(0, 2, 3, 1).numpy() - known.astype(float)).mean() < 1.0


def test_averaging_makes_turned_images_alike(model: Path, images: list[str], tmp_path: Path):
    image = Image.open(images[3])
    for turned in (image, *map(image.transpose, Image.Transpose)):  # or mirrored
        turned.save(tmp_path / f"{len(list(tmp_path.iterdir()))}.png")
    how = {"precision": "float32"}
    one_by_one = predicted(model, [tmp_path], tmp_path / "plain.csv", **how)
    averaged = predicted(model, [tmp_path], tmp_path / "mean.csv", average=True, **how)
    assert one_by_one.std(axis=0).max() > 1e-4
    assert averaged.std(axis=0).max() < 1e-6
    assert averaged[0] == pytest.approx(one_by_one.mean(axis=0), abs=1e-6)
    views = list(module.symmetries(torch.arange(12).reshape(1, 3, 2, 2)))
    assert len({tuple(view.flatten().tolist()) for view in views}) == 8


def interrupted(monkeypatch: pytest.MonkeyPatch, run: Callable, after: int) -> None:
    """Run until `after` parts are written, then end it as Ctrl-C does."""
    write = Mock(side_effect=[*[DEFAULT] * after, KeyboardInterrupt], wraps=parquet.write_table)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(parquet, "write_table", write)
        run()


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_an_interrupted_run_continues_to_the_same_bytes(
    model: Path, images: list[str], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    folder = shutil.copytree(Path(images[0]).parent, tmp_path / "sky")
    for number in (5, 15, *range(30, 40), 95):  # a part without any usable image, too
        sorted(folder.iterdir())[number].write_text("broken")
    options = InferenceOptions(batch_size=4)
    assert predict_images(model, [folder], tmp_path / f"whole_{name}", options) == (96, 13)
    run = partial(predict_images, model, [folder], tmp_path / name, options)
    interrupted(monkeypatch, run, after=3)
    (tmp_path / f"{name}.parts" / "notes.txt").write_text("mine")
    interrupted(monkeypatch, run, after=4)
    again = Mock(wraps=module._read_batch)
    monkeypatch.setattr(module, "_read_batch", again)
    assert run() == (96, 13)
    assert sum(len(call.args[0]) for call in again.call_args_list) == 96 - 7 * 10
    for ending in ("", ".broken.csv"):
        ours, whole = tmp_path / f"{name}{ending}", tmp_path / f"whole_{name}{ending}"
        assert ours.read_bytes() == whole.read_bytes()
    assert [path.name for path in (tmp_path / f"{name}.parts").iterdir()] == ["notes.txt"]


def test_the_same_run_alone_continues(model: Path, images: list[str], tmp_path: Path, monkeypatch):
    folder, out = shutil.copytree(Path(images[0]).parent, tmp_path / "sky"), tmp_path / "out.csv"
    run = partial(predict_images, model, [folder], out)
    interrupted(monkeypatch, run, after=9)
    parts = tmp_path / "out.csv.parts"
    with pytest.raises(Gz2vitError, match=r"out.csv.parts .*average.* --restart"):
        run(InferenceOptions(average=True))
    with files.sole_user(parts / "lock", ""), pytest.raises(Gz2vitError, match="another run"):
        run()
    shutil.copy(parts / "part-000001.parquet", parts / "part-000009.parquet")
    with pytest.raises(Gz2vitError, match="100 images instead of 96"):
        run()
    assert not out.exists()
    (folder / "another.jpg").touch()
    with pytest.raises(Gz2vitError, match="images_sha256"):
        run()
    assert run(restart=True) == (97, 1)


def test_broken_images_do_not_stop_a_run(model: Path, images: list[str], tmp_path: Path, capsys):
    broken, small = tmp_path / "broken.jpg", tmp_path / "small.png"
    broken.write_bytes(Path(images[0]).read_bytes()[:3000])
    Image.open(images[1]).resize((212, 212)).save(small)
    words = ["predict", "--model", str(model), "--out", str(tmp_path / "out.csv")]
    words += [str(broken), images[0], str(small)]
    assert main(words) == 0
    assert f"{tmp_path / 'out.csv'}.broken.csv" in capsys.readouterr().out
    assert read(tmp_path / "out.csv").path.tolist() == [images[0]]
    faults = pd.read_csv(tmp_path / "out.csv.broken.csv")
    assert faults.path.tolist() == [str(broken), str(small)]
    assert "212 x 212 px" in faults.fault[1]
    assert main([*words, "--overwrite", "--strict"]) == 1
    assert str(broken) in capsys.readouterr().err.splitlines()[-1]
    assert main([*words, "--overwrite", "--restart", "--resize"]) == 0
    assert read(tmp_path / "out.csv").path.tolist() == [images[0], str(small)]
    with pytest.raises(Gz2vitError, match="none of the first 1 .* --resize"):
        predict_images(model, [small], tmp_path / "none.csv")
    assert not (tmp_path / "none.csv").exists()


def test_the_command_line(model: Path, images: list[str], tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(images[:2])))
    words = ["predict", "-", "--model", f"{model}/best.ckpt", f"--out={tmp_path}/out.parquet"]
    more = ["--average", "--batch-size", "3", "--workers", "2", "--device", "cpu"]
    assert main([*words, *more]) == 0
    assert pd.read_parquet(tmp_path / "out.parquet").path.tolist() == images[:2]
    assert main(words) == 1
    assert "out.parquet exists" in capsys.readouterr().err.splitlines()[-1]


def test_weights_that_give_no_numbers_are_found(model: Path, images: list[str], tmp_path: Path):
    spoilt = shutil.copytree(model, tmp_path / "spoilt")
    state = torch.load(spoilt / "best.ckpt", weights_only=True)
    state["state_dict"]["network.cls_token"].fill_(float("nan"))
    torch.save(state, spoilt / "best.ckpt")
    with pytest.raises(Gz2vitError, match="test-000.jpg"):
        predict_images(spoilt, images, tmp_path / "out.csv")


def test_what_is_missing_or_cannot_be_is_named(model: Path, images: list[str], tmp_path: Path):
    shutil.copy(model / "metrics.json", tmp_path / "best.ckpt")
    (tmp_path / "empty.csv").mkdir()
    (tmp_path / "file.csv").write_text("precious")
    for use, out, what, words in (
        (tmp_path / "nowhere", "out.csv", images, "no best.ckpt in .*nowhere"),
        (tmp_path / "empty.csv", "out.csv", images, "no best.ckpt in .*empty"),
        (tmp_path, "out.csv", images, "is not a checkpoint of this suite"),
        (model, "out.txt", images, "out.txt must be a file that ends in .csv or .parquet"),
        (model, "empty.csv", images, "empty.csv must be a file"),
        (model, "file.csv/out.csv", images, "cannot write .*out.csv.parts"),
        (model, "out.csv", ["none.jpg"], "none.jpg does not exist"),
        (model, "out.csv", [tmp_path / "empty.csv"], "no image .* in .*empty"),
        (model, "out.csv", ["@list.txt"], "@list.txt"),
    ):
        with pytest.raises(Gz2vitError, match=words):
            predict_images(use, what, tmp_path / out)
    assert not list(tmp_path.glob("*.parts"))
    with pytest.raises(Gz2vitError, match="--gpu-decode"):
        use = InferenceOptions(gpu_decode=True, device="cpu")
        predict_images(model, images, tmp_path / "out.csv", use)
    for name in ("abacus", "cuda:99", "meta"):
        with pytest.raises(Gz2vitError, match=f"'{name}'"):
            module.choose_device(name)
    for name, value in (("batch_size", -1), ("workers", -2), ("crop_px", 500)):
        with pytest.raises(Gz2vitError, match=f"{name} (is )?{value}"):
            InferenceOptions(**{name: value})


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def found(*words: Path | str) -> list[str]:
    return list(find_images(map(str, words)))


def test_folders_are_searched_files_first_by_name_and_the_rest_is_counted(tmp_path: Path, capsys):
    touch(tmp_path, "b.JPG", "a.jpeg", "c.png", "z/2.tif", "z/10.webp", "d/e/1.jpg", "notes.txt")
    touch(tmp_path, ".hidden.jpg", ".folder/1.jpg", "folder.jpg/1.png", "d/1.fits", "d/2.FITS")
    os.mkdir(os.fsencode(tmp_path) + b"/d/caf\xe9")
    names = ["a.jpeg", "b.JPG", "c.png", "d/e/1.jpg", "folder.jpg/1.png", "z/10.webp", "z/2.tif"]
    assert found(tmp_path) == [f"{tmp_path}/{name}" for name in names]
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path) in line and "2 .fits, 1 .txt" in line
    # Links that lead nowhere or back are passed over.
    home = touch(tmp_path / "e", "home/1.jpg", "other/2.jpg") / "home"
    for name, target in (("linked", "../other"), ("back", "../home"), ("loop", "loop")):
        (home / name).symlink_to(target)
    assert found(home) == [f"{home}/1.jpg", f"{home}/linked/2.jpg"]


def test_images_and_lists_keep_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    touch(tmp_path, "b.jpg", "a.tif")
    listed = tmp_path / "list.txt"
    listed.write_text("some/2.jpg\r\n\n  \nsome/1.jpg")
    monkeypatch.setattr("sys.stdin", io.StringIO("x.jpg\ny.jpg\n"))
    words = (tmp_path / "b.jpg", f"@{listed}", tmp_path / "a.tif", "-")
    expected = [words[0], "some/2.jpg", "some/1.jpg", words[2], "x.jpg", "y.jpg"]
    assert found(*words) == [str(path) for path in expected]


def test_a_name_that_no_table_can_hold_is_refused(model: Path, tmp_path: Path):
    for number, name in enumerate(("a\nb.jpg", "a\rb.jpg", os.fsdecode(b"\xff.jpg"))):
        folder = touch(tmp_path / str(number), "0.jpg", name)
        with pytest.raises(Gz2vitError, match="rename it"):
            predict_images(model, [folder], tmp_path / "out.csv")


def pixels_of(*words: object) -> tuple[np.ndarray, tuple]:
    pixels, faults = zip(*read_images(*words), strict=True)
    return np.stack(pixels), faults


def test_jpegs_of_all_kinds_and_damages_get_pillows_pixels(images: list[str], tmp_path: Path):
    """A second decoder is only faster: it changes no pixel, and lets no broken file through."""
    image, exif = Image.open(images[0]), Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    kinds = [{"restart_marker_blocks": 5}, {"subsampling": 0}, {"keep_rgb": True}]
    for number, how in enumerate([*kinds, {"progressive": True}, {"exif": exif}]):
        image.save(tmp_path / f"{number}.jpg", **how)
    for mode in ("L", "CMYK"):
        image.convert(mode).save(tmp_path / f"{mode}.jpg")
    rng, known = np.random.default_rng(0), [*map(Path, images[:2]), *tmp_path.iterdir()]
    for path in known[:]:
        whole = path.read_bytes()
        for number, place in enumerate(rng.integers(700, len(whole) - 70, 8)):
            known.append(tmp_path / f"{path.stem}-{number}.jpg")
            marker = bytes([255, rng.choice([0xD9, 0xC4, 0xDA, 0xFE, 0xD0])])
            ends = whole[place:], whole[place + 2 :], b"\xff\xd9", b"\xfe\0\x40\xff\xd9"
            known[-1].write_bytes(whole[:place] + marker * (number < 4) + ends[number % 4])
    for size in (224, 64):
        wrong = 0
        for path in map(str, known):
            batch, faults = module._read_batch([path], size, torch.device("cpu"), OPTIONS)
            pixels, same = pixels_of([path], size, OPTIONS)
            assert np.array_equal(batch.permute(0, 2, 3, 1), pixels) and faults == [*same], path
            wrong += faults != [None]
        assert 0 < wrong < len(known) / 2


def test_pixels_are_those_of_the_image_cache_or_black(images: list[str], tmp_path: Path):
    cut, text, small = (str(tmp_path / f"{name}.jpg") for name in ("cut", "text", "small"))
    Path(cut).write_bytes(Path(images[0]).read_bytes()[:2000])
    Path(text).write_text("no image")
    Image.new("RGB", (300, 424), "white").save(small)
    broken = [cut, text, small, str(tmp_path / "none.jpg")]
    pixels, faults = pixels_of([*images[:3], *broken], 64, OPTIONS)
    cached = np.stack([read_image(Path(path), crop_px=224) for path in images[:3]])
    assert np.array_equal(pixels[:3], shrink(cached, 64)) and not pixels[3:].any()
    assert faults[:3] == (None,) * 3
    assert all(path in fault for path, fault in zip(broken, faults[3:], strict=True))
    whole = pixels_of([images[0], small], 224, InferenceOptions(resize=True, crop_px=224))[0]
    assert np.array_equal(whole[0], cached[0]) and (whole[1] > 250).all()
