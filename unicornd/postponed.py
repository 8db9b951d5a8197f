"""Modules of the standard library whose loading is put off until something of them is used.

For libraries that import more than they need for what they are asked here. Whoever uses such a module gets the real
one, a moment later. Standard library only.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any


class Postponed(ModuleType):
    """Stands in `sys.modules` for a module that is not loaded, until an attribute of it is asked for.

    Args:
        name: of the module.
        functions: of it that can be taken from it (`from name import function`) without being called.
    """

    def __init__(self, name: str, *functions: str) -> None:
        super().__init__(name)
        spec = find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            self.__path__ = spec.submodule_search_locations
        for function in functions:
            setattr(self, function, self._put_off(function))

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the module has
        if name == "__path__":  # `from` asks whether it is a package
            raise AttributeError(name)
        return getattr(self._load(), name)

    def _load(self) -> ModuleType:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return import_module(self.__name__)

    def _put_off(self, function: str) -> Any:  # noqa: ANN401 - a function of any kind
        def call(*args: Any, **more: Any) -> Any:  # noqa: ANN401
            return getattr(self._load(), function)(*args, **more)

        return call


def postpone(name: str, *functions: str) -> None:
    """Have a module loaded when it is used, not when it is imported; nothing, if it has been loaded.

    Args:
        name: of the module.
        functions: as of `Postponed`.
    """
    sys.modules.setdefault(name, Postponed(name, *functions))
