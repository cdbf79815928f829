"""A light start: what Gradio does while it is imported that only its own developers need is left out.

Without it the page works as well, only later: where Gradio has changed one day, nothing is done.
"""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

Execute = Callable[[ModuleType], None]


@contextmanager
def light_start() -> Iterator[None]:
    """Import Gradio, build the page and serve it faster within this context.

    Nearly all that is made in it stays as long as the process: to look through it for garbage, then and again
    later, would find nothing.
    """
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()
        sys.meta_path.remove(finder)


class _Finder(MetaPathFinder):
    """Finds the modules of Gradio that are changed when they are imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname in CHANGES else None
        if spec and spec.loader:
            spec.loader = _Changed(spec.loader, CHANGES[fullname])
        return spec


class _Changed(Loader):
    """Executes a module with a change."""

    def __init__(self, loader: Loader, change: Callable[[Execute, ModuleType], None]) -> None:
        self._loader = loader
        self._change = change

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._change(self._loader.exec_module, module)

    def __getattr__(self, name: str) -> Any:
        """Answer like the loader itself, which is also asked for the files beside the module."""
        return getattr(self._loader, name)


def _without_stubs(execute: Execute, module: ModuleType) -> None:
    """Every class of a component reads its own source and writes a type stub beside it, if it may."""
    execute(module)
    if "create_or_modify_pyi" in vars(module):
        vars(module)["create_or_modify_pyi"] = lambda *given: None


def _without_documents(execute: Execute, module: ModuleType) -> None:
    """Every event of every component gets a text of its own that describes it."""
    execute(module)
    listener: Any = getattr(module, "EventListener", None)
    if hasattr(listener, "set_doc"):
        listener.set_doc = lambda *given, **named: None


def _with_pandas_later(execute: Execute, module: ModuleType) -> None:
    """Pandas takes a second to import, and is needed here for results of types that are not ours."""
    if "pandas" in sys.modules:
        execute(module)
        return
    sys.modules["pandas"] = _Later("pandas")
    try:
        execute(module)
    finally:
        if isinstance(sys.modules.get("pandas"), _Later):
            del sys.modules["pandas"]


def _without_matplotlib(execute: Execute, module: ModuleType) -> None:
    """Matplotlib is imported before the first event and set up for every one; our charts are Plotly's."""
    execute(module)
    if "MatplotlibBackendMananger" in vars(module):
        vars(module)["MatplotlibBackendMananger"] = nullcontext


class _Later(ModuleType):
    """Stands for a module that is imported when something of it is needed."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # which the import of a part of it asks for
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


CHANGES: dict[str, Callable[[Execute, ModuleType], None]] = {
    "gradio.component_meta": _without_stubs,
    "gradio.events": _without_documents,
    "gradio.caching": _with_pandas_later,
    "gradio.utils": _without_matplotlib,
}
