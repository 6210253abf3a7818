"""`python -m server.description`: the HTTP interface as OpenAPI, for `docs/openapi.json`. Loads no base."""

import json
import sys
from typing import NoReturn

from server.app import create_app
from server.services import Lifecycle
from server.settings import Settings


def description() -> str:
    """JSON, the same on every machine."""

    def never() -> NoReturn:
        raise AssertionError("a description starts no rooms")

    app = create_app(Lifecycle(never), Settings())
    return json.dumps(app.openapi(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(description())
