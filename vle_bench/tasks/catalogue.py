"""Facts about the tasks, without torch."""

TEXTS = {
    "vqa": 1,
    "vcr_joint": 8,
    "vcr_second_stage": 2,
}  # of a question; VCR's other tasks have four
TOKENS = {"vqa": 12}  # of a text, for the memory that a batch takes; VCR's 40


# Tasks that a record may be of, by the source of its data
TASKS = {
    **dict.fromkeys(("vqav2", "easy-vqa"), ("vqa",)),
    **dict.fromkeys(
        ("vcr", "shapes-vcr"), ("vcr_q2a", "vcr_qa2r", "vcr_joint", "vcr_q2ar", "vcr_second_stage")
    ),
}


# Keys of one kind of task, and why another must not have them
VQA_KEYS = {
    "data.first_stage": "its questions have no types",
    "data.targets": "a question has one right choice",
    "model.new_head": "its head scores any choice, whatever the data",
    "augment.flip": "boxes would stay behind; there is augment.horizontal_flip",
    **dict.fromkeys(
        ("augment.transpose", "augment.shift", "augment.randaugment"), "the boxes would stay behind"
    ),
}
VCR_KEYS = {
    **dict.fromkeys(("model.objects", "model.alignment"), "its questions tag no objects"),
    "augment.horizontal_flip": "there is augment.flip",
    "augment.shuffle_names": "its texts name no persons by tags",
}


JOINED = "vcr_q2ar"


TITLES = {
    "vqa": "visual question answering",
    "vcr_q2a": "VCR, question to answer (Q2A)",
    "vcr_qa2r": "VCR, question and answer to rationale (QA2R)",
    "vcr_joint": "VCR, both tasks of one model (Q2AR)",
    JOINED: "VCR, two runs joined (Q2AR)",
}


REPORTED = ("vqa", "vcr_q2a", "vcr_qa2r", "vcr_joint")
