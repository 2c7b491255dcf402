"""The box as a sandbox of Inspect: commands, files, bounds, and a link that leads out."""

import socket

import anyio
import pytest
from inspect_ai import Task
from inspect_ai.dataset import Sample
from inspect_ai.solver import solver
from inspect_ai.util import OutputLimitExceededError, SandboxUserUnsupportedError, sandbox

from affectscope.errors import AffectscopeError
from affectscope.integrations import inspect_sandbox
from affectscope.integrations.inspect_sandbox import LAUNCHER, BoxConfig, BoxEnvironment
from affectscope.suites.sandbox.probe import Probed, probe
from tests.integrations.conftest import ran

SMALL = BoxConfig(tier="landlock", seconds=20, output=4096, scratch=8 << 20)


def inside(work, config=SMALL, metadata=None):
    """Run ``work(box)`` in a sample's box."""

    async def main():
        boxes = await BoxEnvironment.sample_init("task", config, metadata or {})
        folder = boxes["default"].work
        try:
            return await work(boxes["default"])
        finally:
            await BoxEnvironment.sample_cleanup("task", config, boxes, False)
            assert not folder.exists()

    return anyio.run(main)


def test_commands_and_files():
    async def work(box):
        await box.write_file("in/a.txt", "one\r\ntwo")
        assert await box.read_file("in/a.txt") == "one\r\ntwo"
        assert await box.read_file(f"{box._root}/in/a.txt", text=False) == b"one\r\ntwo"
        ran = await box.exec(["cat", "a.txt", "-"], input="three", cwd="in")
        assert (ran.success, ran.stdout) == (True, "one\r\ntwothree")
        ran = await box.exec(["sh", "-c", "echo $WORD >&2; exit 3"], env={"WORD": "tide"})
        assert (ran.success, ran.returncode, ran.stderr.strip()) == (False, 3, "tide")
        ran = await box.exec(["no-such-command"])
        assert (ran.success, ran.returncode) == (False, 127)
        ran = await box.exec(["python3", "-c", "print(open('in/a.txt').read())"])
        assert ran.stdout.startswith("one"), ran.stderr

    inside(work)


def test_a_link_that_a_guest_left_is_never_followed(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")

    async def work(box):
        links = f"ln -s {secret} link; ln -s {tmp_path} folder; ln -s /etc/passwd passwd; mkfifo pipe; mkdir d"
        assert (await box.exec(["sh", "-c", links])).success
        for name in ("link", "folder/secret", "passwd", "pipe"):
            with pytest.raises(PermissionError):
                await box.read_file(name)
        for name in ("../secret", str(secret), "/etc/passwd"):
            with pytest.raises(PermissionError):
                await box.read_file(name)
            with pytest.raises(PermissionError):
                await box.write_file(name, "x")
        for name in ("link", "folder/new"):
            with pytest.raises(PermissionError):
                await box.write_file(name, "x")
        with pytest.raises(IsADirectoryError):
            await box.read_file("d")
        with pytest.raises(IsADirectoryError):
            await box.write_file("d", "x")
        with pytest.raises(FileNotFoundError):
            await box.read_file("none")

    inside(work)
    assert secret.read_text() == "secret"
    assert [p.name for p in tmp_path.iterdir()] == ["secret"]


def test_a_launcher_that_a_guest_replaced_is_put_back(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("print('secret')")

    async def work(box):
        await box.exec(["sh", "-c", f"rm -f {LAUNCHER}; ln -s {secret} {LAUNCHER}; true"])
        ran = await box.exec(["echo", "mine"])
        assert ran.stdout.strip() == "mine"

    inside(work)
    assert secret.read_text() == "print('secret')"


def test_bounds():
    async def work(box):
        with pytest.raises(TimeoutError):
            await box.exec(["sleep", "30"], timeout=1)
        with pytest.raises(OutputLimitExceededError) as caught:
            await box.exec(["sh", "-c", "while true; do echo tide; done"])
        assert len(caught.value.truncated_output) <= 4096
        ran = await box.exec(["sh", "-c", "for i in 1 2 3 4; do head -c 4000000 /dev/urandom > f$i; sleep 0.3; done"])
        assert not ran.success
        assert "the box is full" in ran.stderr
        with pytest.raises(SandboxUserUnsupportedError):
            await box.exec(["id"], user="root")

    inside(work)


def test_nothing_of_the_host_is_there(tmp_path):
    async def work(box):
        ran = await box.exec(["sh", "-c", f"cat {tmp_path}/secret; cat /etc/shadow"])
        assert not ran.success
        assert "secret" not in ran.stdout
        port = listening.getsockname()[1]
        code = f"import socket; socket.create_connection(('127.0.0.1', {port}), 1)"
        assert not (await box.exec(["python3", "-c", code])).success

    (tmp_path / "secret").write_text("secret")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        inside(work)


def test_a_sample_of_inspect_has_its_box_and_the_log_says_which():
    @solver
    def look():
        async def solve(state, generate):
            box = sandbox()
            state.output.completion = (await box.exec(["cat", "data/a.txt"])).stdout + box.as_type(BoxEnvironment).tier
            return state

        return solve

    task = Task(
        dataset=[Sample(input="a", files={"data/a.txt": "tide "})], solver=look(), sandbox=("affectscope", "landlock")
    )
    (sample,) = ran(task, "mockllm/model").samples
    assert sample.error is None
    assert sample.output.completion == f"tide {probe().tier}"
    (told,) = [e.data for e in sample.events if e.event == "info"]
    assert told == {"sandbox": probe().tier, "asked": "landlock"}


def test_a_tier_that_is_not_to_be_had_runs_nothing(monkeypatch):
    async def work(box):
        raise AssertionError

    monkeypatch.setattr(
        "affectscope.suites.sandbox.probe.probe", lambda: Probed("landlock", {"namespaces": "forbidden"})
    )
    for config, metadata in (("namespaces", {}), ("/some/folder/namespaces", {}), (None, {"sandbox": "full"}), (BoxConfig(), {})):  # fmt: skip
        with pytest.raises(AffectscopeError, match="is not to be had here"):
            inside(work, config, metadata)
    for config in ("bare", "docker"):
        with pytest.raises(AffectscopeError, match="unknown sandbox tier"):
            inside(work, config)
    assert BoxEnvironment.config_deserialize({"tier": "full"}) == BoxConfig(tier="full")
    assert BoxConfig().tier == inspect_sandbox.TIER
