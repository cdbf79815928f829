"""The light start leaves out what nobody needs, and only that."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path

import pytest

from app.light_start import light_start

STARTED = """
import json, sys
from pathlib import Path
from app.light_start import light_start

with light_start():
    import gradio as gr
    from gradio import caching, route_utils

    with gr.Blocks() as page:
        box = gr.Textbox()
        box.change(lambda text: text, box, box)
with route_utils.utils.MatplotlibBackendMananger():
    pass
found = {name: name in sys.modules for name in ("pandas", "matplotlib")}
code = "class Own(gr.Textbox):\\n    pass\\n"
folder = Path(sys.argv[1])
(folder / "own.py").write_text("import gradio as gr\\n\\n\\n" + code)
sys.path.insert(0, str(folder))
import own
import pandas

hashes = [caching.cache_hash(pandas.DataFrame({"a": [number]})) for number in (1, 1, 2)]
found |= {
    "stubs": [path.name for path in folder.glob("*.pyi")],
    "events": len(page.config["dependencies"]),
    "documents": "{{ component }}" not in gr.Textbox.change.__doc__,
    "hashes": [hashes[0] == hashes[1], hashes[0] == hashes[2]],
}
print(json.dumps(found))
"""
AT_ONCE = """
import sys
from types import ModuleType
from app.light_start import CHANGES

def execute(module):
    exec(sys.argv[1], vars(module))

module = ModuleType("impatient")
CHANGES["gradio.caching"](execute, module)
import pandas

assert module.Frame is pandas.DataFrame
assert sys.modules["pandas"] is pandas
"""


def test_gradio_is_imported_without_what_nobody_needs(tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", STARTED, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert json.loads(answer.stdout) == {
        "pandas": False,
        "matplotlib": False,
        "stubs": [],
        "events": 1,
        "documents": False,
        "hashes": [True, False],
    }


@pytest.mark.parametrize(
    "source",
    [
        "import pandas as pd\nFrame = pd.DataFrame\nassert pd.DataFrame is Frame",
        "from pandas import DataFrame as Frame",
        "import pandas.api\nFrame = pandas.DataFrame",
    ],
)
def test_a_module_that_needs_pandas_at_once_gets_it(source: str) -> None:
    subprocess.run([sys.executable, "-c", AT_ONCE, source], check=True)


@pytest.mark.parametrize("collects", [True, False])
def test_nothing_is_changed_afterwards(collects: bool) -> None:
    before = list(sys.meta_path)
    (gc.enable if collects else gc.disable)()
    try:
        with light_start():
            assert not gc.isenabled()
            assert sys.meta_path != before
        assert gc.isenabled() is collects
        assert sys.meta_path == before
    finally:
        gc.enable()
        gc.unfreeze()
