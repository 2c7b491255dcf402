"""The command line. Each command is a few lines around one function of a room; nothing heavy loads before it runs.

Results go to standard output (``--json`` for machines), progress and complaints to standard error. Bad input: one
line, exit 2.
"""

from __future__ import annotations

import json
import signal
import sys
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from affectscope.cli_checks import corpus, doctor
from affectscope.cli_eval import evaluate
from affectscope.cli_guard import counterfactual, keys, policy, verify
from affectscope.cli_live import calibrate, chat, detect, monitor
from affectscope.cli_serve import api_keys, serve
from affectscope.cli_traces import traces
from affectscope.errors import AffectscopeError
from affectscope.options import (
    DEFAULT_VECTORS,
    MODEL,
    AgainOpt,
    BlocksOpt,
    CorpusOpt,
    DeviceOpt,
    DtypeOpt,
    FullOpt,
    JsonOpt,
    LayersOpt,
    ModelArg,
    ModelOpt,
    NormOpt,
    OfVectorsOpt,
    QuickOpt,
    SweepOpt,
    TopicsOpt,
    UncrossedOpt,
    VectorsOpt,
)
from affectscope.shared import load_for, load_named, show
from affectscope.terminal import Progress, say, show_scan, vectors_text

if TYPE_CHECKING:
    from affectscope.concepts.stories import Corpus
    from affectscope.validation.base import Effort, Result

app = typer.Typer(
    help="An oscilloscope, and a circuit breaker, for the functional emotions of language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    rich_markup_mode=None,
)
app.add_typer(traces)
app.add_typer(policy)
app.add_typer(keys)
app.add_typer(api_keys)


@app.callback()
def settings(ctx: typer.Context) -> None:
    """Settings come from flags, then AFFECTSCOPE_* variables, then affectscope.toml in this folder."""
    path = Path("affectscope.toml")
    if path.is_file():
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise AffectscopeError(f"affectscope.toml cannot be read ({error}): mend or remove it") from error
        flat = {k.replace("-", "_"): v for k, v in values.items() if not isinstance(v, dict)}
        names = list(getattr(ctx.command, "commands", {}))
        ctx.default_map = {name: flat | values.get(name, {}) for name in names}


@app.command()
def extract(
    model_name: ModelArg = None,
    model: ModelOpt = MODEL,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write.")] = Path(DEFAULT_VECTORS),
    layers: LayersOpt = "two-thirds",
    corpus: CorpusOpt = None,
    topics: TopicsOpt = None,
    allow_uncrossed: UncrossedOpt = False,
    dtype: DtypeOpt = "auto",
    device: DeviceOpt = "auto",
    blocks: BlocksOpt = "",
    final_norm: NormOpt = "",
    as_json: JsonOpt = False,
) -> None:
    """Extract the emotion vectors of a model into one file. Interrupt it and run it again: it goes on."""
    from affectscope import api

    stories = _corpus(corpus, topics)
    loaded = load_named(model_name or model, dtype, device, blocks, final_norm)
    with Progress() as progress:
        vectors, _ = api.extract(loaded, stories, layers=layers, allow_uncrossed=allow_uncrossed, progress=progress)
    vectors.save(out)
    facts = {
        "out": str(out),
        "concepts": len(vectors.concepts),
        "layers": list(vectors.layers),
        "read_layer": vectors.read_layer,
    }
    show(
        facts,
        as_json,
        f"{out}: {len(vectors.concepts)} concepts, {len(vectors.layers)} layer(s), read at {vectors.read_layer}",
    )


@app.command()
def inspect(
    vectors_file: Annotated[Path | None, typer.Argument(metavar="[VECTORS]", help="As --vectors.")] = None,
    vectors: VectorsOpt = Path(DEFAULT_VECTORS),
    concept: Annotated[str, typer.Option(help="Tell about one concept: its nearest and farthest.")] = "",
    as_json: JsonOpt = False,
) -> None:
    """Say what a vectors file holds and where it came from."""
    from affectscope.vectors.artefact import load_vectors
    from affectscope.vectors.geometry import cosines, neighbours

    found = load_vectors(vectors_file or vectors)
    if concept:
        near, far = neighbours(cosines(found.vectors[found.place()]), found.select([concept])[0], 7, 7)
        told = {
            name: [[found.concepts[i], round(value, 3)] for i, value in part]
            for name, part in (("nearest", near), ("farthest", far))
        }
        lines = [f"{name:9}" + ", ".join(f"{n} {c:+.2f}" for n, c in part) for name, part in told.items()]
        return show({"concept": concept, "layer": found.read_layer, **told}, as_json, "\n".join(lines))
    facts = {
        "concepts": list(found.concepts),
        "layers": list(found.layers),
        "read_layer": found.read_layer,
        "mean_norm": round(float(found.mean_norm[found.place()]), 3),
        "model": found.model,
        "recipe": found.recipe,
        "corpus": found.corpus,
    }
    show(facts, as_json, vectors_text(found))


