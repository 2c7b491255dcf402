"""A tiny model in a folder, as anybody's model lies."""

import pytest
from tests.conftest import network_of


@pytest.fixture
def saved(tmp_path, tokenizer):
    folder = tmp_path / "saved"
    network_of("llama").save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
