"""What is shipped beside the server: rules and dashboard name series that it has, and a real Prometheus reads it."""

import json
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest
import yaml

from tests.server.conftest import client

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"


@pytest.fixture(scope="module", autouse=True)
def tools():
    if not (shutil.which("promtool") and shutil.which("prometheus")):
        pytest.fail("prometheus is missing: `make test` installs it from Debian")


def test_the_rules_are_sound_and_fire_when_they_should():
    for command in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]):
        done = subprocess.run(["promtool", *command], cwd=ALERTS.parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_rules_and_dashboard_name_what_the_server_has(start):
    server = start()
    told = httpx.get(f"{server.url}/metrics", headers={"Authorization": f"Bearer {server.keys['admin']}"}).text
    known = set(re.findall(r"^# TYPE (\S+)", told, re.MULTILINE)) | {f"{n}_{e}" for n in re.findall(r"^# TYPE (\S+) histogram", told, re.MULTILINE) for e in ("bucket", "count", "sum")}  # fmt: skip
    dashboard = (DEPLOY / "grafana" / "dashboards" / "affectscope.json").read_text()
    for text in (ALERTS.read_text(), dashboard):
        named = set(re.findall(r"\baffect_[a-z_]+", text))
        assert named
        assert named <= known
    panels = json.loads(dashboard)["panels"]
    assert all(p["title"] and p["targets"] for p in panels)


def test_prometheus_reads_it_with_a_key(start, tmp_path):
    server = start()
    client(server).chat.completions.create(model="planted", messages=[{"role": "user", "content": "w1"}], max_tokens=3)
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    (tmp_path / "key").write_text(server.keys["admin"])
    config["global"]["scrape_interval"] = "1s"
    config["rule_files"] = [str(ALERTS)]
    (job,) = config["scrape_configs"]
    job["authorization"]["credentials_file"] = str(tmp_path / "key")
    job["static_configs"] = [{"targets": [server.url.removeprefix("http://")]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["prometheus", f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'data'}", f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert found(port, "affect_tokens_total{kind='generated'}") == "3"
        assert found(port, "up{job='affectscope'}") == "1"
    finally:
        process.terminate()
        process.wait(20)


def found(port, query):
    for _ in range(100):
        try:
            answer = httpx.get(f"http://127.0.0.1:{port}/api/v1/query", params={"query": query}).json()
            if answer["data"]["result"]:
                return answer["data"]["result"][0]["value"][1]
        except (httpx.TransportError, KeyError, ValueError):
            pass
        time.sleep(0.2)
    return None
