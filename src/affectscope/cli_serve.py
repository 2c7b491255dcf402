"""The commands around the server: serve, api-keys."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from affectscope.errors import AffectscopeError
from affectscope.options import DEFAULT_VECTORS, MODEL, DeviceOpt, DtypeOpt, JsonOpt, ReadingsOpt
from affectscope.shared import load_named, show
from affectscope.terminal import Progress, say

if TYPE_CHECKING:
    from affectscope.guarding.keys import Keys
    from affectscope.integrations.telemetry import Telemetry
    from affectscope.models.load import Model
    from affectscope.monitoring.calibration import Calibration
    from affectscope.server.api_keys import ApiKeys
    from affectscope.server.served import Served
    from affectscope.server.state import Limits, State
    from affectscope.server.upstream import Upstream
    from affectscope.vectors.artefact import ConceptVectors

api_keys = typer.Typer(name="api-keys", help="Keys of a server's users: add, list, revoke.", no_args_is_help=True)
KeysOpt = Annotated[
    Path | None, typer.Option("--keys", envvar="AFFECTSCOPE_API_KEYS", help="File of the users' keys (hashes only).")
]
FIRST = "first"
"""Name of the key that a server makes for itself where there is no file of keys."""


def serve(
    model: Annotated[str, typer.Argument(metavar="[MODEL]", help="Hub id, folder, GGUF file, or smollm2-135m.")] = MODEL,
    vectors: Annotated[
        Path | None, typer.Option("--vectors", "-v", envvar="AFFECTSCOPE_VECTORS", help=f"Made by `affectscope extract`; {DEFAULT_VECTORS}, extracted if it is not there.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option("--calibration", "-c", envvar="AFFECTSCOPE_CALIBRATION", help="Made by `affectscope calibrate --policy`; without one: readings, and no alarm or policy.")
    ] = None,
    policy: Annotated[
        list[str] | None, typer.Option("--policy", "-p", help="observe, cautious, strict, or a YAML file. The first is the floor; a request may pick a stricter one (repeatable).  [default: cautious, with a calibration]")
    ] = None,
    db: Annotated[str, typer.Option("--db", envvar="AFFECTSCOPE_STORE", help="Traces: a folder (SQLite) or a postgresql:// URL.")] = "traces",
    readings: ReadingsOpt = None,
    evidence: Annotated[Path | None, typer.Option(help="Folder that gets a file of evidence for each guarded session.")] = None,
    host: Annotated[str, typer.Option(help="Address; others than loopback need --keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port.")] = 8000,
    keys: KeysOpt = None,
    slots: Annotated[int, typer.Option(min=1, max=512, help="Replies at once.")] = 8,
    queue: Annotated[int, typer.Option(min=0, help="Replies that may wait; more get 429.")] = 64,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of one reply.")] = 1024,
    rate: Annotated[int, typer.Option(min=0, help="Requests a minute of one key; 0: no limit.")] = 0,
    pins: Annotated[Path | None, typer.Option(help="File of hashes: written at the first start, and a start with other files is refused.")] = None,
    control_log: Annotated[Path | None, typer.Option(help="Gets a chained line for each control call.  [default: control.jsonl beside the readings]")] = None,
    report: Annotated[Path | None, typer.Option(help="Page or folder of `affectscope audit`, shown on the dashboard.")] = None,
    otlp: Annotated[str, typer.Option("--otlp", envvar="OTEL_EXPORTER_OTLP_ENDPOINT", help="Base URL of an OpenTelemetry collector (OTLP over HTTP), which is told of requests, never of texts.")] = "",
    upstream: Annotated[str | None, typer.Option("--upstream", envvar="AFFECTSCOPE_UPSTREAM", help="Base URL of another engine with OpenAI's API: its replies pass, and MODEL reads their text. Its key: AFFECTSCOPE_UPSTREAM_KEY.")] = None,
    upstream_timeout: Annotated[float, typer.Option(min=0.1, help="Seconds without a byte from it, after which an answer is given up.")] = 600.0,
    keep_content: Annotated[bool, typer.Option("--keep-content", help="Keep what was said in traces and evidence.")] = False,
    tls_certificate: Annotated[Path | None, typer.Option(help="PEM file; with --tls-key.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file.")] = None,
    canaries: Annotated[bool, typer.Option(help="Refuse to start if a desperate text and a calm one are not told apart.")] = True,
    bare: Annotated[bool, typer.Option("--bare", help="Read and guard nothing; with -c tokens are drawn as in its replies. What a bench compares with.")] = False,
    dtype: DtypeOpt = "auto",
    device: DeviceOpt = "auto",
) -> None:  # fmt: skip
    """Serve a model with OpenAI's API; every reply is read, and guarded where there is a calibration."""
    from affectscope.guarding.policy import load_policy
    from affectscope.monitoring.calibration import load_calibration
    from affectscope.monitoring.store import Store
    from affectscope.server.rereading import Proxied
    from affectscope.server.run import serve_app
    from affectscope.server.served import Kept, Served
    from affectscope.server.state import Limits
    from affectscope.vectors.artefact import load_vectors

    if (tls_certificate is None) != (tls_key is None):
        raise AffectscopeError("TLS needs both --tls-certificate and --tls-key")
    if not _loopback(host) and keys is None:
        raise AffectscopeError(f"{host} can be reached from elsewhere: give --keys, made by `affectscope api-keys add`")
    telemetry = _telemetry(otlp)
    behind = _upstream(upstream, upstream_timeout, policy or [], evidence, bare)
    limits = _limits(calibration, policy or [], evidence, bare)
    if vectors is not None and not bare:
        load_vectors(vectors)  # a wrong file is told before a model is loaded
    known = _keys(keys)
    loaded = load_named(model, dtype, device)
    if bare:
        how = load_calibration(calibration).drawing if calibration is not None else None
        served = Served(loaded, slots=slots, sampling=how)
    else:
        with Progress() as progress:
            found = _vectors(vectors, loaded, progress)
        kept = Kept(Store.open(db, readings=readings), evidence, _evidence_keys(evidence), keep_content)
        acting = ["cautious"] if limits is not None and behind is None else []
        chosen = [load_policy(p) for p in policy or acting]
        if behind is None:
            served = Served(loaded, found, limits, chosen, slots=slots, kept=kept, canaries=canaries)
        else:
            served = Proxied(behind, loaded, found, limits, chosen, slots=slots, kept=kept, canaries=canaries)
    state = _state(served, known, Limits(longest=max_tokens, waiting=queue, per_minute=rate), pins, control_log, report)
    state.telemetry = telemetry
    promise = f", alarms at {served.calibration.alpha:g} a conversation" if served.calibration else ""
    said = {"guarded": f"guarded by {', or on request by '.join(served.policies)}{promise}", "watched": "read, not guarded: give --calibration for alarms and a policy", "plain": "not read"}  # fmt: skip
    if behind is not None:
        if otlp:
            say("--otlp is told nothing of requests in front of another engine")
        said["watched"] = f"reads the text of {behind.url}, whose own state it cannot see" + (
            ", alarms without a promised rate" if limits else ""
        )
    say(f"{served.name}: {said[served.grade]}")
    serve_app(state, host, port, tls_certificate, tls_key)


