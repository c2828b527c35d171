"""Parameters, the plan of what is stale and why, and the run of one step."""

import io
import shutil
import time
from pathlib import Path

import nbformat
import pytest
import yaml

from gz2vit import workflow
from gz2vit.io import Gz2vitError, read_json, sole_user, write_json, write_text
from gz2vit.workflow import Follower, Pipeline, StepWriter, execute, merge_settings, parse_set
from tests.folders import make_folder

TRAIN = """RESULTS_DIR = "results"\nMODEL_KEY = "linformer"\nRUN = ""\nMAX_EPOCH = 2  # epochs
LR = 3.0e-4\nSHARE_KV = False\nWEIGHTS = "none"\nCLASS_WEIGHTS: str | list = "uniform"\nSEED = 0"""
DRAW = 'RESULTS_DIR = "results"\nCOLOUR = "red"\nBINS: int | None = None\nSEED_OF_SAMPLE = 0'
SELECT = "LEAVE_OUT_BROKEN = False\nMAX_GALAXIES: int | None = None"


def make_notebook(path: Path, parameters: str, *cells: str) -> Path:
    book, code = nbformat.v4.new_notebook(), nbformat.v4.new_code_cell
    book.cells = [code(parameters, metadata={"tags": ["parameters"]}), *map(code, cells)]
    book.cells.insert(1, nbformat.v4.new_markdown_cell("## Divide\n\nWith care."))
    nbformat.write(book, path)
    return path


class Project:
    """A small project: galaxies, two trainings and a figure; steps are done by hand."""

    def __init__(self, home: Path) -> None:
        self.home, self.results = home, home / "results"
        self.data, self.profile = make_folder(home / "data"), home / "profiles" / "small.yaml"
        books = {"select": SELECT, "pack": "CROP_PX = 224", "train": TRAIN, "draw": DRAW}
        for name, parameters in books.items():
            make_notebook(home / f"{name}.ipynb", parameters, f"{name}()")
        self.write_code(training=1, plots=1)
        # GALAXIES is of no use with data of one's own
        write_text(self.profile, "linformer: {MAX_EPOCH: 12}\nsimulate: {GALAXIES: 24}\n")

    def write_code(self, **modules: object) -> None:
        for name, level in modules.items():
            write_text(self.home / "gz2vit" / f"{name}.py", f"LEVEL = {level}\n")

    def pipeline(self, *overrides: str, only=(), retrain=None) -> Pipeline:
        """The pipeline after its plan was made."""
        config = {"results": str(self.results), "data": str(self.data), "profile": "small"}
        config |= {"set": list(overrides), "only": list(only), "retrain": retrain, "jobs": 2}
        found = Pipeline(config | {"planning": True, "threads": 1, "executor": None})
        found.models = ["linformer", "vit", *found.backbones]
        found.step("select", "select.ipynb", makes=["selection.csv"])
        found.step("pack", "pack.ipynb", needs=["select"])
        for key in found.models:
            found.step(key, "train.ipynb", ["pack"], "training", [f"models/{key}/best.ckpt"])
        found.step("fig1", "draw.ipynb", ["linformer"], "plots", reads=["galaxy_properties.csv"])
        found.make_plan()
        return found

    def finish(self, pipeline: Pipeline) -> None:
        """Do what was planned: every step leaves its files and its record."""
        for name, one in pipeline.plan.items():
            for file in one["makes"]:
                write_text(self.results / file, "made")
            made = workflow.record(one, self.results) | {"seconds": 65.0, "speed": 2.0}
            write_json(self.results / "logs" / "steps" / f"{name}.json", made)

    def stale(self, *overrides: str, **options) -> dict[str, list[str]]:
        plan = self.pipeline(*overrides, **options).plan
        return {name: one["why"] for name, one in plan.items()}

    def printed(self, *overrides: str, **options) -> str:
        self.stale(*overrides, **options)
        return (self.results / workflow.PLAN_TEXT).read_text()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setattr(workflow, "ROOT", tmp_path)
    monkeypatch.setattr(workflow, "PROFILES_DIR", tmp_path / "profiles")
    return Project(tmp_path)


