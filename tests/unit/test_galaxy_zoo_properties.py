"""Sizes and magnitudes: joined by object id, unknown ones counted and left empty."""

from pathlib import Path

import pandas as pd
import pytest

from gz2vit.catalog import read_properties
from gz2vit.io import Gz2vitError
from gz2vit.votes import EXTINCTION_G_OVER_R, read_sample, write_properties

MAP = "objid,sample,asset_id\n587722981736120347,original,1\n587722981736579107,original,2\n"
HEADER = "OBJID,PETROR50_R,PETROR90_R,PETROMAG_R,EXTINCTION_R,REDSHIFT"


def write(tmp_path: Path, header: str, *rows: str) -> Path:
    (tmp_path / "map.csv").write_text(MAP)
    path = tmp_path / "sample.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_size_and_dereddened_magnitude(tmp_path: Path):
    path = write(tmp_path, HEADER, "587722981736120347,2.1,6.5,16.2,0.15,0.05")
    joined = write_properties(tmp_path, pd.Series(["1", "2", "9"]), tmp_path / "map.csv", path)
    read = read_properties(tmp_path / "galaxy_properties.csv")
    assert read.galaxyID.tolist() == ["1", "2", "9"]
    assert read.petroR90_r[0] == 6.5
    assert read.dered_r[0] == pytest.approx(16.05)
    assert read.iloc[1:, 1:].isna().all(axis=None)
    assert joined.unmatched == 2
    assert joined.missing == {"petroR90_r": 2, "dered_r": 2, "dered_g_r": 3}


@pytest.mark.parametrize("has_extinction", [True, False])
def test_colour_where_the_table_has_g(tmp_path: Path, has_extinction: bool):
    header = f"{HEADER},PETROMAG_G" + (",EXTINCTION_G" if has_extinction else "")
    row = "587722981736120347,2.1,6.5,16.2,0.20,0.05,17.0" + (",0.3" if has_extinction else "")
    sample = read_sample(write(tmp_path, header, row))
    extinction_g = 0.3 if has_extinction else 0.2 * EXTINCTION_G_OVER_R
    expected = (17.0 - extinction_g) - (16.2 - 0.2)
    assert sample.dered_g_r.iloc[0] == pytest.approx(expected)
    assert pytest.approx(1.379, abs=1e-3) == EXTINCTION_G_OVER_R


def test_what_sdss_did_not_measure_is_unknown(tmp_path: Path):
    rows = ["587722981736120347,2.1,-9999,16.2,0.1,0.05", "587722981736579107,2,6,-9999,0.1,0.05"]
    path = write(tmp_path, HEADER, *rows)
    joined = write_properties(tmp_path, pd.Series(["1", "2"]), tmp_path / "map.csv", path)
    assert joined.missing == {"petroR90_r": 1, "dered_r": 1, "dered_g_r": 2}
    assert joined.unmatched == 0


def test_an_object_that_stands_twice_counts_once(tmp_path: Path):
    row = "587722981736120347,2.1,6.5,16.2,0.15,0.05"
    assert len(read_sample(write(tmp_path, HEADER, row, row))) == 1


def test_a_wrong_table_is_named(tmp_path: Path):
    with pytest.raises(Gz2vitError, match="sample.csv has no column PETROR90_R"):
        read_sample(write(tmp_path, "OBJID,PETROMAG_R", "1,2"))
    with pytest.raises(Gz2vitError, match="sample.csv cannot be read"):
        read_sample(write(tmp_path, HEADER, "1,2,many,16,0.1,0"))
    with pytest.raises(Gz2vitError, match="download properties --to DIR"):
        read_sample(tmp_path / "absent.csv.gz")
