"""The paper from its authors' predictions: what is read, refused, checked, and found by them."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from gz2vit import comparisons, evidence, published
from gz2vit.catalog import read_properties, read_selection
from gz2vit.cli import main
from gz2vit.download import MIRROR_VARIABLE, git_name
from gz2vit.evaluation import read_predictions
from gz2vit.io import Gz2vitError
from gz2vit.paper import FIG4_COUNTS, HF_VIT_PREDICTIONS, PUBLISHED_RESULTS
from gz2vit.report import write_report
from tests.authors_catalogue import make_catalogue
from tests.file_server import serve
from tests.folders import needs_shared
from tests.run_all import run_all, steps_started

PAIR = ("linformer", "resnet50")


@pytest.fixture(scope="module")
def catalogue() -> pd.DataFrame:
    return make_catalogue()


def written(table: pd.DataFrame, path: Path) -> Path:
    table.to_csv(path, index=False)
    return path


def disguised(table: pd.DataFrame) -> pd.DataFrame:
    """The same numbers: columns in another order and more of them, floats, rows repeated."""
    other = table[table.columns[::-1]].assign(z_spec=0.1, GalaxyID=table.GalaxyID.astype(float))
    other["pred_res"] = other.pred_res.astype(float)
    return pd.concat([other, other.head(3)]).sample(frac=1, random_state=0)


@pytest.mark.parametrize("form", [lambda table: table, disguised])
def test_the_papers_numbers_come_out_whatever_the_form(catalogue, form, tmp_path: Path):
    path = written(form(catalogue), tmp_path / "mine.csv")
    table = published.read_published({"catalogue": path})
    checks = published.check_published(table, "mine.csv")
    assert (checks.paper == checks.found).all()
    assert len(checks) == 1 + 8 + 3 + 4 + 64
    name = published.write_published(tmp_path, table, {"catalogue": path}, "published", False)
    assert "mine.csv, which was not verified" in name
    selection = read_selection(tmp_path)
    assert (selection.data["profile"], selection.data["name"]) == ("published", name)
    assert list(selection.tables) == ["test"]
    pair = [read_predictions(tmp_path / "models" / key / "predictions.csv") for key in PAIR]
    joined = comparisons.join_predictions(*pair, PAIR)
    assert comparisons.region_counts(joined) == dict(FIG4_COUNTS)
    properties = read_properties(tmp_path / "data" / "galaxy_properties.csv")
    assert properties.petroR90_r.isna().sum() == 5  # the -9999
    (tmp_path / "models" / "vit" / "best.ckpt").touch()  # a training keeps its predictions
    with pytest.raises(Gz2vitError, match="best.ckpt"):
        published.write_published(tmp_path, None, {}, "published")
    assert len(read_predictions(tmp_path / "models" / "vit" / "predictions.csv")) == 31_191


def test_what_does_not_hold_is_named(catalogue, tmp_path: Path):
    table = published.read_catalogue(written(catalogue, tmp_path / "mine.csv"))
    right = table.index[(table.linformer == table["class"]) & (table.resnet50 == table["class"])]
    mistaken = table.index[(table["class"] == 7) & (table.linformer == 5)]
    fewer, other = table.copy(), table.copy()
    fewer.loc[right[0], "resnet50"] = (table["class"][right[0]] + 1) % 8
    other.loc[mistaken[:9], "linformer"] = 4  # nothing but cells of Fig. 3 changes
    words = ["both right (linformer and resnet50) is 24,008, not 24,009", "only first"]
    cells = ["Fig. 3, Merger taken for Barred Spiral", "Merger taken for Unbarred Spiral"]
    expected = ((fewer, words), (other, cells), (table[1:], ["test galaxies is 31,190"]))
    for changed, parts in expected:
        with pytest.raises(Gz2vitError) as caught:
            published.check_published(changed, "mine.csv")
        assert all(one in str(caught.value) for one in parts)


def test_the_files_of_the_authors_must_be_right_and_agree(catalogue, tmp_path: Path):
    galaxy, paths = catalogue.GalaxyID[0], {"catalogue": tmp_path / "mine.csv"}
    twice = pd.concat([catalogue, catalogue.head(1).assign(pred_res=7, pred_vit=7)])
    wrong = catalogue.assign(pred_vit=catalogue.pred_vit.where(catalogue.index > 0, -9999))
    for table, words in ((twice, "twice"), (wrong, "has pred_vit '-9999'")):
        with pytest.raises(Gz2vitError, match=f"mine.csv.*{galaxy} {words}"):
            published.read_published({"catalogue": written(table, paths["catalogue"])})
    written(catalogue, paths["catalogue"])
    other = catalogue[["GalaxyID", "class"]].assign(pred=catalogue.pred_res)
    paths["hf_vit"] = written(other, tmp_path / "hf.csv")
    assert (published.read_published(paths).hf_vit == catalogue.pred_res).all()
    written(other.assign(**{"class": (other["class"] + 1) % 8}), paths["hf_vit"])
    with pytest.raises(Gz2vitError, match="do not agree on 31,191 galaxies"):
        published.read_published(paths)
    # the other published run has an accuracy of its own
    path = needs_shared("data/published/gz2_hug_vit_121221C_predictions.csv")
    checks = published.check_published(published.read_published({"hf_vit": path}), path.name)
    assert checks.found["accuracy of hf_vit"] == HF_VIT_PREDICTIONS["test_acc"]


def test_one_changed_byte_from_the_network_is_refused(catalogue, tmp_path: Path, monkeypatch):
    (tmp_path / "greeting").write_text("hello\n")  # git names content as git does
    assert git_name(tmp_path / "greeting") == "ce013625030ba8dba906f756967f9e9ca394464a"
    content = written(catalogue, tmp_path / "made.csv").read_bytes()
    (remote,) = published.AUTHORS["catalogue"]
    remote = replace(remote, checksum=f"git:{git_name(tmp_path / 'made.csv')}")
    monkeypatch.setattr(published, "AUTHORS", {"catalogue": (remote,)})
    changed = content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]
    with serve({remote.name: content}) as server:
        monkeypatch.setenv(MIRROR_VARIABLE, server.address)
        paths, why = published.fetch_published(tmp_path / "right")
        assert paths["catalogue"].read_bytes() == content and not why
        server.files[remote.name] = changed
        with pytest.raises(Gz2vitError, match="not the published gz2_predictions"):
            published.fetch_published(tmp_path / "wrong")
        assert not remote.path(tmp_path / "wrong").exists()
        server.files.clear()
        paths, why = published.fetch_published(tmp_path / "none")
        assert not paths and "404" in why


@pytest.mark.parametrize("effect", [True, False])
def test_the_verdict_finds_a_lead_that_is_there_and_no_other(effect, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(comparisons, "PERMUTATIONS", 99)
    path = written(make_catalogue(effect), tmp_path / "mine.csv")
    table = published.read_published({"catalogue": path})
    published.write_published(tmp_path, table, {"catalogue": path}, "published")
    predictions, _ = evidence.gather_predictions(tmp_path, PAIR)
    joined = comparisons.join_predictions(*predictions.values(), PAIR)
    joined, why = evidence.add_properties(joined, tmp_path)
    assert not why
    verdicts = evidence.judge(evidence.claim_fig4(joined, *PAIR))
    outcome = {row.claim: row.outcome for row in verdicts.itertuples()}
    gains = {key: {o for c, o in outcome.items() if f"gains on resnet50 towards {key}" in c}
             for key in ("smaller", "fainter")}  # fmt: skip
    found = {"supported" if effect else "not decided"}
    assert gains == {"smaller": found, "fainter": {"not decided"}}
    words = evidence.verdict_paragraph(verdicts, *PAIR, joined)
    end = "supported for the smallest" if effect else "contradicted for the smallest"
    assert end in words


def test_without_a_network_then_with_a_file(catalogue, tmp_path: Path, capsys):
    (tmp_path / "mirror").mkdir()
    places, results = {"GZ2VIT_DATA": str(tmp_path / "gz2")}, tmp_path / "out"
    words = ("published", "--results", results, "--mirror", tmp_path / "mirror")
    assert main(["run", *map(str, words), "--plan"]) == 0
    planned, steps = capsys.readouterr().out, "evidence fig1 fig2 fig3 fig4 published report table"
    assert all(step in planned for step in steps.split())
    some = ("evidence", "fig3", "fig4", "table")
    outcome = run_all(*words, "--jobs", 2, "--only", *some, **places)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert steps_started(outcome) == sorted([*some, "published"])
    (line,) = [line for line in outcome.stdout.splitlines() if "missing: " in line]
    assert "the catalogue of predictions" in line and "there is no file" in line
    assert (results / "figures" / "fig3_paper.png").exists()
    report = write_report(results, list(PUBLISHED_RESULTS), {}).read_text()
    assert "the catalogue of predictions" in report
    path = written(catalogue, tmp_path / "mine.csv")
    own = ("--only", "table", "--set", f"published.CATALOGUE={path}")
    outcome = run_all(*words[:3], *own, **places)
    assert steps_started(outcome) == ["published", "table"], outcome.stdout + outcome.stderr
    data = json.loads((results / "selection" / "data.json").read_text())
    text = (results / "tables" / "results.md").read_text()
    assert "mine.csv, which was not verified" in data["name"] and data["name"] in text
    assert "80.6 [80.1, 81.0]" in text and "./run_all.sh" not in text
