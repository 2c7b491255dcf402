"""A server of a planted tiny model on a free loopback port, and its users' keys."""

import pytest

from affectscope.monitoring.store import Store
from affectscope.server.api_keys import ApiKeys, add_key
from affectscope.server.served import Kept, Served
from affectscope.server.state import Limits, State
from tests.guarding.conftest import guard_calibration  # noqa: F401
from tests.guarding.test_policy import small
from tests.monitoring.conftest import postgres  # noqa: F401
from tests.server.fronts import behind, front  # noqa: F401
from tests.server.running import running_server


def made_keys(path):
    """Keys of two tenants: each with every scope alone, and an administrator."""
    users = {
        "infer": (["infer"], "one"),
        "read": (["read"], "one"),
        "control": (["control"], "one"),
        "user": (["infer", "read", "control"], "one"),
        "other": (["infer", "read", "control"], "two"),
        "admin": (["admin"], "one"),
    }
    return {name: add_key(path, name, scopes, tenant) for name, (scopes, tenant) in users.items()}


def lowered(calibration, to=-1e6):
    """The calibration with thresholds that anything crosses."""
    lower = [t.model_copy(update={"value": to}) for t in calibration.thresholds]
    return calibration.model_copy(update={"thresholds": type(calibration.thresholds)(lower)})


@pytest.fixture
def start(planted, planted_vectors, guard_calibration, tmp_path):  # noqa: F811
    """``start(...)``: a running server; everything of it ends with the test."""
    running = []

    def begin(
        policies=(small(),), calibration=guard_calibration, vectors=planted_vectors, limits=None, slots=4, **kept
    ):
        folder = tmp_path / f"server{len(running)}"
        folder.mkdir()
        keys = made_keys(folder / "keys.json")
        store = Store.open(folder / "traces") if vectors is not None else None
        served = Served(
            planted[0],
            vectors,
            calibration,
            policies,
            slots=slots,
            kept=Kept(store, **kept),
            canaries=False,
            name="planted",
        )
        state = State(served, ApiKeys(folder / "keys.json"), limits or Limits(longest=64, drain=5))
        found = running_server(state)
        found.keys, found.state, found.store, found.folder = keys, state, store, folder
        running.append(found)
        return found

    yield begin
    for one in running:
        one.server.should_exit = True
    for one in running:
        one.thread.join(30)
        assert not one.thread.is_alive()


def client(server, key="user"):
    import openai

    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.keys[key], max_retries=0, timeout=60)
