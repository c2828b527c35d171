"""Parameters, the plan of what is stale and why, and the run of one step."""

import io
import shutil
import time
from pathlib import Path

import nbformat
import pytest
import yaml

from gz2vit import workflow
from gz2vit.io import Gz2vitError, read_json, sole_user, write_json
from gz2vit.workflow import Follower, Pipeline, StepWriter, execute, merge_settings, parse_set
from tests.folders import make_folder

TRAIN = """\
RESULTS_DIR = "results"
MODEL_KEY = "linformer"
RUN = ""
MAX_EPOCH = 2  # epochs
LR = 3.0e-4  # learning rate
SHARE_KV = False
WEIGHTS = "none"
CLASS_WEIGHTS: str | list = "uniform"
SEED = 0
"""
DRAW = 'RESULTS_DIR = "results"\nCOLOUR = "red"\nBINS: int | None = None\nSEED_OF_SAMPLE = 0'
SELECT = "LEAVE_OUT_BROKEN = False\nMAX_GALAXIES: int | None = None"


def make_notebook(path: Path, parameters: str, *cells: str) -> Path:
    """A notebook with a parameter cell and `cells` under a heading."""
    book = nbformat.v4.new_notebook()
    book.cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    book.cells += [nbformat.v4.new_markdown_cell("## Divide\n\nWith care.")]
    book.cells += [nbformat.v4.new_code_cell(source) for source in cells]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, path)
    return path


class Project:
    """A small project: galaxies, two trainings and a figure; steps are done by hand."""

    def __init__(self, home: Path) -> None:
        self.home, self.results = home, home / "results"
        self.data = make_folder(home / "data", image_px=424)
        make_notebook(home / "select.ipynb", SELECT)
        make_notebook(home / "pack.ipynb", "CROP_PX = 224")
        make_notebook(home / "train.ipynb", TRAIN, "train()")
        make_notebook(home / "draw.ipynb", DRAW, "draw()")
        (home / "gz2vit").mkdir()
        (home / "profiles").mkdir()
        for module in ("training", "plots"):
            (home / "gz2vit" / f"{module}.py").write_text("LEVEL = 1\n")
        (home / "profiles" / "small.yaml").write_text(
            "linformer: {MAX_EPOCH: 12}\nsimulate: {GALAXIES: 24}\n"  # not with data of one's own
        )

    def pipeline(self, *overrides: str, only=(), retrain=None) -> Pipeline:
        """The pipeline after its plan was made."""
        config = {"results": str(self.results), "data": str(self.data), "profile": "small"}
        config |= {"set": list(overrides), "only": list(only), "retrain": retrain, "jobs": 2}
        found = Pipeline(config | {"planning": True, "threads": 1, "executor": None})
        found.models = ["linformer", "vit", *found.backbones]
        found.step("select", "select.ipynb", makes=["selection.csv"])
        found.step("pack", "pack.ipynb", needs=["select"])
        for key in found.models:
            makes = [f"models/{key}/best.ckpt"]
            found.step(key, "train.ipynb", needs=["pack"], code="training", makes=makes)
        reads = ["galaxy_properties.csv"]
        found.step("fig1", "draw.ipynb", needs=["linformer"], code="plots", reads=reads)
        found.make_plan()
        return found

    def finish(self, pipeline: Pipeline) -> None:
        """Do what was planned: every step leaves its files and its record."""
        for name, one in pipeline.plan.items():
            for file in one["makes"]:
                (self.results / file).parent.mkdir(parents=True, exist_ok=True)
                (self.results / file).write_text("made")
            made = workflow.record(one, self.results) | {"seconds": 65.0, "speed": 2.0}
            write_json(self.results / "logs" / "steps" / f"{name}.json", made)

    def stale(self, *overrides: str, **options) -> dict[str, list[str]]:
        """What would run, and why."""
        plan = self.pipeline(*overrides, **options).plan
        return {name: one["why"] for name, one in plan.items()}

    def printed(self) -> str:
        """The plan as the user reads it."""
        return (self.results / workflow.PLAN_TEXT).read_text()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setattr(workflow, "ROOT", tmp_path)
    monkeypatch.setattr(workflow, "PROFILES_DIR", tmp_path / "profiles")
    return Project(tmp_path)


@pytest.fixture
def finished(project: Project) -> Project:
    project.finish(project.pipeline())
    assert project.stale() == {}
    assert "nothing to do" in project.printed()
    return project


# ---- Parameters --------------------------------------------------------------------------------


