"""Profiles and --set: what is taken, and how a slip is told."""

from pathlib import Path

import nbformat
import pytest

from gz2vit.io import Gz2vitError
from gz2vit.workflow import (
    anchor_override,
    load_profile,
    load_sections,
    named_backbones,
    notebook_parameters,
    resolve,
)

CELL = """\
RESULTS_DIR = "../results/smoke"  # where files go
RUN = ""  # folder of a further seed
MAX_EPOCH = 2  # epochs
LR = 3.0e-4  # learning rate
SHARE_KV = False
CLASS_WEIGHTS: str | list = "uniform"
MAX_GALAXIES: int | None = 96
"""


def make_notebook(path: Path, *cells: str) -> Path:
    book = nbformat.v4.new_notebook()
    for source in cells:
        cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]})
        book.cells.append(cell)
    nbformat.write(book, path)
    return path


@pytest.fixture
def road(tmp_path: Path) -> dict:
    notebooks = {
        "linformer": make_notebook(tmp_path / "a.ipynb", CELL),
        "select": make_notebook(tmp_path / "b.ipynb", "SEED = 0\nMAX_GALAXIES: int | None = 96"),
    }
    (tmp_path / "demo.yaml").write_text("linformer: {MAX_EPOCH: 12}\n")
    return {"profile": "demo", "notebooks": notebooks, "folder": tmp_path}


def test_profile_then_set(road: dict):
    assert resolve(**road) == {"linformer": {"MAX_EPOCH": 12}, "select": {}}
    resolved = resolve(**road, overrides=["linformer.MAX_EPOCH=30", "LR=1e-3", "SHARE_KV=true"])
    assert resolved["linformer"] == {"MAX_EPOCH": 30, "LR": 1e-3, "SHARE_KV": True}


def test_a_name_alone_reaches_every_step_that_has_it(road: dict):
    resolved = resolve(**road, overrides=["MAX_GALAXIES=null"])
    assert resolved["linformer"]["MAX_GALAXIES"] is None
    assert resolved["select"] == {"MAX_GALAXIES": None}


def test_lists_and_whole_numbers_for_floats(road: dict):
    resolved = resolve(**road, overrides=["CLASS_WEIGHTS=[1,1,1,1,1,1,1,2]", "LR=1"])
    assert resolved["linformer"]["CLASS_WEIGHTS"] == [1, 1, 1, 1, 1, 1, 1, 2]
    assert resolved["linformer"]["LR"] == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("linformer: {MAX_EPOCHS: 3}", "no parameter 'MAX_EPOCHS'.*did you mean 'MAX_EPOCH'"),
        ("linformr: {MAX_EPOCH: 3}", "no step 'linformr'.*did you mean 'linformer'"),
        ("linformer: {MAX_EPOCH: 3.5}", r"linformer.MAX_EPOCH is 3.5 \(float\).*must be int"),
        ("linformer: {MAX_EPOCH: true}", r"MAX_EPOCH is True \(bool\).*must be int"),
        ("linformer: {LR: 3e-4}", "LR is '3e-4' .str.*write 3.0e-4"),
        ("linformer: {MAX_GALAXIES: many}", "must be int or null"),
        ("linformer: {RESULTS_DIR: here}", "no parameter 'RESULTS_DIR'"),
        ("linformer: {RUN: seeds/1}", "no parameter 'RUN'"),
        ("linformer: 3", "'linformer' must hold parameters"),
        ("linformer: {", "not valid YAML"),
    ],
)
def test_a_slip_in_a_profile_names_file_and_key(road: dict, text: str, words: str):
    path = road["folder"] / "demo.yaml"
    path.write_text(text)
    with pytest.raises(Gz2vitError, match=words) as caught:
        resolve(**road)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("MAX_EPOCH", "write .STEP..NAME=VALUE"),
        ("nowhere.MAX_EPOCH=3", "no step 'nowhere'"),
        ("EPOCHS=3", "no step has a parameter 'EPOCHS'"),
        ("select.LR=3", "step 'select' has no parameter 'LR'"),
        ("MAX_EPOCH=three", "must be int"),
        ("LR=fast", "must be float"),
    ],
)
def test_a_slip_in_set_is_told(road: dict, text: str, words: str):
    with pytest.raises(Gz2vitError, match=words):
        resolve(**road, overrides=[text])


def test_unknown_profile_lists_the_known(tmp_path: Path):
    (tmp_path / "demo.yaml").touch()
    with pytest.raises(Gz2vitError, match="no profile 'dmeo'.*the profiles are demo"):
        load_profile("dmeo", tmp_path)