@api_keys.command()
def add(
    name: Annotated[str, typer.Argument(help="Who uses it; stands in records.")],
    keys: KeysOpt = None,
    scope: Annotated[list[str] | None, typer.Option(help="infer, read, control, admin (repeatable).  [default: infer]")] = None,
    tenant: Annotated[str, typer.Option(help="Whose traces and sessions it sees.")] = "default",
    days: Annotated[float | None, typer.Option(help="Days until it expires.")] = None,
) -> None:  # fmt: skip
    """Make a key and print it, this once. A running server knows it within a second."""
    from affectscope.server.api_keys import add_key

    print(add_key(keys or _place(), name, scope or ["infer"], tenant, days))


@api_keys.command("list")
def listed(keys: KeysOpt = None, as_json: JsonOpt = False) -> None:
    """Names, tenants and scopes; never the keys, which are nowhere."""
    from affectscope.server.api_keys import ApiKeys

    rows = [key.plain() for key in ApiKeys(keys or _place()).list()]
    lines = [f"{r['name']:20} {r['tenant']:20} {','.join(r['scopes'])}" for r in rows]
    show(rows, as_json, "\n".join(lines) or "no keys")


@api_keys.command()
def revoke(name: Annotated[str, typer.Argument(help="The key's name.")], keys: KeysOpt = None) -> None:
    """Take a key away. A running server refuses it within a second."""
    from affectscope.server.api_keys import revoke_key

    revoke_key(keys or _place(), name)