@app.command()
def validate(
    vectors_file: Annotated[Path | None, typer.Argument(metavar="[VECTORS]", help="As --vectors.")] = None,
    vectors: VectorsOpt = Path(DEFAULT_VECTORS),
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the report.")] = Path("validation"),
    model: OfVectorsOpt = "",
    corpus: CorpusOpt = None,
    only: Annotated[str, typer.Option(help="Experiments to run, separated by commas; see --list.")] = "",
    listing: Annotated[bool, typer.Option("--list", help="List the experiments and stop.")] = False,
    quick: QuickOpt = False,
    full: FullOpt = False,
    again: AgainOpt = False,
    texts: SweepOpt = None,
    dtype: DtypeOpt = "auto",
    device: DeviceOpt = "auto",
    blocks: BlocksOpt = "",
    final_norm: NormOpt = "",
    as_json: JsonOpt = False,
) -> None:
    """Prove what the vectors are: the paper's experiments and their controls. Interrupt it and run it again: it goes on."""
    from affectscope import api
    from affectscope.report.audit import write_report
    from affectscope.vectors.artefact import load_vectors

    wanted = [name.strip() for name in only.split(",") if name.strip()]
    chosen = api.chosen_experiments(wanted)  # a wrong name is told before a model is loaded
    if listing:
        rows = [{"name": e.name, "title": e.title, "about": e.about} for e in chosen]
        return show(rows, as_json, "\n".join(f"{e.name:18} {e.about}" for e in chosen))
    effort = _effort(quick, full)
    api.check_texts(texts or [])
    found = load_vectors(vectors_file or vectors)
    loaded = load_for(found, model, dtype, device, blocks, final_norm)
    with Progress() as progress:
        subject = api.subject_of(loaded, found, _corpus(corpus, None) if corpus else None, progress, effort)
        results = api.validate(
            subject, only=wanted, out=out, again=again, progress=progress, tell=lambda r: progress.say(_line(r))
        )
        page = write_report(subject, results, out, api.swept(subject, texts or [], out, again, progress))
    show([r.as_dict() for r in results], as_json, f"report: {page}")


@app.command()
def audit(
    model_name: ModelArg = None,
    model: ModelOpt = MODEL,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for vectors and report.")] = Path("audit"),
    layers: LayersOpt = "auto",
    corpus: CorpusOpt = None,
    topics: TopicsOpt = None,
    allow_uncrossed: UncrossedOpt = False,
    quick: QuickOpt = False,
    full: FullOpt = False,
    again: AgainOpt = False,
    texts: SweepOpt = None,
    dtype: DtypeOpt = "auto",
    device: DeviceOpt = "auto",
    blocks: BlocksOpt = "",
    final_norm: NormOpt = "",
    as_json: JsonOpt = False,
) -> None:
    """Extract, validate and read situations; leave report.html and report.json."""
    from affectscope import api

    start, effort = time.perf_counter(), _effort(quick, full)
    stories = _corpus(corpus, topics)
    loaded = load_named(model_name or model, dtype, device, blocks, final_norm)
    with Progress() as progress:
        page = api.audit(
            loaded,
            out,
            stories,
            layers=layers,
            allow_uncrossed=allow_uncrossed,
            effort=effort,
            again=again,
            texts=texts or [],
            progress=progress,
            tell=lambda r: progress.say(_line(r)),
        )
    took = time.perf_counter() - start
    show(
        {"report": str(page), "seconds": round(took, 1)}, as_json, f"report: {page.resolve()} ({took / 60:.1f} minutes)"
    )


