"""From texts to the token ids that the model runs.

- `inputs`: checks of what the user passes.
- `prompts`: prompts and titles.
- `tokenizers`: a tokenizer from a model file, and the protocol that both kinds have.
- `stream`: the ids of a long text, in bounded memory.
- `windows`: the runs of the model over one text.

All public names of these modules may be used by the other packages.
"""