def _place() -> Path:
    from affectscope.guarding.keys import keys_folder

    return keys_folder() / "api-keys.json"


def _keys(given: Path | None) -> ApiKeys:
    """The file's keys; without one, our own file, whose first key is made and printed once."""
    from affectscope.server.api_keys import ApiKeys, add_key

    place = given or _place()
    if given is None and not place.exists():
        key = add_key(place, FIRST, ["admin"])
        say(f"the first key, shown this once: {key}")
        say(f"its hash lies in {place}; more with `affectscope api-keys add NAME`")
    return ApiKeys(place)


def _state(
    served: Served, keys: ApiKeys, limits: Limits, pins: Path | None, control_log: Path | None, report: Path | None
) -> State:
    """What the application runs on, its files checked; the served model is let go where one of them is wrong."""
    from affectscope.server.control_log import ControlLog
    from affectscope.server.pins import require_pins
    from affectscope.server.state import State

    try:
        if pins is not None:
            require_pins(pins, served.hashes)
        page = report / "report.html" if report is not None and report.is_dir() else report
        if page is not None and not page.is_file():
            raise AffectscopeError(f"there is no report {page}: make one with `affectscope audit`")
        store = served.kept.store
        place = control_log or (store.place.readings.parent / "control.jsonl" if store is not None else None)
        return State(served, keys, limits, ControlLog(place), page)
    except AffectscopeError:
        served.close()
        raise


def _telemetry(endpoint: str) -> Telemetry:
    """Who is told of requests: the collector at an address, or nobody."""
    if not endpoint:
        from affectscope.integrations.telemetry import Telemetry

        return Telemetry()
    try:
        from affectscope.integrations.opentelemetry import OpenTelemetry
    except ModuleNotFoundError as error:
        raise AffectscopeError(
            "--otlp needs OpenTelemetry's exporter, which is not installed: pip install 'affectscope[otel]'"
        ) from error
    return OpenTelemetry(endpoint)


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _vectors(given: Path | None, model: Model, progress: Progress) -> ConceptVectors:
    """The vectors of a file; the default one is made where it is missing."""
    from affectscope.api import extract
    from affectscope.vectors.artefact import load_vectors

    place = given or Path(DEFAULT_VECTORS)
    if given is None and not place.exists():
        say(f"{place} is not there: extracting the vectors of {model.name} (minutes, this once)")
        made, _ = extract(model, progress=progress)
        made.save(place)
    return load_vectors(place)


def _limits(calibration: Path | None, policies: list[str], evidence: Path | None, bare: bool) -> Calibration | None:
    """The calibration of a file, and that nothing else is asked for that needs one."""
    from affectscope.guarding.policy import load_policy
    from affectscope.monitoring.calibration import load_calibration

    if calibration is not None and not bare:
        for policy in policies:
            load_policy(policy)
        return load_calibration(calibration)
    if policies:
        raise AffectscopeError(
            f"a policy needs thresholds: give -c, made by `affectscope calibrate --policy {policies[0]}`"
        )
    if evidence is not None:
        raise AffectscopeError("evidence is of guarded sessions: give -c, a calibration")
    return None


def _upstream(
    url: str | None, seconds: float, policies: list[str], evidence: Path | None, bare: bool
) -> Upstream | None:
    """The engine behind, and that nothing else is asked for that it cannot give."""
    if url is None:
        return None
    from affectscope.guarding.policy import load_policy
    from affectscope.server.rereading import require_observing
    from affectscope.server.upstream import Upstream, key_in

    if bare:
        raise AffectscopeError("--upstream is there for the reading, and --bare reads nothing: leave one of them out")
    if evidence is not None:
        raise AffectscopeError("evidence is of guarded sessions, and the engine behind --upstream cannot be guarded: leave --evidence out")  # fmt: skip
    for policy in policies:
        require_observing(load_policy(policy))
    return Upstream(url, key_in(os.environ), seconds)


def _evidence_keys(evidence: Path | None) -> Keys | None:
    from affectscope.files import disk_errors
    from affectscope.guarding.keys import load_keys

    if evidence is None:
        return None
    with disk_errors(evidence, "--evidence"):
        evidence.mkdir(parents=True, exist_ok=True)
    return load_keys()