@pytest.fixture
def finished(project: Project) -> Project:
    project.finish(project.pipeline())
    assert project.stale() == {} and "nothing to do" in project.printed()
    return project


def test_the_profile_then_set_and_seeds_are_steps_of_their_own(project: Project):
    given = ["linformer.MAX_EPOCH=30", "LR=1e-3", "SHARE_KV=true", "MAX_GALAXIES=null"]
    parameters = project.pipeline(*given).steps["linformer"].parameters
    assert (parameters["MAX_EPOCH"], parameters["LR"], parameters["SHARE_KV"]) == (30, 1e-3, True)
    found = project.pipeline("CLASS_WEIGHTS=[1,2]", "COLOUR=1234").steps
    assert [found[key].parameters["MAX_EPOCH"] for key in ("linformer", "vit")] == [12, 2]
    assert found["vit"].parameters["CLASS_WEIGHTS"] == [1, 2]
    assert found["fig1"].parameters["COLOUR"] == "1234"
    found = project.pipeline("linformer.SEEDS=[3,5]", only=["linformer"])
    own = [found.steps[name].parameters for name in ("linformer", "linformer_seed5")]
    assert [(one["SEED"], one["RUN"]) for one in own] == [(3, ""), (5, "seed5")]
    assert list(found.plan) == ["select", "pack", "linformer", "linformer_seed5"]
    with pytest.raises(Gz2vitError, match="no SEED beside"):
        project.pipeline("SEED=1", "linformer.SEEDS=[3,5]")


SLIPS = {"MAX_EPOCHS=3": "MAX_EPOCH'", "linformr.LR=1": "linformer'", "LR=fast": "fast"}
SLIPS |= {"MAX_EPOCH=3.5": r"3\.5", "RESULTS_DIR=x": "RESULTS_DIR", "LR": "LR"}
SLIPS |= {"fig1.SEEDS=[0]": "SEEDS", "SEEDS=[0,0]": r"\[0, 0\]", "WEIGHTS=~/no.ckpt": "/no.ckpt"}
SLIPS |= {"backbones.My-Net=timm/x": "My-Net", "backbones.fig1=timm/x": "fig1"}


@pytest.mark.parametrize(("text", "word"), SLIPS.items())
def test_a_slip_in_set_is_named(project: Project, text: str, word: str):
    with pytest.raises(Gz2vitError, match=word):
        project.pipeline(text)


def test_a_slip_in_a_profile_or_a_notebook_names_it(project: Project):
    for text, word in (("vit: {LR: 3e-4}", "3e-4"), ("vti: {LR: 1.0}", "vti"), ("vit: [", "YAML")):
        project.profile.write_text(text)
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


def test_settings_are_remembered_and_taken_back(tmp_path: Path):
    def call(*texts: str, profile=None) -> list[str]:
        found = merge_settings(tmp_path, profile, None, texts)
        (tmp_path / "settings.yaml").write_text(yaml.safe_dump(found))
        return found["set"]

    first = ["linformer.LR=1e-3", "SEED=1"]
    assert call(*first, profile="smoke") == call() == first
    assert call("LR=2e-3") == ["SEED=1", "LR=2e-3"]  # for every step: the special one is replaced
    assert call("SEED=default") == ["LR=2e-3"]
    with pytest.raises(Gz2vitError, match="profile smoke"):
        call(profile="demo")


