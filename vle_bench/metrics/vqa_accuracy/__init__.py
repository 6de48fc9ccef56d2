"""A folder that `evaluate.load` takes; its code is in vqa_accuracy.py."""