@app.command()
def scan(
    first: Annotated[
        str, typer.Argument(metavar="[VECTORS] FILE", help="A text, a .json conversation, or - for standard input.")
    ],
    second: Annotated[str | None, typer.Argument(metavar="", hidden=True)] = None,
    vectors: VectorsOpt = Path(DEFAULT_VECTORS),
    model: OfVectorsOpt = "",
    concepts: Annotated[
        str, typer.Option("--concepts", "-c", help="Concepts, separated by commas; the five highest when not given.")
    ] = "",
    layer: Annotated[int | None, typer.Option(help="Another layer of the file than its read layer.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a token.")] = False,
    jsonl: Annotated[Path | None, typer.Option(help="Write one JSON object a token here.")] = None,
    parquet: Annotated[Path | None, typer.Option(help="Write a Parquet table here.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page here.")] = None,
    dtype: DtypeOpt = "auto",
    device: DeviceOpt = "auto",
    blocks: BlocksOpt = "",
    final_norm: NormOpt = "",
) -> None:
    """Read a text token by token: how far each concept's representation lies from its baseline (z)."""
    from affectscope.files import replacing
    from affectscope.monitoring.scan import read_input, write_jsonl, write_parquet
    from affectscope.monitoring.scan import scan as read
    from affectscope.report.trace_page import render_scan
    from affectscope.vectors.artefact import load_vectors

    file, path = (second, Path(first)) if second else (first, vectors)
    text = read_input(_bytes(file), file)
    found = load_vectors(path)
    chosen = [name.strip() for name in concepts.split(",") if name.strip()]
    found.select(chosen)  # a wrong name is told before a model is loaded
    loaded = load_for(found, model, dtype, device, blocks, final_norm)
    result = read(loaded, found, text, concepts=chosen or None, layer=layer)
    if not chosen:
        result = read(loaded, found, text, concepts=[name for name, _ in result.top(5)], layer=layer)
    title = "standard input" if file == "-" else Path(file).name
    if jsonl:
        write_jsonl(result, jsonl)
    if parquet:
        write_parquet(result, parquet)
    if html:
        with replacing(html) as temporary:
            temporary.write_text(render_scan(result, title), encoding="utf-8")
    if as_json:
        for row in result.rows():
            sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
    elif not (jsonl or parquet or html):
        show_scan(result)


@app.command()
def sweep(
    vectors: Annotated[Path, typer.Argument(help="File made by `affectscope extract`.")],
    files: Annotated[list[Path], typer.Argument(help="Texts: .txt, .md, .jsonl or .parquet.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the result.")] = Path("sweep"),
    model: OfVectorsOpt = "",
    passage: Annotated[int, typer.Option(help="Most tokens of a passage.")] = 128,
    top: Annotated[int, typer.Option(help="Passages kept for each concept.")] = 20,
    column: Annotated[
        str, typer.Option(help="Field of JSON Lines, or column of Parquet, that holds the text.")
    ] = "text",
    against: Annotated[
        Path | None, typer.Option(help="The sweep.json of another model on the same texts, to compare with.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Begin anew, whatever lies in the folder.")] = False,
    dtype: DtypeOpt = "auto",
    device: DeviceOpt = "auto",
    blocks: BlocksOpt = "",
    final_norm: NormOpt = "",
    as_json: JsonOpt = False,
) -> None:
    """Find the passages of a large text that represent each concept most. Interrupt it and run it again: it goes on."""
    from affectscope.monitoring.passages import check_files
    from affectscope.monitoring.sweep import sweep as run_sweep
    from affectscope.report.sweep import compare, read_sweep, write_sweep
    from affectscope.vectors.artefact import load_vectors

    found = load_vectors(vectors)
    check_files(files, column)
    if against:
        read_sweep(against)  # a wrong file is told before a model is loaded
    loaded = load_for(found, model, dtype, device, blocks, final_norm)
    with Progress() as progress:
        result = run_sweep(
            loaded,
            found,
            files,
            out,
            passage=passage,
            keep=top,
            column=column,
            again=again,
            progress=progress,
            tell=say,
        )
    if against:
        result["against"] = compare(loaded, files, out, against)
    page = write_sweep(result, out)
    facts = {"page": str(page), "passages": result["passages"], "tokens": result["tokens"]}
    show(facts, as_json, f"{result['passages']} passages, {result['tokens']} tokens: {page.resolve()}")


app.command("eval")(evaluate)
for command in (doctor, corpus, calibrate, detect, monitor, chat, serve, verify, counterfactual):
    app.command()(command)


def _corpus(path: Path | None, topics: int | None) -> Corpus:
    from affectscope.concepts.stories import load_stories

    return load_stories(path, topics)


def _effort(quick: bool, full: bool) -> Effort:
    if quick and full:
        raise AffectscopeError("--quick and --full exclude each other: give one of them")
    return "quick" if quick else "full" if full else "normal"


def _line(result: Result) -> str:
    return f"{result.verdict:9} {result.name}: {result.finding} ({result.seconds:.0f} s)"


def _bytes(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise AffectscopeError(f"cannot read {file}: {error.strerror}; check the path") from error


class _Interrupted(BaseException):
    """Control-C. Not a KeyboardInterrupt, which typer would turn into its own word and exit code."""


def _interrupt(_signal: int, _frame: object) -> None:
    raise _Interrupted


def main() -> None:
    """Run the command line; bad input becomes one line and exit code 2."""
    signal.signal(signal.SIGINT, _interrupt)
    try:
        app()
    except AffectscopeError as error:
        say(f"affectscope: {error}")
        sys.exit(2)
    except _Interrupted:
        say("affectscope: interrupted; run the same command again and it goes on from here")
        sys.exit(2)
