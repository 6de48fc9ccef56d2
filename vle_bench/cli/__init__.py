"""The command line: parse, load, call one function, print."""

from vle_bench.cli.app import main

__all__ = ["main"]
