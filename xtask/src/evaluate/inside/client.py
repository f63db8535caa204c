#!/usr/bin/python3
"""Asks for each URL of standard input, one a line, in turn."""

import sys
import urllib.error
import urllib.request

for line in sys.stdin:
    try:
        urllib.request.urlopen(line.strip()).read()
    except (urllib.error.HTTPError, ConnectionError) as error:
        print(f"{line[:60]}: {error}", file=sys.stderr)
