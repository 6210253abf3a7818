"""The console script `hotseat`. `plan` and `experts` are answered without the server, whose import takes seconds.

The modules are named, not imported: only the one that is needed is loaded.
"""

import importlib
import sys

_LIGHT = {"plan": "server.plan", "experts": "server.expert_commands"}


def main() -> None:
    module = _LIGHT.get("".join(sys.argv[1:2]), "server.__main__")
    importlib.import_module(module).main()
