"""The box around a guest, files that it leaves, and what a machine that gives less is told."""

import math
import os
import sys
import time

import pytest

from affectscope.errors import AffectscopeError
from affectscope.suites.sandbox import box as box_module
from affectscope.suites.sandbox import probe as probing
from affectscope.suites.sandbox.box import TIERS, Box
from affectscope.suites.sandbox.folder import DEEPEST, remove, size
from affectscope.suites.sandbox.hostfiles import read_beneath
from affectscope.suites.sandbox.limits import Limits
from affectscope.suites.sandbox.probe import Probed, require

HERE = [tier for tier in TIERS if tier == "bare" or not probing._try(tier)]


@pytest.fixture(params=HERE)
def box(request, tmp_path):
    return Box(tmp_path, request.param)


def guest(box, code):
    (box.work / "guest.py").write_text(code)


def test_arguments_streams_exit_code_and_files_pass(box):
    guest(box, "import sys\nopen('left', 'w').write(sys.argv[1])\nprint(sys.stdin.read())\nprint('e', file=sys.stderr)\nsys.exit(7)\n")  # fmt: skip
    ran = box.python("guest.py", "an argument", stdin=b"words")
    assert (ran.code, ran.out, ran.err, ran.killed, ran.tier) == (7, b"words\n", b"e\n", "", box.tier)
    assert read_beneath(box.work, "left") == b"an argument"


def test_a_guest_sees_no_variable_but_ours(box, monkeypatch):
    monkeypatch.setenv("TOKEN", "secret")
    guest(box, "import os\nprint(sorted(os.environ))\n")
    assert b"TOKEN" not in box.python("guest.py").out


def test_a_guest_imports_what_lies_beside_it_and_nothing_of_ours(box):
    (box.work / "beside.py").write_text("value = 3\n")
    guest(box, "import beside\nprint(beside.value)\nimport affectscope\n")
    ran = box.python("guest.py")
    assert ran.out == b"3\n"
    if box.spaces:  # elsewhere the interpreter's own packages are seen
        assert b"No module named 'affectscope'" in ran.err


def test_a_guest_that_reads_nothing_is_fed_without_harm(box):
    guest(box, "print(1)\n")
    assert box.python("guest.py", stdin=b"x" * 1_000_000).out == b"1\n"


def test_folders_nested_without_end_stop_the_guest_and_can_be_removed(box):
    guest(box, "import os\nwhile True:\n    os.mkdir('d')\n    os.chdir('d')\n")
    ran = box.python("guest.py")
    assert (ran.killed, ran.seconds < 8) == ("disk", True)
    remove(box.work)
    assert not box.work.exists()


def test_folders_nested_before_a_look_can_be_removed(box):
    guest(box, "import os\nfor _ in range(1500):\n    os.mkdir('d')\n    os.chdir('d')\nos.chmod('..', 0)\n")
    assert box.python("guest.py").killed in ("", "disk")
    remove(box.work)
    assert not box.work.exists()