def test_the_profile_then_set(project: Project):
    given = ["linformer.MAX_EPOCH=30", "LR=1e-3", "SHARE_KV=true", "MAX_GALAXIES=null"]
    parameters = project.pipeline(*given).steps["linformer"].parameters
    assert (parameters["MAX_EPOCH"], parameters["LR"], parameters["SHARE_KV"]) == (30, 1e-3, True)
    found = project.pipeline("CLASS_WEIGHTS=[1,2]", "COLOUR=1234").steps
    assert [found[key].parameters["MAX_EPOCH"] for key in ("linformer", "vit")] == [12, 2]
    assert found["vit"].parameters["CLASS_WEIGHTS"] == [1, 2]
    assert found["fig1"].parameters["COLOUR"] == "1234"


SLIPS = {"MAX_EPOCHS=3": "MAX_EPOCH'", "linformr.LR=1": "linformer'", "LR=fast": "fast"}
SLIPS |= {"MAX_EPOCH=3.5": "3.5", "RESULTS_DIR=x": "RESULTS_DIR", "LR": "LR"}
SLIPS |= {"fig1.SEEDS=[0]": "SEEDS", "SEEDS=[0,0]": "[0, 0]", "WEIGHTS=~/no.ckpt": "/no.ckpt"}
SLIPS |= {"backbones.My-Net=timm/x": "My-Net", "backbones.fig1=timm/x": "fig1"}


@pytest.mark.parametrize(("text", "word"), SLIPS.items())
def test_a_slip_in_set_is_named(project: Project, text: str, word: str):
    with pytest.raises(Gz2vitError) as caught:
        project.pipeline(text)
    assert word in str(caught.value)


def test_a_slip_in_a_profile_or_a_notebook_names_it(project: Project):
    path = project.home / "profiles" / "small.yaml"
    for text, word in (("vit: {LR: 3e-4}", "3e-4"), ("vti: {LR: 1.0}", "vti"), ("vit: [", "YAML")):
        path.write_text(text)
        with pytest.raises(Gz2vitError, match=f"small.*{word}"):
            project.pipeline()
    with pytest.raises(Gz2vitError, match="small"):
        workflow.load_profile("smal")
    for number, cell in enumerate(("A = 1 + x", "print(1)", "A: numpy = 1")):
        with pytest.raises(Gz2vitError, match=f"{number}.ipynb"):
            workflow.notebook_parameters(make_notebook(project.home / f"{number}.ipynb", cell))


def test_a_named_file_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "mine.ckpt").write_text("")
    (tmp_path / "imagenet").mkdir()  # a folder of that name does not change the word
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for given in ("mine.ckpt", "./mine.ckpt", "~/mine.ckpt"):
        assert parse_set(f"vit.WEIGHTS={given}") == ("vit", "WEIGHTS", str(tmp_path / "mine.ckpt"))
    assert parse_set("WEIGHTS=imagenet") == ("", "WEIGHTS", "imagenet")
    made = f"WEIGHTS={tmp_path}/results/models/vit"
    assert parse_set(made, tmp_path / "results")[2].endswith("models/vit")


def test_seeds_are_steps_of_their_own(project: Project):
    found = project.pipeline("linformer.SEEDS=[3,5]", only=["linformer"])
    own = [found.steps[name].parameters for name in ("linformer", "linformer_seed5")]
    assert [(one["SEED"], one["RUN"]) for one in own] == [(3, ""), (5, "seed5")]
    assert list(found.plan) == ["select", "pack", "linformer", "linformer_seed5"]
    with pytest.raises(Gz2vitError, match="no SEED beside"):
        project.pipeline("SEED=1", "linformer.SEEDS=[3,5]")


def test_settings_are_remembered_and_taken_back(tmp_path: Path):
    def call(*texts: str, profile=None) -> list[str]:
        found = merge_settings(tmp_path, profile, None, texts)
        (tmp_path / "settings.yaml").write_text(yaml.safe_dump(found))
        return found["set"]

    assert call("linformer.LR=1e-3", "SEED=1", profile="smoke") == ["linformer.LR=1e-3", "SEED=1"]
    assert call() == ["linformer.LR=1e-3", "SEED=1"]
    assert call("LR=2e-3") == ["SEED=1", "LR=2e-3"]  # for every step: the special one is replaced
    assert call("SEED=default") == ["LR=2e-3"]
    with pytest.raises(Gz2vitError, match="profile smoke"):
        call(profile="demo")


# ---- The plan ----------------------------------------------------------------------------------


def test_only_and_retrain_ask_for_steps(finished: Project):
    needed = ["select", "pack", "linformer", "fig1"]
    assert finished.pipeline(only=["fig1"]).order() == needed
    for wrong in ({"only": ["fig9"]}, {"retrain": ["fig9"]}):
        with pytest.raises(Gz2vitError, match="fig9"):
            finished.stale(**wrong)
    assert finished.stale(retrain=["vit"]) == {"vit": ["--retrain"]}
    assert set(finished.stale(retrain=[])) == {"linformer", "vit", "fig1"}


