"""A planted tiny model behind a guard: a calibration of the small policy's rule on its own conversations."""

import numpy as np
import pytest

from affectscope.concepts.episodes import Opening
from affectscope.concepts.neutral import Message
from affectscope.engines.base import Sampling
from affectscope.engines.transformers import TransformersEngine
from affectscope.guarding.keys import new_keys
from affectscope.monitoring.calibrate import calibrate
from affectscope.monitoring.monitor import monitor
from tests.conftest import WORDS
from tests.guarding.test_policy import small

SHORT = Sampling(temperature=1.0, max_tokens=6, seed=0)


@pytest.fixture(scope="session")
def guard_calibration(planted, planted_vectors):
    rng = np.random.default_rng(0)
    openings = [Opening((Message("user", " ".join(map(str, rng.choice(WORDS, 12)))),), {}) for _ in range(330)]
    watching = monitor(planted_vectors, rules=small().monitor_rules())
    engine = TransformersEngine(planted[0], watching.read, slots=16)
    return calibrate(engine, planted_vectors, watching, openings, alpha=0.05, sampling=SHORT)


@pytest.fixture
def keys(tmp_path):
    return new_keys(tmp_path / "keys")


@pytest.fixture
def file(tmp_path, keys):
    """A whole file of evidence."""
    from tests.guarding.test_evidence import session

    path = tmp_path / "evidence.jsonl"
    session(path, keys)
    return path
