"""Quality: the score of a model on a task, and the loss against its fp32 source."""
