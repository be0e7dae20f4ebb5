"""A program that indexes, as the server of the thread study did, and tells by JSON-RPC how far it is.

    python indexer.py PORT PIDFILE [COMPLETED]

Each `getIndexStatus` finds one document more completed; it prints a line once it listens.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


class Rpc(BaseHTTPRequestHandler):
    """Answers `getIndexStatus`, with the content type of a web page."""

    completed = 0

    def do_POST(self) -> None:
        """One call."""
        call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert call["method"] == "getIndexStatus"
        Rpc.completed += 1
        result = {"completedCount": Rpc.completed, "processingCount": 1, "pendingCount": 5}
        body = json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": result}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    Rpc.completed = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    server = HTTPServer(("127.0.0.1", int(sys.argv[1])), Rpc)
    Path(sys.argv[2]).write_text(f"{os.getpid()}\n")
    print(f"listens on {server.server_port}", flush=True)
    server.serve_forever()
