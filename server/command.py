"""The console script `hotseat`. What needs no server is answered without it, whose import takes seconds.

The modules are named, not imported: only the one that is needed is loaded.
"""

import importlib
import sys
from typing import Final

from server import __version__

_WITHOUT_SERVER: Final = {
    "generate": "server.generate_command",
    "plan": "server.plan",
    "experts": "server.expert_commands",
    "grammar": "server.grammar_command",
    "keys": "server.key_commands",
    "config": "server.config_command",
}


def main() -> None:
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"{__version__}\n")
        return
    module = _WITHOUT_SERVER.get(sys.argv[1] if len(sys.argv) > 1 else "", "server.__main__")
    importlib.import_module(module).main()