def test_a_parameter_runs_its_step_and_what_follows(finished: Project):
    why = finished.stale("linformer.LR=0.5")
    assert why == {"linformer": ["LR: 0.0003 -> 0.5"], "fig1": ["follows linformer"]}
    assert "moves to models/linformer/replaced" in finished.printed()
    # An earlier run without the figure does not hide that it is older than its training.
    finished.finish(finished.pipeline("linformer.LR=0.5", only=["linformer"]))
    assert finished.stale("linformer.LR=0.5", only=["fig1"]) == {"fig1": ["follows linformer"]}


def test_a_stray_file_a_copy_and_times_change_nothing(finished: Project):
    (finished.data / ".DS_Store").write_text("x")
    (finished.data / "images" / "notes.txt").write_text("x")
    assert finished.stale() == {}
    for folder in ("data", "results"):
        shutil.copytree(getattr(finished, folder), finished.home / f"moved_{folder}")
        setattr(finished, folder, finished.home / f"moved_{folder}")
        assert finished.stale() == {}


def test_what_is_missing_and_what_a_figure_reads(finished: Project):
    (finished.data / "galaxy_properties.csv").write_text("galaxyID,petroR90_r,dered_r,dered_g_r\n")
    assert finished.stale() == {"fig1": ["other galaxy_properties.csv"]}
    (finished.results / "selection.csv").unlink()
    assert finished.stale(only=["select"]) == {"select": ["selection.csv is missing"]}


@pytest.mark.parametrize("change", ["label", "pixels", "crop"])
def test_other_galaxies_train_again(finished: Project, change: str):
    table, images = finished.data / "gz2_train.csv", finished.data / "images"
    if change == "label":
        table.write_text(table.read_text().replace("train-003,3", "train-003,4"))
    if change == "pixels":
        shutil.copy(images / "train-001.jpg", images / "train-002.jpg")
    stale = finished.stale(*(["CROP_PX=200"] if change == "crop" else []))
    assert stale["linformer"] == stale["vit"] == ["other galaxies"]
    assert {"pack", "fig1"} <= set(stale)


def test_changed_code_draws_again_and_trains_nothing(finished: Project):
    (finished.home / "gz2vit" / "training.py").write_text("LEVEL = 2\n")
    assert finished.stale() == {}
    assert "--retrain linformer vit" in finished.printed()
    (finished.home / "gz2vit" / "plots.py").write_text("LEVEL = 1  # a comment\n")
    assert finished.stale() == {}
    (finished.home / "gz2vit" / "plots.py").write_text("LEVEL = 3\n")
    assert finished.stale() == {"fig1": ["code"]}


def test_a_training_starts_from_a_model_of_the_run_but_not_from_itself(finished: Project):
    own = finished.results / "models" / "linformer"
    why = finished.stale(f"vit.WEIGHTS={own}", "linformer.LR=0.5")
    assert list(why) == ["linformer", "vit", "fig1"]
    with pytest.raises(Gz2vitError, match=r"linformer\.WEIGHTS"):
        finished.stale(f"linformer.WEIGHTS={own}")


# ---- How long it takes -------------------------------------------------------------------------


def test_the_plan_says_how_long_it_takes_here(finished: Project, monkeypatch: pytest.MonkeyPatch):
    """Last time a step took 65 s, twice as fast as the reference; `vit` anew is not known."""
    monkeypatch.setattr(workflow, "measure_speed", lambda threads: workflow.REFERENCE_SPEED / 2)
    finished.stale("linformer.LR=0.5")
    # 2 steps x 65 s x 2.0 / 0.5, two side by side.
    assert "2 of 5 steps to run, about 4 min here; they took 2 min last time" in finished.printed()
    (finished.results / "logs" / "steps" / "vit.json").unlink()
    finished.stale("linformer.LR=0.5")
    assert "without 1 of unknown length; 2 of them took" in finished.printed()
    profile = finished.home / "profiles" / "small.yaml"
    profile.write_text(profile.read_text() + "seconds: {vit: 60}\n")
    finished.stale("linformer.LR=0.5")
    assert "3 of 5 steps to run, about 5 min here; 2 of them took" in finished.printed()
    finished.stale(only=["vit"])  # short: not measured
    assert "1 of 5 steps to run" not in finished.printed()
    assert "1 of 3 steps to run, about 30 s here\n" in finished.printed()


def test_the_speed_is_measured_in_a_second_or_two():
    start = time.monotonic()
    speeds = [workflow.measure_speed(1) for _ in range(2)]
    assert 1 < time.monotonic() - start < 60
    assert max(speeds) < 5 * min(speeds)


