"""Threads of a pool that is not needed any more are given back."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, torch
from affectscope.engines.threads import release_threads
torch.set_num_threads(3)
matrix = torch.rand(700, 700)
def count():
    matrix @ matrix
    return len(os.listdir("/proc/self/task"))
made = count()
assert release_threads()
left = len(os.listdir("/proc/self/task"))
again = count()
print(made - left, again - left)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="torch has libgomp on Linux only")
def test_a_pool_is_given_back_and_made_again():
    environment = os.environ | {"OMP_NUM_THREADS": "3"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    given_back, made_again = map(int, done.stdout.split())
    assert given_back == made_again
    assert given_back >= 2
