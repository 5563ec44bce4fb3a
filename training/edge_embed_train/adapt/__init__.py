"""Make an encoder of a Gemma 3 decoder, as EmbeddingGemma's encoder was made (T5Gemma, arXiv 2504.06225).

`adapt` runs the whole stage. `encoder_decoder` gives a decoder's weights to both halves of a T5Gemma 2 model,
`encoder_of` takes its encoder out again, `corrupt` makes UL2's tasks.
"""

from edge_embed_train.adapt.mapping import encoder_decoder, encoder_of
from edge_embed_train.adapt.stage import adapt
from edge_embed_train.adapt.ul2 import TASKS, Task, corrupt, draw_task

__all__ = ["TASKS", "Task", "adapt", "corrupt", "draw_task", "encoder_decoder", "encoder_of"]