def test_each_finished_step_is_counted_and_the_time_left_follows_the_pace(tmp_path: Path, capsys):
    """One of four equal steps took 30 s instead of 20, expected in all: 80 s."""
    plan = {name: {"expected": 20.0} for name in ("select", "pack", "vit", "report")}
    with Follower(tmp_path, plan) as follower:
        follower.begun -= 30
        (tmp_path / "pack.log").write_text("[pack] done in all\n[pack] done in 30 s\n[pack] x")
        follower.follow()
        (tmp_path / "select.log").write_text("[select] done in 2 s\n")
        (tmp_path / "vit.log").write_text("[vit] done in 20 s\n")
        (tmp_path / "report.log").write_text("[report] done in 1 s\n")
        follower.follow()
    lines = capsys.readouterr().out.splitlines()
    # 3/4 of 30 s (the pace so far would be 90 s) and of 3/4 of 80 s.
    assert lines[:2] == ["[pack] done in all", "[1 of 4] pack done in 30 s, about 68 s left"]
    assert lines[-1] == "[4 of 4] report done in 1 s"
    assert len(lines) == 5
    with Follower(tmp_path, {"pack": {"expected": 0.0}, "vit": {"expected": 0.0}}) as follower:
        follower.follow()
    assert "[1 of 2] pack done in 30 s\n" in capsys.readouterr().out


# ---- One step ----------------------------------------------------------------------------------


@pytest.fixture
def run_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs a notebook of some cells as the step `divide`, and returns the results folder."""
    monkeypatch.setattr(workflow, "ROOT", tmp_path)
    results = tmp_path / "results"

    def run(*cells: str, why: str = "new") -> Path:
        make_notebook(tmp_path / "books" / "03_divide.ipynb", "NUMBER = 1", *cells)
        one = {"notebook": "books/03_divide.ipynb", "parameters": {"NUMBER": 3, "RUN": ""}}
        one |= {"why": [why], "reads": [], "model": "vit", "record": {"galaxies": {}}}
        write_json(results / "logs" / "plan.json", {"divide": one})
        execute("divide", results)
        return results

    return run


def test_success_leaves_notebook_log_and_record(run_step):
    cells = ("%matplotlib inline\n!echo shell", "%%time\nprint('epoch', 6 / NUMBER)")
    results = run_step(*cells, why="--retrain")
    log = (results / "logs" / "divide.log").read_text().splitlines()
    assert log[0] == "[divide] books/03_divide.ipynb starts"
    assert {"[divide] epoch 2.0", "[divide] shell"} < set(log)
    assert [path.name for path in (results / "notebooks").iterdir()] == ["03_divide.ipynb"]
    assert read_json(results / "logs" / "steps" / "divide.json")["seconds"] > 0
    assert (results / "models" / "vit" / "retrain").exists()  # for the training to see


OWN = "from gz2vit.io import Gz2vitError\nraise Gz2vitError('7.jpg is missing')"
FAILURES = {"6 / 0": "ZeroDivisionError", OWN: "7.jpg"}
FAILURES |= {"import os; os.kill(os.getpid(), 9)": "kernel died"}


@pytest.mark.parametrize(("cell", "word"), FAILURES.items())
def test_failure_is_one_line_that_names_cell_and_notebook(run_step, tmp_path, cell: str, word: str):
    with pytest.raises(Gz2vitError, match="step 'divide'") as caught:
        run_step("1 / 1", cell)
    line = str(caught.value)
    assert word in line
    assert "kernel" in word or "cell [4] under 'Divide'" in line  # [2] is papermill's own
    assert "\n" not in line
    logs, failed = tmp_path / "results/logs", tmp_path / "results/notebooks/03_divide.failed.ipynb"
    assert (logs / "divide.error").read_text() == f"{line}\n"
    assert failed.exists()
    assert not (logs / "steps" / "divide.json").exists()
    run_step("1 / 1")
    assert not failed.exists()


def test_a_step_does_not_run_beside_itself(run_step, tmp_path: Path):
    lock = tmp_path / "results" / "logs" / "divide.lock"
    with sole_user(lock, "taken"), pytest.raises(Gz2vitError, match="'divide' still runs"):
        run_step("1 / 1")


def test_lines_are_headed_and_followed_as_they_come(tmp_path: Path, capsys):
    stream = io.StringIO()
    writer = StepWriter("pack", stream)
    writer.write("first li")
    writer.write("ne\n\nsecond\r10 %\rdone\n")
    assert stream.getvalue() == "[pack] first line\n[pack] second\n[pack] 10 %\n[pack] done\n"
    with (tmp_path / "pack.log").open("w") as log, Follower(tmp_path, {}) as follower:
        for text in ("[pack] one\n[pack] tw", "o\n"):
            log.write(text)
            log.flush()
            follower.follow()
    assert capsys.readouterr().out == "[pack] one\n[pack] two\n"
