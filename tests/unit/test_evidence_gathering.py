"""What a results folder offers, and what is said of what it lacks."""

from pathlib import Path

import pandas as pd
import pytest

from gz2vit.evidence import gather_answers, gather_pair, gather_predictions
from gz2vit.io import Gz2vitError, write_json

IDS = ["a", "b", "c", "d"]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A run with two trained models, one of them with validation predictions, and sizes."""
    root, data = tmp_path / "results" / "demo", tmp_path / "mine"
    selection = root / "selection"
    for split in ("train", "valid", "test"):
        selection.mkdir(parents=True, exist_ok=True)
        pd.DataFrame({"galaxyID": IDS, "label1": 0}).to_csv(
            selection / f"gz2_{split}.csv", index=False
        )
    write_json(selection / "data.json", {"folder": str(data)})
    table = pd.DataFrame({"GalaxyID": IDS, "class": [0, 1, 2, 3], "pred": [0, 1, 2, 0]})
    for key, pred in (("vit", table.pred), ("resnet50", [0, 0, 2, 3])):
        (root / "models" / key).mkdir(parents=True)
        table.assign(pred=pred).to_csv(root / "models" / key / "predictions.csv", index=False)
    valid = table.assign(GalaxyID=list("efgh"))
    valid.to_csv(root / "models" / "vit" / "validation_predictions.csv", index=False)
    data.mkdir()
    properties = {"petroR90_r": [4, 5, 6, ""], "dered_r": 16, "dered_g_r": 0.5}
    pd.DataFrame({"galaxyID": IDS, **properties}).to_csv(
        data / "galaxy_properties.csv", index=False
    )
    return root


def test_predictions_of_the_trained_and_a_word_on_the_others(results: Path):
    found = gather_predictions(results, ["linformer", "vit", "resnet50"])
    assert list(found.test) == ["vit", "resnet50"]
    assert list(found.valid) == ["vit"]
    assert found.valid["vit"].GalaxyID.tolist() == list("efgh")
    told = "linformer is not trained: `./run_all.sh demo --only linformer`"
    assert found.missing == {"linformer": told}


def test_a_pair_with_its_properties(results: Path):
    found = gather_pair(results, "vit", "resnet50")
    assert found.missing == ""
    assert found.table.region.tolist() == ["both right", "only first", "both right", "only second"]
    assert found.table.petroR90_r.tolist()[:3] == [4, 5, 6]
    assert found.table.petroR90_r.isna().sum() == 1


def test_all_answers_with_properties(results: Path):
    found = gather_answers(results, gather_predictions(results, ["vit", "resnet50"]))
    assert found.table["resnet50"].tolist() == [True, False, True, True]
    assert found.table.dered_r.tolist() == [16] * 4


def test_without_properties_the_answers_are_there_and_the_way_to_them_is_told(results: Path):
    path = results.parents[1] / "mine" / "galaxy_properties.csv"
    path.unlink()
    trained = gather_predictions(results, ["vit"])
    for found in (gather_pair(results, "vit", "resnet50"), gather_answers(results, trained)):
        assert f"{path} does not exist; put a table there with the columns" in found.missing
        assert len(found.table) == 4
        assert "petroR90_r" not in found.table


def test_a_model_that_is_not_trained_is_told(results: Path):
    found = gather_pair(results, "vit", "hf_vit")
    assert found.table is None
    assert found.missing == "hf_vit is not trained: `./run_all.sh demo --only hf_vit`"
    nobody = gather_answers(results, gather_predictions(results, ["hf_vit"]))
    assert nobody.table is None
    assert "hf_vit is not trained" in nobody.missing


def test_properties_of_other_galaxies_are_told(results: Path):
    path = results.parents[1] / "mine" / "galaxy_properties.csv"
    path.write_text(path.read_text().replace("\n", "\nx"))
    assert "no test galaxy has a petroR90_r" in gather_pair(results, "vit", "resnet50").missing


def test_a_damaged_file_is_an_error(results: Path):
    (results / "models" / "vit" / "predictions.csv").write_text("GalaxyID,class\n")
    with pytest.raises(Gz2vitError, match="has no column pred"):
        gather_pair(results, "vit", "resnet50")
