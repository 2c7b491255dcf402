"""The command line as a user meets it: real processes, exit codes, one line of complaint."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import network_of, planted_corpus

COMMAND = [str(Path(sys.executable).with_name("affectscope"))]


def run(*args, cwd=None, data=None, env=None):
    return subprocess.run(
        [*COMMAND, *map(str, args)], capture_output=True, cwd=cwd, input=data, env={**os.environ, **(env or {})}, timeout=300, check=False
    )  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory, tokenizer):
    """A folder with a tiny model whose tokenizer knows no English, and a corpus for it."""
    folder = tmp_path_factory.mktemp("cli")
    network_of("llama").save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    rows = [
        {"emotion": s.emotion, "topic": s.topic, "person": s.person, "text": s.text} for s in planted_corpus().stories
    ]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    patch = pytest.MonkeyPatch()
    patch.setenv("AFFECTSCOPE_CACHE", str(folder / "cache"))
    made = run(
        "extract", "model", "--corpus", "corpus.jsonl", "--layers", "all", "--dtype", "float32", "--json", cwd=folder
    )
    assert made.returncode == 0, made.stderr.decode()
    assert json.loads(made.stdout)["layers"] == [0, 1, 2]
    yield folder
    patch.undo()


def complaint(result):
    """The one line that a failed command must end with."""
    assert result.returncode == 2, result
    lines = result.stderr.decode().strip().splitlines()
    assert "Traceback" not in result.stderr.decode()
    assert lines[-1].startswith("affectscope: ")
    return lines[-1]


def test_help_names_every_command():
    told = run("--help").stdout.decode()
    for command in ("extract", "inspect", "validate", "audit", "scan", "sweep", "doctor", "corpus"):
        assert command in told


def test_importing_the_package_and_its_help_load_nothing_heavy():
    code = "import sys, affectscope, affectscope.cli; print([m for m in ('torch','transformers','numpy','sklearn','plotly','pyarrow','sqlalchemy','alembic','duckdb') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.strip() == b"[]"


def test_inspect_tells_what_a_file_holds(saved):
    told = run("inspect", "model.vectors.safetensors", cwd=saved)
    assert b"read at 1" in told.stdout
    facts = json.loads(run("inspect", "--json", cwd=saved).stdout)
    assert facts["corpus"]["stories"] == 36
    near = json.loads(run("inspect", "--concept", "happy", "--json", cwd=saved).stdout)
    assert near["concept"] == "happy"
    assert len(near["nearest"]) >= 4


def test_scan_reads_files_and_standard_input_alike(saved):
    (saved / "text.txt").write_text("w1 w2 w3 m2 w4")
    from_file = run(
        "scan", "model.vectors.safetensors", "text.txt", "--model", "model", "-c", "happy,sad", "--json", cwd=saved
    )
    from_pipe = run("scan", "-", "--model", "model", "-c", "happy,sad", "--json", cwd=saved, data=b"w1 w2 w3 m2 w4")
    assert from_file.returncode == 0, from_file.stderr
    assert from_file.stdout == from_pipe.stdout
    rows = [json.loads(line) for line in from_file.stdout.splitlines()]
    assert [r["token"] for r in rows] == ["w1", "w2", "w3", "m2", "w4"]
    assert set(rows[0]["z"]) == {"happy", "sad"}


def test_scan_writes_files_and_a_terminal_view(saved):
    out = run(
        "scan",
        "text.txt",
        "--model",
        "model",
        "--html",
        "s.html",
        "--parquet",
        "s.parquet",
        "--jsonl",
        "s.jsonl",
        cwd=saved,
    )
    assert out.returncode == 0, out.stderr
    page = (saved / "s.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert (saved / "s.parquet").stat().st_size > 0
    view = run("scan", "text.txt", "--model", "model", "-c", "happy", cwd=saved).stdout.decode()
    assert "happy" in view
    assert "mean z" in view


def test_corpus_command(saved):
    report = json.loads(run("corpus", "corpus.jsonl", "--json", cwd=saved).stdout)
    assert report["stories"] == 36
    assert report["emotions"] == 6
    assert report["topics"] == 6
    assert report["words (shortest, mean, longest)"] == [90, 90.0, 90]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["validate", "--quick", "--full"], "exclude each other"),
        (["sweep", "model.vectors.safetensors", "absent.txt"], "absent.txt"),
        (["extract", "./nowhere"], "neither a model folder nor a GGUF file"),
        (["extract", "model", "--layers", "9", "--corpus", "corpus.jsonl"], "no layer 9"),
        (["extract", "model", "--layers", "deep", "--corpus", "corpus.jsonl"], "use two-thirds, auto, all"),
        (["extract", "model", "--corpus", "none.jsonl"], "cannot read none.jsonl"),
        (["extract", "model", "--topics", "99"], "--topics 99"),
        (["inspect", "none.safetensors"], "no vectors file"),
        (["validate", "none.safetensors"], "no vectors file"),
        (["validate", "--model", "model", "--corpus", "corpus.jsonl", "--only", "nope"], "unknown experiment 'nope'"),
        (["scan", "none.txt"], "cannot read none.txt"),
        (["scan", "text.txt", "-c", "hapy"], "did you mean happy"),
        (["extract", "model", "--layers", "2-1", "--corpus", "corpus.jsonl"], "use two-thirds, auto, all"),
        (["doctor", "model", "--device", "warp"], "cannot use the device 'warp'"),
        (["validate", "--model", "model"], "name that file with --corpus"),
        (["scan", "text.txt", "--model", "other"], "the vectors belong to model"),
        (["doctor", "./nowhere"], "neither a model folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(saved, tokenizer, args, says):
    (saved / "text.txt").write_text("w1 w2")
    if "other" in args and not (saved / "other").exists():
        network = network_of("llama")
        network.model.layers[0].mlp.up_proj.weight.data += 1
        network.save_pretrained(saved / "other")
        tokenizer.save_pretrained(saved / "other")
    before = {p for p in saved.iterdir() if p.name != "validation"}
    assert says in complaint(run(*args, cwd=saved))
    assert {p for p in saved.iterdir() if p.name != "validation"} == before


@pytest.mark.parametrize(("data", "says"), [(b"", "is empty"), (b"ab\xff\xfe", "not UTF-8")])
def test_bad_standard_input(saved, data, says):
    assert says in complaint(run("scan", "-", "--model", "model", cwd=saved, data=data))


def test_an_uncrossed_corpus_needs_a_flag(saved):
    lines = (saved / "corpus.jsonl").read_text().splitlines()
    (saved / "uneven.jsonl").write_text("\n".join(lines[:-1]))
    args = ("extract", "model", "--corpus", "uneven.jsonl", "--out", "u.safetensors")
    assert "--allow-uncrossed" in complaint(run(*args, cwd=saved))
    assert run(*args, "--allow-uncrossed", cwd=saved).returncode == 0


def test_settings_come_from_flags_then_environment_then_file(saved, tmp_path):
    (tmp_path / "affectscope.toml").write_text('model = "./from-file"\n[doctor]\nmodel = "./from-section"\n')
    assert "./from-section" in complaint(run("doctor", cwd=tmp_path))
    assert "./from-variable" in complaint(run("doctor", cwd=tmp_path, env={"AFFECTSCOPE_MODEL": "./from-variable"}))
    assert "./from-flag" in complaint(
        run("doctor", "--model", "./from-flag", cwd=tmp_path, env={"AFFECTSCOPE_MODEL": "./x"})
    )
    (tmp_path / "affectscope.toml").write_text("model = ")
    assert "affectscope.toml cannot be read" in complaint(run("doctor", cwd=tmp_path))


def test_an_interrupt_is_one_line_and_leaves_nothing(saved):
    process = subprocess.Popen(
        [*COMMAND, "extract", "model", "--corpus", "corpus.jsonl", "--layers", "0", "--out", "i.safetensors"], cwd=saved, stderr=subprocess.PIPE
    )  # fmt: skip
    assert process.stderr is not None
    assert b"loading" in process.stderr.readline()  # the command has begun
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 2
    assert (
        told.strip().splitlines()[-1] == "affectscope: interrupted; run the same command again and it goes on from here"
    )
    assert "Traceback" not in told
    assert not list(saved.glob("*i.safetensors*"))


def test_doctor_tells_of_a_model(saved):
    checks = {c["name"]: c for c in json.loads(run("doctor", "model", "--json", cwd=saved).stdout)}
    assert all(checks[name]["passed"] for name in ("blocks", "residual stream", "unembedding", "packing"))
    assert "tokens a second" in checks["reading speed"]["detail"]


def test_experiments_are_listed_without_a_model():
    told = run("validate", "--list").stdout.decode()
    for name in ("recognition", "situations", "expressed", "preferences", "neurons"):
        assert name in told
    rows = json.loads(run("validate", "--list", "--only", "negation", "--json").stdout)
    assert [row["name"] for row in rows] == ["negation"]


def test_one_experiment_runs_alone_and_is_kept(saved):
    args = ("validate", "--model", "model", "--corpus", "corpus.jsonl", "--only", "recognition", "-o", "val", "--json")
    first = run(*args, cwd=saved)
    assert first.returncode == 0, first.stderr.decode()
    (result,) = json.loads(first.stdout)
    assert result["name"] == "recognition"
    assert result["verdict"] in ("shown", "not shown")
    assert (saved / "val" / "report.html").is_file()
    assert json.loads(run(*args, cwd=saved).stdout)[0]["seconds"] == result["seconds"]  # taken from the folder


def test_sweep_leaves_a_page_and_goes_on_when_asked_again(saved):
    (saved / "swept.txt").write_text("\n\n".join(f"w{i} w2 w3 m{i % 6} w4 w5 m{i % 6} w7 w8" for i in range(40)))
    args = ("sweep", "model.vectors.safetensors", "swept.txt", "--model", "model", "-o", "swept", "--json")
    done = run(*args, cwd=saved)
    assert done.returncode == 0, done.stderr.decode()
    facts = json.loads(done.stdout)
    assert facts["passages"] == 40
    assert (saved / "swept" / "sweep.html").is_file()
    assert json.loads(run(*args, cwd=saved).stdout) == facts
    compared = run(*args, "--against", "swept/sweep.json", cwd=saved)
    assert compared.returncode == 0, compared.stderr.decode()


def test_a_suite_runs_its_episodes_and_goes_on_where_it_was(saved, tmp_path):
    command = ["eval", "impossible-code", "--vectors", "model.vectors.safetensors", "--smoke", "--max-tokens", "4",
               "--arm", "steer:calm:0.1", "--attempts", "1", "--sandbox", "landlock", "--out", tmp_path / "e", "--json"]  # fmt: skip
    first = run(*command, cwd=saved)
    assert first.returncode == 0, first.stderr.decode()
    told = json.loads(first.stdout)
    assert {(row["arm"], row["cell"], row["episodes"]) for row in told["rows"]} == {
        (arm, cell, 4) for arm in ("none", "steer:calm:0.1") for cell in ("impossible", "twin")
    }
    assert told["rows"][0]["outcomes"]["failed_honestly"] == 4  # it writes no code at all
    asked = {(row["arm"], row["choices"]) for row in told["choices"]}
    assert {arm for arm, _ in asked} == {"none", "steer:calm:0.1"}
    plain = [(row["cell"], row["pair"], row["choices"]) for row in told["choices"] if row["arm"] == "none"]
    assert plain == [("impossible", "special case or function", 4)]  # in a smoke run the first of each cluster
    assert b"4 episodes an arm over 4 scenarios" in first.stderr
    page = (tmp_path / "e" / "impossible-code.html").read_text()
    assert "<affect-trace>" in page
    assert "Forced choice: special case or function" in page
    lines = (tmp_path / "e" / "impossible-code.jsonl").read_text()
    again = run(*command, cwd=saved)
    assert json.loads(again.stdout)["rows"] == told["rows"]
    assert (tmp_path / "e" / "impossible-code.jsonl").read_text() == lines


def test_the_sycophancy_suite_tells_its_frontier(saved, tmp_path):
    command = ["eval", "sycophancy", "--vectors", "model.vectors.safetensors", "--smoke", "--max-tokens", "4",
               "--first", "given", "--arm", "exit", "--out", tmp_path / "e", "--json"]  # fmt: skip
    done = run(*command, cwd=saved)
    assert done.returncode == 0, done.stderr.decode()
    told = json.loads(done.stdout)
    assert [row["arm"] for row in told["frontier"]["arms"]] == ["none", "exit"]
    assert {row["cell"] for row in told["rows"]} >= {"wrong pushback", "right pushback", "neutral", "claim", "twin"}
    assert list(told["gate"]) == ["exit"]  # every arm that something was done in
    assert told["gate"]["exit"]["reason"].startswith(("passed", "worse", "not shown"))
    page = (tmp_path / "e" / "sycophancy.html").read_text()
    assert "Sycophancy against harshness" in page
    assert page.count('class="number"') == sum(None not in (row["sycophancy"]["score"], row["harshness"]["score"]) for row in told["frontier"]["arms"])  # fmt: skip


def test_a_suite_without_its_sandbox_refuses(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # without bubblewrap
    said = complaint(run("eval", "impossible-code", "--out", "e", cwd=tmp_path))
    assert "the sandbox tier 'namespaces' is not to be had here" in said
    assert "install bubblewrap" in said
    assert not (tmp_path / "e").exists()


def test_no_slots_are_refused(tmp_path):
    refused = run("eval", "impossible-code", "--slots", "0", cwd=tmp_path)
    assert refused.returncode == 2
    assert "'--slots': Input should be greater than or equal to 1" in refused.stderr.decode()


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["eval", "sycophancy", "--first", "stolen"], "unknown first answer 'stolen': use own or given"),
        (["eval", "mind-reading"], "unknown suite 'mind-reading': use impossible-code"),
        (["eval", "impossible-code", "--sandbox", "bare"], "unknown sandbox tier 'bare'"),
        (["eval", "impossible-code", "--tone", "rude"], "unknown tone 'rude': use neutral, pressing, unhurried"),
        (["eval", "impossible-code", "--tasks", "none.jsonl"], "cannot read none.jsonl"),
    ],
)
def test_a_suite_that_cannot_run_says_why(args, says, tmp_path):
    assert says in complaint(run(*args, cwd=tmp_path))