def test_what_is_in_a_folder_counts_and_what_cannot_be_measured_is_too_much(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    bare = size(tmp_path)
    (tmp_path / "deep" / "er" / "file").write_bytes(bytes(100_000))
    assert 100_000 <= size(tmp_path) - bare < 110_000
    for number in range(50):
        (tmp_path / str(number)).touch()
    assert size(tmp_path) - bare >= 100_000 + 50 * 512
    inner = tmp_path
    for _ in range(DEEPEST + 1):
        inner /= "d"
        inner.mkdir()
    assert size(tmp_path) == math.inf


def test_a_fault_of_the_host_leaves_no_guest_behind(box, monkeypatch):
    guest(box, "import time\nopen('begun', 'w').close()\ntime.sleep(60)\n")

    def fails(folder):
        if (folder / "begun").exists():
            raise OSError("the disk of the host")
        return 0

    monkeypatch.setattr(box_module, "size", fails)
    began = time.monotonic()
    with pytest.raises(OSError, match="the disk of the host"):
        box.python("guest.py")
    assert time.monotonic() - began < 30


def test_a_host_that_cannot_read_what_a_guest_left_is_refused(monkeypatch):
    if len(HERE) < 2:
        pytest.skip("no box here")

    def blocked(folder, name):
        raise AffectscopeError(f"{name} is not read: Function not implemented")

    monkeypatch.setattr(probing, "read_beneath", blocked)
    assert "cannot read what a guest left" in probing._try(HERE[0])


def test_read_only_files_stay_as_they_are(tmp_path):
    if "namespaces" not in HERE:
        pytest.skip("no namespaces here")
    (tmp_path / "tests.py").write_text("kept")
    box = Box(tmp_path, "namespaces", read_only=["tests.py"])
    guest(box, "import os\nfor f in (lambda: open('tests.py', 'w'), lambda: os.remove('tests.py'), lambda: os.rename('tests.py', 'x')):\n    try:\n        f()\n    except OSError as e:\n        print(e.errno)\n")  # fmt: skip
    assert len(box.python("guest.py").out.split()) == 3
    assert (tmp_path / "tests.py").read_text() == "kept"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda w: (w / "left").symlink_to("/etc/passwd"), "no links"),
        (lambda w: (w / "left").mkdir(), "no regular file"),
        (lambda w: os.mkfifo(w / "left"), "no regular file"),
        (lambda w: (w / "left").write_bytes(bytes(11)), "more than 10 bytes"),
        (lambda w: None, "No such file"),
    ],
)
def test_what_a_guest_left_is_read_only_when_it_is_a_plain_file_of_its_folder(tmp_path, make, says):
    make(tmp_path)
    with pytest.raises(AffectscopeError, match=says):
        read_beneath(tmp_path, "left", 10)


def test_no_path_leaves_the_folder(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_text("x")
    (tmp_path / "in" / "up").symlink_to("..")
    for name in ("../secret", "/etc/passwd", "up/secret", str(tmp_path / "secret")):
        with pytest.raises(AffectscopeError, match="is not read"):
            read_beneath(tmp_path / "in", name)
    (tmp_path / "in" / "deep").mkdir()
    (tmp_path / "in" / "deep" / "file").write_text("content")
    assert read_beneath(tmp_path / "in", "deep/file") == b"content"


def test_a_machine_that_gives_less_is_refused_with_the_cause(monkeypatch):
    monkeypatch.setattr(probing, "probe", lambda: Probed("landlock", {"full": "no bwrap", "namespaces": "no bwrap"}))
    assert require("landlock") == "landlock"
    with pytest.raises(AffectscopeError, match=r"tier 'full' is not to be had here \(no bwrap\).*--sandbox"):
        require("full")
    monkeypatch.setattr(probing, "probe", lambda: Probed(None, {"full": "a", "namespaces": "b", "landlock": "c"}))
    with pytest.raises(AffectscopeError, match="accept nothing"):
        require("landlock")


def test_a_stronger_tier_serves_a_weaker_wish(monkeypatch):
    monkeypatch.setattr(probing, "probe", lambda: Probed("full", {}))
    assert require("namespaces") == "full"


def test_missing_parts_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(box_module.shutil, "which", lambda _: None)
    with pytest.raises(AffectscopeError, match="apt-get install bubblewrap"):
        Box(tmp_path, "full")
    assert "bubblewrap" in probing._try("namespaces")
    monkeypatch.setitem(sys.modules, "pyseccomp", None)
    box_module.seccomp.program.cache_clear()
    assert "libseccomp" in probing._try("landlock")
    box_module.seccomp.program.cache_clear()


def test_no_cgroup_is_no_full_tier(tmp_path, monkeypatch):
    if "full" not in HERE:
        pytest.skip("no cgroup here")
    monkeypatch.setattr("affectscope.suites.sandbox.cgroup.ROOT", tmp_path / "nowhere")
    assert "no cgroup" in probing._try("full")


def test_nothing_of_a_run_is_left(tmp_path):
    if "full" not in HERE:
        pytest.skip("no cgroup here")
    from affectscope.suites.sandbox.cgroup import group

    with group(64 << 20, 8) as folders:
        assert folders
        assert all(folder.is_dir() for folder in folders)
    assert not any(folder.exists() for folder in folders)
    open_before = len(os.listdir("/proc/self/fd"))
    box = Box(tmp_path, "full", Limits(seconds=5))
    guest(box, "print(1)")
    for _ in range(3):
        box.python("guest.py")
    assert len(os.listdir("/proc/self/fd")) == open_before
