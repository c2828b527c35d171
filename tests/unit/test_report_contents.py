"""What a report finds: pictures, verdicts, notebooks, networks, confusion matrices."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gz2vit.io import Gz2vitError
from gz2vit.paper import NETWORKS
from gz2vit.plots.style import draw_missing, save_figure
from gz2vit.report import (
    EVIDENCE,
    INSIDE,
    KNOWN,
    OTHER,
    PAPER,
    SIMULATED,
    find_files,
    find_notebooks,
    find_pictures,
    kind_of,
    read_simulated_tables,
    read_verdicts,
    title_of,
)
from gz2vit.results_table import read_confusion, read_network
from tests.unit.saved_runs import LINFORMER, metrics_of, save_run
from tests.unit.small_report import write_notebook, write_verdicts


def save_png(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 20)).save(folder / f"{name}.png")


@pytest.mark.parametrize(
    ("stem", "section", "title"),
    [
        ("fig1", PAPER, "Fig. 1: the architecture"),
        ("fig3", PAPER, "Fig. 3: what is taken for what"),
        ("fig3_paper", PAPER, "Fig. 3 from the paper's numbers"),
        ("fig4", PAPER, "Fig. 4: size and brightness"),
        ("fig4_paper", PAPER, "Fig. 4 from the paper's counts"),
        ("fig4_lead", PAPER, "Beyond Fig. 4: who leads where"),
        ("fig5", PAPER, "Fig. 5: where the network looks"),
        ("fig5_B", PAPER, "Fig. 5: where the network looks (B)"),
        ("reliability", EVIDENCE, "Is a network as certain as it is right?"),
        ("precision_recall", EVIDENCE, "Precision and recall, class by class"),
        ("accuracy_trends", EVIDENCE, "Accuracy against size and brightness"),
        ("attention_side_by_side", INSIDE, "What the networks look at"),
        ("realism_gallery", SIMULATED, "Simulated beside real galaxies"),
        (
            "realism_distributions",
            SIMULATED,
            "How simulated and real galaxies differ in numbers",
        ),
        ("transfer_accuracy", SIMULATED, "From simulated to real galaxies"),
        ("fig10", INSIDE, "Fig10"),
        ("all_mine", INSIDE, "All mine"),
    ],
)
def test_files_are_known_by_name(stem: str, section: str, title: str):
    kind = kind_of(stem)
    assert (kind.section, title_of(stem, kind)) == (section, title)
    assert (kind is OTHER) == (stem in ("fig10", "all_mine"))


def test_every_expected_picture_has_a_place(tmp_path: Path):
    sections = find_pictures(tmp_path / "results" / "demo")
    missing = [one for pictures in sections.values() for one in pictures]
    assert len(missing) == sum(one.required for one in KNOWN) == 7
    for one in missing:
        assert not one.source
        assert "run `./run_all.sh demo --only " in one.missing


def test_pictures_are_found_in_order_and_others_shown_under_their_names(tmp_path: Path):
    for name in ("zebra_crossing", "fig5_b10", "fig5_b2", "fig2", ".fig1.123.tmp"):
        save_png(tmp_path / "figures", name)
    (tmp_path / "figures" / "fig2.pdf").write_text("")
    sections = find_pictures(tmp_path)
    there = [one for one in sections[PAPER] if one.source]
    assert [one.name for one in there] == ["fig2", "fig5_b2", "fig5_b10"]
    assert there[0].links == ("figures/fig2.png", "figures/fig2.pdf")
    assert there[1].links == ("figures/fig5_b2.png",)
    assert (there[0].width, there[0].height) == (40, 20)
    assert there[0].alt == there[0].caption  # the file says nothing of itself
    assert [(one.title, one.alt) for one in sections[INSIDE]] == [
        ("Zebra crossing", "The figure zebra_crossing.")
    ]


def test_a_frame_that_says_why_nothing_is_drawn_is_told_in_words(tmp_path: Path):
    data = {"profile": "demo", "name": "5 galaxies of mine", "simulated": False}
    figure = draw_missing("Fig. 4", "there are no sizes; run `./run_all.sh`", data)
    save_figure(figure, tmp_path / "figures" / "fig4")
    (found,) = [one for one in find_pictures(tmp_path)[PAPER] if one.name == "fig4"]
    assert found.missing == "Fig. 4 is not drawn: there are no sizes; run `./run_all.sh`."
    assert not found.source
    assert found.links == ("figures/fig4.png", "figures/fig4.pdf")


def test_large_pictures_are_embedded_smaller_where_that_is_shorter(tmp_path: Path):
    (tmp_path / "figures").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (100, 2400, 3), dtype=np.uint8)
    for name, pixels in (("fig2", noise), ("fig1", np.zeros((100, 2400, 3), dtype=np.uint8))):
        Image.fromarray(pixels).save(tmp_path / "figures" / f"{name}.png")
    there = {one.name: one for one in find_pictures(tmp_path)[PAPER] if one.source}
    kept = {}
    for name, one in there.items():
        kept[name] = base64.b64decode(one.source.partition(",")[2])
        assert (one.width, one.height) == (2400, 100)
    assert Image.open(io.BytesIO(kept["fig2"])).size == (1600, 67)
    for name, png in kept.items():
        assert len(png) <= (tmp_path / "figures" / f"{name}.png").stat().st_size


def test_fig4_says_that_sizes_are_missing_only_where_they_are(tmp_path: Path):
    data = tmp_path / "mine"
    data.mkdir()
    (tmp_path / "selection").mkdir()
    (tmp_path / "selection" / "data.json").write_text(json.dumps({"folder": str(data)}))

    def words() -> str:
        return next(one.missing for one in find_pictures(tmp_path)[PAPER] if "Fig. 4" in one.title)

    assert "has no galaxy_properties.csv" in words()
    (data / "galaxy_properties.csv").write_text("galaxyID")
    assert "the step 'fig4' makes it" in words()


def test_verdicts_keep_their_order_by_family(tmp_path: Path):
    assert read_verdicts(tmp_path) == {}
    tmp_path.joinpath("tables").mkdir()
    write_verdicts(tmp_path)
    found = read_verdicts(tmp_path)
    assert list(found) == ["Fig. 4", "Accuracy"]
    assert [one.outcome for one in found["Fig. 4"]] == ["supported", "not decided"]
    (tmp_path / "tables" / "verdicts.csv").rename(tmp_path / "tables" / "fig4_verdicts.csv")
    assert read_verdicts(tmp_path) == found


@pytest.mark.parametrize("text", ["", "outcome,sentence\na,b\n", "\x00"])
def test_a_damaged_table_of_verdicts_is_named(tmp_path: Path, text: str):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "verdicts.csv").write_text(text)
    with pytest.raises(Gz2vitError, match="verdicts.csv is no table .*delete it .*--only evidence"):
        read_verdicts(tmp_path)


def test_tables_on_simulated_galaxies_are_printed(tmp_path: Path):
    assert read_simulated_tables(tmp_path) == []
    (tmp_path / "tables").mkdir()
    path = tmp_path / "tables" / "transfer.csv"
    path.write_text("model,test_accuracy,galaxies,note\nlinformer,0.51234,12345,\nvit,,3.0,a<b\n")
    (cells,) = read_simulated_tables(tmp_path)
    assert cells.heading == ["model", "test accuracy", "galaxies", "note"]
    assert cells.rows == [["linformer", "0.512", "12,345", "–"], ["vit", "–", "3", "a<b"]]
    rows = "".join(f"{row}\n" for row in range(50))
    (tmp_path / "tables" / "realism.csv").write_text(f"x\n{rows}")
    first, second = read_simulated_tables(tmp_path)
    assert (len(first.rows), second) == (40, cells)
    assert first.title.endswith("(the first 40 of 50 rows)")
    path.write_text("")
    with pytest.raises(Gz2vitError, match="transfer.csv is no table .*; delete it"):
        read_simulated_tables(tmp_path)


def test_a_notebook_without_a_title_has_its_files_name(tmp_path: Path):
    write_notebook(tmp_path, "02_b", "no heading")
    write_notebook(tmp_path, "01_a", "# Title: one")
    (tmp_path / "notebooks" / "03_c.ipynb").write_text("{")
    titles = [link.title for link in find_notebooks(tmp_path)]
    assert titles == ["Title: one", "02_b.ipynb", "03_c.ipynb"]


def test_tables_and_predictions_are_linked_but_no_unfinished_file(tmp_path: Path):
    names = (
        "tables/a.csv",
        "tables/.a.1.tmp.csv",
        "models/x/predictions.csv",
        "models/x/best.ckpt",
    )
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    assert [link.address for link in find_files(tmp_path)] == [
        "models/x/predictions.csv",
        "tables/a.csv",
    ]


def test_a_network_is_the_trained_one_or_the_papers(tmp_path: Path):
    network, parameters, source = read_network(tmp_path, "linformer_weighted")
    assert (network, parameters) == (NETWORKS["linformer"], 2_785_416)
    assert source == "the paper's values: linformer_weighted is not trained here"
    own = LINFORMER["hyperparameters"] | {"depth": 3}
    path = save_run(tmp_path, metrics_of("linformer", parameters=99), hyperparameters=own)
    assert read_network(tmp_path, "linformer") == (own, 99, "sizes of models/linformer")
    path.with_name("params.json").unlink()
    with pytest.raises(Gz2vitError, match="is not whole .*; delete it and run"):
        read_network(tmp_path, "linformer")


def test_a_confusion_matrix_or_what_to_run(tmp_path: Path):
    results = tmp_path / "results" / "demo"
    counts, metrics = read_confusion(results, "vit")
    assert counts is None
    assert metrics["missing"] == "vit is not trained: run `./run_all.sh demo --only vit`"
    path = save_run(results, metrics_of("vit"))
    path.with_name("predictions.csv").write_text("GalaxyID,class,pred\na,0,1\nb,0,0\n")
    counts, metrics = read_confusion(results, "vit")
    assert np.argwhere(counts).tolist() == [[0, 0], [0, 1]]
    assert metrics["accuracy"] == 0.8166
