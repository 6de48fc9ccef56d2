"""The demo: both tasks on small data of our own, in minutes on a CPU."""
