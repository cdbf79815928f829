"""The light start leaves out what nobody needs, and only that."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path

from app.light_start import light_start

STARTED = """
import json, sys
from pathlib import Path
from app.light_start import light_start

with light_start():
    import gradio as gr
    from gradio import caching, component_meta

    with gr.Blocks() as page:
        box = gr.Textbox()
        box.change(lambda text: text, box, box)
found = {"pandas": "pandas" in sys.modules}
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
    "hashes": [hashes[0] == hashes[1], hashes[0] == hashes[2]],
}
print(json.dumps(found))
"""


def test_gradio_is_imported_without_pandas_and_writes_no_stubs(tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", STARTED, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert json.loads(answer.stdout) == {
        "pandas": False,
        "stubs": [],
        "events": 1,
        "hashes": [True, False],
    }


def test_nothing_is_changed_afterwards() -> None:
    before = list(sys.meta_path)
    with light_start():
        assert not gc.isenabled()
        assert sys.meta_path != before
    assert gc.isenabled()
    assert sys.meta_path == before
    gc.unfreeze()
