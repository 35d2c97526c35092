"""Runs Redis scripts with Lua 5.1, which is the Lua of Redis. `struct.lua` is its library `struct`."""

from collections.abc import Callable
from hashlib import sha1
from importlib.resources import files
from typing import Any

from lupa.lua51 import LuaError, LuaRuntime
from redis.exceptions import NoScriptError, ResponseError

_STRUCT = files(__package__).joinpath("struct.lua").read_text("utf-8").encode()


class LuaScripts:
    """The scripts of one server. `call` runs a command for them. The caller lets them run one at a time."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call_command = call
        self._lua: Any = LuaRuntime(encoding=None, unpack_returned_tuples=False)
        self._functions: dict[bytes, Any] = {}
        variables = self._lua.globals()
        variables[b"struct"] = self._lua.execute(_STRUCT)
        variables[b"redis"] = self._lua.table_from({b"call": self._call, b"pcall": self._pcall})

    def eval(self, text: bytes, count: bytes, *words: bytes) -> Any:
        """The reply to EVAL. Raises ResponseError."""
        name = sha1(text, usedforsecurity=False).hexdigest().encode()
        # Lua does not know the first line of a script with flags.
        body = b"\n" + text.partition(b"\n")[2] if text.startswith(b"#!") else text
        if name not in self._functions:
            self._functions[name] = self._run(self._lua.execute, b"return function(KEYS, ARGV) " + body + b"\nend")
        return self.evalsha(name, count, *words)

    def evalsha(self, name: bytes, count: bytes, *words: bytes) -> Any:
        """The reply to EVALSHA. Raises NoScriptError for a script that EVAL has not run, and ResponseError."""
        function = self._functions.get(name.lower())
        if function is None:
            raise NoScriptError("No matching script. Please use EVAL.")
        keys, arguments = words[: int(count)], words[int(count) :]
        reply = self._run(function, self._lua.table_from(keys), self._lua.table_from(arguments))
        return int(reply) if isinstance(reply, float) else reply

    @staticmethod
    def _run(function: Any, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except LuaError as error:
            raise ResponseError(f"ERR {error}") from error

    def _call(self, *words: Any) -> Any:
        reply = self._call_command(*(word if isinstance(word, bytes) else b"%.17g" % word for word in words))
        if isinstance(reply, list):
            return self._lua.table_from(reply)
        return False if reply is None else reply

    def _pcall(self, *words: Any) -> Any:
        try:
            return self._call(*words)
        except ResponseError as error:
            return self._lua.table_from({b"err": str(error).encode()})