def test_parameter_cell_must_be_one_of_literals(tmp_path: Path):
    with pytest.raises(Gz2vitError, match="0 cells tagged"):
        notebook_parameters(make_notebook(tmp_path / "none.ipynb"))
    with pytest.raises(Gz2vitError, match="2 cells tagged"):
        notebook_parameters(make_notebook(tmp_path / "two.ipynb", "A = 1", "B = 2"))
    with pytest.raises(Gz2vitError, match="line 2"):
        notebook_parameters(make_notebook(tmp_path / "sum.ipynb", "A = 1\nB = A + 1"))


def test_a_file_named_by_set_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "votes.csv").touch()
    assert anchor_override("VOTES=votes.csv") == f"VOTES={tmp_path}/votes.csv"
    assert anchor_override("labels.VOTES=votes.csv") == f"labels.VOTES={tmp_path}/votes.csv"
    assert anchor_override("WEIGHTS=imagenet") == "WEIGHTS=imagenet"
    (tmp_path / "models" / "linformer").mkdir(parents=True)
    trained = anchor_override("linformer.WEIGHTS=models/linformer")
    assert trained == f"linformer.WEIGHTS={tmp_path}/models/linformer"
    assert anchor_override("CLASS_WEIGHTS=votes.csv") == "CLASS_WEIGHTS=votes.csv"


def test_several_seeds_are_no_parameter_of_a_notebook(road: dict):
    (road["folder"] / "demo.yaml").write_text("linformer: {MAX_EPOCH: 12, SEEDS: [0, 1]}\n")
    resolved = resolve(**road, overrides=["SEEDS=[0,1,2]", "linformer.SEEDS=[3]", "LR=1"])
    assert resolved == {"linformer": {"MAX_EPOCH": 12, "LR": 1}, "select": {}}


def test_a_notebook_may_take_a_dictionary(tmp_path: Path):
    book = make_notebook(tmp_path / "16_a.ipynb", "SEEDS: dict = {}")
    parameter = notebook_parameters(book)["SEEDS"]
    assert parameter.accepts({"linformer": [0, 1]})
    assert not parameter.accepts([0, 1])


def test_a_section_shared_by_networks_stands_in_each(tmp_path: Path):
    (tmp_path / "demo.yaml").write_text(
        "backbones: {one: timm/a}\nbackbone: {LR: 1, SEEDS: [0]}\none: {LR: 2}\nvit: {LR: 3}\n"
    )
    sections = load_sections("demo", ["one", "two"], tmp_path)
    one, two = ({"LR": rate, "SEEDS": [0]} for rate in (2, 1))
    assert sections == {"one": one, "two": two, "vit": {"LR": 3}}


def test_further_networks_are_rows_by_name(tmp_path: Path):
    (tmp_path / "demo.yaml").write_text("backbones: {convnext: timm/convnext_atto}\n")
    named = ["backbones.mine=timm/resnet18", "linformer.MAX_EPOCH=3"]
    assert named_backbones("demo", named, tmp_path) == {
        "convnext": "timm/convnext_atto",
        "mine": "timm/resnet18",
    }
    assert named_backbones("demo", ["backbones.convnext=null"], tmp_path) == {}
    with pytest.raises(Gz2vitError, match="'My-Net' must be small letters, digits and _"):
        named_backbones("demo", ["backbones.My-Net=timm/resnet18"], tmp_path)
    (tmp_path / "demo.yaml").write_text("backbones: {convnext: 3}\n")
    with pytest.raises(Gz2vitError, match="the network of 'convnext' must be named"):
        named_backbones("demo", [], tmp_path)


def test_further_networks_share_a_section_and_may_have_their_own(tmp_path: Path):
    book = make_notebook(tmp_path / "08_a.ipynb", 'BACKBONE = "timm/a"\nMAX_EPOCH = 2\nLR = 0.1')
    (tmp_path / "demo.yaml").write_text(
        "backbones: {one: timm/a, two: timm/b}\nbackbone: {MAX_EPOCH: 9}\ntwo: {LR: 0.5}\n"
    )
    steps = {"one": book, "two": book}
    found = resolve("demo", steps, ["one.LR=0.2"], tmp_path, backbones=["one", "two"])
    assert found == {"one": {"MAX_EPOCH": 9, "LR": 0.2}, "two": {"MAX_EPOCH": 9, "LR": 0.5}}
    with pytest.raises(Gz2vitError, match="no parameter 'BACKBONE'"):
        resolve("demo", steps, ["one.BACKBONE=timm/c"], tmp_path, backbones=["one", "two"])
