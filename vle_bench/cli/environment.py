"""The command `env`, and what commands do before they load anything."""

import os

from vle_bench import __version__
from vle_bench.training.launch import meet_on_cpu


def env() -> None:
    """Print versions, devices and missing packages."""
    import importlib.util

    import torch

    from vle_bench.evaluation.provenance import code_version, library_versions

    print(f"vle-bench {__version__}, commit {code_version()['commit'] or 'unknown (installed)'}")
    for name, version in library_versions().items():
        print(f"{name:14} {version}")
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    print(f"{'devices':14} {', '.join(devices) or f'CPU, {torch.get_num_threads()} threads'}")
    if importlib.util.find_spec("easy_vqa") is None:
        print("missing: easy-vqa (the demo's data): pip install 'vle-bench[demo]'")


def quiet_libraries() -> None:
    """Silence the progress bars and warnings of libraries, which would bury our own lines."""
    meet_on_cpu(os.environ)
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def is_first_process() -> bool:
    """Whether this is the main process, the only one that prints."""
    from accelerate import PartialState

    return bool(PartialState().is_main_process)
