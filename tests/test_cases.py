"""Situations of real users, each with the outcome that is right (../shared/cases has the files).

What needs a whole run (stray file, forgotten option, failing successor, late kill, moved results,
terminal, Snakemake profile) is in test_run_all.py and test_failing_runs.py, the shell's part in
test_environment.py.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from gz2vit.catalog import read_data_folder, read_properties
from gz2vit.cli import main
from tests.folders import make_folder, needs_shared
from tests.run_all import ROOT, error_line, run_all

PROBABILITIES = [f"p{index}" for index in range(8)]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A data folder to be changed."""
    return make_folder(tmp_path / "D", per_class=3)


def predict(run: Path, *images: Path, out: Path) -> tuple[int, pd.DataFrame]:
    """Exit code and table of `gz2vit predict` with the Linformer of a run, or of any copy."""
    words = ["predict", *map(str, images), "--model", str(run / "models" / "linformer")]
    code = main([*words, "--out", str(out), "--overwrite"])
    return code, pd.read_csv(out) if out.exists() else pd.DataFrame()


def test_fits_is_refused_by_name_and_other_formats_are_counted(trained_run, tmp_path, capsys):
    fits = [needs_shared(f"cases/fits/{name}") for name in ("g.fits", "gi.fits")]
    code, table = predict(trained_run, *fits, out=tmp_path / "t.csv")
    broken, said = tmp_path / "t.csv.broken.csv", "".join(capsys.readouterr())
    said += broken.read_text() if broken.exists() else ""
    assert "g.fits" in said and "FITS" in said
    assert code == 1 or table.empty
    folder = tmp_path / "mixed"
    folder.mkdir()
    shutil.copy(needs_shared("cases/exif/plain.jpg"), folder / "a.JPG")
    shutil.copy(needs_shared("cases/images_16_bit/g8.png"), folder / "b.png")
    for name in ("c.fits", "d.fits", "notes.txt"):
        (folder / name).write_text("x")
    assert len(predict(trained_run, folder, out=tmp_path / "u.csv")[1]) == 2
    assert "2 .fits" in "".join(capsys.readouterr())


def test_a_copied_model_keeps_its_crop(trained_run: Path, own: Path, tmp_path: Path):
    """It is of 64 px, not the paper's."""
    image, copy = own / "images" / "train-001.jpg", tmp_path / "elsewhere"
    shutil.copytree(trained_run / "models" / "linformer", copy / "models" / "linformer")
    before, after = (predict(run, image, out=tmp_path / "t.csv")[1] for run in (trained_run, copy))
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
    table = read_properties(needs_shared("cases/trailing_comma/galaxy_properties.csv"))
    assert table.petroR90_r.iloc[0] == pytest.approx(7.4122)


def test_galaxies_called_na_and_null_and_a_last_batch_of_one(own: Path, tmp_path: Path):
    """58 galaxies in batches of 19: batch normalisation cannot do with one."""
    image = own / "images" / "train-001.jpg"
    for split in ("train", "valid", "test"):
        lines = needs_shared(f"cases/ids_na/gz2_{split}.csv").read_text().splitlines()
        (own / f"gz2_{split}.csv").write_text("\n".join(lines[:59]) + "\n")
        for name in (line.partition(",")[0] for line in lines[1:59]):
            shutil.copy(image, own / "images" / f"{name}.jpg")
    words = ("smoke", "--data", own, "--results", tmp_path / "out", "--only", "resnet50")
    outcome = run_all(*words, "--set", "resnet50.BATCH_SIZE=19", "resnet50.MAX_EPOCH=1")
    assert outcome.returncode == 0, outcome.stderr
    path = tmp_path / "out" / "models" / "resnet50" / "predictions.csv"
    assert {"NA", "null"} <= set(pd.read_csv(path, keep_default_na=False).GalaxyID)


def test_spoiled_ids(tmp_path: Path, capsys):
    folder = needs_shared("cases/spoiled_ids/v.csv").parent

    def derive(name: str) -> tuple[int, str]:
        words = ["derive-labels", str(folder / name), "--mapping", str(folder / "m.csv")]
        code = main([*words, "--to", str(tmp_path / name)])
        return code, capsys.readouterr().err

    assert derive("v.csv")[0] == derive("v_float.csv")[0] == 0
    for table in (f"gz2_{split}.csv" for split in ("train", "valid", "test")):
        whole = (tmp_path / "v.csv" / table).read_text()
        assert (tmp_path / "v_float.csv" / table).read_text() == whole
    code, line = derive("v_excel.csv")
    assert code == 1 and "5.87720E+17" in line


def test_no_locks_no_home_no_name(own: Path, tmp_path: Path):
    """A container: an unknown user, a HOME that cannot be written, foreign packages on the path."""
    no_flock = needs_shared("cases/no_flock/sitecustomize.py").parent
    numpy = needs_shared("cases/foreign_numpy")
    words = ("smoke", "--data", own, "--results", tmp_path / "out", "--only", "select")
    environment = {"HOME": "/proc", "PYTHONPATH": f"{no_flock}:{numpy}"}
    environment["SNAKEMAKE_PROFILE"] = str(needs_shared("cases/snakemake_profile"))
    outcome = run_all(*words, **environment)
    assert outcome.returncode == 0, outcome.stderr
    assert (tmp_path / "out" / "selection" / "gz2_train.csv").exists()
    patch = (no_flock / "sitecustomize.py").read_text()
    code = f"{patch}\nimport sys\nfrom gz2vit.cli import main\nmain(sys.argv[1:])"
    command = [sys.executable, "-c", code, "run", *map(str, words)]
    outcome = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert "nothing to do" in outcome.stdout, outcome.stderr
    assert "without locks" in outcome.stderr


def test_results_that_are_a_file(own: Path, tmp_path: Path):
    (tmp_path / "a.md").write_text("x")
    assert "a.md" in error_line(run_all("smoke", "--data", own, "--results", tmp_path / "a.md"))
