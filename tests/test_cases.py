"""Situations of real users, each with the outcome that is right (../shared/cases has the files).

What needs a whole run (stray file, forgotten option, failing successor, late kill, moved results,
terminal, Snakemake profile) is in test_run_all.py, the shell's part in test_environment.py.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gz2sim.folder import simulate
from gz2vit.catalog import read_data_folder, read_properties
from gz2vit.cli import main
from tests.folders import needs_shared
from tests.run_all import ROOT, error_line, run_all

PROBABILITIES = [f"p{index}" for index in range(8)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases") / "D"
    simulate(folder, 120, seed=0, processes=1)
    return folder


@pytest.fixture(scope="module")
def model(data: Path) -> Path:
    """The Linformer of a smoke run on `data`, on a file system without locks."""
    results = data.parent / "out"
    words = ("smoke", "--data", data, "--results", results, "--only", "linformer")
    outcome = run_all(*words)
    assert outcome.returncode == 0, outcome.stderr
    return results / "models" / "linformer"


@pytest.fixture
def own(data: Path, tmp_path: Path) -> Path:
    """A copy of `data` to be changed."""
    return shutil.copytree(data, tmp_path / "D")


def predicted(model: Path, *images: Path, out: Path) -> pd.DataFrame:
    words = ["predict", *map(str, images), "--model", str(model), "--out", str(out), "--overwrite"]
    assert main(words) == 0
    return pd.read_csv(out)


def test_the_same_picture_in_16_bits_and_turned_by_exif(model: Path, tmp_path: Path):
    for folder, names in (
        ("images_16_bit", ("g8.png", "g16.png")),
        ("exif", ("plain.jpg", "exif6.jpg")),
    ):
        pair = [needs_shared(f"cases/{folder}/{name}") for name in names]
        table = predicted(model, *pair, out=tmp_path / "t.csv")[PROBABILITIES].to_numpy()
        assert np.abs(table[0] - table[1]).max() < 0.02


def test_fits_is_refused_by_name_and_other_formats_are_counted(model: Path, tmp_path: Path, capsys):
    fits = [needs_shared(f"cases/fits/{name}") for name in ("g.fits", "gi.fits")]
    words = ["predict", *map(str, fits), "--model", str(model), "--out", str(tmp_path / "t.csv")]
    code, output = main(words), capsys.readouterr()
    broken = tmp_path / "t.csv.broken.csv"
    said = output.err + output.out + (broken.read_text() if broken.exists() else "")
    assert "g.fits" in said
    assert "FITS" in said
    assert code == 1 or len(pd.read_csv(tmp_path / "t.csv")) == 0
    folder = tmp_path / "mixed"
    folder.mkdir()
    shutil.copy(needs_shared("cases/exif/plain.jpg"), folder / "a.JPG")
    shutil.copy(needs_shared("cases/images_16_bit/g8.png"), folder / "b.png")
    for name in ("c.fits", "d.fits", "notes.txt"):
        (folder / name).write_text("x")
    table = predicted(model, folder, out=tmp_path / "u.csv")
    assert len(table) == 2
    said = capsys.readouterr()
    assert "2 .fits" in said.out + said.err


def test_a_copied_model_keeps_its_crop(model: Path, data: Path, tmp_path: Path):
    image = next((data / "images").glob("*.jpg"))
    before = predicted(model, image, out=tmp_path / "a.csv")
    shutil.copytree(model, tmp_path / "elsewhere" / "M")
    after = predicted(tmp_path / "elsewhere" / "M", image, out=tmp_path / "b.csv")
    assert before[PROBABILITIES].equals(after[PROBABILITIES])


def test_upper_case_and_other_endings_are_read(own: Path):
    images = sorted((own / "images").glob("*.jpg"))
    images[0].rename(images[0].with_suffix(".JPG"))
    images[1].rename(images[1].with_suffix(".jpeg"))
    Image.open(images[2]).save(images[2].with_suffix(".png"))
    images[2].unlink()
    (own / "images" / ".DS_Store").write_text("x")
    Path(os.fsdecode(bytes(own / "images") + b"/caf\xe9.txt")).touch()  # a name not in UTF-8
    (own / "images" / "loop").symlink_to(own / "images")
    assert main(["check", str(own)]) == 0


OTHERS = ["trailing_comma/gz2_train", *(f"other_writers/{letter}" for letter in "abc")]


@pytest.mark.parametrize("name", OTHERS)
def test_tables_of_other_writers_are_read_right(own: Path, name: str):
    shutil.copy(needs_shared(f"cases/{name}.csv"), own / "gz2_train.csv")
    table = read_data_folder(own).tables["train"]
    assert (table.galaxyID.iloc[0], int(table.label1.iloc[0])) == ("1", 5)


def test_properties_with_a_trailing_comma_are_read_right():
    table = read_properties(needs_shared("cases/trailing_comma/galaxy_properties.csv"))
    assert table.petroR90_r.iloc[0] == pytest.approx(7.4122)


def test_galaxies_called_na_and_null(own: Path, tmp_path: Path):
    for split in ("train", "valid", "test"):
        shutil.copy(needs_shared(f"cases/ids_na/gz2_{split}.csv"), own / f"gz2_{split}.csv")
    images = sorted((own / "images").glob("*.jpg"))
    for image, name in zip(images, ("NA", "null"), strict=False):
        shutil.copy(image, own / "images" / f"{name}.jpg")
    words = ("smoke", "--data", own, "--results", tmp_path / "out", "--only", "linformer")
    outcome = run_all(*words)
    assert outcome.returncode == 0, outcome.stderr
    table = pd.read_csv(
        tmp_path / "out" / "models" / "linformer" / "predictions.csv",
        keep_default_na=False, dtype={"GalaxyID": str},
    )  # fmt: skip
    assert {"NA", "null"} <= set(table.GalaxyID)


def test_spoiled_ids(tmp_path: Path, capsys):
    folder = needs_shared("cases/spoiled_ids/v.csv").parent

    def derive(name: str) -> tuple[int, str]:
        words = ["derive-labels", str(folder / name), "--mapping", str(folder / "m.csv")]
        code = main([*words, "--to", str(tmp_path / name)])
        return code, capsys.readouterr().err

    assert derive("v.csv")[0] == 0
    assert derive("v_float.csv")[0] == 0
    for table in (f"gz2_{split}.csv" for split in ("train", "valid", "test")):
        whole = (tmp_path / "v.csv" / table).read_text()
        assert (tmp_path / "v_float.csv" / table).read_text() == whole
    code, line = derive("v_excel.csv")
    assert code == 1
    assert "5.87720E+17" in line


def test_the_last_batch_may_be_one_galaxy(own: Path, tmp_path: Path):
    """58 galaxies in batches of 19: batch normalisation cannot do with one."""
    lines = (own / "gz2_train.csv").read_text().splitlines()
    (own / "gz2_train.csv").write_text("\n".join(lines[:59]) + "\n")
    words = ("smoke", "--data", own, "--results", tmp_path / "out", "--only", "resnet50")
    outcome = run_all(*words, "--set", "resnet50.BATCH_SIZE=19")
    assert outcome.returncode == 0, outcome.stderr


def test_no_locks_no_home_no_name(data: Path, tmp_path: Path):
    """A container: an unknown user, a HOME that cannot be written, foreign packages on the path."""
    no_flock = needs_shared("cases/no_flock/sitecustomize.py").parent
    numpy = needs_shared("cases/foreign_numpy")
    words = ("smoke", "--data", data, "--results", tmp_path / "out", "--only", "select")
    environment = {
        "HOME": "/proc",
        "PYTHONPATH": f"{no_flock}:{numpy}",
        "SNAKEMAKE_PROFILE": str(needs_shared("cases/snakemake_profile")),
    }
    outcome = run_all(*words, **environment)
    assert outcome.returncode == 0, outcome.stderr
    assert (tmp_path / "out" / "selection" / "gz2_train.csv").exists()
    patch = (no_flock / "sitecustomize.py").read_text()
    code = f"{patch}\nimport sys\nfrom gz2vit.cli import main\nmain(sys.argv[1:])"
    outcome = subprocess.run(
        [sys.executable, "-c", code, "run", *map(str, words)],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert "nothing to do" in outcome.stdout, outcome.stderr
    assert "without locks" in outcome.stderr


def test_paths_that_do_not_fit(data: Path, tmp_path: Path):
    (tmp_path / "a.md").write_text("x")
    assert "a.md" in error_line(run_all("smoke", "--data", data, "--results", tmp_path / "a.md"))
    line = error_line(
        run_all("smoke", "--set", "vit.WEIGHTS=~/no_such.ckpt", "--results", tmp_path / "o")
    )
    assert "no_such.ckpt" in line
    assert "~" not in line.split("there is no file")[1]
