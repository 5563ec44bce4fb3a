"""Train sentence encoders by EmbeddingGemma's recipe (arXiv 2509.20354), for `edge_embed convert`.

Rooms and modules, each with its public names in its own docstring:

    recipe      the TOML file that describes a run, read and checked
    run         runs a recipe, goes on where it was stopped, estimates time and memory
    data        rows, tables on disk, teacher vectors, hard negatives, batches
    losses      contrastive loss, spread-out regularizer, embedding matching, Matryoshka
    qat         quantization in the loop, equal to the file bit for bit
    adapt       a Gemma 3 decoder becomes an encoder
    student     a small student of a teacher
    rotate      turns the vectors for users who cut them
    merge       the average of checkpoints
    evaluate    scores on development sets
    ablations   the paper's ablations on small models
"""