def test_only_retrain_and_a_parameter_ask_for_steps(finished: Project):
    assert finished.pipeline(only=["fig1"]).order() == ["select", "pack", "linformer", "fig1"]
    for wrong in ({"only": ["fig9"]}, {"retrain": ["fig9"]}):
        with pytest.raises(Gz2vitError, match="fig9"):
            finished.stale(**wrong)
    assert finished.stale(retrain=["vit"]) == {"vit": ["--retrain"]}
    assert set(finished.stale(retrain=[])) == {"linformer", "vit", "fig1"}
    # a parameter runs its step and what follows
    why = finished.stale("linformer.LR=0.5")
    assert why == {"linformer": ["LR: 0.0003 -> 0.5"], "fig1": ["follows linformer"]}
    assert "moves to models/linformer/replaced" in finished.printed("linformer.LR=0.5")
    # A training starts from a model of the run, but not from itself.
    own = finished.results / "models" / "linformer"
    why = finished.stale(f"vit.WEIGHTS={own}", "linformer.LR=0.5")
    assert list(why) == ["linformer", "vit", "fig1"]
    with pytest.raises(Gz2vitError, match=r"linformer\.WEIGHTS"):
        finished.stale(f"linformer.WEIGHTS={own}")
    # An earlier run without the figure does not hide that it is older than its training.
    finished.finish(finished.pipeline("linformer.LR=0.5", only=["linformer"]))
    assert finished.stale("linformer.LR=0.5", only=["fig1"]) == {"fig1": ["follows linformer"]}


def test_other_galaxies_train_again(finished: Project):
    table, images = finished.data / "gz2_train.csv", finished.data / "images"
    stale, text = [finished.stale("CROP_PX=200")], table.read_text()
    table.write_text(text.replace("train-003,3", "train-003,4"))
    stale += [finished.stale()]
    table.write_text(text)
    shutil.copy(images / "train-001.jpg", images / "train-002.jpg")
    for one in (*stale, finished.stale()):
        assert one["linformer"] == one["vit"] == ["other galaxies"]
        assert {"pack", "fig1"} <= set(one)


def test_only_what_decides_a_steps_results_makes_it_stale(finished: Project):
    for name in (".DS_Store", "images/notes.txt"):
        (finished.data / name).write_text("x")
    assert finished.stale() == {}
    for folder in ("data", "results"):  # a copy, with other times
        shutil.copytree(getattr(finished, folder), finished.home / f"moved_{folder}")
        setattr(finished, folder, finished.home / f"moved_{folder}")
        assert finished.stale() == {}
    finished.write_code(training=2)
    assert finished.stale() == {}
    assert "--retrain linformer vit" in finished.printed()
    finished.write_code(plots="1  # a comment")
    assert finished.stale() == {}
    finished.write_code(plots=3)
    assert finished.stale() == {"fig1": ["code"]}
    finished.write_code(plots=1)
    (finished.data / "galaxy_properties.csv").write_text("galaxyID,petroR90_r,dered_r,dered_g_r\n")
    assert finished.stale() == {"fig1": ["other galaxy_properties.csv"]}
    (finished.results / "selection.csv").unlink()
    assert finished.stale(only=["select"]) == {"select": ["selection.csv is missing"]}


def test_the_plan_says_how_long_it_takes_here(finished: Project, monkeypatch: pytest.MonkeyPatch):
    """Last time a step took 65 s, twice as fast as the reference; `vit` anew is not known."""
    monkeypatch.setattr(workflow, "measure_speed", lambda threads: workflow.REFERENCE_SPEED / 2)
    changed = "linformer.LR=0.5"
    # 2 steps x 65 s x 2.0 / 0.5, two side by side.
    words = "2 of 5 steps to run, about 4 min here; they took 2 min last time"
    assert words in finished.printed(changed)
    (finished.results / "logs" / "steps" / "vit.json").unlink()
    assert "without 1 of unknown length; 2 of them took" in finished.printed(changed)
    finished.profile.write_text(finished.profile.read_text() + "seconds: {vit: 60}\n")
    words = "3 of 5 steps to run, about 5 min here; 2 of them took"
    assert words in finished.printed(changed)
    words = "1 of 3 steps to run, about 30 s here\n"  # short: not measured
    assert words in finished.printed(only=["vit"])


def test_the_speed_is_measured_in_a_second_or_two():
    start = time.monotonic()
    speeds = [workflow.measure_speed(1) for _ in range(2)]
    assert 1 < time.monotonic() - start < 60 and max(speeds) < 5 * min(speeds)


