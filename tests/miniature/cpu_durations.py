"""`pytest --cpu-durations N`: CPU seconds of tests and fixtures, which other programs disturb less than the time by the clock."""

import os
from collections import Counter, defaultdict

import pytest


def cpu_seconds() -> float:
    """User and system time of this process and of the children that it has waited for."""
    times = os.times()
    return sum(times[:4])


class CpuDurations:
    """Measures in every process of the tests; reports and what is left carry it to the one that prints."""

    def __init__(self, config: pytest.Config, shown: int) -> None:
        self.config, self.shown = config, shown
        self.fixtures: dict[str, float] = {}  # set up for the current test
        self.seconds: Counter[str] = Counter()  # by test, its own fixtures left out, or by fixture
        self.files: dict[str, float] = defaultdict(float)
        self.processes = 0.0  # of workers that have ended

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef, request):
        before = cpu_seconds()
        try:
            return (yield)
        finally:
            if fixturedef.scope != "function":
                name = f"{request.node.nodeid or 'session'} [fixture {fixturedef.argname}]"
                self.fixtures[name] = cpu_seconds() - before

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item):
        self.before = cpu_seconds()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item):
        report = yield
        now = cpu_seconds()
        report.cpu_seconds, self.before = now - self.before, now
        report.cpu_fixtures, self.fixtures = self.fixtures, {}
        return report

    def pytest_runtest_logreport(self, report):
        seconds = getattr(report, "cpu_seconds", 0.0)
        self.files[report.nodeid.split("::")[0]] += seconds
        for name, part in getattr(report, "cpu_fixtures", {}).items():
            self.seconds[name] += part
            seconds -= part
        self.seconds[report.nodeid] += seconds

    def pytest_sessionfinish(self):
        if hasattr(self.config, "workeroutput"):
            self.config.workeroutput["cpu_seconds"] = cpu_seconds()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node):
        self.processes += getattr(node, "workeroutput", {}).get("cpu_seconds", 0.0)

    def pytest_terminal_summary(self, terminalreporter):
        # Whether execnet has waited for its workers by now is chance: they have told their seconds themselves.
        own = sum(os.times()[:2]) if self.processes else cpu_seconds()
        total, tests = self.processes + own, sum(self.files.values())
        write = terminalreporter.write_line
        terminalreporter.section("CPU seconds")
        write(f"{total:8.1f} in all, {total - tests:.1f} of them for imports and collection")
        for title, seconds in (("files", self.files), ("tests and fixtures", self.seconds)):
            write(f"the slowest {title}:")
            for name, part in Counter(seconds).most_common(self.shown):
                write(f"{part:8.2f} {name}")
