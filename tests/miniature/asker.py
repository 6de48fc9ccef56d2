"""Stands in for Python in a test: hands `-m vle_bench ...` to the process of the tests, and says and ends what that does.

`python -IS asker.py SOCKET [-m accelerate.commands.launch] -m vle_bench ARGUMENTS`; any other command runs as it is.
"""

import json
import os
import socket
import sys

LAUNCHER = ["-m", "accelerate.commands.launch"]
PROGRAM = ["-m", "vle_bench"]


def main() -> None:
    path, *command = sys.argv[1:]
    asked = command[2:] if command[:2] == LAUNCHER else command
    if asked[:2] != PROGRAM:
        os.execv(sys.executable, [sys.executable, *command])
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(path)
        line.sendall(json.dumps([os.getcwd(), asked[2:]]).encode() + b"\n")
        status, shown, errors = json.loads(line.makefile(encoding="utf-8").read())
    sys.stdout.write(shown)
    sys.stderr.write(errors)
    sys.exit(status)


if __name__ == "__main__":
    main()