def test_each_finished_step_is_counted_and_the_time_left_follows_the_pace(tmp_path: Path, capsys):
    """One of four equal steps took 30 s instead of 20, expected in all: 80 s."""
    plan = {name: {"expected": 20.0} for name in ("select", "pack", "vit", "report")}
    with Follower(tmp_path, plan) as follower:
        follower.begun -= 30
        (tmp_path / "pack.log").write_text("[pack] done in all\n[pack] done in 30 s\n[pack] x")
        follower.follow()
        for name, seconds in (("select", 2), ("vit", 20), ("report", 1)):
            (tmp_path / f"{name}.log").write_text(f"[{name}] done in {seconds} s\n")
        with (tmp_path / "pack.log").open("a") as log:
            log.write("y\n")
        follower.follow()
    lines = capsys.readouterr().out.splitlines()
    # 3/4 of 30 s (the pace so far would be 90 s) and of 3/4 of 80 s.
    assert lines[:2] == ["[pack] done in all", "[1 of 4] pack done in 30 s, about 68 s left"]
    assert len(lines) == 6 and {"[4 of 4] report done in 1 s", "[pack] xy"} < set(lines)
    with Follower(tmp_path, {"pack": {"expected": 0.0}, "fig1": {"expected": 0.0}}) as follower:
        follower.follow()
    assert "[1 of 2] pack done in 30 s\n" in capsys.readouterr().out


@pytest.fixture
def run_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workflow, "ROOT", tmp_path)
    results = tmp_path / "results"

    def run(*cells: str, why: str = "new") -> Path:
        make_notebook(tmp_path / "03_divide.ipynb", "NUMBER = 1", *cells)
        one = {"notebook": "03_divide.ipynb", "parameters": {"NUMBER": 3, "RUN": ""}}
        one |= {"why": [why], "reads": [], "model": "vit", "record": {"galaxies": {}}}
        write_json(results / "logs" / "plan.json", {"divide": one})
        execute("divide", results)
        return results

    return run


def test_success_leaves_notebook_log_and_record(run_step):
    cells = ("%matplotlib inline\n!echo shell", "%%time\nprint('epoch', 6 / NUMBER)")
    results = run_step(*cells, why="--retrain")
    log = (results / "logs" / "divide.log").read_text().splitlines()
    assert log[0] == "[divide] 03_divide.ipynb starts"
    assert {"[divide] epoch 2.0", "[divide] shell"} < set(log)
    assert [path.name for path in (results / "notebooks").iterdir()] == ["03_divide.ipynb"]
    assert read_json(results / "logs" / "steps" / "divide.json")["seconds"] > 0
    assert (results / "models" / "vit" / "retrain").exists()  # for the training to see


OWN = "from gz2vit.io import Gz2vitError\nraise Gz2vitError('7.jpg is missing')"
FAILURES = {"6 / 0": "ZeroDivisionError", "import os; os.kill(os.getpid(), 9)": "kernel died"}
FAILURES |= {OWN: "7.jpg"}


@pytest.mark.parametrize(("cell", "word"), FAILURES.items())
def test_failure_is_one_line_that_names_cell_and_notebook(run_step, tmp_path, cell: str, word: str):
    with pytest.raises(Gz2vitError, match="step 'divide'") as caught:
        run_step("1 / 1", cell)
    line = str(caught.value)
    assert word in line and "\n" not in line
    assert "kernel" in word or "cell [4] under 'Divide'" in line  # [2] is papermill's own
    logs, failed = tmp_path / "results/logs", tmp_path / "results/notebooks/03_divide.failed.ipynb"
    assert (logs / "divide.error").read_text() == f"{line}\n"
    assert failed.exists() and not (logs / "steps" / "divide.json").exists()
    with sole_user(logs / "divide.lock", ""), pytest.raises(Gz2vitError, match="'divide' still"):
        run_step("1 / 1")  # not beside itself
    run_step("1 / 1")
    assert not failed.exists()


def test_lines_are_headed():
    writer = StepWriter("pack", stream := io.StringIO())
    writer.write("first li")
    writer.write("ne\n\nsecond\r10 %\rdone\n")
    assert stream.getvalue() == "[pack] first line\n[pack] second\n[pack] 10 %\n[pack] done\n"
