#!/usr/bin/python3
"""A service with a hole: /lookup?name=NAME pastes NAME into an sh command, /report?name=NAME into a bash command."""

import http.server
import subprocess
import urllib.parse

LOG = "/var/log/web/access.log"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        target = urllib.parse.urlsplit(self.path)
        name = urllib.parse.parse_qs(target.query).get("name", ["localhost"])[0]
        with open(LOG, "a") as log:
            log.write(target.path + "\n")
        body = b"It works.\n"
        if target.path == "/lookup":
            body = run(["/bin/sh", "-c", f"getent hosts {name}"])
        elif target.path == "/report":
            body = run(["/bin/bash", "-c", f"wc -l {LOG}; echo {name}"])
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def run(command):
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False).stdout


server = http.server.HTTPServer(("127.0.0.1", 8080), Handler)
print("ready", flush=True)
server.serve_forever()
