"""gz2vit.inspection.models: a trained model sees its images as in its evaluation."""

from pathlib import Path

import numpy as np
import pytest

from gz2vit.attention_maps import describe_models, open_model, read_all_predictions, trained_models
from gz2vit.evaluation import PROBABILITY_COLUMNS
from gz2vit.io import Gz2vitError
from tests.unit.small_inspection import KEYS
from tests.unit.small_training import open_splits


@pytest.mark.parametrize("key", KEYS)
def test_probabilities_are_those_of_its_evaluation(inspected: Path, key: str):
    test = open_splits(inspected)[2]
    found = open_model(inspected, key).probabilities(test.store.images)
    table = read_all_predictions(inspected, [key])[key]
    assert table.index.tolist() == list(test.store.galaxy_ids)
    np.testing.assert_allclose(found, table[list(PROBABILITY_COLUMNS)], atol=2e-3)
    assert not open_model(inspected, key).network.training


def test_which_are_trained_and_how_the_others_are_made(inspected: Path):
    found, missing = trained_models(inspected)
    assert found == KEYS  # the paper's first, then the run's own
    assert missing == [
        *("linformer_weighted", "vit", "resnet50", "vgg16_bn", "hf_vit", "hf_vit_weighted")
    ]
    assert trained_models(inspected, ["vit", "convnext"]) == (["convnext"], ["vit"])
    told = describe_models(inspected, ["convnext"], ["vit"])
    assert told == (
        "1 models: convnext\n"
        "vit is not trained yet and left out; run `./run_all.sh demo --only vit`"
    )


def test_without_any_the_step_is_named(inspected: Path, tmp_path: Path):
    with pytest.raises(Gz2vitError, match="the step 'vit' makes it; run `./run_all.sh demo --only"):
        trained_models(inspected, ["vit"])
    with pytest.raises(Gz2vitError, match="the step 'linformer' makes it"):
        trained_models(tmp_path)


def test_predictions_of_other_galaxies_are_refused(inspected: Path, tmp_path: Path):
    for key, cut in zip(KEYS, (0, 1), strict=True):
        text = (inspected / "models" / key / "predictions.csv").read_text().splitlines()
        (tmp_path / "models" / key).mkdir(parents=True)
        lines = "\n".join(text[: len(text) - cut])
        (tmp_path / "models" / key / "predictions.csv").write_text(lines)
    with pytest.raises(Gz2vitError, match="is of other galaxies than linformer's; run the step"):
        read_all_predictions(tmp_path, KEYS)
