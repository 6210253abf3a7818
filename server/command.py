"""The console script `hotseat`. `plan` is answered without the server, whose import takes seconds; all else goes there.

The modules are named, not imported: only the one that is needed is loaded.
"""

import importlib
import sys


def main() -> None:
    module = "server.plan" if sys.argv[1:2] == ["plan"] else "server.__main__"
    importlib.import_module(module).main()
