"""Command line: parse, call one function, print."""

from vle_bench.cli.app import main

__all__ = ["main"]
