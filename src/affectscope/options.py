"""Options that several commands share, each written once: its flags, its variable, its help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_VECTORS = "model.vectors.safetensors"
ModelArg = Annotated[str | None, typer.Argument(metavar="[MODEL]", help="As --model.", show_default=False)]
ModelOpt = Annotated[
    str, typer.Option("--model", "-m", envvar="AFFECTSCOPE_MODEL", help="Hub id, folder, GGUF file, or smollm2-135m.")
]
OfVectorsOpt = Annotated[
    str, typer.Option("--model", "-m", help="The model; the one named in the vectors when not given.")
]
VectorsOpt = Annotated[
    Path, typer.Option("--vectors", "-v", envvar="AFFECTSCOPE_VECTORS", help="File made by `affectscope extract`.")
]
DtypeOpt = Annotated[str, typer.Option(envvar="AFFECTSCOPE_DTYPE", help="float32, bfloat16, float16, or auto.")]
DeviceOpt = Annotated[str, typer.Option(envvar="AFFECTSCOPE_DEVICE", help="cpu, cuda, or auto.")]
BlocksOpt = Annotated[str, typer.Option(help="Dotted name of the block list of an unknown architecture.")]
NormOpt = Annotated[str, typer.Option(help="Dotted name of its final norm.")]
CorpusOpt = Annotated[Path | None, typer.Option(help="Your own stories, JSON Lines: emotion, topic, person, text.")]
TopicsOpt = Annotated[int | None, typer.Option(help="Use the first N topics only.")]
LayersOpt = Annotated[str, typer.Option(help="two-thirds, auto, all, or numbers such as 12,18-20.")]
UncrossedOpt = Annotated[bool, typer.Option("--allow-uncrossed", help="Accept topics as a confound.")]
QuickOpt = Annotated[bool, typer.Option("--quick", help="Fewer items and arms: minutes instead of a quarter hour.")]
FullOpt = Annotated[bool, typer.Option("--full", help="The paper's own numbers of vectors and pairs: hours.")]
AgainOpt = Annotated[
    bool, typer.Option("--again", help="Run experiments anew whose results lie in the folder already.")
]
SweepOpt = Annotated[
    list[Path] | None,
    typer.Option("--sweep", help="A large text to sweep as well (repeatable); see `affectscope sweep`."),
]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
StoreOpt = Annotated[
    str, typer.Option("--store", "-s", envvar="AFFECTSCOPE_STORE", help="Folder of the traces, or postgresql:// URL.")
]
ReadingsOpt = Annotated[
    Path | None,
    typer.Option("--readings", envvar="AFFECTSCOPE_READINGS", help="Folder of the readings of a postgresql:// store."),
]
STORE = "traces"
MODEL = "smollm2-135m"
