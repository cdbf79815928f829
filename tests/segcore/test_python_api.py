"""`import segcore` is light, and offers what scripts need."""

import subprocess
import sys
from importlib.metadata import version

import pytest

import segcore


@pytest.mark.parametrize("name", segcore.__all__)
def test_every_name_resolves(name):
    assert callable(getattr(segcore, name))


def test_the_version_is_that_of_the_package():
    assert segcore.__version__ == version("segcore-studio")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = segcore.nonsense


@pytest.mark.parametrize("module", ["segcore", "segcore.jobs.store", "segcore.config", "segcore.data.open"])
def test_light_modules_bring_neither_torch_nor_mlflow(module):
    code = f"import sys, {module}; print({{'torch', 'mlflow', 'gradio'}} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
