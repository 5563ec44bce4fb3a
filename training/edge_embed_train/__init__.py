"""Train sentence encoders by EmbeddingGemma's recipe (arXiv 2509.20354), for `edge_embed convert`.

Rooms, each with its public names in its own `__init__`:

    losses   contrastive loss, spread-out regularizer, embedding matching, Matryoshka
"""
