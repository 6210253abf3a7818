"""A program that speaks as much of llama.cpp's language as the benches do: a server, or one of the two tools.

It computes nothing. A server appends every body it gets to the file named by FAKE_LLAMA_LOG, and its own id first.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.answer({"status": "ok"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        note(json.dumps(body))
        self.answer({"tokens_predicted": min(body["n_predict"], int(os.environ.get("FAKE_LLAMA_LIMIT", "1000")))})

    def answer(self, content: dict[str, object]) -> None:
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def note(line: str) -> None:
    with Path(os.environ["FAKE_LLAMA_LOG"]).open("a") as log:
        log.write(line + "\n")


def main(arguments: list[str]) -> None:
    if os.environ.get("FAKE_LLAMA_BROKEN"):
        sys.exit("cannot read the model")
    if "--repetitions" in arguments:
        runs = int(arguments[arguments.index("--repetitions") + 1])
        sys.stdout.write(json.dumps([{"samples_ts": [20.0 + run for run in range(runs)]}]))
    elif "-npl" in arguments:
        sys.stdout.write("a line for people\n" + json.dumps({"speed_tg": 55.5, "speed_pp": 200.0}))
    else:
        note(json.dumps({"pid": os.getpid(), "arguments": arguments}))
        ThreadingHTTPServer(("127.0.0.1", int(arguments[arguments.index("--port") + 1])), Handler).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
