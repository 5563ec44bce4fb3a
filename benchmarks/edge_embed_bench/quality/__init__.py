"""Quality: what a file scores on a task, and what it lost against its fp32 source."""
