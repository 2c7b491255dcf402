"""The command as a process: what it says, its end by a signal, its death under load, and what it refuses to begin with."""

import os
import re
import signal
import subprocess
import threading
from pathlib import Path

import openai
import pytest

from affectscope import cli_serve
from affectscope.errors import AffectscopeError
from affectscope.monitoring.store import Store
from tests.test_cli import COMMAND, complaint, run, saved  # noqa: F401

ASK = [{"role": "user", "content": "w1 w2 w3"}]


class Process:
    """A server, its address and its first key."""

    def __init__(self, folder, *options, keys):
        environment = {**os.environ, "AFFECTSCOPE_KEYS": str(keys)}
        command = [
            *COMMAND,
            "serve",
            "model",
            "--vectors",
            "model.vectors.safetensors",
            "--no-canaries",
            "--port",
            "0",
            *options,
        ]
        self.process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, env=environment)
        self.said, self.url, self.key = [], "", ""
        for line in self.process.stderr:
            self.said.append(line)
            if found := re.search(r"as-\S+", line):
                self.key = found[0]
            if found := re.search(r"listening on (\S+)", line):
                self.url = found[1]
                break
        assert self.url, "".join(self.said)

    def client(self, key=""):
        return openai.OpenAI(base_url=self.url, api_key=key or self.key, max_retries=0, timeout=60)

    def end(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        code = self.process.wait(60)
        self.said += self.process.stderr.readlines()
        self.process.stderr.close()
        return code


def test_a_signal_lets_running_replies_end_and_a_kill_loses_no_acknowledged_trace(saved, tmp_path):  # noqa: F811
    store = tmp_path / "traces"
    one = Process(saved, "--db", str(store), keys=tmp_path / "keys")
    assert any("not guarded" in line for line in one.said)
    name = one.client().models.list().data[0].id
    told = one.client().chat.completions.create(model=name, messages=ASK, max_tokens=300, stream=True, extra_body={"affect": {}})  # fmt: skip
    chunks = [next(iter(told))]
    ended = threading.Thread(target=lambda: chunks.extend(told))
    ended.start()
    assert one.end() == 0
    ended.join(30)
    assert chunks[-1].model_extra["affect"]["finished"] in ("length", "end")
    assert "Traceback" not in "".join(one.said)

    two = Process(saved, "--db", str(store), keys=tmp_path / "keys")
    assert not two.key  # it is shown once
    acknowledged = [chunks[-1].model_extra["affect"]["trace"]]

    def ask():
        try:
            while True:
                made = two.client(one.key).chat.completions.create(model=name, messages=ASK, max_tokens=8, extra_body={"affect": {}})  # fmt: skip
                acknowledged.append(made.model_extra["affect"]["choices"][0]["trace"])
        except openai.APIConnectionError:
            pass

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(acknowledged) < 12:
        threading.Event().wait(0.05)
    assert two.end(signal.SIGKILL) == -signal.SIGKILL
    for thread in threads:
        thread.join(30)
    with Store.open(store) as kept:
        assert all(len(kept.load(trace)) > 8 for trace in acknowledged)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"host": "0.0.0.0"}, "give --keys"),
        ({"policy": ["cautious"]}, "calibrate --policy cautious"),
        ({"evidence": Path("e")}, "give -c"),
        ({"tls_key": Path("x.pem")}, "both --tls-certificate"),
        ({"keys": Path("none.json")}, "cannot read the keys"),
        ({"calibration": Path("none.json")}, "none.json"),
        ({"vectors": Path("none.safetensors")}, "none.safetensors"),
    ],
)
def test_what_it_refuses_to_begin_with_is_told_before_a_model_is_loaded(monkeypatch, tmp_path, options, says):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFECTSCOPE_KEYS", str(tmp_path / "keys"))
    monkeypatch.setattr(cli_serve, "load_named", lambda *_: pytest.fail("a model was loaded"))
    with pytest.raises(AffectscopeError, match=says) as refused:
        cli_serve.serve(**options)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_keys_from_the_command_line(tmp_path):
    file = tmp_path / "k.json"
    key = run("api-keys", "add", "ann", "--scope", "read", "--tenant", "team", "--keys", file).stdout.decode().strip()
    assert key.startswith("as-")
    assert b"ann" in run("api-keys", "list", "--keys", file).stdout
    assert "already" in complaint(run("api-keys", "add", "ann", "--keys", file))
    assert run("api-keys", "revoke", "ann", "--keys", file).returncode == 0
    assert run("api-keys", "list", "--keys", file).stdout == b"no keys\n"
