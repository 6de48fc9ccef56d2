"""Every task, by its name."""

from vle_bench.tasks.base import Task
from vle_bench.tasks.vcr import VCR
from vle_bench.tasks.vcr_second_stage import VCRSecondStage
from vle_bench.tasks.vqa import VQA

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        VQA(),
        VCR("vcr_q2a", "VLEForVCRQ2A", ("q2a",), "accuracy", submitted_with="vcr_qa2r"),
        VCR("vcr_qa2r", "VLEForVCRQA2R", ("qa2r",), "accuracy", submitted_with="vcr_q2a"),
        VCR("vcr_joint", "VLEForVCRJoint", ("q2a", "qa2r"), "q2ar", submitted_with=None),
        VCRSecondStage(),
    )
}
