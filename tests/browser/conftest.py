"""Chromium from the system, started for each file and gone with it: its event loop must not meet those of others."""

import shutil

import pytest


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("google-chrome")
    assert path, "no Chromium: `make test` installs it"
    flags = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
    ]
    with sync_playwright() as p:
        opened = p.chromium.launch(executable_path=path, args=flags)
        yield opened
        opened.close()
